"""Spectral distances between a reconstruction and its original, over several window lengths at once.

Short windows judge timing, long windows pitch. One STFT per window length serves all three terms:
mean |log mel difference| + 0.5 * mean |log magnitude difference| + 0.5 * spectral convergence.

Shapes: B batch, S samples, J frames, F bins, M mel bands.
"""

import math
from dataclasses import dataclass

import torch
from torch import nn

WINDOWS = {128: 10, 256: 20, 512: 40, 1024: 80, 2048: 120}  # window length in samples: mel bands
FULL_SPECTRUM_WINDOWS = (512, 1024, 2048)
LOG_FLOOR = 1e-3


@dataclass
class SpectralDistance:
    mel: torch.Tensor  # scalar, nats
    log_magnitude: torch.Tensor  # scalar, nats
    convergence: torch.Tensor  # scalar, relative

    @property
    def total(self) -> torch.Tensor:
        return self.mel + 0.5 * self.log_magnitude + 0.5 * self.convergence


class MultiScaleDistance(nn.Module):
    """The distance above, with its windows and mel filters kept as buffers."""

    def __init__(self, sample_rate: int):
        super().__init__()
        for window, bands in WINDOWS.items():
            self.register_buffer(f"window_{window}", torch.hann_window(window), persistent=False)
            self.register_buffer(f"mel_{window}", mel_filters(sample_rate, window, bands), persistent=False)

    def forward(self, output_BS: torch.Tensor, target_BS: torch.Tensor) -> SpectralDistance:
        mel, log_magnitude, convergence = [], [], []
        for window in WINDOWS:
            output_BJF = self.magnitude(output_BS, window)
            with torch.no_grad():
                target_BJF = self.magnitude(target_BS, window)
            filters_FM = getattr(self, f"mel_{window}")
            mel.append(log_difference(output_BJF @ filters_FM, target_BJF @ filters_FM))
            if window in FULL_SPECTRUM_WINDOWS:
                log_magnitude.append(log_difference(output_BJF, target_BJF))
                error = torch.linalg.vector_norm(output_BJF - target_BJF, dim=(1, 2))
                convergence.append((error / (torch.linalg.vector_norm(target_BJF, dim=(1, 2)) + 1)).mean())
        return SpectralDistance(*(torch.stack(part).mean() for part in (mel, log_magnitude, convergence)))

    def magnitude(self, wav_BS: torch.Tensor, window: int) -> torch.Tensor:
        """Magnitudes [B, J, F]; the small constant keeps the gradient finite in silence."""
        frames_BJN = wav_BS.unfold(1, window, window // 4) * getattr(self, f"window_{window}")
        parts_BJF2 = torch.view_as_real(torch.fft.rfft(frames_BJN))
        return (parts_BJF2.square().sum(-1) + 1e-8).sqrt()


def log_difference(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    return (torch.log(output + LOG_FLOOR) - torch.log(target + LOG_FLOOR)).abs().mean()


def mel_filters(sample_rate: int, window: int, bands: int) -> torch.Tensor:
    """Triangles [F, M] evenly spaced on the mel scale, each summing to 1 so that bands have like levels."""
    top = 2595 * math.log10(1 + sample_rate / 2 / 700)
    edges = 700 * (10 ** (torch.linspace(0, top, bands + 2) / 2595) - 1)
    bins_F1 = torch.linspace(0, sample_rate / 2, window // 2 + 1)[:, None]
    rising = (bins_F1 - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - bins_F1) / (edges[2:] - edges[1:-1])
    filters_FM = torch.minimum(rising, falling).clamp(min=0)
    nearest_F = (bins_F1 - edges[1:-1]).abs().argmin(dim=0)
    filters_FM[nearest_F, torch.arange(bands)] += 1e-3  # a band narrower than a bin still hears one
    return filters_FM / filters_FM.sum(dim=0)
