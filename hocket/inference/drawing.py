"""Drawing one id for each cell from its logits: truncation, inversion, repetition-aware redraw.

    logits ─ temperature ─▶ probabilities ─ ids below a floor go ─▶ weights ─ inverted at a number in [0, 1) ─▶ id

Every truncation is a floor: ids less probable than it go. Top-k puts it at the k-th largest probability, top-p at that
of the last id that is needed for the mass, min-p at a share of the largest; the highest of these counts. Ids as
probable as the floor stay, all of them: no id is preferred for its number, and what one cell draws does not depend
on how many columns or rows stand beside it.

One number decides each draw (two with a redraw), by inverting the cumulative distribution. A race, the smallest of
e / p with exponential e, needs no cumulative sum but a number for each id: on CPU drawing 4 x 2,049 of them takes 166
microseconds and the race 13, the sum and the search 12. Sorting is numpy's there, which uses AVX-512: 11 microseconds,
torch's 330.

Shapes: B batch, P rows of a pass, J ids, U numbers of a draw, W last tokens, K ranks that matter.
"""

import math
from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

NUMBERS = 2
"""U: uniform numbers of a draw; the second one is for the redraw."""
GREEDY = 1e-5
"""Temperatures below take the most probable id."""


class Settings(Protocol):
    """What `Sampling` holds for one row."""

    @property
    def temperature(self) -> float: ...
    @property
    def top_k(self) -> int: ...
    @property
    def top_p(self) -> float: ...
    @property
    def min_p(self) -> float: ...
    @property
    def repetition_window(self) -> int: ...
    @property
    def repetition_ratio(self) -> float: ...


