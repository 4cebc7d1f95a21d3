"""The curves of a comparison, one line a run and one colour a run: losses of each level, bits per second of audio.

Every chart has a scale of its own, so that small differences show; the first part of training, where all fall alike,
may lie above it. Held-out losses are drawn where there are some, else those of training, averaged.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from hocket.evaluation.comparison import words
from hocket.evaluation.comparison.axes import AXES, Axis, along, interpolate, track
from hocket.evaluation.comparison.groups import Held, Trace
from hocket.evaluation.comparison.subject import Subject
from hocket.evaluation.plots import Curve, Tick, nice_ticks, smooth
from hocket.evaluation.results import Measure
from hocket.evaluation.runs import Line

SETTLED = 0.25
"""Share of a line's length after which its values decide the scale."""
LABEL_GAP = 9.0
"""Percent of a chart's height between two labels, at least."""
MOST_POINTS = 120
MOST_LABEL = 136


@dataclass(frozen=True, kw_only=True)
class Look:
    """How a run is drawn throughout the page."""

    number: int
    label: str
    is_bound: bool

    @property
    def kind(self) -> str:
        """CSS classes: the run's colour, dashes for bounds."""
        return f"r{self.number}{' bound' if self.is_bound else ''}"


@dataclass(frozen=True, kw_only=True)
class End:
    """Where a line ends, with its label."""

    look: Look
    at: float
    """Percent from the bottom, moved so that labels do not overlap."""
    value: str


@dataclass(frozen=True, kw_only=True)
class Chart:
    """One chart over one axis."""

    axis: Axis
    title: str
    curves: list[Curve]
    ends: list[End]
    y_ticks: list[Tick]
    x_ticks: list[Tick]
    missing: list[str] = field(default_factory=list)
    """Runs that have no line here."""

    @property
    def label_width(self) -> int:
        """Pixels for the longest label."""
        return min(max(len(end.look.label) for end in self.ends) * 7 + 8, MOST_LABEL)


def looks(subjects: Sequence[Subject], n_colours: int) -> dict[str, Look]:
    """Colours by run; they begin again after `n_colours`."""
    return {
        subject.label: Look(number=index % n_colours, label=subject.label, is_bound=subject.is_bound)
        for index, subject in enumerate(subjects)
    }


def level_charts(subjects: Sequence[Subject], styles: dict[str, Look], axis: Axis) -> list[Chart]:
    """A chart for each block: the held-out loss of every run."""
    blocks = list(dict.fromkeys(block for subject in subjects for block in subject.run.blocks))
    blocks.sort(key=lambda block: (block.partition(".")[0] != "audio", block.partition(".")[0]))
    charts = []
    for block in blocks:
        lines = {s.label: along(loss_line(s, block), track(s.run, axis)) for s in subjects}
        name, _, level = block.partition(".")
        title = f"level {level}" if name == "audio" else block
        if any(lines.values()):
            charts.append(_chart(axis, title, {k: v for k, v in lines.items() if v}, styles, words.number))
    return charts


def loss_line(subject: Subject, block: str) -> Line:
    """Held-out nats of a block over the steps, or of training where there are fewer than two."""
    held_out = subject.run.line(f"valid/{block}")
    return held_out if len(held_out) > 1 else smooth(subject.run.line(f"loss/{block}"))


def bits_charts(traces: Sequence[Trace], styles: dict[str, Look]) -> list[Chart]:
    """Bits per second of audio over each axis that any run has."""
    charts = []
    for axis in AXES:
        lines = {t.held.subject.label: along(t.line, track(t.held.subject.run, axis)) for t in traces}
        shown = {label: line for label, line in lines.items() if line}
        if shown:
            missing = [label for label, line in lines.items() if not line]
            charts.append(_chart(axis, f"by {axis.title}", shown, styles, words.bits, missing))
    return charts


