"""The network of the bundled codec: log spectrum in, 32 numbers a codec frame, magnitude and phase out.

Two small STFT frames make one codec frame (16 kHz: hop 320 in, 640 a codec frame, 25 Hz). In samples, with h = 320:

    codec frame t     |..... t*2h ..... (t+1)*2h|
    analysis 2t       [... window of 1024 ...]h|        the windows end where their half frame ends, so that
    analysis 2t+1     h[... window of 1024 ....]        frame t reads nothing at or after sample (t+1)*2h
    synthesis 2t      [-2h ....... 0 ....... +2h]       centred on the start of its half frame, so that what
    synthesis 2t+1    h[-2h ....... 0 ....... +2h]      frame t knows covers all but one tail of its windows

Looking back from the output, sample s is final once the codec frame of sample s + 2h is known: the output delay is
2h = one codec frame (40 ms). The end of a signal is flushed with one latent frame of zeros.

Shapes: B batch, S samples, J small STFT frames, F frequency bins, T codec frames, D latent width, C channels.
"""

import math
from dataclasses import asdict, dataclass

import torch
from torch import nn
from torch.nn import functional

from hocket.codec.layers import BlockStack
from hocket.codec.quantizer import ResidualQuantizer

MAX_LOG_MAGNITUDE = 6.0
LOG_FLOOR = 1e-3
SYNTHESIS_OVERLAP = 4  # synthesis windows over each sample
Past = list[torch.Tensor]


@dataclass(frozen=True, kw_only=True)
class SpectralConfig:
    """Sizes of the network; the defaults are the bundled codec's."""

    sample_rate: int = 16000
    half_hop: int = 320  # samples between small STFT frames; a codec frame is two
    analysis_window: int = 1024  # samples
    levels: int = 8
    entries: int = 1024  # of each codebook
    latent: int = 32
    kernel: int = 7  # frames each block sees
    encoder_width: int = 256
    encoder_hidden: int = 512
    encoder_blocks: int = 2  # at each of the two rates
    decoder_width: int = 384
    decoder_hidden: int = 768
    decoder_blocks: int = 5  # at the half-frame rate, after one at the frame rate

    @property
    def hop(self) -> int:
        return 2 * self.half_hop

    @property
    def synthesis_window(self) -> int:
        return SYNTHESIS_OVERLAP * self.half_hop

    def to_dict(self) -> dict[str, int]:
        return asdict(self)


