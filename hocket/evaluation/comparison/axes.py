"""What runs are compared at: equal steps, equal work, equal audio; and lines over each of them.

    step            optimiser steps, as the recipe counts them
    flops           floating-point operations of training, all processes; the cumulative column "flops"
    audio_seconds   seconds of audio that training has seen; the cumulative column "audio_seconds"

Where a run lacks a column, it is summed up from what its rows say of speed (tokens, tokens_per_second, tflops,
audio_seconds_per_second), which is as close as a logged mean is to each step. Values between two points are linear
in x; nothing is said beyond the last point.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hocket.evaluation.comparison import words
from hocket.evaluation.runs import Line, Run

Row = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Axis:
    """A way of counting how far training has come."""

    key: str
    title: str
    equal: str
    """How a comparison at one of its values is called."""
    say: Callable[[float], str]


AXES = (
    Axis(key="step", title="training steps", equal="equal steps", say=words.steps),
    Axis(key="flops", title="work of training", equal="equal FLOPs", say=words.flops),
    Axis(key="audio_seconds", title="audio seen", equal="equal audio seen", say=words.duration),
)
LOGGED, DERIVED = "logged", "derived"


@dataclass(frozen=True)
class Track:
    """A cumulative quantity over the steps of a run."""

    steps: Sequence[float]
    values: Sequence[float]
    source: str
    """LOGGED, or DERIVED from the rows' speeds."""

    def at(self, step: float) -> float | None:
        """The value at a step; None beyond the last."""
        return interpolate(list(zip(self.steps, self.values, strict=True)), step)


def track(run: Run, axis: Axis) -> Track | None:
    """How a run goes along an axis; None where nothing says so."""
    rows = sorted((*run.train, *run.valid), key=lambda row: row["step"])
    if axis.key == "step":
        last = rows[-1]["step"] if rows else 0
        return Track((0, last), (0, last), LOGGED)
    logged = [row for row in rows if axis.key in row]
    if logged:
        pairs = {0: 0.0} | {row["step"]: row[axis.key] for row in logged}
        return Track(list(pairs), list(pairs.values()), LOGGED)
    return _derive(run.train, axis)


def _derive(rows: Sequence[Row], axis: Axis) -> Track | None:
    """Sums over the rows: of each, what its new tokens took at its own speed."""
    speed, unit = {"flops": ("tflops", 1e12), "audio_seconds": ("audio_seconds_per_second", 1.0)}[axis.key]
    if not rows or any(key not in row for row in rows for key in ("tokens", "tokens_per_second", speed)):
        return None
    tokens = np.diff([0.0, *(row["tokens"] for row in rows)])
    seconds = tokens / np.array([row["tokens_per_second"] for row in rows])
    gained = seconds * np.array([row[speed] for row in rows]) * unit
    return Track([0, *(row["step"] for row in rows)], [0.0, *np.cumsum(gained).tolist()], DERIVED)


def along(line: Line, by: Track | None) -> Line:
    """A line over steps as one over another axis; points that the axis does not reach are dropped."""
    if by is None:
        return []
    places = [(by.at(step), value) for step, value in line]
    return [(x, value) for x, value in places if x is not None]


def interpolate(line: Line, x: float) -> float | None:
    """The line at x, linear between points; None outside of them."""
    if not line or not line[0][0] <= x <= line[-1][0]:
        return None
    return float(np.interp(x, [at for at, _ in line], [value for _, value in line]))


def common_end(lines: dict[str, Line]) -> tuple[float | None, list[str]]:
    """The largest x that the lines have in common, and the names of those that had to be left out to have one.

    Those with the fewest points are left out first.
    """
    kept, left = {name: line for name, line in lines.items() if line}, [n for n, line in lines.items() if not line]
    while len(kept) > 1:
        end = min(line[-1][0] for line in kept.values())
        if end >= max(line[0][0] for line in kept.values()):
            return end, left
        worst = min(kept, key=lambda name: (len(kept[name]), kept[name][-1][0]))
        left.append(worst)
        del kept[worst]
    return None, [*left, *kept]
