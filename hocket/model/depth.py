"""The depth head: a small causal transformer over the rows of a step (CSM: Sesame, 2025; Moshi: arXiv:2410.00037).

The trunk's own head predicts the first predicted row of a step; here each later one also sees the rows before it:

    position     0               1          2          3
    reads        trunk's state   row 0      row 1      row 2
    predicts     (the trunk's    row 1      row 2      row 3
                 head: row 0)

Rows that are never predicted (the other speaker's, conditions) have no position: they enter at the next step through
the trunk. A cell of a prompt enters as it is, whoever chose it. Filler embeds to zero and is no target, and so do ids
that never stand before a predicted row, such as the text of a text-to-speech model.

Embeddings are as wide as the trunk and start as copies of its rows; a projection brings them and the trunk's state to
the head's width. The output matrix holds only the ids that some position predicts, so both tables are over ids of
their own (`CompactIds`). With `depth_weights: rows` each position has its own matrices, as in Moshi; norms are shared.

Training on a fraction of the steps (CSM: 1/16): `ceil(fraction * n)` of the n steps with a target are drawn without
replacement by a generator seeded with `Batch.seed`, so that dropout does not move the draw and a resumed run repeats
it. The weights of their cells, the sums by block and the counts by block are multiplied by n / drawn: loss, means by
block and numbers of tokens are unbiased estimates of those of all steps. Validation takes all steps.

Cost: with all steps, R positions of a small model for each step of the trunk: at CSM's shape 2.75 times the trunk.

Shapes: N steps, R rows, M chosen steps, P positions, Q = P - 1 positions that predict, D width of the trunk, E width
of the head, V ids, C cells, J legal ids of a cell.
"""

import math
from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from hocket.interleave import PredictedRows
from hocket.model.attention import attend
from hocket.model.cache import KeyValueCache
from hocket.model.config import ModelConfig
from hocket.model.decoder import EMBEDDING_STD, TransformerBlock, rotary, rotate
from hocket.model.heads import HEAD_STD, LegalSet, LossParts
from hocket.model.losses import cells_cross_entropy
from hocket.vocab import Vocabulary

Ranges = Sequence[tuple[int, int]]


class CompactIds:
    """Some ranges of the id space, without the gaps between them."""

    def __init__(self, ranges: Ranges, first: int = 0):
        self.ranges, self.first = tuple(ranges), first
        self.size = first + sum(b - a for a, b in self.ranges)

    def table(self, n_ids: int) -> Tensor:
        """The compact id of each id, int64 `[V]`; 0 for those outside."""
        table_V, before = torch.zeros(n_ids, dtype=torch.int64), self.first
        for a, b in self.ranges:
            table_V[a:b] = torch.arange(before, before + b - a)
            before += b - a
        return table_V

    def ids(self) -> Tensor:
        """The id of each compact one from `first` on."""
        return torch.cat([torch.arange(a, b) for a, b in self.ranges])

    def compact(self, ranges: Ranges) -> tuple[tuple[int, int], ...]:
        """Ranges, each of which lies in one of these, as ranges of compact ids."""
        found = []
        for start, stop in ranges:
            before = self.first
            for a, b in self.ranges:
                if a <= start and stop <= b:
                    found.append((before + start - a, before + stop - a))
                before += b - a
        assert len(found) == len(ranges), f"{ranges} lie outside of {self.ranges}"
        return tuple(found)


