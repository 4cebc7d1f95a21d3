"""What every kind of source of codes yields: entries that are read one by one, and rows as the source writes them.

Nothing is decided here about axes or codecs; a row's columns are looked up under the names that other toolkits give
them.
"""

import pickle
import re
import struct
import tokenize
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from hocket.data.clips import Clip
from hocket.data.sources.rows import as_text, facts, pick
from hocket.errors import InputError

CODE_COLUMNS = (
    *("codes", "audio_codes", "audio_tokens", "codec_codes", "speech_tokens", "tokens"),
    *("units", "speech_units", "audio_repr", "hubert"),
)
"""What toolkits call the codes; the first name that a row has wins."""

DURATION_COLUMNS = ("duration", "durations", "unit_duration", "unit_durations")
"""A list under one of these says for how many frames each unit stands; a number is the length in seconds."""

STATED = {
    "codec": ("codec", "codec_name", "audio_codec"),
    "sample_rate": ("codec_sample_rate", "sample_rate", "sampling_rate"),
    "frame_rate": ("codec_frame_rate", "frame_rate"),
}
"""What a row may say of the codec that made it."""

DAMAGE = (
    *(OSError, EOFError, RuntimeError, ValueError, LookupError, TypeError, AttributeError, AssertionError),
    *(SyntaxError, MemoryError, struct.error, tokenize.TokenError, pickle.UnpicklingError),
)
"""What the readers of numpy, torch and kaldiio raise when they meet a damaged file."""

UNIT_TEXT = re.compile(r"(?:<Un\d+>)+")


@dataclass(frozen=True, kw_only=True)
class CodeRow:
    """One row as the source has it."""

    clip: Clip
    """What is known about it; `clip.seconds` is the stated length."""
    codes: np.ndarray
    """Integers, or floats that hold them, in whatever order of axes; runs are spelt out already."""
    stated: Mapping[str, Any] = field(default_factory=dict)
    """What the row says of its codec: codec, sample_rate, frame_rate."""
    has_durations: bool = False
    """Whether the codes were runs of units that came with their durations."""


@dataclass(frozen=True)
class Entry:
    """One row that has not been read yet."""

    name: str
    """Where it is, for messages: a file, or a file and its line."""
    digest: bytes
    """By which a changed row is known, as far as that is cheap: the line itself, or a file's name and size."""
    read: Callable[[], CodeRow]
    """Raises InputError where the row is none."""


class CodeSource(Protocol):
    """One source of codes."""

    @property
    def name(self) -> str:
        """As it was given."""
        ...

    def entries(self) -> Iterator[Entry]:
        """All rows in a fixed order, again from the start at each call."""
        ...

    def survey(self) -> tuple[int | None, str]:
        """How many rows there are and a hash of what identifies them; (None, "") for a stream."""
        ...

    def stated(self) -> Mapping[str, Any]:
        """What the source as a whole says of its codec, as `CodeRow.stated`."""
        ...


def make_row(
    row: Mapping[str, Any],
    codes: Any,
    where: str,
    *,
    id: str,
    name: str | None = None,
    durations: Any = None,
    ignore: frozenset[str] = frozenset(),
) -> CodeRow:
    """A row from its columns.

    Args:
        row: the columns beside the codes, under any of their usual names.
        codes: numpy array, nested lists, or text such as "1 2 3" and "<Un1><Un2>".
        where: begins the sentence about what is wrong.
        id, name: where the row has none of its own; `name` is what the audio is called.
        durations: for how many frames each unit stands.
        ignore: columns that are not meant.

    Raises:
        InputError: the columns or the codes are malformed.
    """
    known = {key: value for key, value in row.items() if key not in ignore}
    words = known.pop("aligned_text", None)  # SlamKit's [word, start, end]
    if words:
        known["words"] = [dict(zip(("word", "start", "end"), word, strict=False)) for word in words]
    array = as_array(codes)
    if durations is not None:
        array = _spell_out(array, as_array(durations))
    audio = pick(known, "audio")
    called = audio if isinstance(audio, str) else name or where.strip('",')
    about = facts(known, where)
    about.pop("channel")
    if str(about["language"]).lower() == "auto":
        about["language"] = None
    clip = Clip(id=as_text(pick(known, "id")) or id, name=called, audio=None, **about)
    stated = {what: value for what in STATED if (value := _stated(known, what)) is not None}
    return CodeRow(clip=clip, codes=array, stated=stated, has_durations=durations is not None)


