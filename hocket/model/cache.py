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
        shape = (n_layers, 2, batch, n_kv_heads, max_steps, head_dim)
        self._set(torch.zeros(shape, device=device, dtype=dtype))
        self.length = 0
        """Steps that are in the cache."""

    def _set(self, kv_L2BGSC: Tensor) -> None:
        self.kv_L2BGSC = kv_L2BGSC
        """Keys, then values, of each layer."""
        self._flat_MBGSC = kv_L2BGSC.flatten(0, 1)

    @property
    def max_steps(self) -> int:
        return self.kv_L2BGSC.shape[4]

    def write(self, layer: int, k_BGTC: Tensor, v_BGTC: Tensor) -> tuple[Tensor, Tensor]:
        """Stores the keys and values of the next T steps of a layer; returns all there are of it, `[B, G, S, C]`."""
        stop = self.length + k_BGTC.shape[2]
        self._check(stop)
        k_BGSC, v_BGSC = self.kv_L2BGSC[layer, 0], self.kv_L2BGSC[layer, 1]
        k_BGSC[:, :, self.length : stop] = k_BGTC
        v_BGSC[:, :, self.length : stop] = v_BGTC
        return k_BGSC[:, :, :stop], v_BGSC[:, :, :stop]

    def slots(self) -> tuple[Tensor, ...]:
        """Where each layer's keys and values of the next step go, `[2, B, G, C]`."""
        self._check(self.length + 1)
        return self.kv_L2BGSC.select(4, self.length).unbind(0)

    def seen(self, window: int = 0) -> tuple[Tensor, ...]:
        """What the next step sees once it is written: keys of a layer, then its values, `[B, G, S, C]` each.

        Args:
            window: the most steps, the next one included; 0 for all.
        """
        stop = self.length + 1
        start = max(0, stop - window) if window else 0
        return self._flat_MBGSC.narrow(3, start, stop - start).unbind(0)

    def advance(self, n_steps: int) -> None:
        """Counts `n_steps` steps, once all layers have written them."""
        self.length += n_steps

    def select(self, indices_B: Tensor) -> "KeyValueCache":
        """A cache of these entries of the batch, in this order."""
        chosen = copy(self)
        chosen._set(self.kv_L2BGSC[:, :, indices_B.to(self.kv_L2BGSC.device)])
        return chosen

    def _check(self, stop: int) -> None:
        assert stop <= self.max_steps, f"the cache holds {self.max_steps} steps, not {stop}"
