"""Logits of all rows of a step at once: products with the weights of several sets of ids.

One state takes a bag (`products.py`). Sets of like size lie one after another in it, each padded to the largest:

    bag     set 0, weights of number 0 [J] · number 1 [J] · …    set 1, number 0 [J] · …
    sums    row 0: indices of set 0                              row 1: indices of set 1 …

so that the rows of a step are one sum `[P, J]`, whichever sets they draw from, without a copy of weights or logits.
Several states take a product a set.

Shapes: B states, I width of a state, P rows that are drawn, J ids of the largest set.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from hocket.model.products import SUM, is_bag, product

NOTHING = float("-inf")
ALIKE = 0.9
"""Sets lie in one bag if the smallest has at least this share of the ids of the largest."""


class SetProducts:
    """Logits over the ids of some sets, a set a row.

    Args:
        weights: those of each set, `[ids, I]`.
        batch: B, how many states there are at a time.
    """

    def __init__(self, weights: Sequence[Tensor], batch: int):
        if is_bag(weights[0], batch):
            self._choose = _BagSets(weights)
        else:
            self._choose = _PlainSets(weights, batch)

    def __call__(self, x_BI: Tensor, sets: tuple[int, ...]) -> Tensor:
        """Logits `[B, P, J]` in float32 over the ids of P sets; -inf where a set has fewer than J."""
        return self._choose(x_BI, sets)


class _PlainSets:
    def __init__(self, weights: Sequence[Tensor], batch: int):
        self._products = [product(weight, batch) for weight in weights]

    def __call__(self, x_BI: Tensor, sets: tuple[int, ...]) -> Tensor:
        return stack_rows([self._products[s](x_BI).float() for s in sets])


class _Sum(NamedTuple):
    """Rows whose sets lie in the same bag."""

    bag: int
    rows: list[int]
    indices: Tensor
    offsets: Tensor
    padding_PJ: Tensor | None  # -inf where a set has no id, for the last columns
    size: int  # ids of the largest set


class _BagSets:
    def __init__(self, weights: Sequence[Tensor]):
        self._sizes, self._width = [len(weight) for weight in weights], weights[0].shape[1]
        self._bags: list[Tensor] = []
        self._place: dict[int, tuple[int, int]] = {}  # of each set: bag, and where in it
        self._sums: dict[tuple[int, ...], list[_Sum]] = {}
        for group in alike(self._sizes):
            most = max(self._sizes[s] for s in group)
            self._place |= {s: (len(self._bags), i) for i, s in enumerate(group)}
            self._bags.append(torch.cat([F.pad(weights[s], (0, 0, 0, most - self._sizes[s])).T for s in group]))

    def __call__(self, x_1I: Tensor, sets: tuple[int, ...]) -> Tensor:
        sums = self._sums.get(sets)
        if sums is None:
            sums = self._sums[sets] = self._plan(sets)
        if len(sums) == 1:
            return self._sum(x_1I.view(-1), sums[0]).unsqueeze(0)
        most = max(one.size for one in sums)
        whole_PJ = torch.full((len(sets), most), NOTHING)
        for one in sums:
            whole_PJ[one.rows, : one.size] = self._sum(x_1I.view(-1), one)
        return whole_PJ.unsqueeze(0)

    def _sum(self, x_I: Tensor, one: _Sum) -> Tensor:
        x = x_I if len(one.rows) == 1 else x_I.repeat(len(one.rows))
        logits_PJ = torch.embedding_bag(self._bags[one.bag], one.indices, one.offsets, False, SUM, False, x)[0].float()
        if logits_PJ.shape[1] > one.size:
            logits_PJ = logits_PJ[:, : one.size]
        if one.padding_PJ is not None:
            logits_PJ[:, one.size - one.padding_PJ.shape[1] :].add_(one.padding_PJ)
        return logits_PJ

    def _plan(self, sets: tuple[int, ...]) -> list[_Sum]:
        sums = []
        for bag in sorted({self._place[s][0] for s in sets}):
            rows = [p for p, s in enumerate(sets) if self._place[s][0] == bag]
            starts = torch.tensor([self._place[sets[p]][1] for p in rows]) * self._width
            sizes = torch.tensor([self._sizes[sets[p]] for p in rows])
            columns = torch.arange(int(sizes.min()), int(sizes.max()))
            padding_PJ = torch.zeros(len(rows), len(columns)).masked_fill_(columns >= sizes[:, None], NOTHING)
            indices = (starts[:, None] + torch.arange(self._width)).flatten()
            offsets = torch.arange(len(rows)) * self._width
            sums.append(_Sum(bag, rows, indices, offsets, padding_PJ if len(columns) else None, int(sizes.max())))
        return sums


def alike(sizes: Sequence[int]) -> list[list[int]]:
    """Groups sets of like size; ascending within a group."""
    groups: list[list[int]] = []
    for s in sorted(range(len(sizes)), key=lambda s: -sizes[s]):
        if groups and sizes[s] >= ALIKE * sizes[groups[-1][0]]:
            groups[-1].append(s)
        else:
            groups.append([s])
    return [sorted(group) for group in groups]


def stack_rows(logits: Sequence[Tensor]) -> Tensor:
    """Logits `[B, ids]` of several rows as `[B, P, J]`, -inf where a row has fewer than J."""
    most = max(part.shape[1] for part in logits)
    if all(part.shape[1] == most for part in logits):
        return torch.stack(tuple(logits), dim=1)
    whole_BPJ = logits[0].new_full((len(logits[0]), len(logits), most), NOTHING)
    for p, part in enumerate(logits):
        whole_BPJ[:, p, : part.shape[1]] = part
    return whole_BPJ
