"""What happens around the steps: rows of metrics, validation, the progress bar, checkpoints."""

import contextlib
import sys
import time
from collections.abc import Callable
from typing import Any

from hocket.data.loading import Batch
from hocket.progress import ProgressBar
from hocket.training.ema import WeightAverage
from hocket.training.engine import Engine
from hocket.training.loop import Callback, Report
from hocket.training.metrics import DataSums, MetricsFiles, Sums


class MetricsLog(Callback):
    """Writes a row every `every` steps: means over these steps, and what the run has seen so far."""

    name = "metrics"

    def __init__(self, files: MetricsFiles | None, blocks: list[str], frame_rate: float, every: int):
        self._files, self._blocks, self._frame_rate, self._every = files, blocks, frame_rate, every
        self._sums, self._data = Sums(blocks), DataSums()
        self._seconds, self._steps = 0.0, 0
        self._tokens = 0.0
        self._wall_before, self._started = 0.0, time.monotonic()

    def on_step(self, report: Report) -> None:
        self._sums.add_vector(report.sums.vector())
        self._data.add_vector(report.data.vector())
        self._seconds += report.seconds
        self._steps += 1
        self._tokens += report.sums.n_cells
        if report.step % self._every == 0 or report.is_last:
            if self._files:
                self._files.write(self._row(report))
            self._sums, self._data = Sums(self._blocks), DataSums()
            self._seconds, self._steps = 0.0, 0

    def _row(self, report: Report) -> dict[str, Any]:
        return {
            "step": report.step,
            **self._sums.losses(""),
            "lr": report.rate,
            "grad_norm": report.norm,
            "tokens_per_second": self._sums.n_cells / self._seconds,
            "audio_seconds_per_second": self._sums.frames / self._frame_rate / self._seconds,
            **self._data.row(self._seconds / self._steps),
            "tokens": int(self._tokens),
            "epoch": report.epoch,
            "wall": self._wall,
        }

    @property
    def _wall(self) -> float:
        return self._wall_before + time.monotonic() - self._started

    def state(self) -> dict[str, Any]:
        return {
            "sums": self._sums.vector(),
            "data": self._data.vector(),
            "steps": self._steps,
            "seconds": self._seconds,
            "tokens": self._tokens,
            "wall": self._wall,
        }

    def load_state(self, state: dict[str, Any]) -> None:
        self._sums.add_vector(state["sums"])
        self._data.add_vector(state["data"])
        self._steps = state["steps"]
        self._seconds, self._tokens, self._wall_before = state["seconds"], state["tokens"], state["wall"]

    def close(self) -> None:
        if self._files:
            self._files.close()


class Averaging(Callback):
    """Moves the average of the weights along, before anything reads it."""

    name = "ema"

    def __init__(self, average: WeightAverage):
        self._average = average

    def on_step(self, report: Report) -> None:
        self._average.update(report.step)


class Validation(Callback):
    """Scores the held-out batches, shared among the processes, every `every` steps and at the end.

    Args:
        average: what is scored in place of the weights, where there is one.
    """

    name = "validation"

    def __init__(
        self,
        engine: Engine,
        batches: list[Batch],
        blocks: list[str],
        files: MetricsFiles | None,
        every: int,
        average: WeightAverage | None = None,
    ):
        self._engine, self._batches, self._blocks, self._files, self._every = engine, batches, blocks, files, every
        self._average = average
        self.scored_at, self.loss = 0, 0.0
        """The step that was scored last, and its valid/loss."""

    def on_step(self, report: Report) -> None:
        if not self._batches or (report.step % self._every and not report.is_last):
            return
        with self._average.applied() if self._average else contextlib.nullcontext():
            everywhere = self._score()
        row = everywhere.losses("valid/")
        self.scored_at, self.loss = report.step, row["valid/loss"]
        if self._files:
            self._files.write({"step": report.step, **row})

    def _score(self) -> Sums:
        mine = Sums(self._blocks)
        for start in range(0, len(self._batches), self._engine.world_size):
            number = start + self._engine.rank  # a process without a batch runs the first again: see Engine.evaluate
            batch = self._batches[number if number < len(self._batches) else 0]
            parts = self._engine.evaluate(batch.to(self._engine.device))
            if number < len(self._batches):
                mine.add_parts(parts, batch.n_frames)
        everywhere = Sums(self._blocks)
        everywhere.add_vector(self._engine.sum(mine.vector()))
        return everywhere


class Progress(Callback):
    """The progress bar of the first process: loss, tokens a second, time left."""

    name = "progress"

    def __init__(self, steps: int):
        self._steps = steps
        self._bar = ProgressBar("train")

    def on_start(self, step: int) -> None:
        self._bar.__enter__()
        self._bar.update(step, self._steps)

    def on_step(self, report: Report) -> None:
        loss, speed = report.sums.total / report.sums.weight, report.sums.n_cells / report.seconds
        self._bar.update(report.step, self._steps, f"loss {loss:.3f}, {speed:,.0f} tokens/s")

    def close(self) -> None:
        self._bar.__exit__(*sys.exc_info())


class Checkpoints(Callback):
    """Saves every `every` steps, at the end, and when asked to stop."""

    name = "checkpoints"

    def __init__(self, save: Callable[[int], None], every: int):
        self._save, self._every = save, every

    def on_step(self, report: Report) -> None:
        if report.step % self._every == 0 or report.is_last or report.stopping:
            self._save(report.step)
