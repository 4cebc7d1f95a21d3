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
    from hocket.interleave.layout import Layout
    from hocket.interleave.leaf import Leaf

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
    """Where everything stands, while a layout paints it: cells of codes, of copies of codes, and of special tokens."""

    def __init__(self, layout: "Layout", totals: Mapping[str, int], given: frozenset[tuple[str, int]]):
        self._layout, self._totals, self._given, self.n_rows = layout, totals, given, layout.n_rows
        self.where: dict[str, np.ndarray] = {}
        self.legal = {name: np.zeros(k, dtype=np.int16) for name, k in layout.streams.items()}
        """By stream, the legal set of each level: `[K]`."""
        self.symbols: list[tuple[np.ndarray, np.ndarray | int, int]] = []
        """Cells of special tokens, which tokens (positions in `Layout.symbols`), and their legal set."""
        self.marks: list[tuple[np.ndarray, int, np.ndarray]] = []
        """Cells of ends and switches: cell, position of the stream, frame over all documents."""
        self.copies: list[tuple[np.ndarray, np.ndarray]] = []
        """Cells that show a code again, and which codes: positions in the pool."""

    def place_codes(self, leaf: "Leaf", runs: Runs, start_P: np.ndarray, row: int) -> None:
        """The codes of a leaf's runs, which begin at steps `start_P`."""
        name, first, n_levels = leaf.ref.name, leaf.ref.start, leaf.ref.n_levels
        for column in range(n_levels):
            self.legal[name][first + column] = self._legal(leaf, column)
        if len(runs.n_P) == 1:
            n, offset = int(runs.n_P[0]), int(runs.first_P[0])
            row_N: slice | np.ndarray = slice(offset, offset + n)
            cell_NK = leaf.cells.of_run(n, start_P, runs.stop_P > NO_SYMBOL, self.n_rows, row)
            is_whole = n == self._totals[name]
        else:
            run_N = np.repeat(np.arange(len(runs.n_P)), runs.n_P)
            before_P = np.cumsum(runs.n_P) - runs.n_P
            frame_N = np.arange(len(run_N)) - before_P[run_N]
            row_N = runs.first_P[run_N] + frame_N
            cell_NK = leaf.cells.of_runs(frame_N, run_N, runs.n_P, start_P, runs.stop_P > NO_SYMBOL, self.n_rows, row)
            is_whole = len(run_N) == self._totals[name] and np.array_equal(runs.first_P, before_P)
        if is_whole and n_levels == self._layout.streams[name]:
            self.where[name] = cell_NK
            return
        if name not in self.where:
            self.where[name] = np.full((self._totals[name], self._layout.streams[name]), -1, dtype=np.int64)
        self.where[name][row_N, first : first + n_levels] = cell_NK

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
        self.symbols.append((cell_P, symbol_P, legal))
        self.marks.append((cell_P, list(self._layout.streams).index(stream), frame_P))

    def place_constants(self, step_P: np.ndarray, row: int, symbol: str) -> None:
        """Special tokens that are always known."""
        self.symbols.append((step_P * self.n_rows + row, self.symbol(symbol), 0))

    def place_copies(self, leaf: "Leaf", frame_N: np.ndarray, step_NK: np.ndarray, row: int) -> None:
        """Further cells that show a code again: inputs only."""
        ref, base = leaf.ref, len(self._layout.symbols)
        for name, n_levels in self._layout.streams.items():
            if name == ref.name:
                break
            base += self._totals[name] * n_levels
        pool_NK = frame_N[:, None] * self._layout.streams[ref.name] + np.arange(ref.start, ref.start + ref.n_levels)
        cells_NK = step_NK * self.n_rows + row + leaf.rows
        self.copies.append((cells_NK.reshape(-1), (pool_NK + base).reshape(-1)))

    def symbol(self, name: str) -> int:
        """Position of a special token among the layout's symbols."""
        return self._layout.symbols.index(name)

    def choice(self, node: "Layout") -> int:
        """The legal set of the marker that opens the first turn of an `Alternate` by spans."""
        return self._layout.first_legal[node]

    def _legal(self, leaf: "Leaf", column: int) -> int:
        """The legal set of a level of the leaf; 0, the empty one, where it is given."""
        is_given = (leaf.ref.name, leaf.ref.start + column) in self._given
        return 0 if is_given else self._layout.first_legal[leaf] + column
