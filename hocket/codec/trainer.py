"""Trains a spectral codec from waveforms on one process; resumes bit for bit from its checkpoint.

One step: a batch of one-second crops (some with their speed changed) goes through encoder, residual quantizer and
decoder; the loss is a multi-scale spectral distance plus 0.25 x the commitment of the latents to their entries.
The first steps run unquantized; then k-means sets the codebooks on the latents seen last. Half of each batch uses a
random number of levels, so that prefixes of the levels decode well. The bundled codec's size takes 0.3 to 0.4 s a
step on one thread of an AVX-512 CPU (24 crops, bf16 autocast); half of that are the losses.

Shapes: B batch, S samples, T codec frames, D latent width, K levels, N = B*T.
"""

import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import soxr
import torch
from torch import nn

from hocket.codec.codebook_ema import CodebookEMA
from hocket.codec.losses import MultiScaleDistance
from hocket.codec.spectral import SpectralCodec
from hocket.codec.spectral_net import overlap_add

CHECKPOINT = "trainer.pt"


@dataclass(frozen=True, kw_only=True)
class CodecTraining:
    """Settings of one training; the bundled codec took the defaults with minutes=46, steps=20000, seed=1."""

    steps: int = 8000  # the schedule's end
    minutes: float = float("inf")  # the schedule's end in wall time, if that comes first
    batch: int = 24  # crops
    crop: float = 1.0  # seconds
    learning_rate: float = 8e-4
    warmup: int = 150  # steps
    decay_share: float = 0.3  # the last share of the schedule, over which the rate falls to zero
    unquantized: int = 250  # steps before k-means sets the codebooks
    fit_batches: int = 20  # batches whose latents k-means sees
    commitment: float = 0.25
    clip: float = 2.0  # gradient norm
    speeds: tuple[float, ...] = (0.85, 0.92, 1.0, 1.0, 1.09, 1.18)  # one is drawn for each crop
    gains_db: tuple[float, float] = (-9.0, 3.0)
    bf16: bool = True
    seed: int = 0


class CropSampler:
    """Draws crops from waveforms in memory, each second of audio equally likely."""

    def __init__(self, waves: list[np.ndarray], n_samples: int, settings: CodecTraining):
        self.waves, self.n_samples, self.settings = waves, n_samples, settings
        lengths = np.array([len(wave) for wave in waves], dtype=np.float64)
        self.cumulative = np.cumsum(lengths) / lengths.sum()

    def draw(self, random: np.random.Generator) -> torch.Tensor:
        """A batch [B, S] of float32 crops at changed speeds and gains."""
        crops = [self._crop(random) for _ in range(self.settings.batch)]
        return torch.from_numpy(np.stack(crops))

    def _crop(self, random: np.random.Generator) -> np.ndarray:
        wave = self.waves[min(int(np.searchsorted(self.cumulative, random.random())), len(self.waves) - 1)]
        speed = self.settings.speeds[random.integers(len(self.settings.speeds))]
        needed = int(self.n_samples * speed) + 1
        start = int(random.integers(max(len(wave) - needed, 0) + 1))
        crop = wave[start : start + needed].astype(np.float32) / 32768
        if speed != 1.0:
            crop = soxr.resample(crop, speed, 1.0, quality="MQ")
        crop = crop[: self.n_samples] * 10 ** (random.uniform(*self.settings.gains_db) / 20)
        offset = int(random.integers(self.n_samples - len(crop) + 1))
        return np.pad(crop, (offset, self.n_samples - len(crop) - offset)).astype(np.float32)


