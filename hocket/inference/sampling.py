"""How one id is drawn from a cell's distribution.

Shapes: M cells, J legal ids of a cell.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from hocket.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """Temperature, then top-k, then top-p (Holtzman et al., 2020)."""

    temperature: float = 1.0
    """Divides the logits; 0 takes the most probable id."""
    top_k: int = 0
    """Keep this many most probable ids; 0 keeps all."""
    top_p: float = 1.0
    """Keep the most probable ids until their probabilities sum to this; 1 keeps all."""

    def __post_init__(self) -> None:
        if not self.temperature >= 0:
            raise InputError(f"temperature must be 0 (greedy) or more, not {self.temperature}")
        if self.top_k < 0:
            raise InputError(f"top_k must be 0 (off) or more, not {self.top_k}")
        if not 0 < self.top_p <= 1:
            raise InputError(f"top_p must lie above 0 and at most at 1, not {self.top_p}")

    def choose(self, logits_MJ: Tensor, uniform_M: Tensor) -> Tensor:
        """Draws one position of J for each cell, by inverting the cumulative distribution at `uniform_M` in [0, 1).

        One number a cell decides, so that a draw depends on nothing but its own logits and number: the same in a
        batch as alone.
        """
        if self.temperature == 0:
            return logits_MJ.argmax(dim=-1)
        probability_MJ = torch.softmax(logits_MJ.double() / self.temperature, dim=-1)
        if not self.top_k and self.top_p == 1:
            return _invert(probability_MJ, uniform_M)
        sorted_MJ, order_MJ = probability_MJ.sort(dim=-1, descending=True, stable=True)
        if self.top_k:
            sorted_MJ[:, self.top_k :] = 0
        if self.top_p < 1:
            before_MJ = sorted_MJ.cumsum(-1) - sorted_MJ
            sorted_MJ = torch.where(before_MJ < self.top_p * sorted_MJ.sum(-1, keepdim=True), sorted_MJ, 0)
        return order_MJ.gather(-1, _invert(sorted_MJ, uniform_M).unsqueeze(-1)).squeeze(-1)


def _invert(weight_MJ: Tensor, uniform_M: Tensor) -> Tensor:
    """The position at which the cumulative weight passes `uniform_M` of its sum."""
    cumulative_MJ = weight_MJ.cumsum(-1)
    aim_M1 = (uniform_M.double() * cumulative_MJ[:, -1]).unsqueeze(-1)
    return torch.searchsorted(cumulative_MJ, aim_M1, right=True).clamp_max(weight_MJ.shape[-1] - 1).squeeze(-1)
