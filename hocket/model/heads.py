"""Output heads: from a step's hidden state to the cells of the next step.

`ParallelHead` predicts all rows of a step together from the trunk's state (MusicGen). Each cell's softmax runs over its
legal ids only (an interval softmax), so no probability is ever spent on another row's block and the cost does not
grow with the merged vocabulary: a cell of 1,025 legal ids costs 1,025 columns. With `softmax="full"` the loss runs over
the whole vocabulary instead, as in a stock language model. The loss never holds the logits (`losses.py`).

Legal sets restrict what may be sampled in both cases: `logits` and `log_probabilities` are over the legal ids alone,
and the probabilities of these sum to 1.

Shapes: M cells, N steps, R rows, D width, V ids of the vocabulary, J legal ids of a cell.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hocket.model.losses import CellLoss, cells_cross_entropy, positions, size_of

SOFTMAXES = ("legal", "full")
HEAD_STD = 0.25
"""Standard deviation of the logits at initialisation: the loss starts 0.03 nats above ln(J)."""


class LossParts(NamedTuple):
    """Sums over a micro-batch; the caller divides by the global weight.

    A tuple, because DeepSpeed finds the tensors of a module's output in tuples and dicts only: it gathers the weights
    again for the backward pass when these tensors are reached.
    """

    total: Tensor  # scalar, sum of weight x (cross-entropy in nats + z-loss)
    weight: Tensor  # scalar, sum of weights
    by_block: dict[str, tuple[Tensor, Tensor]]  # block -> (sum of cross-entropy, number of cells), unweighted


class LegalSet:
    """The ids that a kind of cell may hold: a few half-open ranges."""

    def __init__(self, block: str, ranges: Sequence[tuple[int, int]]):
        self.block = block
        self.ranges = tuple(ranges)

    @property
    def size(self) -> int:
        return size_of(self.ranges)

    def logits(self, x_MD: Tensor, weight_VD: Tensor) -> Tensor:
        """Logits `[M, J]` in float32. Range by range: no rows of the output matrix are copied."""
        parts = [F.linear(x_MD, weight_VD[a:b]) for a, b in self.ranges]
        return (parts[0] if len(parts) == 1 else torch.cat(parts, dim=-1)).float()

    def position(self, ids: Tensor) -> Tensor:
        """Where legal ids stand among the logits; -1 for an id that is not legal."""
        return positions(self.ranges, ids)

    def ids(self, positions: Tensor) -> Tensor:
        """The inverse of `position`."""
        found, before = torch.zeros_like(positions), 0
        for a, b in self.ranges:
            found = torch.where((positions >= before) & (positions < before + b - a), positions - before + a, found)
            before += b - a
        return found


class ParallelHead(nn.Module):
    """One output matrix over the id space, sliced by what each cell may hold."""

    def __init__(
        self,
        dim: int,
        vocabulary_size: int,
        legal_sets: Sequence[LegalSet],
        *,
        softmax: str = "legal",
        z_loss: float = 0.0,
    ):
        super().__init__()
        assert softmax in SOFTMAXES, softmax
        self.weight = nn.Parameter(torch.empty(vocabulary_size, dim))
        self.legal_sets = list(legal_sets)
        """What `legal` indices mean; set 0 is empty."""
        self.z_loss = z_loss
        """Coefficient of log(Z)^2 in the loss; 0 is none."""
        whole = ((0, vocabulary_size),)
        self._softmax_ranges = [whole if legal.ranges and softmax == "full" else legal.ranges for legal in legal_sets]

    def initialise(self, generator: torch.Generator) -> None:
        nn.init.normal_(self.weight, std=HEAD_STD * self.weight.shape[1] ** -0.5, generator=generator)

    def forward(self, x_ND: Tensor, target_NR: Tensor, legal_NR: Tensor, weight_NR: Tensor) -> LossParts:
        """Cross-entropy of the target cells from the states that predict them.

        Without any cell the loss is 0 and the gradients are zeros, so that every process takes part in a step.
        """
        loss = cells_cross_entropy(
            x_ND, self.weight, target_NR, legal_NR, weight_NR, self._softmax_ranges, z_loss=self.z_loss
        )
        return LossParts(loss.total, weight_NR.sum(), self._by_block(loss))

    def _by_block(self, loss: CellLoss) -> dict[str, tuple[Tensor, Tensor]]:
        by_block: dict[str, tuple[Tensor, Tensor]] = {}
        for index, legal in enumerate(self.legal_sets):
            if legal.ranges:
                summed, count = by_block.get(legal.block, (0.0, 0.0))
                by_block[legal.block] = (summed + loss.ce_S[index], count + loss.count_S[index])
        return by_block

    def log_probabilities(self, x_MD: Tensor, index: int) -> Tensor:
        """Log-probabilities `[M, J]` over the ids of legal set `index`, in float32."""
        return F.log_softmax(self.logits(x_MD, index), dim=-1)

    def logits(self, x_MD: Tensor, index: int) -> Tensor:
        """Logits `[M, J]` over the ids of legal set `index`, in float32."""
        return self.legal_sets[index].logits(x_MD, self.weight)
