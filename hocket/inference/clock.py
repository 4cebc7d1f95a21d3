"""Streams of several frame rates on one clock, and the windows in which a long recording is gone through.

    ticks      0   1   2   3   4   5   6        the frames of the slowest stream
    audio      0   1   2   3   4   5   6        12.5 Hz
    semantic   0 1 2 3 4 5 6 7 8 9 ...          25 Hz: tick t begins at frame floor(t * 25 / 12.5)

Recordings are cut at ticks alone, as in training (`data.loading.segments`), so that the streams of a window stay
together.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction


@dataclass(frozen=True)
class Clock:
    """The frame rates of streams of one recording, in Hz."""

    rates: Mapping[str, Fraction]

    @property
    def rate(self) -> Fraction:
        """Ticks a second."""
        return min(self.rates.values())

    def frames(self, stream: str, ticks: int) -> int:
        """The frame of a stream at which a tick begins."""
        return math.floor(ticks * self.rates[stream] / self.rate)

    def ticks(self, stream: str, n_frames: int) -> int:
        """How many whole ticks so many frames of a stream cover: the inverse of `frames`."""
        return math.ceil((n_frames + 1) * self.rate / self.rates[stream]) - 1

    def round(self, seconds: float) -> int:
        """So many seconds as ticks, at least one."""
        return max(1, round(seconds * float(self.rate)))

    def seconds(self, ticks: int) -> float:
        """So many ticks as seconds."""
        return ticks / float(self.rate)


def windows(known: int, total: int, size: int, overlap: int) -> Iterator[tuple[int, int]]:
    """First tick of each window and the one after its last, of at most `size` ticks.

        tick                 0 1 2 3 4 5 6 7 8 9 0 1      known 4, total 12, size 6, overlap 2
        (0, 6)               k k k k . .
        (4, 10)                      k k . . . .          what is known (k) is the window's prompt
        (6, 12)                          k k k k . .      the last is as long as the others, too

    Args:
        known: ticks that are there already.
        overlap: ticks that a window shares with the one before, fewer than `size`.
    """
    assert 0 <= overlap < size, f"windows of {size} ticks cannot share {overlap}"
    while known < total:
        first = 0 if known < size else known - overlap
        stop = min(first + size, total)
        yield (max(0, stop - size) if stop == total else first), stop
        known = stop
