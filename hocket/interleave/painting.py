"""How a layout is painted: runs of frames in, cells of a grid out, for any number of documents at once.

A *run* is a stretch of one leaf's frames that is laid out in one go. A document is one run a leaf; `Alternate` cuts it
into several; a batch is one run a document. Nodes compute with arrays of P runs, so neither steps nor documents are
ever looped over:

    Alternate(text, Flatten(semantic[:1]), ratio=(2, 3))      text of 3, semantic of 5
    runs of text      [0, 2) [2, 3)E          start 0, 5
    runs of semantic  [0, 3) [3, 5)E          start 2, 7

Shapes: P runs, N frames of all runs, K levels, B documents. Cells are numbers into the flattened grid.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from hocket.interleave.layout import Layout, Leaf

NO_SYMBOL = 0  # `<none>`: nothing stands where the frame after the last would


class Runs(NamedTuple):
    """P stretches of frames of one leaf."""

    first_P: np.ndarray  # first frame, counted over the frames of all documents
    n_P: np.ndarray  # frames
    stop_P: np.ndarray  # position in `Layout.symbols` of what follows the last frame; NO_SYMBOL for nothing


class Chunks(NamedTuple):
    """C turns of an `Alternate` by spans, in the order in which they stand."""

    run_C: np.ndarray  # number of the document
    part_C: np.ndarray  # which part of the node
    first_C: np.ndarray  # first frame, counted over the frames of all documents
    n_C: np.ndarray  # frames
    stop_C: np.ndarray  # position in `Layout.symbols` of what follows


Work = Mapping["Layout", "Runs | Chunks"]
"""What is to be laid out: the runs of each leaf, and the chunks of each `Alternate` by spans."""


class Painter:
    """The arrays of a plan while a layout paints them."""

    def __init__(self, layout: "Layout", totals: Mapping[str, int], n_steps: int, given: frozenset[tuple[str, int]]):
        self._layout, self._given, self.n_rows = layout, given, layout.n_rows
        n_cells = n_steps * self.n_rows
        self.source_C = np.zeros(n_cells, dtype=np.int64)
        self.legal_C = np.zeros(n_cells, dtype=np.int16)
        self.where = {name: np.full((totals[name], k), -1, dtype=np.int64) for name, k in layout.streams.items()}
        self.marks: list[tuple[np.ndarray, int, np.ndarray]] = []
        """Cells of ends and switches: cell, position of the stream, frame over all documents."""
        self._base, base = {}, len(layout.symbols)
        for name, n_levels in layout.streams.items():
            self._base[name] = base
            base += totals[name] * n_levels

    def place_codes(self, leaf: "Leaf", runs: Runs, start_P: np.ndarray, row: int) -> None:
        """The codes of a leaf's runs, which begin at steps `start_P`."""
        ref, rows_K = leaf.ref, row + leaf.rows
        levels = slice(ref.start, ref.start + ref.n_levels)
        if len(runs.n_P) == 1:
            n, start, ends = runs.n_P[0], start_P[0], bool(runs.stop_P[0])
            frame_N1 = np.arange(n)[:, None]
            first = int(runs.first_P[0])
            row_N, pool_N1 = slice(first, first + int(n)), frame_N1 + first
        else:
            run_N = np.repeat(np.arange(len(runs.n_P)), runs.n_P)
            before_P = np.cumsum(runs.n_P) - runs.n_P
            frame_N1 = (np.arange(len(run_N)) - before_P[run_N])[:, None]
            n, start, ends = runs.n_P[run_N][:, None], start_P[run_N][:, None], (runs.stop_P > 0)[run_N][:, None]
            row_N = runs.first_P[run_N] + frame_N1[:, 0]
            pool_N1 = row_N[:, None]
        cell_NK = (leaf.steps(frame_N1, n, ends) + start) * self.n_rows + rows_K
        self.where[ref.name][row_N, levels] = cell_NK
        self.source_C[cell_NK] = self._pool(leaf, pool_N1)
        self.legal_C[cell_NK] = [self._legal(leaf, column) for column in range(ref.n_levels)]

    def place_stops(self, leaf: "Leaf", runs: Runs, start_P: np.ndarray, row: int) -> None:
        """What follows the last frame of each run: the stream's end, or a switch to another stream."""
        stopped = runs.stop_P > NO_SYMBOL
        if not stopped.any():
            return
        first_P, n_P, symbol_P = (array[stopped] for array in runs)
        cell_P = (start_P[stopped] + leaf.end_step(n_P)) * self.n_rows + row + int(leaf.rows[leaf.leader])
        self.place_symbols(cell_P, symbol_P, self._legal(leaf, leaf.leader), leaf.ref.name, first_P + n_P)

    def place_symbols(self, cell_P: np.ndarray, symbol_P: np.ndarray, legal: int, stream: str, frame_P) -> None:
        """Special tokens that belong to a frame of a stream."""
        self.source_C[cell_P], self.legal_C[cell_P] = symbol_P, legal
        self.marks.append((cell_P, list(self._layout.streams).index(stream), frame_P))

    def place_constants(self, step_P: np.ndarray, row: int, symbol: str) -> None:
        """Special tokens that are always known."""
        self.source_C[step_P * self.n_rows + row] = self.symbol(symbol)

    def symbol(self, name: str) -> int:
        """Position of a special token among the layout's symbols."""
        return self._layout.symbols.index(name)

    def choice(self, node: "Layout") -> int:
        """The legal set of the marker that opens the first turn of an `Alternate` by spans."""
        return self._layout.first_legal[node]

    def place_copies(self, leaf: "Leaf", pool_N: np.ndarray, step_NK: np.ndarray, row: int) -> None:
        """Further cells that show a code again: inputs only."""
        self.source_C[step_NK * self.n_rows + row + leaf.rows] = self._pool(leaf, pool_N[:, None])

    def _legal(self, leaf: "Leaf", column: int) -> int:
        """The legal set of a level of the leaf; 0, the empty one, where it is given."""
        is_given = (leaf.ref.name, leaf.ref.start + column) in self._given
        return 0 if is_given else self._layout.first_legal[leaf] + column

    def _pool(self, leaf: "Leaf", pool_N1: np.ndarray) -> np.ndarray:
        """Positions of the leaf's levels of these frames in the pool."""
        ref = leaf.ref
        n_levels = self._layout.streams[ref.name]
        return pool_N1 * n_levels + np.arange(ref.start, ref.start + ref.n_levels) + self._base[ref.name]
