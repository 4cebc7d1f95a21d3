"""WebDataset shards: tar files whose members with one name up to the first dot make one clip.

    shards/talks-000.tar   a.flac  a.txt  a.json  a.TextGrid     what is said, a row of a manifest, word times
                           b.opus b.json
    src: shards/talks-{000..010}.tar, shards/*.tar, a list {a,b}.tar, or s3://bucket/talks-{000..010}.tar

In a plain tar file on this machine a clip remembers where its audio lies; from a packed one (.tar.gz) or from behind
a URL it holds the bytes, so that nothing is fetched twice and a clip can go as soon as it is encoded.
"""

import io
import json
import re
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import PurePosixPath
from typing import Any

from hocket.data.clips import AudioSource, Clip, HeldAudio, Rejected
from hocket.data.places import is_url
from hocket.data.sources import files
from hocket.data.sources.folders import is_audio_name
from hocket.data.sources.listing import Found, attempt
from hocket.data.sources.rows import as_text, facts, pick
from hocket.data.sources.timings import place_words, textgrid_words
from hocket.errors import InputError

TAR_SUFFIXES = (".tar", ".tar.gz", ".tgz")
_BRACES = re.compile(r"\{(?:(\d+)\.\.(\d+)|([^{}]*,[^{}]*))\}")
_BLOCK = 512
_NOTES = (".txt", ".json", ".textgrid")


@dataclass(frozen=True)
class TarAudio:
    """A file of audio inside a tar file that is not packed."""

    tar: str
    offset: int
    size: int

    def file(self) -> io.BytesIO:
        with open(self.tar, "rb") as file:
            file.seek(self.offset)
            return io.BytesIO(file.read(self.size))


@dataclass
class _Sample:
    """The members of one key."""

    key: str
    audio_name: str = ""
    audio: AudioSource | None = None
    notes: dict[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True)
class TarShards:
    """The clips of tar files, shard after shard in the order of their names."""

    pattern: str

    def find(self) -> Iterator[Found]:
        for location in expand(self.pattern):
            yield from _shard(location)

    def count(self) -> None:
        return None

    def nothing(self) -> str:
        return f'the tar files "{self.pattern}" hold no clips'


def is_tar_pattern(src: str) -> bool:
    """Whether a source is called like a tar file or several."""
    return src.lower().endswith(TAR_SUFFIXES)


def expand(pattern: str) -> list[str]:
    """The files that {000..010}, {a,b} and * stand for. Raises InputError where * finds none."""
    found = _BRACES.search(pattern)
    if found is None:
        return _matching(pattern)
    first, last, choice = found.groups()
    if choice is None:
        parts = [f"{number:0{len(first)}d}" for number in range(int(first), int(last) + 1)]
    else:
        parts = choice.split(",")
    return [one for part in parts for one in expand(pattern[: found.start()] + part + pattern[found.end() :])]


def _matching(pattern: str) -> list[str]:
    if not any(mark in pattern for mark in "*?["):
        return [pattern]
    found = files.matching(pattern)
    if not found:
        raise InputError(f'there is no tar file like "{pattern}"')
    return found


def _shard(location: str) -> Iterator[Found]:
    """The clips of one tar file; where it ends before its end, that is one rejection."""
    n_clips = 0
    try:
        for sample in _samples(location):
            where = f'{location}, "{sample.key}",'
            id = f"{_tar_stem(location)}/{sample.key}"
            name = f"{PurePosixPath(location).name}/{sample.audio_name or sample.key}"
            yield attempt(where, id, name, partial(_clip, sample, id, name, where))
            n_clips += 1
    except (tarfile.TarError, OSError, EOFError) as error:
        name = PurePosixPath(location).name
        reason = f'the tar file "{location}" cannot be read after {n_clips} clips: {error}'
        yield location, Rejected(id=name, audio=name, reason=reason)


def _clip(sample: _Sample, id: str, name: str, where: str) -> Clip:
    row = _json(sample.notes.get(".json"), where)
    known = facts(row, where, has_own_audio=True)
    known["text"] = _text(sample.notes.get(".txt"), where) or known["text"]
    if sample.audio is None and known["text"] is None:
        raise InputError(f"{where} has neither audio nor text")
    clip = Clip(id=as_text(pick(row, "id")) or id, name=name, audio=sample.audio, **known)
    if grid := sample.notes.get(".textgrid"):
        return place_words(clip, textgrid_words(grid, f"{where} has a TextGrid, which"))
    return clip


def _json(content: bytes | None, where: str) -> dict[str, Any]:
    try:
        row = json.loads(content) if content else {}
    except ValueError as error:
        raise InputError(f"{where} has JSON that is not valid: {error}") from error
    if not isinstance(row, dict):
        raise InputError(f"{where} has JSON that is no object")
    return row


def _text(content: bytes | None, where: str) -> str | None:
    try:
        return as_text(content.decode("utf-8-sig")) if content else None
    except UnicodeDecodeError as error:
        raise InputError(f"{where} has text that is not UTF-8 (byte {error.start})") from error


def _samples(location: str) -> Iterator[_Sample]:
    """Runs of members with one key. Raises TarError, OSError and EOFError."""
    sample: _Sample | None = None
    for tar, member, audio in _members(location):
        key, suffix = _key_of(member.name)
        if sample is None or sample.key != key:
            if sample is not None and (sample.audio or sample.notes):
                yield sample
            sample = _Sample(key)
        if is_audio_name(member.name):
            sample.audio_name, sample.audio = files.printable(member.name), audio or HeldAudio(_content(tar, member))
        elif suffix in _NOTES:
            sample.notes[suffix] = _content(tar, member)
    if sample is not None and (sample.audio or sample.notes):
        yield sample


def _key_of(name: str) -> tuple[str, str]:
    """The name up to the first dot of its last part, and the last suffix."""
    path = PurePosixPath(files.printable(name))
    key = path.name.partition(".")[0]
    return (path.parent / key).as_posix(), path.suffix.lower()


def _members(location: str) -> Iterator[tuple[tarfile.TarFile, tarfile.TarInfo, TarAudio | None]]:
    """The files in a tar file one after the other, and where each lies if it lies open on this machine."""
    with files.open_bytes(location) as file:
        is_open = not is_url(location) and not location.lower().endswith(("gz",))
        with tarfile.open(fileobj=file, mode="r:" if is_open else "r|*") as tar:
            while member := tar.next():
                # tarfile keeps all that it has met, and memory would grow with the shard
                tar.members.clear()  # pyright: ignore[reportAttributeAccessIssue]
                if member.isfile() and not PurePosixPath(member.name).name.startswith("."):
                    audio = TarAudio(location, member.offset_data, member.size) if is_open else None
                    yield tar, member, audio
            if is_open:
                file.seek(tar.offset)
                if any(file.read(_BLOCK)):
                    raise tarfile.ReadError("what follows is no tar file")


def _content(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = tar.extractfile(member)
    assert file is not None, member.name
    content = file.read()
    if len(content) < member.size:
        raise EOFError(f'"{member.name}" is cut off')
    return content


def _tar_stem(location: str) -> str:
    return PurePosixPath(location).name.partition(".tar")[0].removesuffix(".tgz")
