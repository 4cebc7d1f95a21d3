"""From a layout and lengths to a plan: runs for every leaf, painted in one go.

Costs 150 to 350 µs a plan and 2 to 15 ns a cell, on one thread; documents of a batch share the first.
"""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from hocket.errors import InputError
from hocket.interleave.checks import LARGEST
from hocket.interleave.painting import Chunks, Painter, Runs, Work
from hocket.interleave.plan import WAIT, Plan
from hocket.interleave.spans import span_chunks
from hocket.vocab.vocabulary import TEXT

if TYPE_CHECKING:
    from hocket.interleave.layout import Layout
    from hocket.interleave.leaf import Leaf

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


@lru_cache(maxsize=64)
def find_late_conditions(layout: "Layout", given: frozenset[tuple[str, int]]) -> tuple[str, ...]:
    """Given streams whose frame t enters beside, or after, the frame t that it conditions: one step too late."""
    probe = {name: np.array([64]) for name in layout.streams}
    ends = {name: np.array([False]) for name in layout.streams}
    spans = [tuple((name, 0, 64) for name in node.part_streams) for node in layout.span_nodes()] or None
    plan = paint_plan(Plan, layout, probe, ("<bos>",), ends, frozenset(), spans, (0,))
    first = {name: int(where_TK[0].min()) // layout.n_rows for name, where_TK in plan.where.items()}
    heard = {name for name, k in layout.streams.items() if all((name, level) in given for level in range(k))}
    spoken = [step for name, step in first.items() if name not in heard and name != TEXT]
    return tuple(name for name in sorted(heard - set(LIVE)) if spoken and first[name] >= min(spoken))


def finish(
    kind: type[AnyPlan], layout: "Layout", painter: Painter, lengths: Mapping[str, np.ndarray], bounds: np.ndarray
) -> AnyPlan:
    """The plan of what was painted, with `<wait>` where nothing is due."""
    n_steps, n_rows = int(bounds[-1]), painter.n_rows
    none = np.zeros(0, dtype=np.int64)
    copied = (
        np.concatenate([none, *(cells for cells, _ in painter.copies)]),
        np.concatenate([none, *(pool for _, pool in painter.copies)]),
    )
    waits = none if _is_solid(layout, lengths) else _empty_steps(painter, n_steps, copied[0]) * n_rows
    cells, symbols, legal = zip(*painter.symbols, (waits, WAIT, 0), strict=True)
    sizes = [len(part) for part in cells]
    symbol_cells = (
        np.concatenate(cells),
        np.concatenate([np.broadcast_to(symbol, size) for symbol, size in zip(symbols, sizes, strict=True)]),
        np.repeat(np.array(legal, dtype=np.int16), sizes),
    )
    for array in painter.where.values():
        array.setflags(write=False)
    return kind(
        layout=layout,
        lengths={name: int(n_B.sum()) for name, n_B in lengths.items()},
        n_steps=n_steps,
        where={name: painter.where[name] for name in layout.streams},
        cu_seqlens=bounds,
        document_lengths=dict(lengths),
        marks=tuple(painter.marks),
        symbol_cells=symbol_cells,
        copied_cells=copied,
        level_legal=painter.legal,
    )


def finish_solo(layout: "Leaf", n: int, start: str, ends: bool, given: frozenset[tuple[str, int]]) -> Plan:
    """The plan of one run of one leaf whose frames keep their distances: cells kept for all lengths, cut off.

    The same as painting it, for a fifth of the fixed cost.
    """
    name, n_levels, n_rows = layout.ref.name, layout.ref.n_levels, layout.n_rows
    kept_NK, shift_K = layout.cells.kept(n + 1), layout.cells.moved(n, ends)
    where_TK = kept_NK[:n] if shift_K is None else kept_NK[:n] + shift_K
    n_steps = 1 + (int(where_TK[-1].max()) // n_rows if n else 0)
    cells, symbols, legal, marks = [0], [layout.symbols.index(start)], [0], ()
    level_legal = np.array([(name, k) not in given and 1 + k for k in range(n_levels)], dtype=np.int16)
    if ends:
        end = int(kept_NK[n, layout.leader]) + (0 if shift_K is None else int(shift_K[layout.leader]))
        cells, legal = [0, end], [0, level_legal[layout.leader]]
        symbols.append(layout.symbols.index(f"<end.{name}>"))
        marks = ((np.array([end]), 0, np.array([n])),)
        n_steps = max(n_steps, end // n_rows + 1)
    where_TK.setflags(write=False)
    none = np.zeros(0, dtype=np.int64)
    return Plan(
        layout=layout,
        lengths={name: n},
        n_steps=n_steps,
        where={name: where_TK},
        cu_seqlens=np.array([0, n_steps]),
        document_lengths={name: np.array([n])},
        marks=marks,
        symbol_cells=(np.array(cells), np.array(symbols), np.array(legal, dtype=np.int16)),
        copied_cells=(none, none),
        level_legal={name: level_legal},
    )


def _is_solid(layout: "Layout", lengths: Mapping[str, np.ndarray]) -> bool:
    """One leaf with frames enough to leave no step empty."""
    fewest = getattr(layout, "fewest_frames", None) if getattr(layout, "moves_whole", False) else None
    return fewest is not None and all(((n_B == 0) | (n_B >= fewest)).all() for n_B in lengths.values())


def _empty_steps(painter: Painter, n_steps: int, copied: np.ndarray) -> np.ndarray:
    """Steps in which nothing stands."""
    filled = np.zeros(n_steps * painter.n_rows + 1, dtype=bool)  # the last for frames without a cell
    filled[copied] = True
    for where_TK in painter.where.values():
        filled[where_TK] = True
    for cells, _, _ in painter.symbols:
        filled[cells] = True
    return np.flatnonzero(~filled[:-1].reshape(-1, painter.n_rows).any(axis=1))