def find_column(names: Mapping[str, Any] | list[str], wanted: str | None, where: str) -> str:
    """The column of codes: the wanted one, or the first that has one of the usual names. Raises InputError."""
    if wanted:
        if wanted in names:
            return wanted
    elif found := next((name for name in CODE_COLUMNS if name in names), None):
        return found
    have = ", ".join(f'"{name}"' for name in names) or "none"
    asked = f'"{wanted}"' if wanted else "codes, audio_codes, tokens, units or the like"
    raise InputError(f"{where} has no column {asked} (its columns: {have}); name the one of codes by --column")


def pop_durations(row: dict[str, Any]) -> Any:
    """Take the durations of units out of a row; None where it has none. A number of seconds stays."""
    for name in DURATION_COLUMNS:
        if isinstance(row.get(name), list | tuple | np.ndarray):
            return row.pop(name)
    return None


def brief(error: Exception) -> str:
    """What an error of a reader says, on one line."""
    said = " ".join(str(error).split()) or type(error).__name__
    return said[:100] + ("…" if len(said) > 100 else "")


def damaged(name: str, digest: bytes, reason: str) -> Entry:
    """What stands for the rest of a file that cannot be read on."""

    def read() -> CodeRow:
        raise InputError(reason)

    return Entry(name, digest, read)


def as_array(value: Any) -> np.ndarray:
    """Codes in any of the ways they are written, as an array. Raises InputError."""
    if isinstance(value, np.ndarray):
        return value
    if isinstance(value, str):
        return _spelt(value)
    if not isinstance(value, list | tuple):
        raise InputError(f"its codes are {value!r}, which should be lists of whole numbers")
    try:
        array = np.array(value)
    except ValueError as error:
        raise InputError("its codes are lists of different lengths, so some level lacks frames") from error
    if array.dtype.kind not in "iuf" and array.size:
        raise InputError(f"its codes hold {_first_other(value)!r}, which is no whole number")
    return array


def _spelt(text: str) -> np.ndarray:
    spelt = text.strip()
    parts = re.findall(r"\d+", spelt) if UNIT_TEXT.fullmatch(spelt) else spelt.split()
    try:
        return np.array([int(part) for part in parts], np.int64)
    except (ValueError, OverflowError) as error:
        start = spelt[:24] + ("…" if len(spelt) > 24 else "")
        raise InputError(f'its codes are written "{start}"; they should be as "1 2 3" or "<Un1><Un2>"') from error


def _first_other(value: Any) -> Any:
    while isinstance(value, list | tuple) and value:
        value = next((part for part in value if not isinstance(part, int | float) or isinstance(part, bool)), value[0])
    return value


def _spell_out(units: np.ndarray, durations: np.ndarray) -> np.ndarray:
    """Each unit as often as its duration says, [runs] or [runs, levels]."""
    if durations.ndim != 1 or units.ndim != 1 or len(units) != len(durations):
        have = f"{list(units.shape)} units and {list(durations.shape)} durations"
        raise InputError(f"it has {have}; each unit needs one duration")
    if durations.dtype.kind not in "iu" or (len(durations) and durations.min() < 1):
        raise InputError("the durations of its units should be whole numbers of frames, 1 or more")
    return np.repeat(units, durations)


def _stated(row: Mapping[str, Any], what: str) -> Any:
    return next((row[name] for name in STATED[what] if row.get(name) not in (None, "")), None)
