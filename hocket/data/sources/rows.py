"""What a row says about a clip: the columns of manifests, data sets and tar files under all their usual names.

    {"audio": "a.wav", "text": "Hello you.", "speaker": "anna", "offset": 1.5, "duration": 2.0, "channel": 0,
     "words": [{"word": "Hello", "start": 0.1, "end": 0.4}, {"word": "you.", "start": 0.5, "end": 0.9}]}

`words` count from the clip's start. `textgrid` and `ctm` name a file of times, which count from the start of the
file of audio. `duration` is the clip's length; behind an `offset` or `start` without an `end` it says where it ends.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from hocket.data.clips import canonical_split
from hocket.data.words import Word, check_words, join_words
from hocket.errors import InputError

ALIASES: dict[str, tuple[str, ...]] = {
    "audio": ("audio", "audio_filepath", "audio_path", "path", "file", "file_name", "filename", "wav"),
    "text": ("text", "sentence", "transcript", "transcription", "normalized_text"),
    "speaker": ("speaker", "speaker_id", "client_id"),
    "language": ("language", "lang", "locale"),
    "split": ("split",),
    "id": ("id", "utt_id", "utterance_id"),
    "start": ("start", "offset"),
    "end": ("end",),
    "duration": ("duration",),
    "channel": ("channel",),
    "words": ("words", "word_timestamps", "segments"),
    "textgrid": ("textgrid", "textgrid_filepath"),
    "ctm": ("ctm", "ctm_filepath", "word_level_ctm_filepath"),
}
"""What other toolkits call our columns; the first name that a row has wins."""

_WORD_KEYS = {"text": ("text", "word"), "start": ("start", "start_time"), "end": ("end", "end_time")}


def pick(row: Mapping[str, Any], column: str) -> Any:
    """The row's value for one of our columns under any of its names; None where it is absent or empty."""
    for name in ALIASES[column]:
        if row.get(name) not in (None, ""):
            return row[name]
    return None


def has_column(row: Mapping[str, Any], column: str) -> bool:
    """Whether the row has the column under any of its names, be it empty."""
    return any(name in row for name in ALIASES[column])


def as_text(value: Any) -> str | None:
    """A value as stripped text; None for nothing and for blanks."""
    return (str(value).strip() or None) if value is not None else None


def facts(row: Mapping[str, Any], where: str) -> dict[str, Any]:
    """What a row says, as the keywords of `Clip` without its id, name and audio. Raises InputError."""
    start, end, seconds = _span(row, where)
    split = as_text(pick(row, "split"))
    words = row_words(pick(row, "words"), where)
    return {
        "text": as_text(pick(row, "text")) or join_words(words),
        "words": words,
        "speaker": as_text(pick(row, "speaker")),
        "language": as_text(pick(row, "language")),
        "split": canonical_split(split, where) if split else None,
        "start": start,
        "end": end,
        "seconds": seconds,
        "channel": _channel(row, where),
    }


def row_words(value: Any, where: str) -> tuple[Word, ...]:
    """The words of a row: a list of {"text" or "word", "start", "end"}, or Whisper's segments with such a list each.

    A table holds the list as JSON. Raises InputError.
    """
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except json.JSONDecodeError as error:
            raise InputError(f"{where} has words that are not valid JSON: {error.msg}") from error
    if isinstance(value, Mapping):
        value = value.get("words") or value.get("segments") or []
    if not isinstance(value, Iterable):
        if value is None:
            return ()
        raise InputError(f'{where} has "{value}" for words, which should be a list')
    return check_words(_words(value, where), where)


def _words(values: Iterable[Any], where: str) -> Iterator[Word]:
    for value in values:
        if isinstance(value, Mapping) and isinstance(value.get("words"), list):
            yield from _words(value["words"], where)
            continue
        text = as_text(_under(value, "text"))
        if text is None or _under(value, "start") is None or _under(value, "end") is None:
            shape = '{"text": "hello", "start": 0.1, "end": 0.4}'
            raise InputError(f"{where} has the word {value!r}, which should be like {shape}")
        yield Word(
            text=text,
            start=number(_under(value, "start"), "the start of a word", where),
            end=number(_under(value, "end"), "the end of a word", where),
            stream=as_text(value.get("stream")) or "audio",
        )


def _under(value: Any, key: str) -> Any:
    if not isinstance(value, Mapping):
        return None
    return next((value[name] for name in _WORD_KEYS[key] if value.get(name) is not None), None)


def _span(row: Mapping[str, Any], where: str) -> tuple[float | None, float | None, float | None]:
    """start, end and stated length in seconds."""
    start, end, seconds = (_seconds(row, column, where) for column in ("start", "end", "duration"))
    if end is None and start is not None and seconds is not None:
        end = start + seconds
    if end is not None and end <= (start or 0.0):
        raise InputError(f"{where} ends ({end:g} s) before it starts ({start or 0:g} s)")
    return start, end, seconds if end is None else None


def _seconds(row: Mapping[str, Any], column: str, where: str) -> float | None:
    value = pick(row, column)
    return None if value is None else number(value, column, where)


def number(value: Any, what: str, where: str) -> float:
    """A value as seconds. Raises InputError for anything else than a finite number, 0 or more."""
    try:
        seconds = float(value)
    except (TypeError, ValueError):
        seconds = float("nan")
    if not 0 <= seconds < float("inf"):
        raise InputError(f'{where} has "{value}" for {what}, which should be seconds, 0 or more')
    return seconds


def _channel(row: Mapping[str, Any], where: str) -> int | None:
    value = pick(row, "channel")
    if value is None:
        return None
    if isinstance(value, bool) or not str(value).isdecimal():
        raise InputError(f'{where} has "{value}" for channel, which should be 0 for the first, 1 for the second, …')
    return int(value)