class Rules:
    """The settings of P rows as tensors, made once.

    Args:
        rows: settings of each row.
        n_ids: J.
        window: W, how many last tokens `draw` is given.
        device: where the logits are.
    """

    def __init__(self, rows: Sequence[Settings], n_ids: int, window: int, device: torch.device):
        def column(values: Sequence[float | int], dtype: torch.dtype = torch.float32) -> Tensor:
            return torch.tensor(values, dtype=dtype, device=device)[:, None]

        is_greedy = [row.temperature < GREEDY for row in rows]
        self.greedy = all(is_greedy)
        """All rows take the most probable id."""
        self._greedy_P = column(is_greedy, torch.bool)[:, 0] if any(is_greedy) else None
        warm = [1.0 if cold else row.temperature for cold, row in zip(is_greedy, rows, strict=True)]
        self._sharpness_P1 = column([1 / t for t in warm]) if set(warm) != {1.0} else None
        self._min_p_P1 = column([row.min_p for row in rows]) if any(row.min_p for row in rows) else None
        self._set_ranks(rows, n_ids, column)
        self._set_repetition(rows, window, device)

    def _set_ranks(self, rows: Sequence[Settings], n_ids: int, column) -> None:
        """Top-k and top-p: how many of the largest probabilities are looked at, and which of them may be the floor."""
        kept = [min(row.top_k, n_ids) or n_ids for row in rows]
        cuts = [k < n_ids or row.top_p < 1 for k, row in zip(kept, rows, strict=True)]
        self._n_ranks = max((k for k, is_cut in zip(kept, cuts, strict=True) if is_cut), default=0)
        if not self._n_ranks:
            return
        kept = [min(k, self._n_ranks) for k in kept]
        self._last_P1 = column([k - 1 for k in kept], torch.int64)
        self._cuts_P1 = None if all(cuts) else column([float(is_cut) for is_cut in cuts])
        self._top_p_P1 = self._within_PK = None
        if any(row.top_p < 1 for row in rows):
            self._top_p_P1 = column([row.top_p if row.top_p < 1 else 2.0 for row in rows])
            if min(kept) < self._n_ranks:
                self._within_PK = (torch.arange(self._n_ranks, device=self._last_P1.device) <= self._last_P1).float()

    def _set_repetition(self, rows: Sequence[Settings], window: int, device: torch.device) -> None:
        """How often the drawn id may stand among the last tokens of a row."""
        self._most_P = None
        if not any(row.repetition_window for row in rows):
            return
        most = [
            math.floor(row.repetition_ratio * row.repetition_window + 1e-9) if row.repetition_window else window
            for row in rows
        ]
        self._most_P = torch.tensor(most, device=device)
        lengths_P1 = torch.tensor([row.repetition_window for row in rows], device=device)[:, None]
        self._looks_PW = torch.arange(window, 0, -1, device=device) <= lengths_P1

    def draw(
        self, logits_BPJ: Tensor, uniform_BPU: Tensor, ids_PJ: Tensor, recent_BPW: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Positions `[B, P]` among the ids, and their log-probabilities at temperature 1 without truncation."""
        if self.greedy:
            position_BP1 = logits_BPJ.argmax(dim=-1, keepdim=True)
            return position_BP1[..., 0], logits_BPJ.log_softmax(dim=-1).gather(-1, position_BP1)[..., 0]
        sharp_BPJ = logits_BPJ if self._sharpness_P1 is None else logits_BPJ * self._sharpness_P1
        p_BPJ = sharp_BPJ.softmax(dim=-1)
        position_BP1 = invert(self.truncate(p_BPJ), uniform_BPU[..., :1])
        if self._most_P is not None:
            assert recent_BPW is not None, "repetition is looked at, but no last tokens were given"
            again_BP1 = (self._count(position_BP1, ids_PJ, recent_BPW) > self._most_P)[..., None]
            position_BP1 = torch.where(again_BP1, invert(p_BPJ, uniform_BPU[..., 1:2]), position_BP1)
        if self._greedy_P is not None:
            best_BP1 = logits_BPJ.argmax(dim=-1, keepdim=True)
            position_BP1 = torch.where(self._greedy_P[:, None], best_BP1, position_BP1)
        if sharp_BPJ is logits_BPJ:
            return position_BP1[..., 0], p_BPJ.gather(-1, position_BP1)[..., 0].log()
        return position_BP1[..., 0], logits_BPJ.log_softmax(dim=-1).gather(-1, position_BP1)[..., 0]

    def truncate(self, p_BPJ: Tensor) -> Tensor:
        """Probabilities with 0 for the ids that top-k, top-p and min-p leave out; not normalised again."""
        floor_BP1 = self._floor(p_BPJ) if self._n_ranks else None
        if self._min_p_P1 is not None:
            share_BP1 = p_BPJ.amax(dim=-1, keepdim=True) * self._min_p_P1
            floor_BP1 = share_BP1 if floor_BP1 is None else torch.maximum(floor_BP1, share_BP1)
        return p_BPJ if floor_BP1 is None else p_BPJ * (p_BPJ >= floor_BP1)

    def _floor(self, p_BPJ: Tensor) -> Tensor:
        largest_BPK = _largest(p_BPJ, self._n_ranks)
        if self._top_p_P1 is None:
            rank_BP1 = self._last_P1.expand(len(p_BPJ), -1, 1)
        else:
            within_BPK = largest_BPK if self._within_PK is None else largest_BPK * self._within_PK
            sum_BPK = within_BPK.cumsum(dim=-1)
            needed_BP1 = torch.searchsorted(sum_BPK, sum_BPK[..., -1:] * self._top_p_P1)
            rank_BP1 = torch.minimum(needed_BP1, self._last_P1)
        floor_BP1 = largest_BPK.gather(-1, rank_BP1)
        return floor_BP1 if self._cuts_P1 is None else floor_BP1 * self._cuts_P1

    def _count(self, position_BP1: Tensor, ids_PJ: Tensor, recent_BPW: Tensor) -> Tensor:
        """How often the drawn ids stand in the windows of their rows."""
        id_BP1 = ids_PJ.expand(len(position_BP1), -1, -1).gather(-1, position_BP1)
        return ((recent_BPW == id_BP1) & self._looks_PW).sum(dim=-1)


def invert(weight_BPJ: Tensor, uniform_BP1: Tensor) -> Tensor:
    """The first position `[B, P, 1]` at which the sum of the weights reaches 1 - `uniform_BP1` of the whole.

    Numbers lie in [0, 1), so what is reached is never 0, and the position has a weight above 0.
    """
    sum_BPJ = weight_BPJ.cumsum(dim=-1)
    aim_BP1 = ((1 - uniform_BP1) * sum_BPJ[..., -1:]).to(sum_BPJ.dtype)
    position_BP1 = torch.searchsorted(sum_BPJ, aim_BP1).clamp_max(weight_BPJ.shape[-1] - 1)  # beyond only for nan
    if weight_BPJ.is_cpu:
        return position_BP1
    # A parallel sum may differ in its last bit from one position to the next though nothing was added.
    is_legal_BP1 = weight_BPJ.gather(-1, position_BP1) > 0
    return torch.where(is_legal_BP1, position_BP1, weight_BPJ.argmax(dim=-1, keepdim=True))


def _largest(p_BPJ: Tensor, n: int) -> Tensor:
    """The n largest, descending."""
    if n < p_BPJ.shape[-1]:
        return p_BPJ.topk(n, dim=-1).values
    if p_BPJ.is_cpu:
        return torch.from_numpy(np.sort(p_BPJ.detach().numpy(), axis=-1)).flip(-1)
    return p_BPJ.sort(dim=-1, descending=True).values
