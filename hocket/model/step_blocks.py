"""One block of one step, in as few operations as there are: for the trunk, and for the positions of a depth head.

The same numbers as `TransformerBlock`, up to rounding, from weights that are prepared once:

    RMSNorm     its gain is multiplied into the matrix that follows. The residual has one more column, sqrt(D x eps), so
                that the plain norm of a whole row is what RMSNorm divides by, times sqrt(D): 2 operations, 2.8 us,
                against 8 us of `F.rms_norm`
    rotary      rows of queries and keys are ordered so that the two parts of a pair are neighbours: turning is one
                product of complex numbers, in place, for queries and keys together (1.1 us against 7.6 us). The cache
                holds keys in this order
    attention   the query heads that share a key head are its queries: grouped heads need no copy
    buffers     all are made once, with the views into them: a step allocates what its products return, and no more

One block takes 17 operations without QK norm and 21 with it; `TransformerBlock.step` takes about 60.

Shapes: B batch, D width, H query heads, G key and value heads, N = H + 2G, C head width, F inner width, S steps.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hocket.model.cache import Place
from hocket.model.config import ModelConfig
from hocket.model.decoder import TransformerBlock, rotary
from hocket.model.products import Product, product


@dataclass(frozen=True, kw_only=True)
class BlockWeights:
    """Prepared weights of a block; matrices by position, of which a trunk has one."""

    qkv: Sequence[Product]
    bias: Sequence[Tensor | None]  # [N x C]
    out: Sequence[Product]
    gate_up: Sequence[Product]
    down: Sequence[Product]
    gain_NC: Tensor | None  # of QK norm, times sqrt(C): [H + G, C]
    turns: bool  # has rotary positions

    @classmethod
    def prepare(cls, block: TransformerBlock, batch: int) -> "BlockWeights":
        """The weights of a block for steps of B documents; a copy of them where the products take their own form."""
        c = block.config
        order = head_order(c).to(block.qkv.weight.device)
        biases = [None] if block.qkv.bias is None else [b.flatten()[order] for b in _sets(block.qkv.bias, 1)]
        weights = _sets(block.qkv.weight, 2)
        gain_NC = None
        if isinstance(block.q_norm, nn.RMSNorm) and isinstance(block.k_norm, nn.RMSNorm):
            turned = pair_order(c.head_width).to(order.device)
            gains = [block.q_norm.weight[turned]] * c.n_heads + [block.k_norm.weight[turned]] * c.n_kv_heads
            gain_NC = torch.stack(gains).detach().float() * math.sqrt(c.head_width)
        scale_D, gates_D = (norm.weight * math.sqrt(c.dim) for norm in (block.attention_norm, block.ffn_norm))
        return cls(
            qkv=[product(_scaled(w[order], scale_D), batch) for w in weights],
            bias=[b if b is None else b.detach() for b in biases] * (len(weights) // len(biases)),
            out=[product(w.detach(), batch) for w in _sets(block.out.weight, 2)],
            gate_up=[product(_scaled(w, gates_D), batch) for w in _sets(block.gate_up.weight, 2)],
            down=[product(w.detach(), batch) for w in _sets(block.down.weight, 2)],
            gain_NC=gain_NC,
            turns=block.turns,
        )


def _sets(weight: Tensor, n_dims: int) -> Sequence[Tensor]:
    """A weight by position: one for all, or (with one dimension more) one for each."""
    return [weight] if weight.dim() == n_dims else list(weight)


def _scaled(weight_OI: Tensor, scale_I: Tensor) -> Tensor:
    return (weight_OI.detach().float() * scale_I.detach().float()).to(weight_OI.dtype)


def pair_order(width: int) -> Tensor:
    """Where each of a head's numbers comes from when pairs (c, c + C/2) are to be neighbours."""
    return torch.arange(width).view(2, -1).T.flatten()


def head_order(config: ModelConfig) -> Tensor:
    """Rows of queries, keys and values when pairs of the first two are to be neighbours."""
    c, width = config, config.head_width
    rows_NC = torch.arange((c.n_heads + 2 * c.n_kv_heads) * width).view(-1, width)
    turned = c.n_heads + c.n_kv_heads
    return torch.cat([rows_NC[:turned, pair_order(width)], rows_NC[turned:]]).flatten()


