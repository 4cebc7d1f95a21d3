"""Slower features: the mean of every few frames, so that units run on the clock of a codec (25 Hz as in TWIST: Hassid
et al., 2023) or slower. Layouts repeat units to the frames of the audio, and none may be faster than these.

    frames of the extractor   0 1 | 2 3 | 4        every 2: the last mean is that of one frame
    frames of the units        0     1    2

Shapes: S samples, T frames, D feature width.
"""

import hashlib
from pathlib import Path

import torch

from hocket.codec.units.extractor import Extractor


class Pooled(Extractor):
    """An extractor whose frames are averaged in groups."""

    def __init__(self, inner: Extractor, every: int):
        super().__init__()
        assert every > 1
        self.inner, self.every = inner, every
        self.kind, self.layer, self.width, self.scaled = inner.kind, inner.layer, inner.width, inner.scaled
        self.sample_rate, self.hop, self.delay = inner.sample_rate, every * inner.hop, inner.delay

    def features(self, wav_S: torch.Tensor) -> torch.Tensor:
        features_TD = self.inner.features(wav_S)
        whole = len(features_TD) // self.every
        pooled_TD = features_TD[: whole * self.every].reshape(whole, self.every, self.width).mean(dim=1)
        rest_TD = features_TD[whole * self.every :]
        return torch.cat([pooled_TD, rest_TD.mean(dim=0, keepdim=True)]) if len(rest_TD) else pooled_TD

    @property
    def weight_hash(self) -> str:
        return hashlib.sha256(f"every {self.every} {self.inner.weight_hash}".encode()).hexdigest()

    def save(self, folder: Path) -> None:
        self.inner.save(folder)


def pooled(extractor: Extractor, every: int) -> Extractor:
    """The extractor itself where each frame stays."""
    return extractor if every == 1 else Pooled(extractor, every)
