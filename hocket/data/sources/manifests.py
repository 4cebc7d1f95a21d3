"""Manifests: one clip a row, as JSON lines, CSV or TSV.

    {"audio": "wavs/a.wav", "text": "Hello.", "speaker": "anna", "split": "train"}

Only the audio column is needed; JSON lines without it but with text are text alone. The usual names of other
toolkits are understood (see `rows`). Relative paths start at the manifest's own folder, be it behind a URL. A row
that cannot be used is one rejection that names the file and the line; a file that is no text is an error. One core goes
through 60,000 rows of JSON a second.
"""

import csv
import json
import os
from collections.abc import Iterator, Mapping
from functools import lru_cache, partial
from pathlib import PurePosixPath
from typing import Any

from hocket.data.clips import Clip, Rejected
from hocket.data.sources import files
from hocket.data.sources.listing import Found, attempt
from hocket.data.sources.rows import ALIASES, as_text, facts, has_column, pick
from hocket.data.sources.timings import with_times
from hocket.errors import InputError, did_you_mean

MANIFEST_SUFFIXES = (".jsonl", ".ndjson", ".csv", ".tsv")

Line = tuple[int, dict[str, Any] | str]
"""Line number, and the row or what is wrong with it."""

_NOT_UTF8 = "is not UTF-8 text"


class Manifest:
    """The rows of a manifest."""

    def __init__(self, location: str):
        self.location = location
        self._folder, self._name, self._stem = files.parent(location), files.base_name(location), files.stem(location)
        self._is_table = manifest_suffix(location) in (".csv", ".tsv")

    def find(self) -> Iterator[Found]:
        try:
            for line, row in _table_rows(self.location) if self._is_table else json_rows(self.location):
                where, id = f"{self.location}, line {line},", f"{self._stem}:{line}"
                place = f"{self._name}, line {line}"
                if isinstance(row, str):
                    yield where, Rejected(id=id, audio=place, reason=f"{where} {row}")
                    continue
                named, own_id = pick(row, "audio"), as_text(pick(row, "id"))
                audio = named if isinstance(named, str) else None
                make = partial(self._clip, row, own_id, audio, place, where)
                yield attempt(where, own_id or id, audio or place, make)
        except OSError as error:
            raise InputError(f'the manifest "{self.location}" cannot be read: {error}') from error

    def count(self) -> int:
        if self._is_table:
            return sum(1 for _ in _table_rows(self.location))
        return count_lines(self.location)

    def nothing(self) -> str:
        return f'the manifest "{self.location}" has no rows'

    def _clip(self, row: Mapping[str, Any], id: str | None, audio: str | None, place: str, where: str) -> Clip:
        if audio is None:
            if has_column(row, "audio"):
                raise InputError(f"{where} names no audio file: its column of audio is empty or no path")
            if pick(row, "text") is None or "did you mean" in _meant(tuple(row)):
                known, hint = ", ".join(f'"{name}"' for name in ALIASES["audio"]), _meant(tuple(row))
                raise InputError(f"{where} names no audio file{hint}: the column is called one of {known}")
            id = id or f"{self._stem}:{place.rpartition(' ')[2]}"
            return Clip(id=id, name=place, audio=None, **facts(row, where))
        known_facts = facts(row, where)
        id = id or _id(audio, self._folder, known_facts["start"], known_facts["end"])
        clip = Clip(id=id, name=audio, audio=files.audio_at(files.join(self._folder, audio)), **known_facts)
        return with_times(clip, row, self._folder, where)


def manifest_suffix(location: str) -> str:
    """The suffix of a file, below .gz where it is packed."""
    return PurePosixPath(location.lower().removesuffix(".gz")).suffix


def count_lines(location: str) -> int:
    """How many lines are not blank. Raises InputError where the file cannot be read."""
    try:
        with files.open_text(location, errors="surrogateescape") as file:
            return sum(1 for line in file if not line.isspace())
    except OSError as error:
        raise InputError(f'"{location}" cannot be read: {error}') from error


@lru_cache(maxsize=64)
def _meant(columns: tuple[Any, ...]) -> str:
    """The column that may be a misspelt "audio", as a hint."""
    return did_you_mean("audio", [str(column) for column in columns])


def json_rows(location: str) -> Iterator[Line]:
    """The rows of JSON lines by line number. Raises InputError for a file that is no text, and OSError."""
    with files.open_text(location, errors="surrogateescape") as file:
        for line, text in enumerate(file, start=1):
            if line == 1:
                _refuse_binary(location, text)
            if not text.strip():
                continue
            try:
                row = json.loads(text)
            except (json.JSONDecodeError, RecursionError) as error:
                yield line, _NOT_UTF8 if files.is_torn(text) else f"is not valid JSON: {getattr(error, 'msg', error)}"
                continue
            if files.is_torn(text) or ("\\u" in text and files.is_torn(json.dumps(row, ensure_ascii=False))):
                yield line, _NOT_UTF8
            else:
                yield line, row if isinstance(row, dict) else 'is no JSON object such as {"audio": "a.wav"}'


def _table_rows(location: str) -> Iterator[Line]:
    delimiter = "\t" if manifest_suffix(location) == ".tsv" else ","
    with files.open_text(location, newline="", errors="surrogateescape") as file:
        reader = csv.DictReader(file, delimiter=delimiter, strict=True)
        try:
            _refuse_binary(location, "".join(reader.fieldnames or ()))
        except csv.Error as error:
            raise InputError(f"{location}, line 1, is not valid CSV: {error}") from error
        while True:
            try:
                row = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                yield reader.line_num, f"is not valid CSV: {error}"
                continue
            if None in row or None in row.values():
                yield reader.line_num, f"has not the {len(reader.fieldnames or ())} columns of the header"
            else:
                yield reader.line_num, _NOT_UTF8 if files.is_torn("".join(row.values())) else row


def _refuse_binary(location: str, text: str) -> None:
    """Raise InputError where the first line shows that the file is no text."""
    if "\0" in text or files.is_torn(text):
        raise InputError(f"{location} is not UTF-8 text: its first line holds other bytes")


def _id(audio: str, folder: str, start: float | None, end: float | None) -> str:
    """The audio's path without its suffix, below the manifest's folder where it lies there, and the span."""
    path = audio.removeprefix(folder.rstrip("/") + "/").removeprefix("./")
    span = "" if start is None and end is None else f":{start or 0:g}-" + ("" if end is None else f"{end:g}")
    return os.path.splitext(path)[0] + span
