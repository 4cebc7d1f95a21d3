"""The trunk: a decoder-only transformer over grids of ids.

RMSNorm before each part, rotary positions, grouped-query attention, SwiGLU (the Llama family); QK norm and biases by
configuration, so that the weights of Llama, Qwen2 and Qwen3 models fit. The input of a step is the sum of the
embeddings of its R cells; `<none>` embeds to exactly zero. Causal, or bidirectional for what is predicted in place
(MaskGIT, VALL-E's second stage).

Initialisation: every matrix normal with std 1/sqrt(fan-in), those that write into the residual stream divided by
sqrt(2 x layers) more (GPT-2); embeddings normal with std 0.5.

Shapes: N steps of packed documents, B batch, T steps, R rows, D width, H query heads, G key and value heads,
C head width.
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from hocket.model.attention import attend, find_backend, window_mask
from hocket.model.cache import KeyValueCache
from hocket.model.config import ModelConfig
from hocket.model.documents import Documents
from hocket.model.fine import FineContext
from hocket.vocab import Block

EMBEDDING_STD = 0.5
NORMAL_SHARE = 0.02


class Decoder(nn.Module):
    """Grids of ids to hidden states, one a step."""

    def __init__(
        self,
        config: ModelConfig,
        vocabulary_size: int,
        none_id: int,
        causal: bool = True,
        fine: FineContext | None = None,
    ):
        super().__init__()
        self.config, self.causal = config, causal
        self.fine = fine
        """Where context is restricted, if anywhere."""
        self.embedding = nn.Embedding(vocabulary_size, config.dim, padding_idx=none_id)
        self.blocks = nn.ModuleList(TransformerBlock(config, layer) for layer in range(config.n_layers))
        self.norm = nn.RMSNorm(config.dim, eps=config.norm_eps)
        self.dropout = nn.Dropout(config.dropout)

    def initialise(self, generator: torch.Generator) -> None:
        """Draws fresh weights."""
        nn.init.normal_(self.embedding.weight, std=EMBEDDING_STD, generator=generator)
        with torch.no_grad():
            self.embedding.weight[self.embedding.padding_idx] = 0
        for block in self.blocks:
            assert isinstance(block, TransformerBlock)
            block.initialise(generator)

    @torch.no_grad()
    def start_from(self, blocks: Sequence[Block], vectors_K: Sequence[Tensor], generator: torch.Generator) -> None:
        """Starts the rows of a stream's blocks from its codebook vectors, plus a little of the normal start.

        Each level's vectors, centred, go through a random projection of their own; the sum of a frame's levels has
        unit variance. Codes that sound alike start alike, and fine levels start small, as they are in the sum of a
        residual quantizer. On small corpora this decides whether the model generalises at all.
        """
        centred = [vectors_ED.cpu().float() - vectors_ED.cpu().float().mean(dim=0) for vectors_ED in vectors_K]
        energy = torch.stack([vectors_ED.square().sum(dim=1).mean() for vectors_ED in centred]).sum()
        for block, vectors_ED in zip(blocks, centred, strict=True):
            projection = torch.randn(vectors_ED.shape[1], self.config.dim, generator=generator)
            rows = self.embedding.weight[block.start : block.stop]
            rows.mul_(NORMAL_SHARE).add_(vectors_ED @ projection / energy.sqrt())

    def forward(self, ids_NR: Tensor, starts: Tensor | Sequence[int]) -> Tensor:
        """Hidden states `[N, D]` of packed documents; each sees itself alone, positions count from 0 in each.

        Args:
            starts: where each document starts, and the end: a list, or a tensor on the ids' device.

        Raises:
            InputError: the attention backend cannot run on this device or in this precision.
        """
        c = self.config
        documents = Documents(
            starts, len(ids_NR), ids_NR.device, longest=c.context, causal=self.causal, window=c.window
        )
        if self.fine is not None:
            documents.restrict(self.fine(ids_NR, documents), c.fine_window)
        x_ND = self.dropout(self._embed(ids_NR))
        rotation = rotary(documents.positions_N, c, x_ND.dtype)
        for block in self.blocks:
            if c.checkpointing and self.training and torch.is_grad_enabled():
                x_ND = checkpoint(block, x_ND, rotation, documents, use_reentrant=False)
            else:
                x_ND = block(x_ND, rotation, documents)
        return self.norm(x_ND)

    def step(self, ids_BTR: Tensor, cache: KeyValueCache) -> Tensor:
        """Hidden states `[B, T, D]` of the next T steps, and their keys and values into the cache."""
        positions_T = torch.arange(cache.length, cache.length + ids_BTR.shape[1], device=ids_BTR.device)
        x_BTD = self._embed(ids_BTR)
        rotation = rotary(positions_T, self.config, x_BTD.dtype)
        for layer, block in enumerate(self.blocks):
            assert isinstance(block, TransformerBlock)
            x_BTD = block.step(x_BTD, rotation, cache, layer)
        cache.advance(ids_BTR.shape[1])
        return self.norm(x_BTD)

    def new_cache(self, batch: int, max_steps: int) -> KeyValueCache:
        weight = self.embedding.weight
        return KeyValueCache(
            n_layers=self.config.n_layers,
            batch=batch,
            n_kv_heads=self.config.n_kv_heads,
            max_steps=max_steps,
            head_dim=self.config.head_width,
            device=weight.device,
            dtype=weight.dtype,
        )

    def _embed(self, ids: Tensor) -> Tensor:
        return self.embedding(ids).sum(dim=-2)


class TransformerBlock(nn.Module):
    """Attention and feed-forward, each added to the residual stream."""

    def __init__(self, config: ModelConfig, layer: int):
        super().__init__()
        self.config, self.layer = config, layer
        width, grouped = config.n_heads * config.head_width, config.n_kv_heads * config.head_width
        self.attention_norm = nn.RMSNorm(config.dim, eps=config.norm_eps)
        self.qkv = nn.Linear(config.dim, width + 2 * grouped, bias=config.bias)
        self.q_norm = nn.RMSNorm(config.head_width, eps=config.norm_eps) if config.qk_norm else nn.Identity()
        self.k_norm = nn.RMSNorm(config.head_width, eps=config.norm_eps) if config.qk_norm else nn.Identity()
        self.out = nn.Linear(width, config.dim, bias=False)
        self.ffn_norm = nn.RMSNorm(config.dim, eps=config.norm_eps)
        self.gate_up = nn.Linear(config.dim, 2 * config.ffn_dim, bias=False)
        self.down = nn.Linear(config.ffn_dim, config.dim, bias=False)
        self.dropout = nn.Dropout(config.dropout)
        self.turns = not config.no_rope_every or (layer + 1) % config.no_rope_every != 0

    def initialise(self, generator: torch.Generator) -> None:
        residual = 1 / math.sqrt(2 * self.config.n_layers)
        for linear, scale in ((self.qkv, 1.0), (self.out, residual), (self.gate_up, 1.0), (self.down, residual)):
            nn.init.normal_(linear.weight, std=scale / math.sqrt(linear.in_features), generator=generator)
            if linear.bias is not None:
                nn.init.zeros_(linear.bias)

    def forward(self, x_ND: Tensor, rotation: tuple[Tensor, Tensor], documents: Documents) -> Tensor:
        q_NHC, k_NGC, v_NGC = self._heads(x_ND, rotation)
        gradients, masks = torch.is_grad_enabled(), documents.fine_N is not None
        backend = find_backend(self.config.attention, v_NGC.device, v_NGC.dtype, gradients, masks)
        mixed_NHC = backend.attend(q_NHC.to(v_NGC.dtype), k_NGC.to(v_NGC.dtype), v_NGC, documents)
        x_ND = x_ND + self.dropout(self.out(mixed_NHC.flatten(-2)))
        return x_ND + self.dropout(self._feed_forward(x_ND))

    def step(self, x_BTD: Tensor, rotation: tuple[Tensor, Tensor], cache: KeyValueCache, layer: int) -> Tensor:
        heads = self._heads(x_BTD, rotation)
        q_BHTC, k_BGTC, v_BGTC = (x.transpose(1, 2) for x in (*map(beside, heads[:2]), heads[2]))
        past, new = cache.length, x_BTD.shape[1]
        k_BGSC, v_BGSC = cache.write(layer, k_BGTC, v_BGTC)
        mask_TS, window = None, self.config.window
        if (past and new > 1) or 0 < window < past + new:
            mask_TS = window_mask(new, past + new, True, window, x_BTD.device)
        mixed_BHTC = attend(q_BHTC, k_BGSC, v_BGSC, is_causal=new > 1 and mask_TS is None, mask_TS=mask_TS)
        x_BTD = x_BTD + self.out(mixed_BHTC.transpose(1, 2).flatten(-2))
        return x_BTD + self._feed_forward(x_BTD)

    def _heads(self, x: Tensor, rotation: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        c = self.config
        heads = self.qkv(self.attention_norm(x)).unflatten(-1, (c.n_heads + 2 * c.n_kv_heads, c.head_width))
        q, k, v = heads.split([c.n_heads, c.n_kv_heads, c.n_kv_heads], dim=-2)
        q, k = self.q_norm(q), self.k_norm(k)
        return (rotate(q, rotation), rotate(k, rotation), v) if self.turns else (q, k, v)

    def _feed_forward(self, x: Tensor) -> Tensor:
        gate, up = self.gate_up(self.ffn_norm(x)).chunk(2, dim=-1)
        return self.down(F.silu(gate) * up)


def rotary(positions_T: Tensor, config: ModelConfig, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Cosines and sines `[T, 1, C]` of rotary positions, halves repeated as in Llama; computed in float32."""
    frequencies = find_frequencies(config, positions_T.device)
    angles = positions_T[:, None].float() * frequencies
    angles_T1C = torch.cat([angles, angles], dim=-1)[:, None]
    return angles_T1C.cos().to(dtype), angles_T1C.sin().to(dtype)


