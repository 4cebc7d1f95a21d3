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


class StepTrunk:
    """Reads the next step of a batch.

    Args:
        batch: B, documents in lockstep.
        max_steps: the most steps that will be read.
    """

    def __init__(self, decoder: Decoder, batch: int, max_steps: int):
        weight_VD, c = decoder.embedding.weight.detach(), decoder.config
        self._weight_VD, self.config = weight_VD, c
        self._blocks = _prepare(decoder.blocks, batch)
        self._gain_D = decoder.norm.weight.detach() * math.sqrt(c.dim)
        self._turns_SC = turns_table(c, max_steps, weight_VD.device)
        self.resize(batch)

    def resize(self, batch: int) -> None:
        """Other buffers, for another number of documents."""
        weight = self._weight_VD
        self._scratch = Scratch(self.config, batch, weight.device, weight.dtype)
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
        for layer, block in enumerate(self._blocks):
            step_block(s, block, turn_C, place, layer)
        torch.mul(s.normalise(), self._gain_D, out=out_BD)

    def _embed(self, ids_BR: Tensor) -> Tensor:
        """Sum of the embeddings of each step's cells, `[B, D]`; that of filler is zero."""
        if ids_BR.device.type != "cpu":
            return F.embedding(ids_BR, self._weight_VD).sum(dim=1)
        offsets_B = self._offsets.get(ids_BR.shape[1])
        if offsets_B is None:
            offsets_B = self._offsets[ids_BR.shape[1]] = torch.arange(len(ids_BR)) * ids_BR.shape[1]
        return torch.embedding_bag(self._weight_VD, ids_BR.reshape(-1), offsets_B, False, SUM)[0]


class StepDepth:
    """Reads the rows of a step of a batch one after another."""

    def __init__(self, depth: DepthHead, batch: int):
        self.config, self.rows, self._input_V = depth.config, depth.rows, depth.input_V
        self._in_rows = isinstance(depth.projection, RowLinear)
        self._blocks = _prepare(depth.blocks, batch)
        projection, table = depth.projection.weight.detach(), depth.embedding.weight.detach()
        sets = list(projection) if self._in_rows else [projection]
        self._projections: list[Product] = [product(w, batch) for w in sets]
        self._table = table if self._in_rows else F.linear(table, projection)
        """Embedding of each id that is read: as wide as the trunk, or projected where one projection serves all."""
        c, device = depth.config, table.device
        self._turns_PC = turns_table(c, len(self.rows), device)
        gain_E = depth.norm.weight.detach().float() * math.sqrt(c.dim)
        scaled = (depth.weight.detach().float() * gain_E).to(table.dtype)
        self._indices = {index: s for s, index in enumerate(i for i, ranges in enumerate(depth.set_ranges) if ranges)}
        weights = [torch.cat([scaled[a:b] for a, b in depth.set_ranges[index]]) for index in self._indices]
        self._logits = SetProducts(weights, batch)
        self.resize(batch)

    def resize(self, batch: int) -> None:
        """Other buffers and another cache, for another number of documents."""
        c, table = self.config, self._table
        self._scratch = Scratch(c, batch, table.device, table.dtype)
        self._cache = KeyValueCache(
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
            self._places.append(self._cache.place())
            self._cache.advance(1)

    @property
    def legal_sets(self) -> list[int]:
        """Those of the rows that it predicts."""
        return list(self._indices)

    def start(self, hidden_BD: Tensor) -> None:
        """Reads the trunk's state. Its own output predicts nothing: the last block only remembers it."""
        s, place, turn_C = self._scratch, self._places[0], self._turns_PC[0]
        s.x_BD.copy_(self._projections[0](hidden_BD))
        for layer, block in enumerate(self._blocks[:-1]):
            step_block(s, block, turn_C, place, layer)
        remember(s, self._blocks[-1], turn_C, place, len(self._blocks) - 1)

    def __call__(self, ids_B: Tensor, position: int) -> None:
        """Reads the cells of the row before that of a position, 1 or later."""
        s, place, turn_C = self._scratch, self._places[position], self._turns_PC[position]
        at = position if self._in_rows else 0
        embedded = F.embedding(self._input_V[ids_B], self._table)
        s.x_BD.copy_(self._projections[at](embedded) if self._in_rows else embedded)
        for layer, block in enumerate(self._blocks):
            step_block(s, block, turn_C, place, layer, at)

    def logits(self, legal: int) -> Tensor:
        """Logits `[B, 1, J]` over a legal set, in float32, of the row whose position was read last."""
        return self._logits(self._scratch.normalise(), (self._indices[legal],))


def _prepare(blocks: Sequence[torch.nn.Module] | torch.nn.ModuleList, batch: int) -> list[BlockWeights]:
    prepared = []
    for block in blocks:
        assert isinstance(block, TransformerBlock)
        prepared.append(BlockWeights.prepare(block, batch))
    return prepared
