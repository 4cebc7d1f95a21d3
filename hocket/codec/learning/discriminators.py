"""Two families of networks that tell recordings from reconstructions.

`STFTDiscriminator` looks at one complex spectrogram (EnCodec, Défossez et al. 2022, one for each window length),
`PeriodDiscriminator` at every p-th sample (HiFi-GAN, Kong et al. 2020, one for each prime p). Both give a map of
logits and the features of their layers. They are narrow: on one CPU thread the five of the defaults see a second of
audio in some tens of milliseconds.

Shapes: B batch, S samples, J frames, F bins, P period, C channels.
"""

import torch
from torch import nn
from torch.nn import functional
from torch.nn.utils.parametrizations import weight_norm

Verdict = tuple[torch.Tensor, list[torch.Tensor]]  # logits of any shape, features of the layers before
SLOPE = 0.2
COMPRESSION, QUIET = 0.4, 1e-3
WAVE_GAIN = 10.0  # brings speech to values of about one


class STFTDiscriminator(nn.Module):
    """Convolutions over the real and imaginary part of an STFT, dilated in time, strided in frequency.

    Magnitudes are compressed, so that quiet parts are heard and training begins with values of about one.
    """

    window_N: torch.Tensor

    def __init__(self, window: int, channels: int):
        super().__init__()
        self.window = window
        self.register_buffer("window_N", torch.hann_window(window), persistent=False)
        layers = [nn.Conv2d(2, channels, (3, 9), padding=(1, 4))]
        for dilation in (1, 2, 4):
            padding = (dilation, 4)
            layers.append(nn.Conv2d(channels, channels, (3, 9), stride=(1, 2), dilation=(dilation, 1), padding=padding))
        layers.append(nn.Conv2d(channels, channels, (3, 3), padding=(1, 1)))
        self.layers = nn.ModuleList(weight_norm(layer) for layer in layers)
        self.outlet = weight_norm(nn.Conv2d(channels, 1, (3, 3), padding=(1, 1)))

    def forward(self, wav_BS: torch.Tensor) -> Verdict:
        frames_BJN = wav_BS.unfold(1, self.window, self.window // 4) * self.window_N
        parts_BJF2 = torch.view_as_real(torch.fft.rfft(frames_BJN, norm="ortho"))
        magnitude_BJF1 = (parts_BJF2.square().sum(-1, keepdim=True) + QUIET**2).sqrt()
        compressed_BJF2 = parts_BJF2 * magnitude_BJF1 ** (COMPRESSION - 1)
        return run_layers(compressed_BJF2.permute(0, 3, 1, 2), self.layers, self.outlet)


class PeriodDiscriminator(nn.Module):
    """Convolutions down the columns of the waveform folded into rows of `period` samples."""

    def __init__(self, period: int, channels: int):
        super().__init__()
        self.period = period
        widths = [1, channels, 2 * channels, 4 * channels]
        pairs = zip(widths[:-1], widths[1:], strict=True)
        layers = [nn.Conv2d(width, wider, (5, 1), stride=(3, 1), padding=(2, 0)) for width, wider in pairs]
        layers.append(nn.Conv2d(widths[-1], widths[-1], (5, 1), padding=(2, 0)))
        self.layers = nn.ModuleList(weight_norm(layer) for layer in layers)
        self.outlet = weight_norm(nn.Conv2d(widths[-1], 1, (3, 1), padding=(1, 0)))

    def forward(self, wav_BS: torch.Tensor) -> Verdict:
        missing = -wav_BS.shape[1] % self.period
        padded_BS = functional.pad(WAVE_GAIN * wav_BS, (0, missing))
        return run_layers(padded_BS.unflatten(1, (-1, self.period))[:, None], self.layers, self.outlet)


def run_layers(x: torch.Tensor, layers: nn.ModuleList, outlet: nn.Module) -> Verdict:
    features = []
    for layer in layers:
        x = functional.leaky_relu(layer(x), SLOPE)
        features.append(x)
    return outlet(x), features


class Discriminators(nn.Module):
    """All of them; `forward` gives a verdict of each."""

    def __init__(self, windows: tuple[int, ...], periods: tuple[int, ...], channels: int):
        super().__init__()
        parts = [STFTDiscriminator(window, channels) for window in windows]
        self.parts = nn.ModuleList([*parts, *(PeriodDiscriminator(period, channels) for period in periods)])

    def forward(self, wav_BS: torch.Tensor) -> list[Verdict]:
        return [part(wav_BS) for part in self.parts]


def discriminator_loss(real: list[Verdict], fake: list[Verdict]) -> torch.Tensor:
    """Hinge loss: recordings above 1, reconstructions below -1; the mean over discriminators."""
    parts = [
        functional.relu(1 - real_logits.float()).mean() + functional.relu(1 + fake_logits.float()).mean()
        for (real_logits, _), (fake_logits, _) in zip(real, fake, strict=True)
    ]
    return torch.stack(parts).mean()


def adversarial_loss(fake: list[Verdict]) -> torch.Tensor:
    """What a reconstruction pays for being told apart."""
    return torch.stack([functional.relu(1 - logits.float()).mean() for logits, _ in fake]).mean()


def feature_distance(real: list[Verdict], fake: list[Verdict]) -> torch.Tensor:
    """Mean |difference| of the features, relative to their size; the mean over layers and discriminators."""
    parts = []
    for (_, real_features), (_, fake_features) in zip(real, fake, strict=True):
        for real_x, fake_x in zip(real_features, fake_features, strict=True):
            target_x = real_x.detach().float()
            parts.append((fake_x.float() - target_x).abs().mean() / target_x.abs().mean().clamp(min=1e-6))
    return torch.stack(parts).mean()
