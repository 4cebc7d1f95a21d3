"""Kaldi data directories: wav.scp, with text, segments, utt2spk, utt2lang or spk2lang, utt2dur and ctm where they are.

    wav.scp    rec1 /corpus/rec1.wav
               rec2 cat /corpus/rec2.flac |          cat and flac -d of one file are read without a command
               rec3 data/wav.ark:73                  a wav or flac inside an ark
    segments   utt1 rec1 0.50 3.25
    ctm        utt1 1 0.00 0.31 hello                by utterance or by recording

Other commands are not run: a data directory is data. Relative paths are looked for in the directory, then where the
job runs, as Kaldi does. The tables beside wav.scp are held in memory (about 200 bytes an utterance).
"""

import io
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from hocket.data.clips import AudioSource, Clip
from hocket.data.places import is_url
from hocket.data.sources import files
from hocket.data.sources.listing import Found, attempt
from hocket.data.sources.rows import as_text, number
from hocket.data.sources.timings import place_words, read_ctm
from hocket.errors import InputError

TABLE = "wav.scp"
_RIFF_HEAD = 8
_UNKNOWN_SIZES = (0, 0xFFFFFFFF)
_DECODING_FLAGS = {"-d", "-c", "-s", "-dc", "-cd", "-cds", "-dcs", "-scd", "-sdc", "--decode", "--stdout", "--silent"}


@dataclass(frozen=True)
class ArkAudio:
    """A wav or flac file inside a Kaldi ark, from a byte on."""

    ark: str
    offset: int

    def file(self) -> io.BytesIO:
        """Raises OSError where the ark has something else there."""
        with open(self.ark, "rb") as file:
            file.seek(self.offset)
            head = file.read(_RIFF_HEAD)
            if head[:4] == b"RIFF":
                size = int.from_bytes(head[4:], "little")
                return io.BytesIO(head + file.read(-1 if size in _UNKNOWN_SIZES else size))
            if head[:4] == b"fLaC":
                return io.BytesIO(head + file.read())
            if head[:5] == b"AUDIO":  # kaldiio: a length of so many bytes, then a whole file of audio
                file.seek(self.offset + 6)
                return io.BytesIO(file.read(int.from_bytes(file.read(head[5]), "little")))
        raise OSError(f"{self.ark} holds no audio at byte {self.offset}, but {head!r}")


@dataclass(frozen=True)
class KaldiFolder:
    """The utterances of a data directory: the rows of segments where it has them, otherwise those of wav.scp."""

    location: str

    def find(self) -> Iterator[Found]:
        tables = {name: dict(self._pairs(name)) for name in ("text", "utt2spk", "utt2lang", "spk2lang", "utt2dur")}
        if not self._has("segments"):
            for where, id, told in self._rows(TABLE):
                yield self._found(where, id, id, told, None, tables)
            return
        recordings = dict(self._pairs(TABLE))
        for where, id, span in self._rows("segments"):
            recording = span.partition(" ")[0]
            yield self._found(where, id, recording, recordings.get(recording), span, tables)

    def count(self) -> int:
        return sum(1 for _ in self._rows("segments" if self._has("segments") else TABLE))

    def nothing(self) -> str:
        return f'the Kaldi directory "{self.location}" has no utterances'

    def _found(
        self, where: str, id: str, recording: str, told: str | None, span: str | None, tables: Mapping[str, dict]
    ) -> Found:
        return attempt(where, id, told or id, partial(self._clip, where, id, recording, told, span, tables))

    def _clip(
        self, where: str, id: str, recording: str, told: str | None, span: str | None, tables: Mapping[str, dict]
    ) -> Clip:
        if not told:
            raise InputError(f'{where} has no audio: {TABLE} does not name "{recording}"')
        start, end = _span(span, where) if span is not None else (None, None)
        stated = tables["utt2dur"].get(id)
        speaker = tables["utt2spk"].get(id)
        clip = Clip(
            id=id,
            name=told,
            audio=self._audio(told, where),
            text=as_text(tables["text"].get(id)),
            speaker=speaker,
            language=tables["utt2lang"].get(id) or tables["spk2lang"].get(speaker),
            start=start,
            end=end,
            seconds=number(stated, "utt2dur", where) if stated else _length(start, end),
        )
        return self._with_words(clip, recording)

    def _with_words(self, clip: Clip, recording: str) -> Clip:
        if not self._has("ctm"):
            return clip
        words = read_ctm(files.join(self.location, "ctm"))
        if clip.id in words:
            return place_words(clip, words[clip.id], of_file=False)
        return place_words(clip, words.get(recording, ()))

    def _audio(self, told: str, where: str) -> Path | AudioSource:
        name = _file_of_command(told, where) if told.endswith("|") else told
        path, _, offset = name.rpartition(":")
        if path and offset.isdecimal() and not is_url(path):
            return ArkAudio(files.locate(self.location, path), int(offset))
        return files.audio_at(files.locate(self.location, name))

    def _has(self, name: str) -> bool:
        return files.is_file(files.join(self.location, name))

    def _pairs(self, name: str) -> Iterator[tuple[str, str]]:
        """The key and the rest of each line of a table, nothing where there is no such table."""
        if self._has(name):
            yield from ((key, rest) for _, key, rest in self._rows(name))

    def _rows(self, name: str) -> Iterator[tuple[str, str, str]]:
        """Where each line of a table stands, its key, and the rest. Raises InputError."""
        location = files.join(self.location, name)
        try:
            with files.open_text(location) as file:
                for line, text in enumerate(file, start=1):
                    fields = text.split(maxsplit=1)
                    if fields:
                        yield f"{location}, line {line},", fields[0], fields[1].strip() if len(fields) > 1 else ""
        except UnicodeDecodeError as error:
            raise InputError(f"{location} is not UTF-8 text (byte {error.start})") from error
        except OSError as error:
            raise InputError(f'the Kaldi table "{location}" cannot be read: {error}') from error


def _span(told: str, where: str) -> tuple[float, float | None]:
    """Start and end of a segment; an end of -1 is that of the recording."""
    fields = told.split()
    if len(fields) < 3:
        raise InputError(f"{where} is no segment; a line of segments is: utterance recording start end")
    start = number(fields[1], "the start", where)
    end = None if fields[2].startswith("-") else number(fields[2], "the end", where)
    if end is not None and end <= start:
        raise InputError(f"{where} ends ({end:g} s) before it starts ({start:g} s)")
    return start, end


def _length(start: float | None, end: float | None) -> float | None:
    return None if end is None else round(end - (start or 0.0), 6)


def _file_of_command(told: str, where: str) -> str:
    """The file that `cat` or `flac -d` of a pipe would read. Raises InputError for every other command."""
    try:
        words = shlex.split(told.rstrip("|").strip())
    except ValueError:
        words = []
    if words[:1] == ["cat"] and len(words) == 2:
        return words[1]
    if words[:1] == ["flac"] and len(words) > 2 and set(words[1:-1]) <= _DECODING_FLAGS:
        return words[-1]
    raise InputError(
        f'{where} gets its audio from the command "{told}", and commands are not run: write the audio to a file first'
    )
