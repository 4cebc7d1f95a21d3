"""Mel-frequency cepstra with their first and second differences: features that need no download.

The numbers are Kaldi's, as HuBERT (Hsu et al., 2021) used them for its first units: windows of 25 ms, 23 mel bands, 13
cepstra, differences over two frames on each side; the hop is 20 ms, that of the networks. Frame t covers the samples
`320 t - 40` to `320 t + 360`; n samples have ceil(n / 320) frames, zeros standing outside. With the differences a
frame depends on four frames on each side and on nothing else.

Matrix products and transforms run over blocks of `BLOCK` frames, counted from the recording's start, so that a stream,
which sees a part of the recording, computes the very same numbers as the whole. With 500 centroids
an hour of audio takes about 1.5 s of CPU.

Shapes: S samples, T frames, N window, F frequencies, M mel bands, C cepstra, D feature width.
"""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from transformers.audio_utils import mel_filter_bank, window_function

from hocket.codec.units.extractor import Extractor

BLOCK = 32  # frames computed at a time
WINDOW = 400
FFT = 512
BANDS = 23
CEPSTRA = 13
LIFTER = 22
FLOOR = float(np.finfo(np.float32).eps)
CONTEXT = 4  # frames on each side that a frame's differences reach


class Mfcc(Extractor):
    window_N: torch.Tensor
    filters_FM: torch.Tensor
    cosines_MC: torch.Tensor
    kind = "mfcc"
    sample_rate = 16000
    hop = 320
    width = 3 * CEPSTRA
    margin = (WINDOW - hop) // 2  # samples of a frame's window before its hop
    delay = CONTEXT * hop + margin

    def __init__(self) -> None:
        super().__init__()
        filters_FM = mel_filter_bank(
            num_frequency_bins=FFT // 2 + 1,
            num_mel_filters=BANDS,
            min_frequency=20.0,
            max_frequency=self.sample_rate / 2,
            sampling_rate=self.sample_rate,
            norm=None,
            mel_scale="kaldi",
            triangularize_in_mel_space=True,
        )
        self.register_buffer("window_N", torch.from_numpy(window_function(WINDOW, "povey", periodic=False)).float())
        self.register_buffer("filters_FM", torch.from_numpy(filters_FM).float())
        self.register_buffer("cosines_MC", cosines(BANDS, CEPSTRA))

    def features(self, wav_S: torch.Tensor) -> torch.Tensor:
        n_frames = -(-len(wav_S) // self.hop)
        return self.features_of(torch.nn.functional.pad(wav_S, (self.margin, 0)), n_frames)

    def features_of(self, padded_S: torch.Tensor, n_frames: int) -> torch.Tensor:
        """Features [T, D] of `n_frames` frames whose first window begins at the first sample."""
        if n_frames <= 0:
            return torch.zeros(0, self.width, device=padded_S.device)
        n_whole = -(-n_frames // BLOCK) * BLOCK
        missing = n_whole * self.hop + WINDOW - self.hop - len(padded_S)
        windows_TN = torch.nn.functional.pad(padded_S, (0, missing)).unfold(0, WINDOW, self.hop)
        cepstra_TC = in_blocks(windows_TN, self._cepstra)[:n_frames]
        first_TC = differences(cepstra_TC)
        return torch.cat([cepstra_TC, first_TC, differences(first_TC)], dim=1)

    def _cepstra(self, windows_TN: torch.Tensor) -> torch.Tensor:
        windows_TN = windows_TN - windows_TN.mean(dim=1, keepdim=True)
        before_TN = torch.cat([windows_TN[:, :1], windows_TN[:, :-1]], dim=1)
        emphasised_TN = (windows_TN - 0.97 * before_TN) * self.window_N
        power_TF = torch.fft.rfft(emphasised_TN, n=FFT).abs() ** 2
        return torch.log((power_TF @ self.filters_FM).clamp(min=FLOOR)) @ self.cosines_MC

    @property
    def weight_hash(self) -> str:
        numbers = [self.kind, self.sample_rate, self.hop, WINDOW, FFT, BANDS, CEPSTRA, LIFTER, FLOOR]
        return hashlib.sha256(json.dumps(numbers).encode()).hexdigest()

    def save(self, folder: Path) -> None:
        """Nothing needs to be written."""


def cosines(bands: int, cepstra: int) -> torch.Tensor:
    """The orthonormal cosine transform [M, C], its columns weighted by Kaldi's lifter."""
    band_M1 = torch.arange(bands, dtype=torch.float64)[:, None] + 0.5
    order_C = torch.arange(cepstra, dtype=torch.float64)
    cosines_MC = torch.cos(torch.pi / bands * band_M1 * order_C) * (2 / bands) ** 0.5
    cosines_MC[:, 0] *= 0.5**0.5
    return (cosines_MC * (1 + LIFTER / 2 * torch.sin(torch.pi * order_C / LIFTER))).float()


def differences(x_TC: torch.Tensor) -> torch.Tensor:
    """Slope of a line through two frames on each side; the first and last frame repeat beyond the ends."""
    x_TC = torch.cat([x_TC[:1], x_TC[:1], x_TC, x_TC[-1:], x_TC[-1:]])
    near_TC, far_TC = x_TC[3:-1] - x_TC[1:-3], x_TC[4:] - x_TC[:-4]
    return (near_TC + 2 * far_TC) / 10


def in_blocks(rows_TN: torch.Tensor, run: Callable[[torch.Tensor], torch.Tensor]) -> torch.Tensor:
    """`run` on blocks of exactly `BLOCK` rows, the last one filled up with zeros; results of the rows given."""
    n_rows = len(rows_TN)
    padded_TN = torch.nn.functional.pad(rows_TN, (0, 0, 0, -n_rows % BLOCK))
    return torch.cat([run(block_TN) for block_TN in padded_TN.split(BLOCK)])[:n_rows]
