"""From a layout and lengths to a plan: runs for every leaf, painted in one go.

Costs 150 to 350 µs a plan and 2 to 15 ns a cell, on one thread; documents of a batch share the first.
"""

import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from hocket.errors import InputError
from hocket.interleave.checks import LARGEST
from hocket.interleave.painting import Chunks, Painter, Runs, Work
from hocket.interleave.plan import Plan, finish
from hocket.interleave.spans import span_chunks
from hocket.vocab.vocabulary import TEXT

if TYPE_CHECKING:
    from hocket.interleave.layout import Layout

AnyPlan = TypeVar("AnyPlan", bound=Plan)
Arrays = Mapping[str, np.ndarray]
STARTS = ("<bos>", "<cont>")
LIVE = ("user",)
"""Given streams of which frame t is heard only after frame t is spoken, so that no `Lead` is missing."""


def paint_plan(
    kind: type[AnyPlan],
    layout: "Layout",
    lengths: Arrays,
    starts: Sequence[str],
    ends: Arrays,
    given: frozenset[tuple[str, int]],
    spans: Sequence[tuple] | None,
    seeds: Sequence[int],
) -> AnyPlan:
    """Lays out all documents, one after another."""
    if layout.span_nodes() and spans is None:
        raise InputError(f"{layout} needs spans: the boundaries of words or turns by stream (spans={{…}})")
    if spans is not None and not layout.span_nodes():
        raise InputError(f"{layout} does not go by spans; leave them out, or write Alternate(…, spans=…)")
    work = find_work(layout, lengths, ends, spans, seeds)
    steps_B = 1 + layout.measure(work)
    bounds = np.concatenate([[0], np.cumsum(steps_B)])
    if bounds[-1] * layout.n_rows > LARGEST:
        raise InputError(
            f"{layout} of these lengths has {bounds[-1] * layout.n_rows} cells; a plan has up to {LARGEST}"
        )
    totals = {name: int(array.sum()) for name, array in lengths.items()}
    painter = Painter(layout, totals, given)
    for start in STARTS:
        if start in starts:
            chosen = np.array([s == start for s in starts], dtype=bool)
            painter.place_constants(bounds[:-1][chosen], 0, start)
    layout.paint(painter, work, bounds[:-1] + 1, 0)
    return finish(kind, layout, painter, lengths, bounds)


def find_work(
    layout: "Layout", lengths: Arrays, ends: Arrays, spans: Sequence[tuple] | None, seeds: Sequence[int]
) -> Work:
    """The runs of every leaf: each document in one run, cut by nobody yet."""
    work: dict[Layout, Runs | Chunks] = {}
    first = {name: np.cumsum(n_B) - n_B for name, n_B in lengths.items()}
    for leaf in layout.leaves():
        name = leaf.ref.name
        leads = layout.leaders[name] is leaf
        symbol = layout.symbols.index(f"<end.{name}>") if leads else 0
        work[leaf] = Runs(first[name], lengths[name], np.where(ends[name], symbol, 0))
    for node in layout.span_nodes():
        work[node] = span_chunks(node, layout.symbols, lengths, first, ends, spans, seeds)
    return work


def warn_of_late_conditions(layout: "Layout", given: frozenset[tuple[str, int]]) -> None:
    """A condition that enters beside the frame that needs it is seen one step too late."""
    probe = {name: np.array([64]) for name in layout.streams}
    ends = {name: np.array([False]) for name in layout.streams}
    spans = [tuple((name, 0, 64) for name in node.part_streams) for node in layout.span_nodes()] or None
    plan = paint_plan(Plan, layout, probe, ("<bos>",), ends, frozenset(), spans, (0,))
    first = {name: int(where_TK[0].min()) // layout.n_rows for name, where_TK in plan.where.items()}
    heard = {name for name, k in layout.streams.items() if all((name, level) in given for level in range(k))}
    spoken = [step for name, step in first.items() if name not in heard and name != TEXT]
    for name in sorted(heard - set(LIVE)):
        if spoken and first[name] >= min(spoken):
            warnings.warn(
                f'frame t of the given stream "{name}" enters beside the frame t that it conditions, which is one step '
                f"too late to be seen; wrap it in Lead(…, 1)",
                stacklevel=4,
            )
