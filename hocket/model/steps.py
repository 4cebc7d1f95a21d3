"""The trunk's next step and the depth head's next row, from prepared weights and buffers that are made once.

The cache of the trunk is that of `Decoder.step`, which reads prompts; from then on steps come one by one. The depth
head reads row after row, its cache starts anew with each step; where all positions share their weights, its embeddings
are kept as they come out of its projection, a table over the ids that it reads.

Shapes: B batch, R rows, D width of the trunk, E width of the depth head, P positions, V ids, J legal ids.
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from hocket.model.cache import KeyValueCache, Place
from hocket.model.decoder import Decoder, TransformerBlock
from hocket.model.depth import DepthHead, RowLinear
from hocket.model.products import SUM, Product, product
from hocket.model.set_products import SetProducts
from hocket.model.step_blocks import BlockWeights, Scratch, remember, step_block, turns_table


class TrunkWeights:
    """A decoder's weights, prepared for steps of B documents."""

    def __init__(self, decoder: Decoder, batch: int):
        self.config = decoder.config
        self.embedding_VD = decoder.embedding.weight.detach()
        self.blocks = _prepare(decoder.blocks, batch)
        self.gain_D = decoder.norm.weight.detach() * math.sqrt(decoder.config.dim)


class StepTrunk:
    """Reads the next step of a batch.

    Args:
        batch: B, documents in lockstep.
        max_steps: the most steps that will be read.
    """

    def __init__(self, weights: TrunkWeights, batch: int, max_steps: int):
        self._weights, self.config = weights, weights.config
        embedding_VD = weights.embedding_VD
        self._turns_SC = turns_table(self.config, max_steps, embedding_VD.device)
        self._scratch = Scratch(self.config, batch, embedding_VD.device, embedding_VD.dtype)
        self._offsets: dict[int, Tensor] = {}  # of the first cell of each document, by the number of rows

    def __call__(self, ids_BR: Tensor, cache: KeyValueCache, out_BD: Tensor) -> None:
        """Reads the next step; its states go into `out_BD`."""
        self._run(ids_BR, self._turns_SC[cache.length], cache.place(self.config.window), out_BD)
        cache.advance(1)

    def at(self, ids_BR: Tensor, at_1: Tensor, cache: KeyValueCache, size: int, out_BD: Tensor) -> None:
        """Reads a step whose position is a tensor, below `size`; the cache is not told that it is there."""
        turn_C = self._turns_SC.index_select(0, at_1)[0]
        self._run(ids_BR, turn_C, cache.movable_place(at_1, size, self.config.window), out_BD)

    def _run(self, ids_BR: Tensor, turn_C: Tensor, place: Place, out_BD: Tensor) -> None:
        s = self._scratch
        s.x_BD.copy_(self._embed(ids_BR))
        for layer, block in enumerate(self._weights.blocks):
            step_block(s, block, turn_C, place, layer)
        torch.mul(s.normalise(), self._weights.gain_D, out=out_BD)

    def _embed(self, ids_BR: Tensor) -> Tensor:
        """Sum of the embeddings of each step's cells, `[B, D]`; that of filler is zero."""
        if ids_BR.device.type != "cpu":
            return F.embedding(ids_BR, self._weights.embedding_VD).sum(dim=1)
        offsets_B = self._offsets.get(ids_BR.shape[1])
        if offsets_B is None:
            offsets_B = self._offsets[ids_BR.shape[1]] = torch.arange(len(ids_BR)) * ids_BR.shape[1]
        return torch.embedding_bag(self._weights.embedding_VD, ids_BR.reshape(-1), offsets_B, False, SUM)[0]


class DepthWeights:
    """A depth head's weights, prepared for steps of B documents."""

    def __init__(self, depth: DepthHead, batch: int):
        self.config, self.rows, self.input_V = depth.config, depth.rows, depth.input_V
        self.in_rows = isinstance(depth.projection, RowLinear)
        """Each position has weights of its own."""
        self.blocks = _prepare(depth.blocks, batch)
        projection, table = depth.projection.weight.detach(), depth.embedding.weight.detach()
        self.projections: list[Product] = [product(w, batch) for w in (projection if self.in_rows else [projection])]
        self.table = table if self.in_rows else F.linear(table, projection)
        """Embedding of each id that is read: as wide as the trunk, or projected where one projection serves all."""
        self.turns_PC = turns_table(depth.config, len(depth.rows), table.device)
        gain_E = depth.norm.weight.detach().float() * math.sqrt(depth.config.dim)
        scaled = (depth.weight.detach().float() * gain_E).to(table.dtype)
        sets = [index for index, ranges in enumerate(depth.set_ranges) if ranges]
        self.places = {index: s for s, index in enumerate(sets)}
        """Where each legal set that it predicts stands among `products`."""
        weights = [torch.cat([scaled[a:b] for a, b in depth.set_ranges[index]]) for index in sets]
        self.products = SetProducts(weights, batch)


class StepDepth:
    """Reads the rows of a step of a batch one after another."""

    def __init__(self, weights: DepthWeights, batch: int):
        self._weights, self.rows, c, table = weights, weights.rows, weights.config, weights.table
        self._scratch = Scratch(c, batch, table.device, table.dtype)
        cache = KeyValueCache(
            n_layers=c.n_layers,
            batch=batch,
            n_kv_heads=c.n_kv_heads,
            max_steps=len(self.rows),
            head_dim=c.head_width,
            device=table.device,
            dtype=table.dtype,
        )
        self._places: list[Place] = []
        for _ in self.rows:
            self._places.append(cache.place())
            cache.advance(1)

    def start(self, hidden_BD: Tensor) -> None:
        """Reads the trunk's state. Its own output predicts nothing: the last block only remembers it."""
        s, w, place, turn_C = self._scratch, self._weights, self._places[0], self._weights.turns_PC[0]
        s.x_BD.copy_(w.projections[0](hidden_BD))
        for layer, block in enumerate(w.blocks[:-1]):
            step_block(s, block, turn_C, place, layer)
        remember(s, w.blocks[-1], turn_C, place, len(w.blocks) - 1)

    def __call__(self, ids_B: Tensor, position: int) -> None:
        """Reads the cells of the row before that of a position, 1 or later."""
        s, w, place, turn_C = self._scratch, self._weights, self._places[position], self._weights.turns_PC[position]
        at = position if w.in_rows else 0
        embedded = F.embedding(w.input_V[ids_B], w.table)
        s.x_BD.copy_(w.projections[at](embedded) if w.in_rows else embedded)
        for layer, block in enumerate(w.blocks):
            step_block(s, block, turn_C, place, layer, at)

    def logits(self, legal: int) -> Tensor:
        """Logits `[B, 1, J]` over a legal set, in float32, of the row whose position was read last."""
        return self._weights.products(self._scratch.normalise(), (self._weights.places[legal],))


def _prepare(blocks: Sequence[torch.nn.Module] | torch.nn.ModuleList, batch: int) -> list[BlockWeights]:
    prepared = []
    for block in blocks:
        assert isinstance(block, TransformerBlock)
        prepared.append(BlockWeights.prepare(block, batch))
    return prepared
