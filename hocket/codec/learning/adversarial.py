"""Polishes a codec's decoder against discriminators, with its encoder and codebooks frozen.

Spectral distances alone leave a rough sound, since they say little about phase. Here the decoder also has to fool
discriminators and to match their features, three losses whose pull a balancer weighs. Because the codes stay what they
are, corpora that were made before remain valid and nothing has to be retrained. A step of 12 crops takes about twice as
long as a step of reconstruction with 24.

At the end the decoder's weights are averaged with those it began with (Wortsman et al., "Robust fine-tuning", 2022): in
minutes of training the adversary lifts how natural speech sounds and costs likeness; the average has much of the one
and little of the other.

Shapes: B batch, S samples, T codec frames, D latent width, K levels.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from hocket.codec.learning.balancer import LossBalancer
from hocket.codec.learning.crops import AudioStore, CropSampler
from hocket.codec.learning.discriminators import (
    Discriminators,
    adversarial_loss,
    discriminator_loss,
    feature_distance,
)
from hocket.codec.learning.loop import ScheduledTrainer, TrainingSettings
from hocket.codec.learning.losses import MultiScaleDistance
from hocket.codec.learning.reconstruction import draw_levels
from hocket.codec.spectral import SpectralCodec
from hocket.codec.spectral_net import overlap_add


@dataclass(frozen=True, kw_only=True)
class AdversarialTraining(TrainingSettings):
    """Settings of the adversarial phase."""

    learning_rate: float = 5e-5
    judge_speed: float = 25.0  # the discriminators' learning rate as a multiple of the decoder's
    batch: int = 12
    decay_share: float = 0.6
    windows: tuple[int, ...] = (512, 1024)  # samples, of the STFT discriminators
    periods: tuple[int, ...] = (2, 3, 5)  # samples, of the period discriminators
    channels: int = 8  # of the discriminators' first layers
    spectral_weight: float = 10.0
    adversarial_weight: float = 1.0
    feature_weight: float = 1.5
    head_start: int = 120  # steps that only the discriminators learn from the adversarial game
    ramp: int = 200  # steps after those, over which the two adversarial weights grow from zero
    kept: float = 0.5  # share of the decoder's first weights in its last ones


class AdversarialTrainer(ScheduledTrainer):
    """Trains the decoder and its discriminators in turn, each once a step."""

    checkpoint = "adversary.pt"
    settings: AdversarialTraining

    def __init__(self, codec: SpectralCodec, store: AudioStore, settings: AdversarialTraining, folder: Path):
        """`codec` is trained already; `folder` takes `metrics.jsonl` and the checkpoint."""
        super().__init__(codec, settings, folder)
        self.sampler = CropSampler(store, codec.hop, settings)
        self.distance = MultiScaleDistance(codec.sample_rate).to(codec.device)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(settings.seed)
            self.discriminators = Discriminators(settings.windows, settings.periods, settings.channels)
        self.discriminators.to(codec.device)
        self.balancer = LossBalancer({})
        self.before = {name: tensor.clone() for name, tensor in codec.net.decoder.state_dict().items()}
        rate, betas = settings.learning_rate, (0.8, 0.99)
        self.decoder_optimizer = torch.optim.AdamW(codec.net.decoder.parameters(), lr=rate, betas=betas)
        judges = {"params": list(self.discriminators.parameters()), "speed": settings.judge_speed}
        self.judge_optimizer = torch.optim.AdamW([judges], lr=rate, betas=betas)

    @torch.no_grad()
    def conclude(self) -> None:
        """Averages the decoder with what it was before; the checkpoint keeps both."""
        super().conclude()
        for name, tensor in self.codec.net.decoder.state_dict().items():
            tensor.lerp_(self.before[name], self.settings.kept)

    def _optimizers(self) -> list[torch.optim.Optimizer]:
        return [self.decoder_optimizer, self.judge_optimizer]

    def _update(self) -> dict[str, float]:
        wav_BS = self.sampler.draw(self.random).to(self.codec.device)
        output_BS = self._reconstruct(wav_BS)
        leaf_BS = output_BS.detach().requires_grad_()
        with self._autocast(wav_BS.device):
            real, fake = self.discriminators(wav_BS), self.discriminators(leaf_BS)
        losses = {
            "spectral": self.distance(leaf_BS, wav_BS).total,
            "adversarial": adversarial_loss(fake),
            "feature": feature_distance(real, fake),
        }
        self.balancer.weights = self._weights()
        gradient_BS = self.balancer.gradient(losses, leaf_BS)
        judged = discriminator_loss(real, fake)
        self.judge_optimizer.zero_grad(set_to_none=True)
        judged.backward(inputs=list(self.discriminators.parameters()))
        self.judge_optimizer.step()
        self.decoder_optimizer.zero_grad(set_to_none=True)
        output_BS.backward(gradient_BS)
        norm = nn.utils.clip_grad_norm_(self.codec.net.decoder.parameters(), self.settings.clip)
        self.decoder_optimizer.step()
        row = {name: loss.item() for name, loss in losses.items()}
        return row | {"discriminator": judged.item(), "grad_norm": float(norm)}

    def _reconstruct(self, wav_BS: torch.Tensor) -> torch.Tensor:
        """Waveforms [B, S] from codes of as many levels as were drawn for each crop; only the decoder has a graph."""
        net, batch, device = self.codec.net, len(wav_BS), wav_BS.device
        with torch.no_grad():
            latent_BTD, _ = net.encoder(wav_BS, net.encoder.fresh_past(batch, device))
            codes_NK = net.quantizer.encode(latent_BTD.flatten(0, 1), self.codec.levels)
            levels_B = draw_levels(batch, self.codec.levels, self.generator)
            parts = zip(codes_NK.unflatten(0, (batch, -1)), levels_B.tolist(), strict=True)
            quantized_BTD = torch.stack([net.quantizer.decode(codes_TK[:, :levels]) for codes_TK, levels in parts])
            flushed_BTD = torch.cat([quantized_BTD, torch.zeros_like(quantized_BTD[:, :1])], dim=1)
        with self._autocast(device):
            pieces_BJN, _ = net.decoder(flushed_BTD, net.decoder.fresh_past(batch, device))
        return overlap_add(pieces_BJN, 2 * latent_BTD.shape[1])

    def _weights(self) -> dict[str, float]:
        grown = min(1.0, max(0.0, (self.step - self.settings.head_start) / self.settings.ramp))
        return {
            "spectral": self.settings.spectral_weight,
            "adversarial": grown * self.settings.adversarial_weight,
            "feature": grown * self.settings.feature_weight,
        }

    def _autocast(self, device: torch.device) -> torch.autocast:
        return torch.autocast(device.type, dtype=torch.bfloat16, enabled=self.settings.bf16)

    def _state(self) -> dict[str, Any]:
        return {
            "discriminators": self.discriminators.state_dict(),
            "decoder_optimizer": self.decoder_optimizer.state_dict(),
            "judge_optimizer": self.judge_optimizer.state_dict(),
            "balancer": self.balancer.state_dict(),
            "before": self.before,
        }

    def _load_state(self, state: dict[str, Any]) -> None:
        self.discriminators.load_state_dict(state["discriminators"])
        self.decoder_optimizer.load_state_dict(state["decoder_optimizer"])
        self.judge_optimizer.load_state_dict(state["judge_optimizer"])
        self.balancer.load_state_dict(state["balancer"])
        self.before = state["before"]