class CodecTrainer:
    """Holds everything a training needs to go on: weights, codebook means, optimizer, random states, clock."""

    def __init__(self, codec: SpectralCodec, waves: list[np.ndarray], settings: CodecTraining, folder: Path):
        """`waves` are int16 arrays at the codec's rate; `folder` takes `metrics.jsonl` and the checkpoint."""
        self.codec, self.settings, self.folder = codec, settings, Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.encoder, self.decoder, self.quantizer = codec.net.encoder, codec.net.decoder, codec.net.quantizer
        self.sampler = CropSampler(waves, round(settings.crop * codec.sample_rate / codec.hop) * codec.hop, settings)
        self.distance = MultiScaleDistance(codec.sample_rate).to(codec.device)
        self.ema = CodebookEMA(self.quantizer)
        self.optimizer = torch.optim.AdamW(self._groups(), lr=settings.learning_rate, betas=(0.9, 0.99))
        self.random = np.random.default_rng(settings.seed)
        self.generator = torch.Generator().manual_seed(settings.seed)
        self.step, self.seconds, self.recent_latents = 0, 0.0, []

    def _groups(self) -> list[dict]:
        parameters = list(self.codec.net.parameters())
        matrices = [p for p in parameters if p.ndim == 2]
        return [
            {"params": matrices, "weight_decay": 0.01},
            {"params": [p for p in parameters if p.ndim != 2], "weight_decay": 0.0},
        ]

    @property
    def progress(self) -> float:
        """How far the schedule is, 0 to 1, by steps or by wall time, whichever is further."""
        return max(self.step / self.settings.steps, self.seconds / 60 / self.settings.minutes)

    def learning_rate(self) -> float:
        warm = min(1.0, (self.step + 1) / self.settings.warmup)
        cool = min(1.0, max(0.0, (1 - self.progress) / self.settings.decay_share))
        return self.settings.learning_rate * warm * cool

    def run(self, log_every: int = 50, save_every: float = 180.0, until: int | None = None) -> None:
        """Trains to the end of the schedule (or to step `until`); saves every `save_every` seconds and at the end."""
        last_save = time.monotonic()
        while self.progress < 1 and (until is None or self.step < until):
            row = self.train_step()
            if self.step % log_every == 0:
                self._log(row)
            if time.monotonic() - last_save > save_every:
                self.save()
                last_save = time.monotonic()
        self.save()

    def train_step(self) -> dict[str, float]:
        """One optimizer step; its losses, codebook use and perplexity by name."""
        start = time.monotonic()
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate()
        wav_BS = self.sampler.draw(self.random).to(self.codec.device)
        loss, row = self._loss(wav_BS)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        norm = nn.utils.clip_grad_norm_(self.codec.net.parameters(), self.settings.clip)
        self.optimizer.step()
        self.step += 1
        if self.step == self.settings.unquantized:
            self._fit_codebooks()
        self.seconds += time.monotonic() - start
        return row | {"loss": loss.item(), "grad_norm": float(norm), "lr": self.optimizer.param_groups[0]["lr"]}

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
        levels_N = self._draw_levels(latent_BTD.shape[0]).repeat_interleave(latent_BTD.shape[1]).to(latent_ND.device)
        chosen_ND = sums_KND[levels_N - 1, torch.arange(len(latent_ND), device=latent_ND.device)]
        straight_ND = latent_ND + (chosen_ND - latent_ND).detach()
        return straight_ND.view_as(latent_BTD), commitment, self._codebook_use(codes_KN)

    def _draw_levels(self, batch: int) -> torch.Tensor:
        """Levels used by each crop: all of them in one half of the batch, a random number in the other."""
        levels = self.codec.levels
        drawn_B = torch.randint(1, levels + 1, (batch,), generator=self.generator)
        drawn_B[: (batch + 1) // 2] = levels
        return drawn_B

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

    def _log(self, row: dict[str, float]) -> None:
        record = {"step": self.step, "seconds": round(self.seconds, 1)}
        record |= {name: float(f"{value:.5g}") for name, value in row.items()}
        with (self.folder / "metrics.jsonl").open("a") as file:
            file.write(json.dumps(record) + "\n")

    def save(self) -> None:
        """Writes the checkpoint aside and renames it, so that a kill leaves the one before."""
        state = {
            "net": self.codec.net.state_dict(),
            "ema": self.ema.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "numpy": self.random.bit_generator.state,
            "generator": self.generator.get_state(),
            "recent_latents": self.recent_latents,
            "step": self.step,
            "seconds": self.seconds,
            "settings": asdict(self.settings),
        }
        aside = self.folder / (CHECKPOINT + ".aside")
        torch.save(state, aside)
        aside.replace(self.folder / CHECKPOINT)

    def resume(self) -> bool:
        """Takes up the folder's checkpoint, if there is one."""
        path = self.folder / CHECKPOINT
        if not path.exists():
            return False
        state = torch.load(path, map_location=self.codec.device, weights_only=True)
        self.codec.net.load_state_dict(state["net"])
        self.ema.load_state_dict(state["ema"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.random.bit_generator.state = state["numpy"]
        self.generator.set_state(state["generator"].cpu())
        self.recent_latents = state["recent_latents"]
        self.step, self.seconds = state["step"], state["seconds"]
        return True
