"""Manifests: one clip a row, as JSON lines, CSV or TSV.

    {"audio": "wavs/a.wav", "text": "Hello.", "speaker": "anna", "split": "train"}

Only the audio column is needed. The usual names of other toolkits are understood, NeMo's `offset` with `duration`
among them. Relative paths start at the manifest's own folder. A row that cannot be read is an error that names the
file and the line, because a manifest is written by a program and one bad row seldom comes alone.
"""

import csv
import json
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePath
from typing import Any

from hocket.data.clips import Clip, canonical_split
from hocket.errors import InputError, did_you_mean

MANIFEST_SUFFIXES = (".jsonl", ".ndjson", ".csv", ".tsv")

ALIASES: dict[str, tuple[str, ...]] = {
    "audio": ("audio", "audio_filepath", "audio_path", "path", "file", "file_name", "filename", "wav"),
    "text": ("text", "sentence", "transcript", "transcription", "normalized_text"),
    "speaker": ("speaker", "speaker_id", "client_id"),
    "language": ("language", "lang", "locale"),
    "split": ("split",),
    "id": ("id", "utt_id", "utterance_id"),
    "start": ("start", "offset"),
    "end": ("end",),
}
"""What other toolkits call our columns; the first name that a row has wins."""


def read_manifest(path: Path) -> Iterator[tuple[str, Clip]]:
    """Yield (where, clip) for each row, `where` being the file and line. Raises InputError."""
    rows = _csv_rows(path) if path.suffix.lower() in (".csv", ".tsv") else _json_rows(path)
    try:
        for line, row in rows:
            where = f"{path}, line {line},"
            yield where, _clip(row, path.parent, where)
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 text (byte {error.start})") from error


def pick(row: Mapping[str, Any], column: str) -> Any:
    """The row's value for one of our columns under any of its names; None where it is absent or empty."""
    for name in ALIASES[column]:
        if row.get(name) not in (None, ""):
            return row[name]
    return None


def as_text(value: Any) -> str | None:
    """A value as stripped text; None for nothing and for blanks."""
    return (str(value).strip() or None) if value is not None else None


def _json_rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    with path.open(encoding="utf-8-sig") as file:
        for line, text in enumerate(file, start=1):
            if not text.strip():
                continue
            try:
                row = json.loads(text)
            except json.JSONDecodeError as error:
                raise InputError(f"{path}, line {line}, is not valid JSON: {error.msg}") from error
            if not isinstance(row, dict):
                raise InputError(f'{path}, line {line}, is no JSON object such as {{"audio": "a.wav"}}')
            yield line, row


def _csv_rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    delimiter = "\t" if path.suffix.lower() == ".tsv" else ","
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file, delimiter=delimiter, strict=True)
        try:
            for row in reader:
                if None in row or None in row.values():
                    wanted = len(reader.fieldnames or ())
                    raise InputError(f"{path}, line {reader.line_num}, has not the {wanted} columns of the header")
                yield reader.line_num, row
        except csv.Error as error:
            raise InputError(f"{path}, line {reader.line_num}, is not valid CSV: {error}") from error


def _clip(row: Mapping[str, Any], folder: Path, where: str) -> Clip:
    audio = pick(row, "audio")
    if not isinstance(audio, str):
        known = ", ".join(f'"{name}"' for name in ALIASES["audio"])
        hint = did_you_mean("audio", [str(key) for key in row])
        raise InputError(f"{where} names no audio file{hint}: the column is called one of {known}")
    start, end = _span(row, where)
    split, id = as_text(pick(row, "split")), as_text(pick(row, "id"))
    return Clip(
        id=id or _id(audio, folder, start, end),
        name=audio,
        audio=folder / audio,
        text=as_text(pick(row, "text")),
        speaker=as_text(pick(row, "speaker")),
        language=as_text(pick(row, "language")),
        split=canonical_split(split, where) if split else None,
        start=start,
        end=end,
    )


def _span(row: Mapping[str, Any], where: str) -> tuple[float | None, float | None]:
    start, end = _seconds(row, "start", where), _seconds(row, "end", where)
    if end is None and row.get("offset") not in (None, "") and row.get("duration") not in (None, ""):
        end = (start or 0.0) + _number(row["duration"], "duration", where)
    if end is not None and end <= (start or 0.0):
        raise InputError(f"{where} ends ({end:g} s) before it starts ({start or 0:g} s)")
    return start, end


def _seconds(row: Mapping[str, Any], column: str, where: str) -> float | None:
    value = pick(row, column)
    return None if value is None else _number(value, column, where)


def _number(value: Any, column: str, where: str) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = float("nan")
    if not 0 <= number < float("inf"):
        raise InputError(f'{where} has "{value}" for {column}, which should be seconds, 0 or more')
    return number


def _id(audio: str, folder: Path, start: float | None, end: float | None) -> str:
    """The audio's path without its suffix, below the manifest's folder where it lies there, and the span."""
    path = PurePath(audio)
    path = path.relative_to(folder) if path.is_relative_to(folder) else path
    span = "" if start is None and end is None else f":{start or 0:g}-" + ("" if end is None else f"{end:g}")
    return path.with_suffix("").as_posix() + span
