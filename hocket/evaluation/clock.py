"""How many levels the streams of a layout have and how fast they go: what rates and drawings of layouts start from.

A codec's name is enough; those of the catalogue are not loaded. Levels and rates may be given instead, also by stream.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property

from hocket.codec import load_codec
from hocket.codec.catalogue import CATALOGUE
from hocket.errors import InputError
from hocket.vocab import TEXT

BUNDLED = "bundled"


@dataclass(frozen=True, kw_only=True)
class Clock:
    """How many levels the streams of codes have, and at which rates they go."""

    codec: str = BUNDLED
    """"bundled", a name of the catalogue, or a codec's folder; gives what is not given here."""
    levels: int | None = None
    frame_rate: Fraction | None = None
    """Hz, of every stream of codes."""
    frame_rates: Mapping[str, Fraction] = field(default_factory=dict)
    """Hz by stream, where one differs."""

    @cached_property
    def _published(self) -> tuple[Fraction, int]:
        for entry in CATALOGUE:
            if self.codec in (entry.short, entry.hub):
                return entry.frame_rate, len(entry.codebook_sizes)
        identity = load_codec(self.codec).identity
        return identity.frame_rate, identity.levels

    @property
    def n_levels(self) -> int:
        """Levels of a stream of codes.

        Raises:
            InputError: more are asked for than the codec has.
        """
        is_free = self.codec == BUNDLED and self.levels is not None and self.frame_rate is not None
        most = max(self.levels or 1, 1) if is_free else self._published[1]
        if self.levels is not None and not 1 <= self.levels <= most:
            raise InputError(f'codec "{self.codec}" has levels 1 to {most}, so --levels {self.levels} cannot be had')
        return self.levels or most

    def rates(self, streams: Sequence[str]) -> dict[str, Fraction]:
        """Hz of each stream that has a rate; text has none."""
        return {name: self._rate(name) for name in streams if name != TEXT}

    def _rate(self, stream: str) -> Fraction:
        return self.frame_rates[stream] if stream in self.frame_rates else self.frame_rate or self._published[0]


def read_clock(codec: str | None, levels: int | None, frame_rate: str | None, frame_rates: str | None) -> Clock | None:
    """A clock from options as they are typed; None where none is given.

    Raises:
        InputError: a rate is none.
    """
    if codec is None and levels is None and frame_rate is None and frame_rates is None:
        return None
    return Clock(
        codec=codec or BUNDLED,
        levels=levels,
        frame_rate=None if frame_rate is None else parse_rate(frame_rate),
        frame_rates={} if frame_rates is None else parse_rates(frame_rates),
    )


def parse_rates(text: str) -> dict[str, Fraction]:
    """Frame rates such as `semantic=25,audio=50`.

    Raises:
        InputError: it is written otherwise, or a rate is not above 0.
    """
    rates = {}
    for part in text.split(","):
        name, equals, rate = part.strip().partition("=")
        if not (name and equals):
            raise InputError(f'frame rates are written as semantic=25,audio=50 (Hz by stream), not "{text}"')
        rates[name.strip()] = parse_rate(rate)
    return rates


def parse_rate(text: str) -> Fraction:
    """A frame rate such as `12.5` or `75/2`, in Hz."""
    try:
        rate = Fraction(text.strip())
    except (ValueError, ZeroDivisionError):
        rate = Fraction(0)
    if rate <= 0:
        raise InputError(f'a frame rate is a number of Hz above 0, such as 12.5 or 75/2, not "{text}"')
    return rate
