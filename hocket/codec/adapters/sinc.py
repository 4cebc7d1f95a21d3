"""Resampling by a windowed sinc, as torchaudio's `functional.resample` does it by default.

For networks that were trained behind that function: their codes follow its every sample. Audio files are resampled by
`audio.resample`, whose filter is longer.

Shapes: N any number of leading axes, S samples, P phases, F filter taps.
"""

import math

import torch

ZERO_CROSSINGS = 6
ROLLOFF = 0.99  # of the lower of the two Nyquist frequencies


def sinc_resample(wav_NS: torch.Tensor, from_rate: int, to_rate: int) -> torch.Tensor:
    """The waveform [..., S] at another rate (Hz), ceil(S * to_rate / from_rate) samples of it."""
    if from_rate == to_rate:
        return wav_NS
    divisor = math.gcd(from_rate, to_rate)
    step, phases = from_rate // divisor, to_rate // divisor
    filters_PF, reach = hann_sinc(step, phases)
    n_samples = wav_NS.shape[-1]
    flat_NS = torch.nn.functional.pad(wav_NS.reshape(-1, n_samples), (reach, reach + step))
    phased_NPT = torch.nn.functional.conv1d(flat_NS[:, None], filters_PF[:, None].to(wav_NS), stride=step)
    n_wanted = -(-n_samples * phases // step)
    return phased_NPT.transpose(1, 2).reshape(len(flat_NS), -1)[:, :n_wanted].reshape(*wav_NS.shape[:-1], n_wanted)


def hann_sinc(step: int, phases: int) -> tuple[torch.Tensor, int]:
    """A filter for each output phase float64 [P, F], and how many samples before an output's own it begins."""
    cutoff = ROLLOFF * min(step, phases)
    reach = math.ceil(ZERO_CROSSINGS * step / cutoff)
    taps_1F = torch.arange(-reach, reach + step, dtype=torch.float64)[None] / step
    shifts_P1 = -torch.arange(phases, dtype=torch.float64)[:, None] / phases
    time_PF = ((taps_1F + shifts_P1) * cutoff).clamp(-ZERO_CROSSINGS, ZERO_CROSSINGS)
    window_PF = torch.cos(time_PF * math.pi / ZERO_CROSSINGS / 2) ** 2
    return torch.sinc(time_PF) * window_PF * (cutoff / step), reach
