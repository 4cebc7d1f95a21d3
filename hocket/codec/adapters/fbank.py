"""Kaldi's log-mel filter bank, as torchaudio's `compliance.kaldi.fbank` computes it: what w2v-BERT hears.

Frames of 25 ms every 10 ms, 80 bands from 20 Hz up, no dither. transformers computes it with torchaudio, one recording
at a time; here recordings of one length go together and torchaudio is not needed.

Shapes: B batch, S samples, J frames of 10 ms, W samples of a frame, F frequencies, M bands.
"""

import math

import torch

FRAME, SHIFT, TRANSFORM, BANDS = 400, 160, 512, 80  # samples, samples, samples, bands
LOWEST, RATE = 20.0, 16000  # Hz
PREEMPHASIS = 0.97
SMALLEST = torch.finfo(torch.float32).eps
VARIANCE_FLOOR = 1e-7


def log_mel(wav_BS: torch.Tensor) -> torch.Tensor:
    """Log-mel energies [B, J, 80] of audio at 16 kHz in [-1, 1]; only frames that fit entirely, J may be 0."""
    if wav_BS.shape[1] < FRAME:
        return wav_BS.new_zeros(len(wav_BS), 0, BANDS)
    frames_BJW = (wav_BS * 2**15).unfold(1, FRAME, SHIFT)
    frames_BJW = frames_BJW - frames_BJW.mean(dim=2, keepdim=True)
    before_BJW = torch.cat([frames_BJW[..., :1], frames_BJW[..., :-1]], dim=2)
    window_W = torch.hann_window(FRAME, periodic=False, device=wav_BS.device) ** 0.85
    emphasised_BJW = (frames_BJW - PREEMPHASIS * before_BJW) * window_W
    power_BJF = torch.fft.rfft(emphasised_BJW, n=TRANSFORM).abs() ** 2
    return (power_BJF @ mel_bands().to(wav_BS.device)).clamp(min=SMALLEST).log()


def standardised(features_BJM: torch.Tensor) -> torch.Tensor:
    """Each band of each recording with mean 0 and variance 1 over all its frames."""
    mean_B1M = features_BJM.mean(dim=1, keepdim=True)
    variance_B1M = features_BJM.var(dim=1, keepdim=True, unbiased=True)
    return (features_BJM - mean_B1M) / torch.sqrt(variance_B1M + VARIANCE_FLOOR)


def mel_bands() -> torch.Tensor:
    """Triangles in mel, float32 [F, M]; the highest frequency belongs to none."""
    lowest, highest = (1127 * math.log(1 + hz / 700) for hz in (LOWEST, RATE / 2))
    width = (highest - lowest) / (BANDS + 1)
    hertz_F = RATE / TRANSFORM * torch.arange(TRANSFORM // 2)
    left_FM = lowest + width * torch.arange(BANDS)
    place_FM = ((1127 * (1 + hertz_F / 700).log())[:, None] - left_FM) / width
    bands_FM = torch.minimum(place_FM, 2 - place_FM).clamp(min=0)
    return torch.nn.functional.pad(bands_FM, (0, 0, 0, 1))
