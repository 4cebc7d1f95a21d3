"""References to a stream, or to some of its levels: `audio`, `audio[:4]`, `audio[4:]`; and lengths of time: `"2s"`."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from fractions import Fraction

from hocket.errors import InputError
from hocket.interleave.checks import MOST_LEVELS, is_whole
from hocket.vocab.vocabulary import ALIGNED_TEXT, TEXT

_PATTERN = re.compile(r"([A-Za-z_]\w*)(?:\[(\d*):(\d*)\])?")
_SECONDS = re.compile(r"(\d+(?:\.\d*)?|\.\d+)\s*s")
ONE_LEVEL = (TEXT, ALIGNED_TEXT)
"""Streams that always have one level."""

FrameRates = Mapping[str, Fraction | int]


@dataclass(frozen=True)
class StreamRef:
    """Levels `start` to `stop` of a stream; `stop` is None until the number of levels is known.

    Raises:
        InputError: a name or levels that there cannot be.
    """

    name: str
    start: int = 0
    stop: int | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or _PATTERN.fullmatch(self.name) is None or "[" in self.name:
            raise InputError(f"a stream has a name such as audio, not {self.name!r}")
        if self.name in ONE_LEVEL and self.stop is None:
            object.__setattr__(self, "stop", 1)
        most = 1 if self.name in ONE_LEVEL else MOST_LEVELS
        stop_fits = self.stop is None or is_whole(self.stop, 1, most)
        if not is_whole(self.start, 0, most - 1) or not stop_fits or (self.stop or most) <= self.start:
            raise InputError(f"{self.name}[{self.start}:{self.stop}] names no levels; {self.name} has up to {most}")

    @classmethod
    def parse(cls, text: "str | StreamRef") -> "StreamRef":
        """Reads `audio` or `audio[a:b]`.

        Raises:
            InputError: the text is neither.
        """
        if isinstance(text, StreamRef):
            return text
        match = _PATTERN.fullmatch(text.strip()) if isinstance(text, str) else None
        if match is None:
            raise InputError(f'"{text}" is no stream; write a name such as audio, or levels of it such as audio[:4]')
        name, start, stop = match.groups()
        return cls(name, int(start or 0), int(stop) if stop else None)

    def resolve(self, levels: int | None) -> "StreamRef":
        """Fixes an open end at `levels`, the number of levels that the stream has."""
        stop = self.stop if self.stop is not None else levels
        beyond = levels is not None and self.name not in ONE_LEVEL and stop is not None and stop > levels
        if stop is not None and (stop <= self.start or beyond):
            raise InputError(f"{self} names no levels of a stream that has {levels}")
        return replace(self, stop=stop)

    @property
    def n_levels(self) -> int:
        """How many levels are meant.

        Raises:
            InputError: the number of levels was never given.
        """
        if self.stop is None:
            raise InputError(
                f'the number of levels of "{self.name}" is not known: write {self.name}[:8], '
                f"or load the layout with load_layout(…, levels=8)"
            )
        return self.stop - self.start

    def legal(self, level: int) -> tuple[str, ...]:
        """The block (and, for aligned text, the pads) that a code of a level may come from, counted from level 0."""
        if self.name == ALIGNED_TEXT:
            return (TEXT, "<pad>", "<epad>")
        return (TEXT,) if self.name == TEXT else (f"{self.name}.{level}",)

    def __str__(self) -> str:
        if self.name in ONE_LEVEL or (self.start == 0 and self.stop is None):
            return self.name
        return f"{self.name}[{self.start or ''}:{'' if self.stop is None else self.stop}]"


def parse_frames(value: "int | str", what: str) -> "int | str":
    """Checks a number of frames, or a time such as `"2s"`.

    Raises:
        InputError: it is neither, or negative.
    """
    if isinstance(value, str) and _SECONDS.fullmatch(value.strip()):
        return value.strip()
    if not is_whole(value):
        raise InputError(f'{what} is a whole number of frames from 0 on, or a time such as "2s", not {value!r}')
    return int(value)


def to_frames(value: "int | str", stream: str, rates: FrameRates) -> "int | str":
    """Frames of a time at the stream's frame rate, to the nearest; the time itself while the rate is unknown."""
    if isinstance(value, int) or stream not in rates:
        return value
    match = _SECONDS.fullmatch(value)
    assert match is not None
    return int(Fraction(match.group(1)) * Fraction(rates[stream]) + Fraction(1, 2))


def known_frames(value: "int | str", stream: str) -> int:
    """The frames of an offset.

    Raises:
        InputError: it is a time, and the stream's frame rate was never given.
    """
    if isinstance(value, int):
        return value
    raise InputError(
        f'"{value}" of "{stream}" can be turned into frames only with its frame rate: '
        f'load the layout with load_layout(…, frame_rates={{"{stream}": …}})'
    )