class DepthHead(nn.Module):
    """Predicts the rows of a step after the first, one after another.

    Args:
        config: the trunk's, whose `depth` is this head's shape.
        vocabulary: the id space.
        rows: which rows are predicted, two or more.
        legal_sets: what `legal` indices mean; set 0 is empty.
    """

    def __init__(
        self,
        config: ModelConfig,
        vocabulary: Vocabulary,
        rows: PredictedRows,
        legal_sets: Sequence[LegalSet],
        *,
        z_loss: float = 0.0,
    ):
        super().__init__()
        self.config, self.rows, self.legal_sets = config.depth(len(rows.rows)), rows.rows, list(legal_sets)
        self.fraction = config.depth_fraction
        self.z_loss = z_loss
        """Coefficient of log(Z)^2 in the loss; 0 is none."""
        self.input_rows = rows.rows[:-1]
        """The row that each position but the first reads."""
        self._inputs = CompactIds(vocabulary.ranges(rows.beside), first=1)  # 0 is filler
        later = [self.legal_sets[index].ranges for index in rows.later_legal]
        self._outputs = CompactIds(_union(later))
        self.set_ranges = [
            self._outputs.compact(s.ranges) if i in rows.later_legal else () for i, s in self._numbered()
        ]
        c, n_sets = self.config, len(rows.rows) if config.depth_weights == "rows" else 0
        self.embedding = nn.Embedding(self._inputs.size, config.dim, padding_idx=0)
        self.projection = _linear(config.dim, c.dim, False, n_sets)
        self.blocks = nn.ModuleList(DepthBlock(c, layer, n_sets) for layer in range(c.n_layers))
        self.norm = nn.RMSNorm(c.dim, eps=c.norm_eps)
        self.dropout = nn.Dropout(c.dropout)
        self.weight = nn.Parameter(torch.empty(self._outputs.size, c.dim))
        self.register_buffer("input_V", self._inputs.table(vocabulary.size), persistent=False)
        self.register_buffer("output_V", self._outputs.table(vocabulary.size), persistent=False)
        self.input_V: Tensor
        self.output_V: Tensor

    def initialise(self, generator: torch.Generator) -> None:
        """Draws fresh weights, as in the trunk."""
        nn.init.normal_(self.embedding.weight, std=EMBEDDING_STD, generator=generator)
        with torch.no_grad():
            self.embedding.weight[0] = 0
        std = self.projection.in_features**-0.5
        nn.init.normal_(self.projection.weight, std=std, generator=generator)
        for block in self.blocks:
            assert isinstance(block, DepthBlock)
            block.initialise(generator)
        nn.init.normal_(self.weight, std=HEAD_STD * self.weight.shape[1] ** -0.5, generator=generator)

    @torch.no_grad()
    def copy_embeddings(self, weight_VD: Tensor) -> None:
        """Starts the embeddings from the trunk's table, which CSM ties them to."""
        self.embedding.weight[1:] = weight_VD[self._inputs.ids().to(weight_VD.device)].to(self.embedding.weight)

    def forward(self, x_ND: Tensor, ids_NR: Tensor, legal_NR: Tensor, weight_NR: Tensor, seed: int = 0) -> LossParts:
        """Cross-entropy of the cells of all predicted rows but the first.

        Args:
            x_ND: the trunk's states, each of which predicts a step.
            ids_NR: the steps that are predicted, all their rows.
            legal_NR, weight_NR: their legal sets and loss weights; those of other rows are not looked at.
            seed: draws the steps where the head trains on a fraction of them.

        Returns:
            Sums; `weight` is that of all cells, of steps that were not drawn as well.
        """
        later = list(self.rows[1:])
        legal_NQ, weight_NQ = legal_NR[:, later], weight_NR[:, later]
        chosen_M, scale = self._choose(legal_NQ, seed)
        h_MPE = self.states(x_ND[chosen_M], ids_NR[chosen_M])
        loss = cells_cross_entropy(
            h_MPE[:, 1:].flatten(0, 1),
            self.weight,
            self.output_V[ids_NR[chosen_M][:, later]].reshape(-1, 1),
            legal_NQ[chosen_M].reshape(-1, 1),
            weight_NQ[chosen_M].reshape(-1, 1),
            self.set_ranges,
            z_loss=self.z_loss,
        )
        return LossParts(loss.total * scale, weight_NQ.sum(), self._by_block(loss.ce_S * scale, loss.count_S * scale))

    def states(self, x_MD: Tensor, ids_MR: Tensor) -> Tensor:
        """States `[M, P, E]` of whole steps; that of position p predicts row `rows[p]`."""
        c = self.config
        inputs_MPD = torch.cat([x_MD[:, None], self._embed(ids_MR[:, list(self.input_rows)], x_MD.dtype)], dim=1)
        h_MPE = self.dropout(self.projection(inputs_MPD))
        rotation = rotary(torch.arange(len(self.rows), device=x_MD.device), c, h_MPE.dtype)
        for block in self.blocks:
            if c.checkpointing and self.training and torch.is_grad_enabled():
                h_MPE = checkpoint(block, h_MPE, rotation, use_reentrant=False)
            else:
                h_MPE = block(h_MPE, rotation)
        return self.norm(h_MPE)

    def _choose(self, legal_NQ: Tensor, seed: int) -> tuple[Tensor, float]:
        """The steps to train on, and how many each stands for. Without any target the first, whose cells are none."""
        steps_M = (legal_NQ > 0).any(dim=1).nonzero()[:, 0]
        n = len(steps_M)
        if not n:
            return torch.zeros(1, dtype=torch.int64, device=legal_NQ.device), 1.0
        n_drawn = math.ceil(self.fraction * n)
        if not self.training or n_drawn == n:
            return steps_M, 1.0
        drawn = torch.randperm(n, generator=torch.Generator().manual_seed(seed))[:n_drawn].sort().values
        return steps_M[drawn.to(steps_M.device)], n / n_drawn

    def _by_block(self, nats_S: Tensor, count_S: Tensor) -> dict[str, tuple[Tensor, Tensor]]:
        found: dict[str, tuple[Tensor, Tensor]] = {}
        for index, legal in self._numbered():
            if self.set_ranges[index]:
                nats, count = found.get(legal.block, (0.0, 0.0))
                found[legal.block] = (nats + nats_S[index], count + count_S[index])
        return found

    def in_turn(self, x_BD: Tensor, ids_BR: Tensor) -> Iterator[tuple[int, Tensor]]:
        """Row after row of one step of a batch: the row, and the states `[B, E]` that predict it.

        Args:
            x_BD: the trunk's states.
            ids_BR: the cells of the step, on any device; those of a row are read when the next row is asked for.
        """
        cache = KeyValueCache(
            n_layers=self.config.n_layers,
            batch=len(x_BD),
            n_kv_heads=self.config.n_kv_heads,
            max_steps=len(self.rows),
            head_dim=self.config.head_width,
            device=x_BD.device,
            dtype=self.norm.weight.dtype,
        )
        self._advance(x_BD[:, None], cache)
        for row, before in zip(self.rows[1:], self.input_rows, strict=True):
            ids_B1 = ids_BR[:, before, None].to(x_BD.device)
            yield row, self._advance(self._embed(ids_B1, x_BD.dtype), cache)

    def logits(self, h_CE: Tensor, index: int) -> Tensor:
        """Logits `[C, J]` over the ids of legal set `index`, in float32."""
        parts = [F.linear(h_CE, self.weight[a:b]) for a, b in self.set_ranges[index]]
        return torch.cat(parts, dim=-1).float()

    def _advance(self, input_B1D: Tensor, cache: KeyValueCache) -> Tensor:
        at = cache.length
        h_B1E = _apply(self.projection, input_B1D, at)
        rotation = rotary(torch.arange(at, at + 1, device=h_B1E.device), self.config, h_B1E.dtype)
        for block in self.blocks:
            h_B1E = block(h_B1E, rotation, cache)
        cache.advance(1)
        return self.norm(h_B1E)[:, 0]

    def _embed(self, ids: Tensor, dtype: torch.dtype) -> Tensor:
        return self.embedding(self.input_V[ids]).to(dtype)

    def _numbered(self) -> Iterator[tuple[int, LegalSet]]:
        return enumerate(self.legal_sets)


