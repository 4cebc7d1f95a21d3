"""Which rows of a step are ever predicted, and what stands in them: what a head over rows knows before it is built.

    Stack(aligned_text, Delay(audio, [0, 1, 1]), Delay(user, [0, 1, 1])), user given

    row 0   text        predicted first     row 4   user.0   never predicted: heard at the next step
    row 1   audio.0     predicted           row 5   user.1
    row 2   audio.1     predicted           row 6   user.2
    row 3   audio.2     predicted last

Found by looking through plans: one in which all streams are equally long, and for each stream one in which it is much
shorter and one in which it is much longer than the others.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from hocket.interleave.blocks import frames_to_see
from hocket.interleave.layout import Layout
from hocket.interleave.plan import NO_STREAM, Plan
from hocket.interleave.stream import StreamRef

SHORT = 2  # frames of a stream that ends early


@dataclass(frozen=True)
class PredictedRows:
    """The rows of a layout that are ever predicted, ascending."""

    rows: tuple[int, ...]
    legal: tuple[frozenset[int], ...]  # by row: the legal sets of its predicted cells
    beside: frozenset[str]  # blocks and tokens that stand in one of them where a later one is predicted

    @property
    def later_legal(self) -> tuple[int, ...]:
        """The legal sets of all rows but the first."""
        return tuple(sorted(frozenset().union(*self.legal[1:])))


def find_rows(layout: Layout, given: Iterable[str | StreamRef] = ()) -> PredictedRows:
    """The rows that a model of the layout predicts when these streams, or levels of them, are given."""
    fixed = layout.find_levels(given)
    learned_L = np.array([index > 0 and cell not in fixed for index, cell in enumerate(layout.legal_cells)])
    by_row: dict[int, set[int]] = {}
    beside: set[str] = set()
    for plan in _probes(layout):
        legal_TR = np.where(learned_L[plan.legal_TR], plan.legal_TR, 0)
        rows, cells_TR = np.flatnonzero(legal_TR.any(axis=0)), legal_TR > 0
        for row in rows.tolist():
            by_row.setdefault(row, set()).update(legal_TR[cells_TR[:, row], row].tolist())
        is_before_TR = cells_TR[:, ::-1].cumsum(axis=1)[:, ::-1] - cells_TR > 0
        is_before_TR[:, np.setdiff1d(np.arange(layout.n_rows), rows)] = False
        beside |= _names(layout, plan, is_before_TR)
    order = tuple(sorted(by_row))
    return PredictedRows(order, tuple(frozenset(by_row[row]) for row in order), frozenset(beside - {"<none>"}))


def _names(layout: Layout, plan: Plan, chosen_TR: np.ndarray) -> set[str]:
    """Blocks and tokens of the chosen cells."""
    legal = {cell: names for cell, names in zip(layout.legal_cells, layout.legal_sets, strict=True) if cell}
    is_code_TR = chosen_TR & (plan.stream_TR != NO_STREAM) & (plan.source_TR >= len(plan.symbols))
    levels = np.stack([plan.stream_TR[is_code_TR], plan.level_TR[is_code_TR]], axis=1)
    streams, names = list(layout.streams), set()
    for stream, level in np.unique(levels, axis=0).tolist():
        names |= set(legal[streams[stream], level])
    return names | {plan.symbols[i] for i in np.unique(plan.source_TR[chosen_TR & ~is_code_TR])}


def _probes(layout: Layout) -> Iterator[Plan]:
    n_frames = frames_to_see(layout)
    equal = dict.fromkeys(layout.streams, n_frames)
    by_spans = [name for node in layout.span_nodes() for name in node.part_streams]
    spans = dict.fromkeys(by_spans, (0, n_frames // 2, n_frames)) or None
    yield layout.plan(equal, spans=spans)
    for name in layout.streams if len(layout.streams) > 1 and not by_spans else ():
        yield layout.plan(equal | {name: SHORT})
        yield layout.plan(dict.fromkeys(layout.streams, SHORT) | {name: n_frames})
