"""What both trainings share: a schedule by steps or wall time, a log, and a checkpoint that resumes bit for bit."""

import json
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hocket.codec.spectral import SpectralCodec

SAVE_SECONDS = 180.0


@dataclass(frozen=True, kw_only=True)
class TrainingSettings:
    """Batches, schedule and augmentation."""

    steps: int = 8000  # the schedule's end
    minutes: float = float("inf")  # the schedule's end in wall time, if that comes first
    batch: int = 24  # crops
    crop: float = 1.0  # seconds
    learning_rate: float = 8e-4
    warmup: int = 150  # steps
    decay_share: float = 0.3  # the last share of the schedule, over which the rate falls to zero
    clip: float = 2.0  # gradient norm
    speeds: tuple[float, ...] = (0.85, 0.92, 1.0, 1.0, 1.09, 1.18)  # one is drawn for each crop
    gains_db: tuple[float, float] = (-9.0, 3.0)
    bf16: bool = True
    seed: int = 0


class ScheduledTrainer(ABC):
    """Holds everything a training needs to go on: weights, optimizer states, random states, clock."""

    checkpoint: str
    """Name of the checkpoint file."""

    def __init__(self, codec: SpectralCodec, settings: TrainingSettings, folder: Path):
        self.codec, self.settings, self.folder = codec, settings, Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.random = np.random.default_rng(settings.seed)
        self.generator = torch.Generator().manual_seed(settings.seed)
        self.step, self.seconds = 0, 0.0

    def conclude(self) -> None:
        """Makes the codec ready for use once the schedule has ended; checkpoints hold what was before that."""
        self.codec.net.eval()

    @abstractmethod
    def _update(self) -> dict[str, float]:
        """One optimizer step; its losses by name."""

    @abstractmethod
    def _state(self) -> dict[str, Any]:
        """What the subclass has to save."""

    @abstractmethod
    def _load_state(self, state: dict[str, Any]) -> None:
        """Takes what `_state` gave."""

    @property
    def progress(self) -> float:
        """How far the schedule is, 0 to 1, by steps or by wall time, whichever is further."""
        return max(self.step / self.settings.steps, self.seconds / 60 / self.settings.minutes)

    def learning_rate(self) -> float:
        warm = min(1.0, (self.step + 1) / self.settings.warmup)
        cool = min(1.0, max(0.0, (1 - self.progress) / self.settings.decay_share))
        return self.settings.learning_rate * warm * cool

    def run(
        self,
        log_every: int = 50,
        until: int | None = None,
        on_log: Callable[[dict[str, float]], object] | None = None,
        stopped: Callable[[], bool] = lambda: False,
    ) -> None:
        """Trains to the end of the schedule (or to step `until`); saves every three minutes and at the end.

        `on_log` gets each row that is logged, with `step`, `seconds` and `progress`. Once `stopped()` is true the
        training ends after its step.
        """
        last_save = time.monotonic()
        while self.progress < 1 and (until is None or self.step < until) and not stopped():
            row = self.train_step()
            if self.step % log_every == 0:
                record = self._log(row)
                if on_log:
                    on_log(record | {"progress": self.progress})
            if time.monotonic() - last_save > SAVE_SECONDS:
                self.save()
                last_save = time.monotonic()
        self.save()

    def train_step(self) -> dict[str, float]:
        """One step on the clock; its losses by name."""
        start, rate = time.monotonic(), self.learning_rate()
        for optimizer in self._optimizers():
            for group in optimizer.param_groups:
                group["lr"] = rate * group.get("speed", 1.0)
        row = self._update()
        self.step += 1
        self.seconds += time.monotonic() - start
        return row | {"lr": rate}

    @abstractmethod
    def _optimizers(self) -> list[torch.optim.Optimizer]: ...

    def _log(self, row: dict[str, float]) -> dict[str, float]:
        record: dict[str, float] = {"step": self.step, "seconds": round(self.seconds, 1)}
        record |= {name: float(f"{value:.5g}") for name, value in row.items()}
        with (self.folder / "metrics.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")
        return record

    def save(self) -> None:
        """Writes the checkpoint aside and renames it, so that a kill leaves the one before."""
        state = {
            "net": self.codec.net.state_dict(),
            "numpy": self.random.bit_generator.state,
            "generator": self.generator.get_state(),
            "step": self.step,
            "seconds": self.seconds,
            "settings": asdict(self.settings),
        }
        aside = self.folder / (self.checkpoint + ".aside")
        torch.save(state | self._state(), aside)
        aside.replace(self.folder / self.checkpoint)

    def resume(self) -> bool:
        """Takes up the folder's checkpoint, if there is one."""
        path = self.folder / self.checkpoint
        if not path.exists():
            return False
        state = torch.load(path, map_location=self.codec.device, weights_only=True)
        self.codec.net.load_state_dict(state["net"])
        self.random.bit_generator.state = state["numpy"]
        self.generator.set_state(state["generator"].cpu())
        self.step, self.seconds = state["step"], state["seconds"]
        self._load_state(state)
        return True