def _chart(axis: Axis, title: str, lines: dict[str, Line], styles: dict[str, Look], say, missing=()) -> Chart:
    lines = {label: _thin(line) for label, line in lines.items()}
    last = max(line[-1][0] for line in lines.values()) or 1.0
    low, high = _scale(list(lines.values()))

    def height(value: float) -> float:
        return 100 * (value - low) / (high - low)

    curves = [
        Curve(kind=styles[label].kind + (" single" if len(line) == 1 else ""), points=_points(line, last, height))
        for label, line in lines.items()
    ]
    ends = [(styles[label], height(line[-1][1]), say(line[-1][1])) for label, line in lines.items()]
    return Chart(
        axis=axis,
        title=title,
        curves=curves,
        ends=_spread(ends),
        y_ticks=say_ticks(nice_ticks(low, high), height),
        x_ticks=[Tick(at=0, text="0"), Tick(at=100, text=axis.say(last))],
        missing=list(missing),
    )


def say_ticks(values: list[float], place) -> list[Tick]:
    """Ticks with as many digits after the point as the finest needs."""
    digits = max((len(f"{value:.6g}".partition(".")[2]) for value in values), default=0)
    return [Tick(at=place(value), text=f"{value:,.{digits}f}") for value in values]


def _thin(line: Line) -> Line:
    """At most so many points as can be seen, the first and the last among them."""
    if len(line) <= MOST_POINTS:
        return line
    return [line[index] for index in np.unique(np.linspace(0, len(line) - 1, MOST_POINTS).round()).astype(int)]


def _scale(lines: list[Line]) -> tuple[float, float]:
    """Lowest and highest value of what comes after the first part of each line, with a little air."""
    values = []
    for line in lines:
        start = line[0][0] + SETTLED * (line[-1][0] - line[0][0])
        settled = interpolate(line, start)
        values += [value for x, value in line if x >= start] + ([settled] if settled is not None else [])
    low, high = min(values), max(values)
    air = max(0.06 * (high - low), 0.002 * abs(high), 1e-6)
    return low - air, high + air


def _points(line: Line, last: float, height) -> str:
    points = [(100 * x / last, 100 - height(y)) for x, y in line]
    points = points * 2 if len(points) == 1 else points  # a point alone is drawn as a dot by its round ends
    return " ".join(f"{x:.2f},{min(max(y, -400), 500):.2f}" for x, y in points)


def _spread(ends: list[tuple[Look, float, str]]) -> list[End]:
    """Labels at the ends of the lines, moved apart from the lowest up, then back from the top down."""
    ordered = sorted(ends, key=lambda end: end[1])
    gap = min(LABEL_GAP, 100 / max(len(ordered) - 1, 1))
    places: list[float] = []
    for _, at, _ in ordered:
        places.append(max(at, places[-1] + gap if places else 0.0))
    ceiling = 100.0
    for index in range(len(places) - 1, -1, -1):
        places[index] = min(places[index], ceiling)
        ceiling = places[index] - gap
    return [End(look=look, at=at, value=value) for (look, _, value), at in zip(ordered, places, strict=True)]


@dataclass(frozen=True, kw_only=True)
class Whisker:
    """A figure with its interval on the axis of its group, in percent from the left."""

    look: Look
    at: float
    left: float
    right: float
    text: str
    range: str
    note: str
    is_most: bool


@dataclass(frozen=True, kw_only=True)
class Forest:
    """The figures of a group below each other."""

    rows: list[Whisker]
    ticks: list[Tick]


def forest(members: Sequence[Held], styles: dict[str, Look], standing) -> Forest:
    """The totals of a group with their intervals, on one scale that need not begin at 0."""
    totals = [held.total for held in members]
    low = min(_low(m) for m in totals)
    high = max(_high(m) for m in totals)
    air = max(0.06 * (high - low), 0.004 * high)
    low, high = low - air, high + air

    def place(value: float) -> float:
        return 100 * (value - low) / (high - low)

    rows = [
        Whisker(
            look=styles[held.subject.label],
            at=place(held.total.value),
            left=place(_low(held.total)),
            right=place(_high(held.total)),
            text=words.bits(held.total.value),
            range=words.interval(held.total, words.bits),
            note=standing(held),
            is_most=held.is_most,
        )
        for held in members
    ]
    return Forest(rows=rows, ticks=say_ticks(nice_ticks(low, high, 4), place))


def _low(m: Measure) -> float:
    return m.value if m.low is None else m.low


def _high(m: Measure) -> float:
    return m.value if m.high is None else m.high
