"""Steps without end: the keys and values of the last W steps, in memory that does not grow.

    slot        0  1  2  3 | 4  5  6  7        W = 4, kept twice, W slots apart
    step 5      4  5  2  3 | 4  5  2  3        it sees slots 2 to 5: steps 2 3 4 5, in order and side by side

A step is written into two slots, so that the last W always lie in one piece, oldest first: what is computed is, to the
bit, what a cache that holds everything gives a step which sees W. Keys keep the rotary positions at which they were
written, as in Moshi (Défossez et al., 2024, arXiv:2410.00037); attention depends on differences of positions alone.
Past the context, angles come from float64, so that positions of days are as exact as the first.

Shapes: B batch, T steps, R rows, D width, S steps that are seen, G key and value heads, C head width.
"""

from collections.abc import Sequence
from copy import copy
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from hocket.model.attention import attend
from hocket.model.cache import KeyValueCache, Place
from hocket.model.config import ModelConfig
from hocket.model.decoder import Decoder, TransformerBlock, beside, find_frequencies, rotary
from hocket.model.stepping import Stepper

if TYPE_CHECKING:
    from hocket.model.model import Model


class RingCache(KeyValueCache):
    """The last `reach` steps of every layer, those of which they are being written included."""

    def __init__(self, decoder: Decoder, batch: int, reach: int):
        weight, c = decoder.embedding.weight, decoder.config
        super().__init__(
            n_layers=c.n_layers,
            batch=batch,
            n_kv_heads=c.n_kv_heads,
            max_steps=2 * reach,
            head_dim=c.head_width,
            device=weight.device,
            dtype=weight.dtype,
        )
        self.reach = reach

    def place(self, window: int = 0) -> Place:
        """Where the next step goes, and what it sees: at most `reach` steps, itself included."""
        at = self.length % self.reach
        seen = min(self.length + 1, self.reach)
        first = at + self.reach + 1 - seen
        slots = self.kv_L2BGSC.unbind(0)
        return RingPlace(slots, self._flat_MBGSC.narrow(3, first, seen).unbind(0), at, self.reach)

    def select(self, indices_B: Tensor) -> "RingCache":
        chosen = copy(self)
        chosen._set(self.kv_L2BGSC.index_select(2, indices_B.to(self.kv_L2BGSC.device)))
        return chosen


class RingPlace(Place):
    """A step's two slots."""

    def __init__(self, layers: Sequence[Tensor], kept: Sequence[Tensor], at: int, reach: int):
        super().__init__([kv_2BGSC[:, :, :, at::reach] for kv_2BGSC in layers], kept)

    def write(self, layer: int, new_2BGC: Tensor) -> None:
        self._slots[layer].copy_(new_2BGC.unsqueeze(3))


class RingStepper(Stepper):
    """A stepper that never ends: each step sees the last `context` steps, or the model's window.

    Args:
        model: a causal one; its weights are to stay as they are while it is stepped.
        batch: B, documents that go in lockstep.
    """

    def __init__(self, model: "Model", batch: int = 1):
        c = model.config
        reach = c.window or c.context
        super().__init__(model, batch, reach, static=False)
        with torch.inference_mode(mode=False), torch.no_grad():
            self._cache = RingCache(model.decoder, batch, reach)
            positions = torch.arange(c.context, device=model.device)
            self._turns = rotary(positions, c, torch.float32)

    @torch.no_grad()
    def feed(self, ids_BTR: Tensor) -> None:
        """Reads the next T steps, one after another, on any device."""
        for ids_BR in ids_BTR.to(self._model.device).unbind(1):
            place, (cos_1C, sin_1C) = self._cache.place(), self._turn()
            if self._fast:
                half = cos_1C.shape[-1] // 2
                turn_C = torch.complex(cos_1C[0, :half], sin_1C[0, :half])
                self._fast.trunk._run(ids_BR, turn_C, place, self._hidden_BD)
            else:
                self._hidden_BD.copy_(self._read_plainly(ids_BR, (cos_1C, sin_1C), place))
            self._cache.advance(1)

    def _turn(self) -> tuple[Tensor, Tensor]:
        """Cosines and sines of the next step's position, float32 `[1, C]`."""
        at, (cos_S1C, sin_S1C) = self.length, self._turns
        if at < len(cos_S1C):
            return cos_S1C[at], sin_S1C[at]
        return far_turn(at, self._model.config, cos_S1C.device)

    def _read_plainly(self, ids_BR: Tensor, turn: tuple[Tensor, Tensor], place: Place) -> Tensor:
        """States `[B, D]` of the next step by the model's own weights."""
        decoder = self._model.decoder
        x_B1D = decoder._embed(ids_BR[:, None])
        rotation = tuple(part[None].to(x_B1D.dtype) for part in turn)
        for layer, block in enumerate(decoder.blocks):
            assert isinstance(block, TransformerBlock)
            q_B1HC, k_B1GC, v_B1GC = block._heads(x_B1D, (rotation[0], rotation[1]))
            place.write(layer, torch.stack([beside(k_B1GC)[:, 0], v_B1GC[:, 0]]))
            k_BGSC, v_BGSC = place.keys_and_values(layer)
            mixed_BH1C = attend(beside(q_B1HC).transpose(1, 2), k_BGSC, v_BGSC)
            x_B1D = x_B1D + block.out(mixed_BH1C.transpose(1, 2).flatten(-2))
            x_B1D = x_B1D + block._feed_forward(x_B1D)
        return decoder.norm(x_B1D)[:, 0]


def far_turn(position: int, config: ModelConfig, device: torch.device) -> tuple[Tensor, Tensor]:
    """As `rotary` of one position, float32 `[1, C]`, by angles in float64."""
    angles = position * find_frequencies(config, device).double()
    angles_1C = torch.cat([angles, angles])[None]
    return angles_1C.cos().float(), angles_1C.sin().float()
