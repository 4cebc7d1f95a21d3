"""Keys and values of past steps, preallocated.

Shapes: L layers, B batch, G key and value heads, S steps that fit, C head width.
"""

from copy import copy

import torch
from torch import Tensor


class KeyValueCache:
    """A static cache: memory for `max_steps` steps is taken once, steps are written in place.

    All items of a batch stand at the same step: documents start together at step 0, whatever their prompts' lengths.
    """

    def __init__(
        self,
        *,
        n_layers: int,
        batch: int,
        n_kv_heads: int,
        max_steps: int,
        head_dim: int,
        device: torch.device,
        dtype: torch.dtype,
    ):
        shape = (n_layers, batch, n_kv_heads, max_steps, head_dim)
        self._k_LBGSC = torch.zeros(shape, device=device, dtype=dtype)
        self._v_LBGSC = torch.zeros(shape, device=device, dtype=dtype)
        self.length = 0
        """Steps that are in the cache."""

    @property
    def max_steps(self) -> int:
        return self._k_LBGSC.shape[3]

    def write(self, layer: int, k_BGTC: Tensor, v_BGTC: Tensor) -> tuple[Tensor, Tensor]:
        """Stores the keys and values of the next T steps of a layer; returns all there are of it, `[B, G, S, C]`."""
        stop = self.length + k_BGTC.shape[2]
        assert stop <= self.max_steps, f"the cache holds {self.max_steps} steps, not {stop}"
        self._k_LBGSC[layer, :, :, self.length : stop] = k_BGTC
        self._v_LBGSC[layer, :, :, self.length : stop] = v_BGTC
        return self._k_LBGSC[layer, :, :, :stop], self._v_LBGSC[layer, :, :, :stop]

    def advance(self, n_steps: int) -> None:
        """Counts `n_steps` steps, once all layers have written them."""
        self.length += n_steps

    def select(self, indices_B: Tensor) -> "KeyValueCache":
        """A cache of these entries of the batch, in this order."""
        chosen = copy(self)
        indices_B = indices_B.to(self._k_LBGSC.device)
        chosen._k_LBGSC, chosen._v_LBGSC = self._k_LBGSC[:, indices_B], self._v_LBGSC[:, indices_B]
        return chosen
