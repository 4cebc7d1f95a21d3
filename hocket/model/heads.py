"""Output heads: from a step's hidden state to the cells of the next step.

`ParallelHead` predicts all rows of a step together from the trunk's state (MusicGen). Each cell's softmax runs over its
legal ids only (an interval softmax), so no probability is ever spent on another row's block and the cost does not
grow with the merged vocabulary: a cell of 1,025 legal ids costs 1,025 columns.

Shapes: M cells, N steps, R rows, D width, V ids of the vocabulary, J legal ids of a cell.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

HEAD_STD = 0.25
"""Standard deviation of the logits at initialisation: the loss starts 0.03 nats above ln(J)."""


class LossParts(NamedTuple):
    """Sums over a micro-batch; the caller divides by the global weight.

    A tuple, because DeepSpeed finds the tensors of a module's output in tuples and dicts only: it gathers the weights
    again for the backward pass when these tensors are reached.
    """

    total: Tensor  # scalar, sum of weight x cross-entropy in nats
    weight: Tensor  # scalar, sum of weights
    by_block: dict[str, tuple[Tensor, Tensor]]  # block -> (sum of cross-entropy, number of cells), detached, unweighted


class LegalSet:
    """The ids that a kind of cell may hold: a few half-open ranges."""

    def __init__(self, block: str, ranges: Sequence[tuple[int, int]]):
        self.block = block
        self.ranges = tuple(ranges)

    @property
    def size(self) -> int:
        return sum(b - a for a, b in self.ranges)

    def logits(self, x_MD: Tensor, weight_VD: Tensor) -> Tensor:
        """Logits `[M, J]` in float32. Range by range: no rows of the output matrix are copied."""
        parts = [F.linear(x_MD, weight_VD[a:b]) for a, b in self.ranges]
        return (parts[0] if len(parts) == 1 else torch.cat(parts, dim=-1)).float()

    def position(self, ids: Tensor) -> Tensor:
        """Where legal ids stand among the logits; -1 for an id that is not legal."""
        found, before = torch.full_like(ids, -1), 0
        for a, b in self.ranges:
            found = torch.where((ids >= a) & (ids < b), ids - a + before, found)
            before += b - a
        return found

    def ids(self, positions: Tensor) -> Tensor:
        """The inverse of `position`."""
        found, before = torch.zeros_like(positions), 0
        for a, b in self.ranges:
            found = torch.where((positions >= before) & (positions < before + b - a), positions - before + a, found)
            before += b - a
        return found


class ParallelHead(nn.Module):
    """One output matrix over the id space, sliced by what each cell may hold."""

    def __init__(self, dim: int, vocabulary_size: int, legal_sets: Sequence[LegalSet]):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(vocabulary_size, dim))
        self.legal_sets = list(legal_sets)
        """What `legal` indices mean; set 0 is empty."""

    def initialise(self, generator: torch.Generator) -> None:
        nn.init.normal_(self.weight, std=HEAD_STD * self.weight.shape[1] ** -0.5, generator=generator)

    def forward(self, x_ND: Tensor, target_NR: Tensor, legal_NR: Tensor, weight_NR: Tensor) -> LossParts:
        """Cross-entropy of the target cells, each over its legal ids, from the states that predict them."""
        total, by_block = self.weight.new_zeros((), dtype=torch.float32), {}
        for index in legal_NR.unique().tolist():
            if index == 0:
                continue
            step, row = (legal_NR == index).nonzero(as_tuple=True)
            ce_M = self._cross_entropy(x_ND[step], target_NR[step, row], self.legal_sets[index])
            total = total + (ce_M * weight_NR[step, row]).sum()
            summed, count = by_block.get(self.legal_sets[index].block, (0.0, 0))
            by_block[self.legal_sets[index].block] = (summed + ce_M.detach().sum(), count + ce_M.new_tensor(len(ce_M)))
        if not by_block:  # a micro-batch without targets still takes part in the backward pass
            total = total + 0 * (self.weight.sum() + x_ND.sum())
        return LossParts(total, weight_NR.sum(), by_block)

    def log_probabilities(self, x_MD: Tensor, index: int) -> Tensor:
        """Log-probabilities `[M, J]` over the ids of legal set `index`, in float32."""
        return F.log_softmax(self.logits(x_MD, index), dim=-1)

    def logits(self, x_MD: Tensor, index: int) -> Tensor:
        """Logits `[M, J]` over the ids of legal set `index`, in float32."""
        return self.legal_sets[index].logits(x_MD, self.weight)

    def _cross_entropy(self, x_MD: Tensor, target_M: Tensor, legal: LegalSet) -> Tensor:
        position_M = legal.position(target_M)
        return F.cross_entropy(legal.logits(x_MD, self.weight), position_M, reduction="none")
