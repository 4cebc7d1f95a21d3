"""Trains a whole spectral codec to come close to its input in spectral distance.

One step: a batch of one-second crops (some with their speed changed) goes through encoder, residual quantizer and
decoder; the loss is a multi-scale spectral distance plus 0.25 x the commitment of the latents to their entries.
The first steps run unquantized; then k-means sets the codebooks on the latents seen last. Half of each batch uses a
random number of levels, so that prefixes of the levels decode well. The bundled codec's size takes 0.3 to 0.4 s a
step on one thread of an AVX-512 CPU (24 crops, bf16 autocast); half of that are the losses.

Shapes: B batch, S samples, T codec frames, D latent width, K levels, N = B*T.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from hocket.codec.learning.codebook_ema import CodebookEMA
from hocket.codec.learning.crops import AudioStore, CropSampler
from hocket.codec.learning.loop import ScheduledTrainer, TrainingSettings
from hocket.codec.learning.losses import MultiScaleDistance
from hocket.codec.spectral import SpectralCodec
from hocket.codec.spectral_net import overlap_add


@dataclass(frozen=True, kw_only=True)
class ReconstructionTraining(TrainingSettings):
    """Settings of one training."""

    unquantized: int = 250  # steps before k-means sets the codebooks
    fit_batches: int = 20  # batches whose latents k-means sees
    commitment: float = 0.25


class ReconstructionTrainer(ScheduledTrainer):
    """Trains encoder, codebooks and decoder together."""

    checkpoint = "trainer.pt"
    settings: ReconstructionTraining

    def __init__(self, codec: SpectralCodec, store: AudioStore, settings: ReconstructionTraining, folder: Path):
        """`folder` takes `metrics.jsonl` and the checkpoint."""
        super().__init__(codec, settings, folder)
        self.encoder, self.decoder, self.quantizer = codec.net.encoder, codec.net.decoder, codec.net.quantizer
        self.sampler = CropSampler(store, codec.hop, settings)
        self.distance = MultiScaleDistance(codec.sample_rate).to(codec.device)
        self.ema = CodebookEMA(self.quantizer)
        self.optimizer = torch.optim.AdamW(self._groups(), lr=settings.learning_rate, betas=(0.9, 0.99))
        self.recent_latents: list[torch.Tensor] = []

    def _groups(self) -> list[dict]:
        parameters = list(self.codec.net.parameters())
        matrices = [p for p in parameters if p.ndim == 2]
        return [
            {"params": matrices, "weight_decay": 0.01},
            {"params": [p for p in parameters if p.ndim != 2], "weight_decay": 0.0},
        ]

    def _optimizers(self) -> list[torch.optim.Optimizer]:
        return [self.optimizer]

    def _update(self) -> dict[str, float]:
        """One optimizer step; its losses, codebook use and perplexity by name."""
        loss, row = self._loss(self.sampler.draw(self.random).to(self.codec.device))
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        norm = nn.utils.clip_grad_norm_(self.codec.net.parameters(), self.settings.clip)
        self.optimizer.step()
        if self.step + 1 == self.settings.unquantized:
            self._fit_codebooks()
        return row | {"loss": loss.item(), "grad_norm": float(norm)}

    def _loss(self, wav_BS: torch.Tensor) -> tuple[torch.Tensor, dict[str, float]]:
        device, batch = wav_BS.device, len(wav_BS)
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=self.settings.bf16):
            latent_BTD, _ = self.encoder(wav_BS, self.encoder.fresh_past(batch, device))
        latent_BTD = latent_BTD.float()
        quantized_BTD, commitment, row = self._quantize(latent_BTD)
        flushed_BTD = torch.cat([quantized_BTD, torch.zeros_like(quantized_BTD[:, :1])], dim=1)
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=self.settings.bf16):
            pieces_BJN, _ = self.decoder(flushed_BTD, self.decoder.fresh_past(batch, device))
        output_BS = overlap_add(pieces_BJN, 2 * latent_BTD.shape[1])
        distance = self.distance(output_BS, wav_BS)
        row |= {"mel": distance.mel.item(), "log_magnitude": distance.log_magnitude.item()}
        row |= {"convergence": distance.convergence.item(), "commitment": commitment.item()}
        return distance.total + self.settings.commitment * commitment, row

    def _quantize(self, latent_BTD: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, dict[str, float]]:
        """Straight-through quantized latents, the commitment loss, and the use of the codebooks."""
        latent_ND = latent_BTD.flatten(0, 1)
        if self.step < self.settings.unquantized:
            self.recent_latents = [*self.recent_latents, latent_ND.detach()][-self.settings.fit_batches :]
            return latent_BTD, latent_BTD.new_zeros(()), {}
        entries_KND, codes_KN = self.ema.quantize(latent_ND.detach(), self.generator)
        sums_KND = entries_KND.cumsum(0)
        commitment = (latent_ND - sums_KND).square().mean()
        levels_N = (
            draw_levels(latent_BTD.shape[0], self.codec.levels, self.generator)
            .repeat_interleave(latent_BTD.shape[1])
            .to(latent_ND.device)
        )
        chosen_ND = sums_KND[levels_N - 1, torch.arange(len(latent_ND), device=latent_ND.device)]
        straight_ND = latent_ND + (chosen_ND - latent_ND).detach()
        return straight_ND.view_as(latent_BTD), commitment, self._codebook_use(codes_KN)

    def _codebook_use(self, codes_KN: torch.Tensor) -> dict[str, float]:
        """Perplexity of the running use of each level's entries, and the share of entries this batch chose."""
        row = {}
        for level, counts_E in enumerate(self.ema.counts_KE):
            share_E = counts_E / counts_E.sum()
            row[f"perplexity/{level}"] = float(torch.exp(-(share_E * torch.log(share_E + 1e-12)).sum()))
            row[f"used/{level}"] = codes_KN[level].unique().numel() / len(counts_E)
        return row

    def _fit_codebooks(self) -> None:
        latent_ND = torch.cat(self.recent_latents)
        self.quantizer.fit(latent_ND, self.generator)
        per_batch = self.recent_latents[0].shape[0]
        self.ema.reset(per_batch / self.quantizer.codebooks_KED.shape[1])
        self.recent_latents = []

    def _state(self) -> dict[str, Any]:
        return {
            "ema": self.ema.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "recent_latents": self.recent_latents,
        }

    def _load_state(self, state: dict[str, Any]) -> None:
        self.ema.load_state_dict(state["ema"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.recent_latents = state["recent_latents"]


def draw_levels(batch: int, levels: int, generator: torch.Generator) -> torch.Tensor:
    """Levels used by each crop, int64 [B]: all of them in one half of the batch, a random number in the other."""
    drawn_B = torch.randint(1, levels + 1, (batch,), generator=generator)
    drawn_B[: (batch + 1) // 2] = levels
    return drawn_B
