"""What a row says about a clip: the columns of manifests, data sets and tar files under all their usual names.

    {"audio": "a.wav", "text": "Hello you.", "speaker": "anna", "offset": 1.5, "duration": 2.0, "channel": 0,
     "words": [{"word": "Hello", "start": 0.1, "end": 0.4}, {"word": "you.", "start": 0.5, "end": 0.9}]}

`words` count from the clip's start. `textgrid` and `ctm` name a file of times, which count from the start of the
file of audio. `duration` is the clip's length; behind an `offset` or `start` without an `end` it says where it ends.
"""

import json
from collections.abc import Mapping
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
    "words": ("words", "word_timestamps"),
    "segments": ("segments",),
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


def facts(row: Mapping[str, Any], where: str, has_own_audio: bool = False) -> dict[str, Any]:
    """What a row says, as the keywords of `Clip` without its id, name and audio. Raises InputError.

    `has_own_audio`: the row holds its audio, so that a start and an end only tell where it was cut from.
    """
    start, end, seconds = (None, None, _seconds(row, "duration", where)) if has_own_audio else _span(row, where)
    split = _single(row, "split", where)
    words = row_words(row, where)
    return {
        "text": _single(row, "text", where) or join_words(words),
        "words": words,
        "speaker": _single(row, "speaker", where),
        "language": _single(row, "language", where),
        "split": canonical_split(split, where) if split else None,
        "start": start,
        "end": end,
        "seconds": seconds,
        "channel": _channel(row, where),
    }


def _single(row: Mapping[str, Any], column: str, where: str) -> str | None:
    value = pick(row, column)
    if isinstance(value, list | dict):
        raise InputError(f"{where} has {json.dumps(value, default=str)} for {column}, which should be text")
    return as_text(value)


def row_words(row: Mapping[str, Any], where: str) -> tuple[Word, ...]:
    """The words of a row: a list of {"text" or "word", "start", "end"}, or Whisper's segments with such a list each.

    A table holds the list as JSON. A column of that name without times (a count, plain words) says nothing of them.
    Raises InputError.
    """
    value = _decoded(pick(row, "words"), where)
    if isinstance(value, Mapping):
        value = value.get("words") or _of_segments(value.get("segments")) or _rows_of_columns(value)
    if value is None:
        value = _of_segments(_decoded(pick(row, "segments"), where))
    if not isinstance(value, list) or not any(isinstance(one, Mapping) for one in value):
        return ()
    return check_words((_word(one, where) for one in value), where)


def _decoded(value: Any, where: str) -> Any:
    if not isinstance(value, str) or not value.lstrip().startswith(("[", "{")):
        return value
    try:
        return json.loads(value)
    except json.JSONDecodeError as error:
        raise InputError(f"{where} has words that are not valid JSON: {error.msg}") from error


def _of_segments(segments: Any) -> list[Any] | None:
    """The words of Whisper's segments, where they have any."""
    if not isinstance(segments, list):
        return None
    return [word for one in segments if isinstance(one, Mapping) for word in one.get("words") or ()]


def _rows_of_columns(columns: Mapping[str, Any]) -> list[dict[str, Any]]:
    """[{"text": "a", "start": 0}] of {"text": ["a"], "start": [0]}, which is how data sets store such lists."""
    lists = {name: column for name, column in columns.items() if isinstance(column, list)}
    return [dict(zip(lists, values, strict=True)) for values in zip(*lists.values(), strict=False)]


def _word(value: Any, where: str) -> Word:
    text = as_text(_under(value, "text"))
    if text is None or _under(value, "start") is None or _under(value, "end") is None:
        shape = '{"text": "hello", "start": 0.1, "end": 0.4}'
        raise InputError(f"{where} has the word {value!r}, which should be like {shape}")
    return Word(
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
    return start, end, seconds if end is None else round(end - (start or 0.0), 6)


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
