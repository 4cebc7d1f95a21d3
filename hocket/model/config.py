"""The shape of a decoder."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from hocket.errors import InputError, did_you_mean
from hocket.model.attention import AUTO, BACKENDS
from hocket.model.heads import SOFTMAXES

EMBEDDINGS = ("normal", "codebooks", "mean", "copy")
TEXT_ROWS = ("tuned", "frozen")
DEPTH_WEIGHTS = ("shared", "rows")
N_SCALING = 4
MOST_WIDTH, MOST_LAYERS, MOST_CONTEXT = 2**20, 2**12, 2**24
"""More of these has no model."""
SIZES = {
    "dim": MOST_WIDTH,
    "n_layers": MOST_LAYERS,
    "n_heads": MOST_WIDTH,
    "head_dim": MOST_WIDTH,
    "n_kv_heads": MOST_WIDTH,
    "ffn_dim": MOST_WIDTH,
    "depth_dim": MOST_WIDTH,
    "depth_layers": MOST_LAYERS,
    "depth_heads": MOST_WIDTH,
    "depth_head_dim": MOST_WIDTH,
    "depth_kv_heads": MOST_WIDTH,
    "depth_ffn_dim": MOST_WIDTH,
}
"""What must be at least 1, and the most that each can be."""
SHAPE_KEYS = (
    "dim",
    "n_layers",
    "n_heads",
    "head_dim",
    "n_kv_heads",
    "ffn_dim",
    "rope_theta",
    "rope_scaling",
    "no_rope_every",
    "norm_eps",
    "qk_norm",
    "bias",
    "window",
    "depth_dim",
    "depth_layers",
    "depth_heads",
    "depth_head_dim",
    "depth_kv_heads",
    "depth_ffn_dim",
    "depth_rope_theta",
    "depth_rope_scaling",
    "depth_weights",
)
"""Settings that a warm start takes from its source, as far as that has them."""


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Dimensions of the decoder, validated when built; saved with every checkpoint."""

    dim: int = 256
    """Width D of the residual stream."""
    n_layers: int = 6
    """Transformer blocks."""
    n_heads: int = 4
    """Query heads."""
    head_dim: int | None = None
    """Width of a head; dim / n_heads unless given."""
    n_kv_heads: int = 4
    """Key and value heads; fewer than `n_heads` is grouped-query attention (Ainslie et al., 2023)."""
    ffn_dim: int = 768
    """Inner width of SwiGLU (Shazeer, 2020)."""
    rope_theta: float = 10000.0
    """Base of the rotary positions (Su et al., 2021)."""
    rope_scaling: list[float] = field(default_factory=list)
    """Llama 3's stretched rotary positions: factor, low and high frequency factor, original context; empty for none."""
    no_rope_every: int = 0
    """Every so many blocks one has no rotary positions, as in SmolLM3; 0 for none."""
    norm_eps: float = 1e-5
    """Added to the mean square in RMSNorm."""
    qk_norm: bool = True
    """RMSNorm on queries and keys, as in Qwen3."""
    bias: bool = False
    """Biases on queries, keys and values, as in Qwen2."""
    context: int = 512
    """Longest document in steps."""
    window: int = 0
    """A step sees only steps fewer than this many away (Beltagy et al., 2020); 0 for all."""
    fine_window: int = 0
    """While a level above the lowest is predicted in place, codes see only codes fewer than this many steps away, and
    all conditions (MAGNeT: 6 at 50 Hz); 0 for all."""
    softmax: str = "legal"
    """What a cell's softmax runs over: its "legal" ids, or the "full" vocabulary, as stock models do (flat layouts)."""
    z_loss: float = 0.0
    """Added to the loss: this times log(Z)^2, keeping logits small (PaLM: Chowdhery et al., 2022); 1e-4 is usual."""
    embeddings: str = "normal"
    """How the rows of audio codes start: "normal", or "codebooks": random projections of the codec's vectors. With a
    warm start also "mean" of the text rows, or "copy" of random ones; all are scaled to the text rows then."""
    warm_start: str | None = None
    """A text model (Hugging Face name or folder) or a run of hocket's to start from; it decides the dimensions."""
    text_rows: str = "tuned"
    """With a warm start: rows of text in embedding and head are "tuned", or "frozen" as they came."""
    dropout: float = 0.0
    """Share of the embedded input and of each block's output that is dropped in training; for small corpora."""
    attention: str = AUTO
    """Attention backend: "sdpa", "varlen", "flash_attn", "flex", or "auto": varlen where it can run, else sdpa."""
    checkpointing: bool = False
    """Compute the insides of blocks again in the backward pass instead of keeping them: slower, less memory."""
    depth_dim: int = 128
    """Width of a depth head (`interleave.head=depth`); this and what follows are of no account without one."""
    depth_layers: int = 4
    """Its transformer blocks."""
    depth_heads: int = 4
    """Its query heads."""
    depth_head_dim: int | None = None
    """Width of one of them; depth_dim / depth_heads unless given."""
    depth_kv_heads: int = 4
    """Its key and value heads."""
    depth_ffn_dim: int = 384
    """Inner width of its SwiGLU."""
    depth_rope_theta: float = 10000.0
    """Base of its rotary positions, which count rows."""
    depth_rope_scaling: list[float] = field(default_factory=list)
    """Its stretched rotary positions, as `rope_scaling`."""
    depth_weights: str = "shared"
    """"shared": one set of weights for all rows, as in CSM; "rows": a set for each, as in Moshi."""
    depth_fraction: float = 1.0
    """Share of the steps that a depth head is trained on, drawn anew for each batch; CSM takes 1/16, 0.0625."""

    def __post_init__(self) -> None:
        self._check_sizes()
        self._check_numbers()
        self._check_heads()
        choices_of = {"attention": [AUTO, *BACKENDS], "embeddings": EMBEDDINGS, "softmax": SOFTMAXES}
        choices_of["depth_weights"] = DEPTH_WEIGHTS
        for name, choices in (choices_of | {"text_rows": TEXT_ROWS}).items():
            value = getattr(self, name)
            if value not in choices:
                raise InputError(f'model.{name} has no choice "{value}"{did_you_mean(value, choices)}')
        if not 0 <= self.dropout < 1:
            raise InputError(f"model.dropout is {self.dropout}, but must be at least 0 and below 1")
        self._check_depth()
        if self.warm_start == "":
            raise InputError("model.warm_start has no value yet: add model.warm_start=NAME_OR_FOLDER of a text model")
        for name, values in {"embeddings": ("mean", "copy"), "text_rows": ("frozen",)}.items():
            if self.warm_start is None and getattr(self, name) in values:
                raise InputError(f"model.{name}={getattr(self, name)} needs model.warm_start: there are no text rows")

    def _check_sizes(self) -> None:
        for name, most in SIZES.items():
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InputError(f"model.{name} is {value}, but must be at least 1")
            if value is not None and value > most:
                raise InputError(f"model.{name} is {value:,}, but can be at most {most:,}")
        if not 2 <= self.context <= MOST_CONTEXT:
            bound = "must be at least 2" if self.context < 2 else f"can be at most {MOST_CONTEXT:,}"
            raise InputError(f"model.context is {self.context}, but {bound}")

    def _check_numbers(self) -> None:
        for name in ("window", "fine_window", "z_loss", "no_rope_every", "norm_eps"):
            if not 0 <= getattr(self, name) < math.inf:
                raise InputError(f"model.{name} is {getattr(self, name)}, but must be at least 0 and finite")
        for prefix in ("", "depth_"):
            base, scaling = getattr(self, f"{prefix}rope_theta"), getattr(self, f"{prefix}rope_scaling")
            if not 0 < base < math.inf:
                raise InputError(f"model.{prefix}rope_theta is {base}, but must be above 0 and finite")
            _check_scaling(f"model.{prefix}rope_scaling", scaling)

    def _check_heads(self) -> None:
        if self.head_dim is None and self.dim % self.n_heads:
            raise InputError(f"model.dim is {self.dim}, but must be a multiple of model.n_heads, {self.n_heads}")
        if self.head_width < 2 or self.head_width % 2:
            which = "model.dim / model.n_heads" if self.head_dim is None else "model.head_dim"
            raise InputError(f"{which} is {self.head_width}, but rotary needs an even width")
        if self.n_heads % self.n_kv_heads:
            raise InputError(
                f"model.n_heads is {self.n_heads}, but must be a multiple of model.n_kv_heads, {self.n_kv_heads}"
            )

    def _check_depth(self) -> None:
        """Refuse an impossible shape of a depth head."""
        if self.depth_head_dim is None and self.depth_dim % self.depth_heads:
            raise InputError(
                f"model.depth_dim is {self.depth_dim}, but must be a multiple of model.depth_heads, {self.depth_heads}"
            )
        width = self.depth_head_dim or self.depth_dim // self.depth_heads
        if width < 2 or width % 2:
            raise InputError(f"model.depth_dim / model.depth_heads is {width}, but rotary needs an even width")
        if self.depth_heads % self.depth_kv_heads:
            raise InputError(
                f"model.depth_heads is {self.depth_heads}, but must be a multiple of model.depth_kv_heads, "
                f"{self.depth_kv_heads}"
            )
        if not 0 < self.depth_fraction <= 1:
            raise InputError(f"model.depth_fraction is {self.depth_fraction}, but must be above 0 and at most 1")

    def depth(self, n_rows: int) -> "ModelConfig":
        """The shape of a depth head over `n_rows` rows, as of a decoder whose steps are rows."""
        return replace(
            self,
            dim=self.depth_dim,
            n_layers=self.depth_layers,
            n_heads=self.depth_heads,
            head_dim=self.depth_head_dim,
            n_kv_heads=self.depth_kv_heads,
            ffn_dim=self.depth_ffn_dim,
            rope_theta=self.depth_rope_theta,
            rope_scaling=self.depth_rope_scaling,
            no_rope_every=0,
            context=max(n_rows, 2),
            window=0,
            fine_window=0,
        )

    @property
    def head_width(self) -> int:
        """Width C of a head."""
        return self.head_dim or self.dim // self.n_heads


def _check_scaling(name: str, numbers: Sequence[float]) -> None:
    """Refuse numbers that stretch nothing, or by nothing."""
    if len(numbers) not in (0, N_SCALING):
        raise InputError(f"{name} has {len(numbers)} numbers, but must have {N_SCALING} or none")
    if not all(0 < number < math.inf for number in numbers):
        raise InputError(f"{name} is {list(numbers)}, but its numbers must be above 0 and finite")
    if numbers and not numbers[1] < numbers[2]:
        raise InputError(f"{name} is {list(numbers)}, but the second number must be below the third")
