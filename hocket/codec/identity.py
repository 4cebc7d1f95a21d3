"""Which codec made some codes: its name, the hash of its weights, and its rates, exact."""

import hashlib
import json
import math
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

from hocket.errors import InputError


@dataclass(frozen=True, kw_only=True)
class CodecIdentity:
    """Which codec made some codes, and the numbers one needs without loading it."""

    name: str
    revision: str
    weight_hash: str  # SHA-256 of the weights, hexadecimal
    sample_rate: int  # Hz
    hop: int  # samples a frame
    codebook_sizes: tuple[int, ...]  # entries of each level's codebook
    channels: int = 1
    semantic_level: int | None = None
    delay: int = 0  # samples after a frame's end that its codes depend on
    output_delay: int = 0  # samples of audio after a sample whose codes are needed before that sample is final
    window: int = 0  # samples of the overlapping windows that the codec works in (EnCodec at 48 kHz); 0: none
    window_stride: int = 0  # samples from the start of one window to the next

    @property
    def levels(self) -> int:
        return len(self.codebook_sizes)

    @property
    def frame_rate(self) -> Fraction:
        """Frames a second (Hz), exact; overlapping windows make more of them than sample_rate / hop."""
        if self.window:
            return Fraction(self.sample_rate * (self.window // self.hop), self.window_stride)
        return Fraction(self.sample_rate, self.hop)

    @property
    def bits_per_second(self) -> float:
        return float(self.frame_rate) * sum(math.log2(size) for size in self.codebook_sizes)

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


def check_weight_hash(folder: Path, identity: CodecIdentity, stated: str | None) -> None:
    """InputError where a folder's weights are not those that its description states."""
    if stated != identity.weight_hash:
        raise InputError(
            f'the codec in folder "{folder}" is damaged: its weights have hash {identity.weight_hash[:16]}, '
            f"its description states {str(stated)[:16]}"
        )
