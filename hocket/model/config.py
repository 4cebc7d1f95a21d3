"""The shape of a decoder."""

from dataclasses import dataclass

from hocket.errors import InputError, did_you_mean
from hocket.model.attention import BACKENDS

EMBEDDINGS = ("normal", "codebooks")


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Dimensions of the decoder, validated when built; saved with every checkpoint."""

    dim: int = 256
    """Width D of the residual stream."""
    n_layers: int = 6
    """Transformer blocks."""
    n_heads: int = 4
    """Query heads; the head width is dim / n_heads."""
    n_kv_heads: int = 4
    """Key and value heads; fewer than `n_heads` is grouped-query attention (Ainslie et al., 2023)."""
    ffn_dim: int = 768
    """Inner width of SwiGLU (Shazeer, 2020)."""
    rope_theta: float = 10000.0
    """Base of the rotary positions (Su et al., 2021)."""
    norm_eps: float = 1e-5
    """Added to the mean square in RMSNorm."""
    qk_norm: bool = True
    """RMSNorm on queries and keys, as in Qwen3."""
    bias: bool = False
    """Biases on queries, keys and values, as in Qwen2."""
    context: int = 512
    """Longest document in steps."""
    embeddings: str = "normal"
    """How the rows of audio codes start: "normal", or "codebooks": random projections of the codec's vectors."""
    dropout: float = 0.0
    """Share of the embedded input and of each block's output that is dropped in training; for small corpora."""
    attention: str = "sdpa"
    """Attention backend."""

    def __post_init__(self) -> None:
        for name, least in {"dim": 1, "n_layers": 1, "n_heads": 1, "n_kv_heads": 1, "ffn_dim": 1, "context": 2}.items():
            if getattr(self, name) < least:
                raise InputError(f"model.{name} is {getattr(self, name)}, but must be at least {least}")
        self._check_heads()
        if self.attention not in BACKENDS:
            raise InputError(
                f'model.attention has no choice "{self.attention}"{did_you_mean(self.attention, BACKENDS)}'
            )
        if not 0 <= self.dropout < 1:
            raise InputError(f"model.dropout is {self.dropout}, but must be at least 0 and below 1")
        if self.embeddings not in EMBEDDINGS:
            raise InputError(
                f'model.embeddings has no choice "{self.embeddings}"{did_you_mean(self.embeddings, EMBEDDINGS)}'
            )

    def _check_heads(self) -> None:
        if self.dim % self.n_heads:
            raise InputError(f"model.dim is {self.dim}, but must be a multiple of model.n_heads, {self.n_heads}")
        if self.head_dim % 2:
            raise InputError(f"model.dim / model.n_heads is {self.head_dim}, but rotary needs an even width")
        if self.n_heads % self.n_kv_heads:
            raise InputError(
                f"model.n_heads is {self.n_heads}, but must be a multiple of model.n_kv_heads, {self.n_kv_heads}"
            )

    @property
    def head_dim(self) -> int:
        return self.dim // self.n_heads
