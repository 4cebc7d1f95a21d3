"""Keys and values of past steps, preallocated.

Shapes: L layers, B batch, G key and value heads, S steps that fit, C head width.
"""

from collections.abc import Sequence
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

    def place(self, window: int = 0) -> "Place":
        """Where the next step goes, and what it sees.

        Args:
            window: the most steps that it sees, itself included; 0 for all.
        """
        stop = self.length + 1
        self._check(stop)
        start = max(0, stop - window) if window else 0
        slots = self.kv_L2BGSC.select(4, self.length).unbind(0)
        return Place(slots, self._flat_MBGSC.narrow(3, start, stop - start).unbind(0))

    def movable_place(self, at_1: Tensor, size: int, window: int = 0) -> "MovablePlace":
        """Where a step goes whose position is only known to the device, among the first `size` steps."""
        steps_S = torch.arange(size, device=at_1.device)
        seen_S = steps_S <= at_1
        if window:
            seen_S &= steps_S > at_1 - window
        return MovablePlace(self.kv_L2BGSC.unbind(0), self._flat_MBGSC.narrow(3, 0, size).unbind(0), at_1, seen_S[None])

    def advance(self, n_steps: int) -> None:
        """Counts `n_steps` steps, once all layers have written them."""
        self.length += n_steps

    def select(self, indices_B: Tensor) -> "KeyValueCache":
        """A cache of these entries of the batch, in this order: in the same memory if it is as many."""
        indices_B = indices_B.to(self.kv_L2BGSC.device)
        if len(indices_B) == self.kv_L2BGSC.shape[2]:
            filled = self.kv_L2BGSC.narrow(4, 0, self.length)
            filled.copy_(filled.index_select(2, indices_B))
            return self
        chosen = copy(self)
        chosen._set(self.kv_L2BGSC.index_select(2, indices_B))
        return chosen

    def _check(self, stop: int) -> None:
        assert stop <= self.max_steps, f"the cache holds {self.max_steps} steps, not {stop}"


class Place:
    """A step's place in the cache, as views."""

    seen_1S: Tensor | None = None
    """Which of the steps that `keys_and_values` returns the step sees, where it is not all."""

    def __init__(self, slots: Sequence[Tensor], kept: Sequence[Tensor]):
        self._slots, self._kept = slots, kept

    def write(self, layer: int, new_2BGC: Tensor) -> None:
        self._slots[layer].copy_(new_2BGC)

    def keys_and_values(self, layer: int) -> tuple[Tensor, Tensor]:
        """`[B, G, S, C]` each."""
        return self._kept[2 * layer], self._kept[2 * layer + 1]


class MovablePlace(Place):
    """A step's place in the cache, by a tensor: the same operations on the same memory at every step."""

    def __init__(self, layers: Sequence[Tensor], kept: Sequence[Tensor], at_1: Tensor, seen_1S: Tensor):
        super().__init__(layers, kept)
        self._at_1, self.seen_1S = at_1, seen_1S

    def write(self, layer: int, new_2BGC: Tensor) -> None:
        self._slots[layer].index_copy_(3, self._at_1, new_2BGC.unsqueeze(3).to(self._slots[layer].dtype))