class Encoder(nn.Module):
    """Waveform to latents; each frame reads its own samples and earlier ones only."""

    window_N: torch.Tensor

    def __init__(self, config: SpectralConfig):
        super().__init__()
        self.config = config
        width, hidden, blocks = config.encoder_width, config.encoder_hidden, config.encoder_blocks
        self.register_buffer("window_N", torch.hann_window(config.analysis_window), persistent=False)
        self.inlet = nn.Linear(config.analysis_window // 2 + 1, width)
        self.fine = BlockStack(blocks, width, hidden, config.kernel)
        self.merge = nn.Linear(2 * width, width)
        self.coarse = BlockStack(blocks, width, hidden, config.kernel)
        self.norm = nn.LayerNorm(width)
        self.outlet = nn.Linear(width, config.latent)

    def forward(self, wav_BS: torch.Tensor, past: Past) -> tuple[torch.Tensor, Past]:
        """Latents [B, S / hop, D] and the new past; S is a multiple of the hop."""
        n_fine = len(self.fine.blocks)
        joined_BS = torch.cat([past[0], wav_BS], dim=1)
        x_BJC, fine_past = self.fine(self.inlet(self.features(joined_BS)), past[1 : 1 + n_fine])
        x_BTC, coarse_past = self.coarse(self.merge(x_BJC.unflatten(1, (-1, 2)).flatten(2)), past[1 + n_fine :])
        new_past = [joined_BS[:, -past[0].shape[1] :], *fine_past, *coarse_past]
        return self.outlet(self.norm(x_BTC)), new_past

    def features(self, wav_BS: torch.Tensor) -> torch.Tensor:
        """Log magnitudes [B, J, F], roughly between -2 and 2 for speech."""
        frames_BJN = wav_BS.unfold(1, self.config.analysis_window, self.config.half_hop) * self.window_N
        return (torch.log(torch.fft.rfft(frames_BJN).abs() + LOG_FLOOR) + 2) / 3

    def fresh_past(self, batch: int, device: torch.device) -> Past:
        context = torch.zeros(batch, self.config.analysis_window - self.config.half_hop, device=device)
        return [context, *self.fine.fresh_pasts(batch, device), *self.coarse.fresh_pasts(batch, device)]


class Decoder(nn.Module):
    """Latents to windowed pieces of waveform, which `overlap_add` joins."""

    window_N: torch.Tensor

    def __init__(self, config: SpectralConfig):
        super().__init__()
        self.config = config
        width, hidden = config.decoder_width, config.decoder_hidden
        self.n_bins = config.synthesis_window // 2 + 1
        self.register_buffer("window_N", torch.hann_window(config.synthesis_window), persistent=False)
        self.inlet = nn.Linear(config.latent, width)
        self.coarse = BlockStack(1, width, hidden, config.kernel)
        self.split = nn.Linear(width, 2 * width)
        self.fine = BlockStack(config.decoder_blocks, width, hidden, config.kernel)
        self.norm = nn.LayerNorm(width)
        self.outlet = nn.Linear(width, 2 * self.n_bins)

    def forward(self, latent_BTD: torch.Tensor, past: Past) -> tuple[torch.Tensor, Past]:
        """Windowed pieces [B, 2T, synthesis window] and the new past."""
        x_BTC, coarse_past = self.coarse(self.inlet(latent_BTD), past[:1])
        x_BJC, fine_past = self.fine(self.split(x_BTC).unflatten(2, (2, -1)).flatten(1, 2), past[1:])
        spectrum_BJF = self.spectrum(self.outlet(self.norm(x_BJC)).float())
        pieces_BJN = torch.fft.irfft(spectrum_BJF, n=self.config.synthesis_window) * self.window_N
        return pieces_BJN, [*coarse_past, *fine_past]

    def spectrum(self, x_BJ2F: torch.Tensor) -> torch.Tensor:
        log_magnitude_BJF, phase_BJF = x_BJ2F.split(self.n_bins, dim=2)
        return torch.polar(log_magnitude_BJF.clamp(max=MAX_LOG_MAGNITUDE).exp(), phase_BJF)

    def fresh_past(self, batch: int, device: torch.device) -> Past:
        return [*self.coarse.fresh_pasts(batch, device), *self.fine.fresh_pasts(batch, device)]


class SpectralNet(nn.Module):
    """Encoder, quantizer and decoder: what a codec's weight file holds."""

    def __init__(self, config: SpectralConfig):
        super().__init__()
        self.encoder = Encoder(config)
        self.quantizer = ResidualQuantizer(config.levels, config.entries, config.latent)
        self.decoder = Decoder(config)
        initialise(self)


def overlap_add(pieces_BJN: torch.Tensor, n_halves: int) -> torch.Tensor:
    """Joins windowed pieces into waveforms of `n_halves` half hops, [B, n_halves * half_hop].

    Piece j starts two half hops before half hop j. Four Hann windows at a quarter's distance sum to 2.
    """
    quarters_BJQh = pieces_BJN.unflatten(2, (SYNTHESIS_OVERLAP, -1))
    total_BMh = torch.zeros_like(quarters_BJQh[:, :n_halves, 0])
    for quarter in range(SYNTHESIS_OVERLAP):
        first = 2 - quarter  # half hop m takes this quarter of piece m + first
        part_BMh = quarters_BJQh[:, max(first, 0) : n_halves + first, quarter]
        total_BMh = total_BMh + functional.pad(part_BMh, (0, 0, max(-first, 0), 0))
    return total_BMh.flatten(1) / 2


def initialise(module: nn.Module) -> None:
    """Linear layers start with truncated normal weights and zero biases."""
    for part in module.modules():
        if isinstance(part, nn.Linear):
            nn.init.trunc_normal_(part.weight, std=1 / math.sqrt(part.in_features), a=-2, b=2)
            nn.init.zeros_(part.bias)
