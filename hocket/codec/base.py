"""What every codec is: an identity, codes, and a pair of functions between waveforms and codes.

Shapes: B batch, S samples, T codec frames, K levels.
"""

import hashlib
import json
from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any, Self

import torch

from hocket.errors import InputError


@dataclass(frozen=True, kw_only=True)
class CodecIdentity:
    """Which codec made some codes, and the numbers one needs without loading it."""

    name: str
    revision: str
    weight_hash: str  # SHA-256 of the weight file, hexadecimal
    sample_rate: int  # Hz
    hop: int  # samples a frame
    codebook_sizes: tuple[int, ...]  # entries of each level's codebook
    channels: int = 1
    semantic_level: int | None = None
    delay: int = 0  # samples after a frame's end that its codes depend on
    output_delay: int = 0  # samples of audio after a sample whose codes are needed before that sample is final

    @property
    def levels(self) -> int:
        return len(self.codebook_sizes)

    @property
    def frame_rate(self) -> Fraction:
        """Frames a second (Hz), exact."""
        return Fraction(self.sample_rate, self.hop)

    @property
    def bits_per_second(self) -> float:
        bits = sum(torch.tensor(self.codebook_sizes, dtype=torch.float64).log2().tolist())
        return float(self.frame_rate) * bits

    @property
    def fingerprint(self) -> str:
        """16 hexadecimal digits over what fixes the meaning of codes; prefixes of the levels differ."""
        fixed = [self.weight_hash, self.sample_rate, self.hop, list(self.codebook_sizes), self.channels]
        return hashlib.sha256(json.dumps(fixed).encode()).hexdigest()[:16]

    def with_levels(self, levels: int) -> "CodecIdentity":
        """The same codec cut to its first `levels` levels; InputError if it has fewer."""
        if not 1 <= levels <= self.levels:
            raise InputError(f'codec "{self.name}" has levels 1 to {self.levels}, so levels={levels} cannot be had')
        return replace(self, codebook_sizes=self.codebook_sizes[:levels])

    def to_dict(self) -> dict[str, Any]:
        return asdict(self) | {"codebook_sizes": list(self.codebook_sizes)}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "CodecIdentity":
        sizes: Any = tuple(values["codebook_sizes"])
        return cls(**values | {"codebook_sizes": sizes})


@dataclass
class Codes:
    """Codes of a batch; frames at or after an item's length are 0 and mean nothing."""

    tokens_BTK: torch.Tensor  # int64 [B, T, K]
    lengths_B: torch.Tensor  # int64 [B], frames
    codec: CodecIdentity


class Codec(ABC):
    """A frozen tokenizer: waveforms to codes and back. A plain object that holds its network."""

    identity: CodecIdentity
    net: torch.nn.Module

    @abstractmethod
    def encode(self, wav_BS: torch.Tensor, sample_rate: int, lengths: torch.Tensor | list[int] | None = None) -> Codes:
        """Codes of waveforms [B, S] or [S], float in about [-1, 1], at any sample rate.

        `lengths` are samples of each item at `sample_rate`; what lies after them changes nothing. An item of n
        samples at the codec's rate has ceil(n / hop) frames. Raises InputError on shapes, rates or samples that
        are no audio.
        """

    @abstractmethod
    def decode(self, codes: Codes) -> torch.Tensor:
        """Waveforms [B, T * hop], float32 in [-1, 1]; zero after an item's length.

        Takes any prefix of the levels. Raises InputError on codes of another codec or outside the codebooks.
        """

    @abstractmethod
    def save(self, folder: str | Path) -> None:
        """Writes `config.json` and `model.safetensors`, which `load_codec(folder)` reads."""

    @property
    def codebooks(self) -> list[torch.Tensor] | None:
        """The vectors behind the codes of each level, float32 `[entries, width]`; None where a codec has none."""
        return None

    @property
    def sample_rate(self) -> int:
        return self.identity.sample_rate

    @property
    def hop(self) -> int:
        return self.identity.hop

    @property
    def frame_rate(self) -> Fraction:
        return self.identity.frame_rate

    @property
    def levels(self) -> int:
        return self.identity.levels

    @property
    def codebook_sizes(self) -> tuple[int, ...]:
        return self.identity.codebook_sizes

    @property
    def device(self) -> torch.device:
        return next(self.net.parameters()).device

    def to(self, device: str | torch.device) -> Self:
        self.net.to(device)
        return self
