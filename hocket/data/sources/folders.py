"""A folder of audio, or one file of it, on this machine or behind a URL.

talks/a.flac   talks/a.txt        what is said
               talks/a.TextGrid   or a.ctm: when each word is said
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath

from hocket.data.clips import Clip, Rejected
from hocket.data.places import is_url
from hocket.data.sources import files
from hocket.data.sources.listing import Found, attempt
from hocket.data.sources.rows import as_text
from hocket.data.sources.timings import ctm_words_of, place_words, textgrid_words
from hocket.errors import InputError

_READABLE = (".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aiff", ".aif", ".aifc", ".au", ".caf", ".w64", ".rf64")
_UNREADABLE = (".m4a", ".aac", ".mp4", ".wma", ".webm")
AUDIO_SUFFIXES = frozenset(_READABLE + _UNREADABLE)
"""What counts as audio in a folder. libsndfile reads most; the rest are counted and named, not silently skipped."""


@dataclass(frozen=True)
class AudioFolder:
    """Every audio file below a folder, hidden ones left out, sorted by relative path."""

    location: str

    def find(self) -> Iterator[Found]:
        names = list_names(self.location)
        there = frozenset(names) if is_url(self.location) else None
        for name in names:
            where, shown = files.printable(files.join(self.location, name)), files.printable(name)
            if name.endswith("/"):
                yield where, Rejected(id=shown, audio=shown, reason=f'the folder "{where}" cannot be listed')
            elif is_audio_name(name):
                yield attempt(where, _id(shown), shown, partial(file_clip, self.location, name, there))

    def count(self) -> int:
        return sum(name.endswith("/") or is_audio_name(name) for name in list_names(self.location))

    def nothing(self) -> str:
        looked_for = ", ".join(sorted(AUDIO_SUFFIXES))
        return f'there is no audio in "{self.location}" or its subfolders (looked for {looked_for})'


@dataclass(frozen=True)
class AudioFile:
    """One file of audio."""

    location: str

    def find(self) -> Iterator[Found]:
        folder, name = files.parent(self.location), PurePosixPath(self.location).name
        yield attempt(self.location, _id(name), name, lambda: file_clip(folder, name, None))

    def count(self) -> int:
        return 1

    def nothing(self) -> str:
        return f'there is no audio in "{self.location}"'


def list_names(folder: str) -> list[str]:
    """Every file below a folder by its relative path, sorted; hidden ones are left out.

    A folder that cannot be listed is named with a slash at its end.
    """
    return _remote_names(folder) if is_url(folder) else _local_names(folder)


def is_audio_name(name: str) -> bool:
    """Whether a file is audio by its suffix, and not hidden."""
    path = PurePosixPath(name)
    return not path.name.startswith(".") and path.suffix.lower() in AUDIO_SUFFIXES


def file_clip(folder: str, name: str, there: frozenset[str] | None) -> Clip:
    """The clip of a file with what lies beside it; `there`: what the folder holds, where asking is dear.

    Raises InputError for what has the name of audio and is no file, and for text or word times that are malformed.
    """
    location = files.join(folder, name)
    _refuse_no_file(location, name)
    text = _beside(folder, name, ".txt", there)
    shown = files.printable(name)
    clip = Clip(id=_id(shown), name=shown, audio=files.audio_at(location), text=_text(text) if text else None)
    if beside := _beside(folder, name, ".TextGrid", there):
        return place_words(clip, textgrid_words(_read(beside), f'the TextGrid "{beside}"'))
    if beside := _beside(folder, name, ".ctm", there):
        return place_words(clip, ctm_words_of(beside, (clip.id, files.stem(name))))
    return clip


def _id(name: str) -> str:
    return PurePosixPath(name).with_suffix("").as_posix()


def _refuse_no_file(location: str, name: str) -> None:
    if is_url(location) or os.path.isfile(location):
        return
    if os.path.isdir(location):
        raise InputError(f'"{name}" is a folder; it has the name of audio')
    if os.path.islink(location):
        raise InputError(f'"{name}" is a link to "{os.readlink(location)}", which is not there')
    raise InputError(f'"{name}" is no regular file')


def _beside(folder: str, name: str, suffix: str, there: frozenset[str] | None) -> str | None:
    beside = PurePosixPath(name).with_suffix(suffix).as_posix()
    location = files.join(folder, beside)
    is_there = files.is_file(location) if there is None else beside in there
    return location if is_there and beside != name else None


def _text(location: str) -> str | None:
    try:
        return as_text(_read(location).decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise InputError(f'the text "{location}" is not UTF-8 (byte {error.start})') from error


def _read(location: str) -> bytes:
    try:
        return files.read_bytes(location)
    except OSError as error:
        raise InputError(f'"{location}" cannot be read: {error}') from error


def _local_names(folder: str) -> list[str]:
    """Files below the folder, and folders that are called like audio; links followed once."""
    found: list[str] = []
    seen: set[str] = set()

    def note(error: OSError) -> None:
        found.append(Path(error.filename).relative_to(folder).as_posix() + "/")

    for root, folders, names in os.walk(folder, onerror=note, followlinks=True):
        real = os.path.realpath(root)
        if real in seen:
            folders[:] = []
            continue
        seen.add(real)
        folders[:] = [name for name in folders if not name.startswith(".")]
        names += [name for name in folders if is_audio_name(name)]
        found += [Path(root, name).relative_to(folder).as_posix() for name in names if not name.startswith(".")]
    return sorted(found)


def _remote_names(url: str) -> list[str]:
    names = files.find_below(url)
    return sorted(name for name in names if not any(part.startswith(".") for part in name.split("/")))