class DepthBlock(TransformerBlock):
    """A block of the trunk's kind over the positions of a step, all of one shape: no packing, no padding.

    Args:
        n_sets: positions that have weights of their own; 0 where they share one set.
    """

    def __init__(self, config: ModelConfig, layer: int, n_sets: int):
        super().__init__(config, layer)
        if n_sets:
            self.qkv, self.out, self.gate_up, self.down = (
                _linear(old.in_features, old.out_features, old.bias is not None, n_sets)
                for old in (self.qkv, self.out, self.gate_up, self.down)
            )

    def forward(self, x_MPE: Tensor, rotation: tuple[Tensor, Tensor], cache: KeyValueCache | None = None) -> Tensor:
        """The next positions: all of them, or the one that follows those in the cache."""
        c, at = self.config, cache.length if cache else 0
        heads = _apply(self.qkv, self.attention_norm(x_MPE), at).unflatten(-1, (-1, c.head_width)).transpose(1, 2)
        q, k, v = heads.split([c.n_heads, c.n_kv_heads, c.n_kv_heads], dim=1)
        rotation = rotation[0].transpose(0, 1), rotation[1].transpose(0, 1)  # [1, P, C]: heads come first here
        q, k = (rotate(norm(x), rotation).to(v.dtype) for norm, x in ((self.q_norm, q), (self.k_norm, k)))
        if cache:
            k, v = cache.write(self.layer, k, v)
        mixed_MPE = attend(q, k, v, is_causal=q.shape[2] > 1).transpose(1, 2).flatten(-2)
        x_MPE = x_MPE + self.dropout(_apply(self.out, mixed_MPE, at))
        gate, up = _apply(self.gate_up, self.ffn_norm(x_MPE), at).chunk(2, dim=-1)
        return x_MPE + self.dropout(_apply(self.down, F.silu(gate) * up, at))


class RowLinear(nn.Module):
    """A linear layer with weights of its own for each position `[P, out, in]`, as in Moshi's depth transformer."""

    def __init__(self, in_features: int, out_features: int, bias: bool, n_sets: int):
        super().__init__()
        self.in_features, self.out_features = in_features, out_features
        self.weight = nn.Parameter(torch.empty(n_sets, out_features, in_features))
        self.bias = nn.Parameter(torch.zeros(n_sets, 1, out_features)) if bias else None

    def forward(self, x_MPE: Tensor, first: int = 0) -> Tensor:
        """Applies the weights of as many positions as there are, from `first` on."""
        chosen = slice(first, first + x_MPE.shape[1])
        y_PME = x_MPE.transpose(0, 1) @ self.weight[chosen].mT
        return (y_PME if self.bias is None else y_PME + self.bias[chosen]).transpose(0, 1)


def _linear(in_features: int, out_features: int, bias: bool, n_sets: int) -> "nn.Linear | RowLinear":
    if n_sets:
        return RowLinear(in_features, out_features, bias, n_sets)
    return nn.Linear(in_features, out_features, bias=bias)


def _apply(linear: nn.Module, x_MPE: Tensor, first: int) -> Tensor:
    """A linear layer of positions from `first` on."""
    return linear(x_MPE, first) if isinstance(linear, RowLinear) else linear(x_MPE)


def _union(ranges: Sequence[Ranges]) -> Ranges:
    """Ranges that cover all of these; those that touch are one."""
    merged: list[tuple[int, int]] = []
    for a, b in sorted(pair for group in ranges for pair in group):
        if merged and a <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(b, merged[-1][1]))
        else:
            merged.append((a, b))
    return merged
