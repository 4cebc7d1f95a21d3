"""Where training audio lies, and how crops of it are drawn.

All clips lie one after another as 16-bit samples in one file that is memory-mapped: a hundred hours at 16 kHz take
11.5 GB of disk and none of memory.

Shapes: B crops, S samples.
"""

import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import soxr
import torch

from hocket.codec.learning.loop import TrainingSettings
from hocket.errors import InputError

SAMPLES, INDEX = "audio.i16", "audio.json"


class AudioStore:
    """Waveforms of one rate in one memory-mapped file."""

    def __init__(self, folder: Path):
        """Opens what `write` made."""
        index = json.loads((folder / INDEX).read_text(encoding="utf-8"))
        self.sample_rate: int = index["sample_rate"]
        self.starts = np.cumsum([0, *index["n_samples"]])
        self.samples = np.memmap(folder / SAMPLES, dtype=np.int16, mode="r")

    def __len__(self) -> int:
        return len(self.starts) - 1

    def __getitem__(self, index: int) -> np.ndarray:
        return self.samples[self.starts[index] : self.starts[index + 1]]

    @property
    def seconds(self) -> float:
        return float(self.starts[-1] / self.sample_rate)

    @classmethod
    def write(cls, folder: Path, waves: Iterable[torch.Tensor], sample_rate: int) -> "AudioStore":
        """Writes float waveforms [S], read one at a time; the index comes last, so a killed write is made again.

        Raises InputError where there is none.
        """
        folder.mkdir(parents=True, exist_ok=True)
        n_samples = []
        with (folder / SAMPLES).open("wb") as file:
            for wav_S in waves:
                file.write((wav_S.clamp(-1, 1) * 32767).to(torch.int16).numpy().tobytes())
                n_samples.append(len(wav_S))
        if not sum(n_samples):
            raise InputError("no clip is left to train on")
        index = {"sample_rate": sample_rate, "n_samples": n_samples}
        (folder / INDEX).write_text(json.dumps(index) + "\n", encoding="utf-8")
        return cls(folder)


class CropSampler:
    """Draws crops, each second of audio equally likely, at changed speeds and gains."""

    def __init__(self, store: AudioStore, hop: int, settings: TrainingSettings):
        self.store, self.settings = store, settings
        self.n_samples = round(settings.crop * store.sample_rate / hop) * hop

    def draw(self, random: np.random.Generator) -> torch.Tensor:
        """A batch [B, S] of float32 crops."""
        return torch.from_numpy(np.stack([self._crop(random) for _ in range(self.settings.batch)]))

    def _crop(self, random: np.random.Generator) -> np.ndarray:
        drawn = int(random.random() * self.store.starts[-1])
        wave = self.store[int(np.searchsorted(self.store.starts, drawn, side="right")) - 1]
        speed = self.settings.speeds[random.integers(len(self.settings.speeds))]
        needed = int(self.n_samples * speed) + 1
        start = int(random.integers(max(len(wave) - needed, 0) + 1))
        crop = wave[start : start + needed].astype(np.float32) / 32768
        if speed != 1.0:
            crop = soxr.resample(crop, speed, 1.0, quality="MQ")
        crop = crop[: self.n_samples] * 10 ** (random.uniform(*self.settings.gains_db) / 20)
        offset = int(random.integers(self.n_samples - len(crop) + 1))
        return np.pad(crop, (offset, self.n_samples - len(crop) - offset)).astype(np.float32)
