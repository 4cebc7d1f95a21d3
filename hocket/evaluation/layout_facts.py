"""What a layout costs and gives at a codec's rates: the facts that `hocket inspect LAYOUT` shows and compares.

A preset is one stage or several; each stage has its rates, the seconds that contexts hold, the steps until the first
frame can be heard, and a short example to be drawn. Everything is read off the layout and its plans; about
10 ms a stage.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import Any

import numpy as np

from hocket.evaluation.clock import Clock
from hocket.interleave import Alternate, Plan, Scheme, Stage, StreamRef, draw_text, layout_names, load_scheme
from hocket.interleave.layout import Layout
from hocket.interleave.parse import split_stage
from hocket.vocab import ALIGNED_TEXT, TEXT

CONTEXTS = (512, 2048, 8192, 32768)
"""Steps for which the rate table says how much audio they hold."""
EXAMPLE_FRAMES, EXAMPLE_TOKENS, EXAMPLE_WORDS = (6, 4, 3), 4, 4
LONGEST_EXAMPLE, LOW_GRID = (40, 26), 3
"""Steps of low grids, which go on below, and of those with more than `LOW_GRID` rows; an example takes the most of
`EXAMPLE_FRAMES` that stay within; where none does, a high grid loses its middle in any case and takes the first."""
DRAWING_WIDTH = 100
PROBE = (64, 128)
"""Frames of two documents; what is the same in both does not grow with the length."""
Facts = dict[str, Any]


@dataclass(frozen=True)
class FirstFrame:
    """When the first frame of what is generated can be decoded."""

    stream: str
    steps: int | None
    """Steps from the first one; None where the whole clip must be there."""
    seconds: float | None
    """The same on the stream's clock, at its steps a frame; None where steps of text are among them."""
    after: tuple[str, ...]
    """Streams that stand before, whole, and whose steps are not counted."""


@dataclass(frozen=True)
class StageView:
    """One stage of a layout at a clock."""

    stage: Stage
    rates: Mapping[str, Fraction]
    frames: int | None = None

    @property
    def layout(self) -> Layout:
        return self.stage.layout

    @cached_property
    def plan(self) -> Plan:
        """A short example to be drawn."""
        is_high = self.layout.n_rows > LOW_GRID
        choices = EXAMPLE_FRAMES if self.frames is None else (self.frames,)
        plans = [example_plan(self.stage, self.rates, n) for n in choices]
        fitting = (plan for plan in plans if plan.n_steps <= LONGEST_EXAMPLE[is_high])
        return next(fitting, plans[0] if is_high else plans[-1])

    @cached_property
    def first_frame(self) -> FirstFrame | None:
        """None where spans decide it, or nothing but text is generated."""
        return find_first_frame(self.stage, self.rates)

    @cached_property
    def facts(self) -> Facts:
        """Plain values, ready for JSON."""
        stage, layout, first = self.stage, self.layout, self.first_frame
        steps = layout.steps_per_second(self.rates)
        return {
            "layout": layout.expression,
            "streams": layout.streams,
            "frame_rates": {name: float(rate) for name, rate in self.rates.items()},
            "rows": layout.n_rows,
            "online": layout.is_online,
            "legal_sets": len(np.unique(self.plan.legal_TR[self.plan.legal_TR > 0])),
            "given": list(stage.given),
            "objective": stage.objective,
            "attention": stage.attention,
            "head": stage.head,
            "steps_per_second": float(steps),
            "tokens_per_second": float(layout.tokens_per_second(self.rates)),
            "seconds_in_context": {n: round(float(n / steps), 2) for n in CONTEXTS} if steps else {},
            "first_frame": vars(first) | {"after": list(first.after)} if first else None,
            "drawing": draw_text(self.plan, width=DRAWING_WIDTH),
        }


@dataclass(frozen=True)
class LayoutView:
    """A layout, or a preset with all its stages, at a clock."""

    name: str
    scheme: Scheme
    stages: tuple[StageView, ...]
    codec: str

    @property
    def facts(self) -> Facts:
        """Plain values, ready for JSON; those of a single stage stand at the top."""
        shared = {"kind": "layout", "name": self.name, "codec": self.codec}
        shared |= {"description": self.scheme.description, "when": self.scheme.when}
        if len(self.stages) == 1:
            return shared | self.stages[0].facts
        return shared | {"stages": [{"name": view.stage.name} | view.facts for view in self.stages]}

    @property
    def titled(self) -> list[tuple[str, StageView]]:
        """Each stage with a heading; a single one has the layout's name."""
        if len(self.stages) == 1:
            return [(self.name, self.stages[0])]
        return [(f"{self.name}/{view.stage.name}", view) for view in self.stages]


