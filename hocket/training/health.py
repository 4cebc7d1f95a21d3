"""A healthy start: a fresh model knows nothing, so each kind of cell costs ln(number of its legal ids) nats.

A loss above it says that the output matrix starts too large, one below that the model sees what it is to predict, both
before a run is spent on it. Each kind is scored alone, on one batch; a kind with few cells may stray further by
chance.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch

from hocket.data import Batch
from hocket.model import LossParts
from hocket.model.heads import HEAD_STD, LegalSet

TOLERANCE = 0.05


@dataclass(frozen=True)
class KindOfCell:
    """What one kind of cell costs at the start."""

    block: str
    size: int  # legal ids
    cells: int
    loss: float  # nats a cell

    @property
    def expected(self) -> float:
        return math.log(self.size)

    @property
    def is_healthy(self) -> bool:
        """Within 5 %, and three standard errors of a mean over so many cells."""
        chance = 3 * HEAD_STD / math.sqrt(self.cells)
        return abs(self.loss - self.expected) <= TOLERANCE * self.expected + chance


def score_kinds(
    evaluate: Callable[[Batch], LossParts], batch: Batch, legal_sets: Sequence[LegalSet], full_size: int = 0
) -> list[KindOfCell]:
    """Score each kind of cell of a batch alone; every process calls it with a batch of its own or the same.

    Args:
        full_size: the vocabulary's size where the softmax runs over all of it.
    """
    kinds = []
    for index, legal in enumerate(legal_sets):
        if index == 0:
            continue
        legal_NR = torch.where(batch.legal_NR == index, index, 0)
        parts = evaluate(replace(batch, legal_NR=legal_NR, weight_NR=(legal_NR > 0).float()))
        total, cells = parts.by_block.get(legal.block, (torch.zeros(()), torch.zeros(())))
        if cells > 0 and legal.size > 1:
            kinds.append(KindOfCell(legal.block, full_size or legal.size, int(cells), float(total / cells)))
    return kinds


def describe(kinds: Sequence[KindOfCell]) -> list[str]:
    """One line on all kinds, and a warning for each that is not as it should be."""
    shown = ", ".join(f"{kind.block} {kind.loss:.2f} of ln {kind.size} = {kind.expected:.2f}" for kind in kinds)
    sick = [kind for kind in kinds if not kind.is_healthy]
    line = f"{'healthy' if not sick else 'unhealthy'} start, nats a cell: {shown}"
    return [line, *(_warning(kind) for kind in sick)]


def _warning(kind: KindOfCell) -> str:
    cause = "the model sees what it is to predict" if kind.loss < kind.expected else "the logits start too large"
    return (
        f"warning: {kind.block} starts at {kind.loss:.3f} nats a cell, more than 5 % away from ln({kind.size}) = "
        f"{kind.expected:.3f}: {cause}"
    )