def turns_table(config: ModelConfig, n_positions: int, device: torch.device) -> Tensor:
    """What turns the pairs at each position: complex64 `[S, C/2]`."""
    cos_S1C, sin_S1C = rotary(torch.arange(n_positions, device=device), config, torch.float32)
    half = config.head_width // 2
    return torch.complex(cos_S1C[:, 0, :half].contiguous(), sin_S1C[:, 0, :half].contiguous())


class Scratch:
    """Buffers of a step, shared by all its blocks, and views into them."""

    def __init__(self, config: ModelConfig, batch: int, device: torch.device, dtype: torch.dtype):
        c = config
        self.batch, self.dtype = batch, dtype
        n_turned, exact = c.n_heads + c.n_kv_heads, torch.float32
        self._residual = torch.full((batch, c.dim + 1), math.sqrt(c.dim * c.norm_eps), device=device, dtype=exact)
        self.x_BD = self._residual[:, :-1]
        """The residual stream."""
        self.normed_BD = torch.zeros(batch, c.dim, device=device, dtype=dtype)
        heads_BNC = torch.zeros(batch, n_turned + c.n_kv_heads, c.head_width, device=device, dtype=exact)
        self.heads_BO, self.turned_BNC = heads_BNC.view(batch, -1), heads_BNC[:, :n_turned]
        self.pairs_BNC = torch.view_as_complex(self.turned_BNC.unflatten(-1, (-1, 2)))
        self.floor = torch.tensor(math.sqrt(c.head_width * c.norm_eps), device=device)
        self._q_BGHC = heads_BNC[:, : c.n_heads].unflatten(1, (c.n_kv_heads, -1))
        self._q_cast = None if dtype == exact else torch.zeros_like(self._q_BGHC, dtype=dtype)
        self.new_2BGC = heads_BNC[:, c.n_heads :].unflatten(1, (2, c.n_kv_heads)).transpose(0, 1)
        """Keys and values of the step."""
        self.inner_B2F = torch.zeros(batch, 2 * c.ffn_dim, device=device, dtype=dtype)
        self.gate_BF, self.up_BF = self.inner_B2F.chunk(2, dim=-1)

    def normalise(self) -> Tensor:
        """The residual over its norm: `[B, D]` that RMSNorm would make, over its gain and sqrt(D)."""
        norm_B1 = torch.linalg.vector_norm(self._residual, dim=-1, keepdim=True)
        return torch.div(self.x_BD, norm_B1, out=self.normed_BD)

    def queries(self) -> Tensor:
        """Queries `[B, G, H / G, C]` in the dtype of the weights."""
        return self._q_BGHC if self._q_cast is None else self._q_cast.copy_(self._q_BGHC)


def step_block(s: Scratch, w: BlockWeights, turn_C: Tensor, place: Place, layer: int, at: int = 0) -> None:
    """One block of one step: from the residual in the buffers to the residual in the buffers.

    Args:
        turn_C: the row of `turns_table` at the step's position.
        place: the step's in the cache.
        at: position whose matrices are used.
    """
    remember(s, w, turn_C, place, layer, at)
    k_BGSC, v_BGSC = place.keys_and_values(layer)
    mixed_BGHC = F.scaled_dot_product_attention(s.queries(), k_BGSC, v_BGSC, attn_mask=place.seen_1S)
    s.x_BD.add_(w.out[at](mixed_BGHC.reshape(s.batch, -1)))
    s.inner_B2F.copy_(w.gate_up[at](s.normalise()))
    s.x_BD.add_(w.down[at](F.silu(s.gate_BF).mul_(s.up_BF)))


def remember(s: Scratch, w: BlockWeights, turn_C: Tensor, place: Place, layer: int, at: int = 0) -> None:
    """The first part of a block: queries into the buffers, keys and values into the cache."""
    heads_BO, bias = w.qkv[at](s.normalise()), w.bias[at]
    if bias is None:
        s.heads_BO.copy_(heads_BO)
    else:
        torch.add(heads_BO, bias, out=s.heads_BO)
    if w.gain_NC is not None:
        norm_BN1 = torch.linalg.vector_norm(s.turned_BNC, dim=-1, keepdim=True).hypot_(s.floor)
        s.turned_BNC.div_(norm_BN1).mul_(w.gain_NC)
    if w.turns:
        s.pairs_BNC.mul_(turn_C)
    place.write(layer, s.new_2BGC)