def view_layout(spec: str, clock: Clock, frames: int | None = None) -> LayoutView:
    """A preset's name, one of its stages as `valle/nar`, an expression or a YAML file, at a clock.

    Raises:
        InputError: there is no such layout, or it does not fit the number of levels.
    """
    name, wanted = split_stage(spec)
    names = {leaf.ref.name for stage in load_scheme(name).stages for leaf in stage.layout.leaves()}
    scheme = load_scheme(name, clock.n_levels, {**clock.frame_rates, **clock.rates(sorted(names))})
    chosen = scheme.stages if wanted is None else (scheme.stage(wanted),)
    views = tuple(StageView(stage, clock.rates(list(stage.layout.streams)), frames) for stage in chosen)
    return LayoutView(spec, scheme, views, clock.codec)


def is_layout(thing: str) -> bool:
    """Whether a name is a preset, one of its stages, a YAML file or an expression."""
    return thing.endswith((".yaml", ".yml")) or "(" in thing or split_stage(thing)[0] in layout_names()


def example_plan(stage: Stage, rates: Mapping[str, Fraction], frames: int) -> Plan:
    """A short document to be drawn: `frames` frames of the fastest stream, some words where spans need them."""
    layout = stage.layout
    fastest = max(rates.values(), default=Fraction(1))
    lengths = {name: max(1, round(frames * rates[name] / fastest)) for name in layout.streams if name in rates}
    lengths |= {TEXT: EXAMPLE_TOKENS} if TEXT in layout.streams else {}
    for node in layout.walk():
        if isinstance(node, Alternate) and node.ratio:
            for part, size in zip(node.parts, node.ratio, strict=True):
                lengths |= {leaf.ref.name: size + max(2, min(size // 3, 5)) for leaf in part.leaves()}
    spans = _example_spans(layout, lengths)
    return layout.plan(lengths, ended=stage.ended, given=stage.given, spans=spans)


def _example_spans(layout: Layout, lengths: dict[str, int]) -> Any:
    """Four words (turns) of even length; by words, each stands in the next stream; wholes one after the other. None
    without spans."""
    if not layout.span_nodes():
        return None
    node = layout.span_nodes()[0]
    for name in node.part_streams:
        lengths[name] = max(lengths[name], 2 * EXAMPLE_WORDS if name != TEXT else EXAMPLE_WORDS)
    edges = {name: [lengths[name] * i // EXAMPLE_WORDS for i in range(EXAMPLE_WORDS + 1)] for name in node.part_streams}
    if node.by_wholes:
        return [(name, 0, lengths[name]) for name in node.part_streams]
    if node.by_turns:
        return edges
    names = node.part_streams
    turns = ((names[i % len(names)], i) for i in range(EXAMPLE_WORDS))
    return [(name, edges[name][i], edges[name][i + 1]) for name, i in turns]


def find_first_frame(stage: Stage, rates: Mapping[str, Fraction]) -> FirstFrame | None:
    """When the first frame of the stream that is heard is complete; see `FirstFrame`."""
    spoken = [name for name in stage.predicted if name not in (TEXT, ALIGNED_TEXT)]
    if not spoken or stage.layout.span_nodes():
        return None
    heard = next((name for name in spoken if name != "semantic"), spoken[0])
    if stage.objective != "next-token" or stage.attention != "causal":
        return FirstFrame(heard, None, None, ())
    short, long = (_probe(stage, rates, n) for n in PROBE)
    done = [int(plan.done[heard][0]) for plan in (short, long)]
    begins = [_first_predicted(plan, spoken) for plan in (short, long)]
    if done[0] == done[1]:
        first, after = 1, ()
    elif done[0] - begins[0] == done[1] - begins[1]:
        first, after = begins[0], _before(stage, short, begins[0])
    else:
        return FirstFrame(heard, None, None, ())
    steps = done[0] - first + 1
    has_text = TEXT in short.levels and TEXT not in after and _first_step(short, TEXT) <= done[0]
    done_T = long.done[heard]
    half = len(done_T) // 2
    frames = Fraction(steps * half, int(done_T[2 * half - 1] - done_T[half - 1]))
    return FirstFrame(heard, steps, None if has_text else float(frames / rates[heard]), after)


def _probe(stage: Stage, rates: Mapping[str, Fraction], frames: int) -> Plan:
    fastest = max(rates.values(), default=Fraction(1))
    lengths = {name: math.ceil(frames * rates.get(name, fastest) / fastest) for name in stage.layout.streams}
    return stage.layout.plan(lengths, ended=(), given=stage.given)


def _first_predicted(plan: Plan, streams: Sequence[str]) -> int:
    """The first step that holds a code to be predicted of one of the streams."""
    numbers = [list(plan.levels).index(name) for name in streams]
    predicted_TR = np.isin(plan.stream_TR, numbers) & (plan.legal_TR > 0) & (plan.source_TR >= len(plan.symbols))
    return int(predicted_TR.any(axis=1).argmax())


def _before(stage: Stage, plan: Plan, step: int) -> tuple[str, ...]:
    """What stands before a step: streams, or the given levels of one that goes on."""
    names = [name for name in plan.levels if _first_step(plan, name) < step]
    levels = {StreamRef.parse(name).name: name for name in stage.given}
    return tuple(levels.get(name, name) for name in names)


def _first_step(plan: Plan, stream: str) -> int:
    return int(plan.where[stream][0].min()) // plan.n_rows
