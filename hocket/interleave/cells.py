"""Where the frames of a leaf stand in the grid, worked out once for all lengths where that can be.

In most leaves a frame keeps its place whatever comes later (Parallel, Delay, frame-major Flatten), or a level's frames
move together when the document gets longer (CoarseFirst, level-major Flatten: `Leaf.moves_whole`). The cells of the
longest document so far then hold those of all others: a plan is a view of them, or one addition. That is 20 µs a plan
of 8 x 1,500 codes instead of 220.

Shapes: P runs, N frames of all runs, K levels.
"""

from typing import TYPE_CHECKING

import numpy as np

from hocket.errors import InputError

if TYPE_CHECKING:
    from hocket.interleave.leaf import Leaf

SHORTEST = 2048
"""Frames for which cells are kept at least: 64 bytes each for 8 levels."""


class Cells:
    """The cells of one leaf, as numbers of the flattened grid."""

    def __init__(self, leaf: "Leaf"):
        self._leaf = leaf
        self._kept: dict[tuple[int, int], np.ndarray] = {}

    def are_solid(self, n: int) -> bool:
        """Whether a run of `n` frames is a part of the kept cells, without an empty step."""
        leaf = self._leaf
        return leaf.moves_whole and leaf.fewest_frames is not None and n >= leaf.fewest_frames

    def of_run(self, n: int, start_P: np.ndarray, ends_P: np.ndarray, n_rows: int, row: int) -> np.ndarray:
        """Cells `[N, K]` of one run of `n` frames that begins at step `start_P[0]`, in rows from `row` on."""
        leaf = self._leaf
        if not leaf.moves_whole:
            step_NK = leaf.steps(np.arange(n)[:, None], np.array([[n]]), bool(ends_P[0]))
            self._check(step_NK, n, ends_P)
            return (step_NK + start_P[0]) * n_rows + (row + leaf.rows)
        kept_NK = self.kept(n, n_rows, row)[:n]
        shift_K = self._shifts(np.array([n]), ends_P)[0] + (start_P[0] - 1)
        first = int(shift_K[0])
        if (shift_K == first).all():
            return kept_NK + first * n_rows if first else kept_NK
        return kept_NK + shift_K * n_rows

    def of_runs(
        self,
        frame_N: np.ndarray,
        run_N: np.ndarray,
        n_P: np.ndarray,
        start_P: np.ndarray,
        ends_P: np.ndarray,
        n_rows: int,
        row: int,
    ) -> np.ndarray:
        """Cells `[N, K]` of several runs: of frame `frame_N` of run `run_N`."""
        leaf = self._leaf
        if not leaf.moves_whole:
            step_NK = leaf.steps(frame_N[:, None], n_P[run_N][:, None], ends_P[run_N][:, None])
            return (step_NK + start_P[run_N][:, None]) * n_rows + (row + leaf.rows)
        kept_NK = self.kept(int(n_P.max(initial=0)), n_rows, row)
        shift_PK = (self._shifts(n_P, ends_P) + (start_P[:, None] - 1)) * n_rows
        return kept_NK.take(frame_N, axis=0) + shift_PK.take(run_N, axis=0)

    def moved(self, n: int, ends: bool) -> np.ndarray | None:
        """How far a run of `n` frames that is alone in the grid stands after the kept cells: `[K]`, None for not."""
        if self._leaf.is_online:
            return None
        return self._shifts(np.array([n]), np.array([ends]))[0] * self._leaf.n_rows

    def kept(self, n: int, n_rows: int | None = None, row: int = 0) -> np.ndarray:
        """Cells of at least `n` frames of a run that begins at step 1, without what its own length adds."""
        leaf, n_rows = self._leaf, n_rows or self._leaf.n_rows
        kept_NK = self._kept.get((n_rows, row))
        if kept_NK is None or len(kept_NK) < n:
            frame_N1 = np.arange(max(SHORTEST, 1 << n.bit_length()))[:, None]
            step_NK = leaf.steps(frame_N1, np.zeros((1, 1), dtype=np.int64), False)
            kept_NK = (step_NK + 1) * n_rows + (row + leaf.rows)
            kept_NK.setflags(write=False)
            self._kept[n_rows, row] = kept_NK
        return kept_NK

    def _check(self, step_NK: np.ndarray, n: int, ends_P: np.ndarray) -> None:
        """A formula of somebody's own may be wrong: every code needs a cell of its own, within the leaf's steps."""
        leaf = self._leaf
        n_steps = int(leaf.n_steps(np.array([n]), ends_P)[0])
        if step_NK.shape != (n, leaf.ref.n_levels) or not np.issubdtype(step_NK.dtype, np.integer):
            raise InputError(
                f"{leaf}: steps gives {step_NK.dtype} of shape {step_NK.shape}, not whole numbers of shape "
                f"{(n, leaf.ref.n_levels)}"
            )
        if n and not 0 <= step_NK.min() <= step_NK.max() < n_steps:
            raise InputError(
                f"{leaf}: steps places a code at step {step_NK.max() if step_NK.min() >= 0 else step_NK.min()}, but "
                f"{n} frames have {n_steps} steps: the last level of the last frame must stand last, or n_steps say so"
            )
        if np.bincount((step_NK * leaf.n_rows + leaf.rows).reshape(-1)).max(initial=0) > 1:
            raise InputError(f"{leaf}: steps places two codes of {n} frames into one cell")

    def _shifts(self, n_P: np.ndarray, ends_P: np.ndarray) -> np.ndarray:
        """By how many steps each level of a run moves with the run's length: `[P, K]`."""
        zero_P1 = np.zeros((len(n_P), 1), dtype=np.int64)
        leaf = self._leaf
        return leaf.steps(zero_P1, n_P[:, None], ends_P[:, None]) - leaf.steps(zero_P1, zero_P1, zero_P1 > 0)