def find_frequencies(config: ModelConfig, device: torch.device) -> Tensor:
    """Angles by which a position turns each pair, float32 `[C / 2]`."""
    width = config.head_width
    half = torch.arange(0, width, 2, device=device, dtype=torch.float32)
    frequencies = config.rope_theta ** (-half / width)
    return _stretch(frequencies, config.rope_scaling) if config.rope_scaling else frequencies


def beside(x: Tensor) -> Tensor:
    """Heads in the order of the cache: the two parts of a pair (c, c + C/2) are neighbours."""
    return x.unflatten(-1, (2, -1)).transpose(-1, -2).flatten(-2)


def _stretch(frequencies: Tensor, scaling: Sequence[float]) -> Tensor:
    """Llama 3's stretch: slow turns slowed by the factor, fast ones left, those between mixed (Dubey et al., 2024)."""
    factor, low, high, original = scaling
    turns = original * frequencies / (2 * math.pi)  # in the original context
    share = ((turns - low) / (high - low)).clamp(0, 1)
    return frequencies * (share + (1 - share) / factor)


def rotate(x_THC: Tensor, rotation: tuple[Tensor, Tensor]) -> Tensor:
    """Turns each pair (c, c + C/2) of a head by its position's angle."""
    cos, sin = rotation
    low, high = x_THC.chunk(2, dim=-1)
    return x_THC * cos + torch.cat([-high, low], dim=-1) * sin
