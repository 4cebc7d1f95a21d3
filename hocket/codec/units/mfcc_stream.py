"""Units of MFCC while the audio is still coming, equal to those of the whole bit for bit.

The stream keeps the samples since one full block of frames before the block it is in, and computes the features of what
it keeps anew at each push: at most three blocks, however short the push. The kept part begins at a block of the
recording, so all products have the rows and shapes that they have over the whole.

Shapes: C channels, S samples, T frames, K levels, D feature width.
"""

from collections.abc import Callable

import torch

from hocket.codec.identity import CodecIdentity
from hocket.codec.streaming import StreamEncoder
from hocket.codec.units.mfcc import BLOCK, CONTEXT, WINDOW, Mfcc


class MfccUnitStream(StreamEncoder):
    """Frame t comes out `identity.delay` samples after its own last sample."""

    def __init__(self, extractor: Mfcc, units: Callable[[torch.Tensor], torch.Tensor], identity: CodecIdentity):
        """`units` gives the units [T] of features [T, D], row by row."""
        super().__init__(identity)
        self.extractor, self.units = extractor, units
        self.kept_S = torch.zeros(extractor.margin, device=extractor.window_N.device)
        self.first, self.n_given = 0, 0  # the frame that kept_S begins with, frames returned

    def _push(self, wav_CS: torch.Tensor) -> torch.Tensor:
        self.kept_S = torch.cat([self.kept_S, wav_CS[0].to(self.kept_S)])
        n_ready = (len(self.kept_S) - WINDOW) // self.identity.hop + 1
        return self._units(n_ready, n_ready - CONTEXT)

    def _finish(self) -> torch.Tensor:
        n_frames = -(-(len(self.kept_S) - self.extractor.margin) // self.identity.hop)
        return self._units(n_frames, n_frames)

    def _units(self, n_frames: int, end: int) -> torch.Tensor:
        """Units, from the first not yet returned up to kept frame `end`, with `n_frames` kept frames at hand."""
        start = self.n_given - self.first
        if end <= start:
            return torch.zeros(0, 1, dtype=torch.int64, device=self.kept_S.device)
        features_TD = self.extractor.features_of(self.kept_S, n_frames)
        units_T = self.units(features_TD)[start:end]
        self.n_given += len(units_T)
        first = max(0, (self.n_given // BLOCK - 1) * BLOCK)
        self.kept_S = self.kept_S[(first - self.first) * self.identity.hop :]
        self.first = first
        return units_T[:, None]
