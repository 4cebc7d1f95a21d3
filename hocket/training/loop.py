"""The loop: fetch a window, update, report. Everything else is a callback with state.

A step fetches its whole window of micro-batches first, so that the sum of their weights over all processes is known
before the first backward pass; that is one number to reduce. A second reduction brings the losses together and tells
every process at once whether one of them was asked to stop or met a loss that is not finite.
"""

import math
import signal
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import FrameType
from typing import Any

from hocket.data import Batch
from hocket.data.loading import PackedLoader
from hocket.errors import InputError
from hocket.training.config import TrainingGroup
from hocket.training.engine import Engine
from hocket.training.metrics import DataSums, Sums
from hocket.training.schedule import learning_rate


@dataclass(frozen=True)
class Report:
    """What one step did, equal on every process."""

    step: int
    sums: Sums
    rate: float  # learning rate
    norm: float  # of the gradient, before clipping
    seconds: float
    data: DataSums
    epoch: int
    is_last: bool  # the step that the recipe ends with
    stopping: bool  # the loop ends after this step, asked by a signal
    worst: tuple[float, list[str]]  # this process' micro-batch with the highest mean loss: that, and its examples


class Callback:
    """A feature of training. `state` goes into every checkpoint; the order of callbacks is the order of calls."""

    name = ""

    def on_start(self, step: int) -> None:
        """Called once, with the number of steps already done."""

    def on_step(self, report: Report) -> None:
        """Called after every step."""

    def close(self) -> None:
        """Called at the end, whatever ended it."""

    def state(self) -> dict[str, Any]:
        return {}

    def load_state(self, state: dict[str, Any]) -> None:
        """Undo `state`."""


class StopSignal:
    """While entered, SIGTERM and Ctrl-C ask for a stop after the current step; a second Ctrl-C interrupts at once."""

    def __init__(self) -> None:
        self.number = 0
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "StopSignal":
        if threading.current_thread() is threading.main_thread():
            self._before = {n: signal.signal(n, self._ask) for n in (signal.SIGTERM, signal.SIGINT)}
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if self.number and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.number = number


class Loop:
    """Trains from `step` to `training.steps`."""

    def __init__(
        self,
        engine: Engine,
        loader: PackedLoader,
        training: TrainingGroup,
        blocks: list[str],
        callbacks: Sequence[Callback],
        step: int = 0,
        flops: Callable[[Batch], float] | None = None,
    ):
        self._flops = flops or (lambda batch: 0.0)
        self.engine, self.loader, self.training = engine, loader, training
        self.blocks, self.callbacks, self.step = blocks, callbacks, step

    def run(self) -> int:
        """Train; returns the number of the signal that ended it early, or 0."""
        try:
            with StopSignal() as stop:
                for callback in self.callbacks:
                    callback.on_start(self.step)
                while self.step < self.training.steps:
                    report = self._advance(stop)
                    for callback in self.callbacks:
                        callback.on_step(report)
                    if report.stopping:
                        return stop.number or signal.SIGTERM
            return 0
        finally:
            for callback in self.callbacks:
                callback.close()

    def state(self) -> dict[str, Any]:
        """All but the engine's: where the data and the callbacks stand."""
        return {
            "loader": self.loader.state_dict(),
            "callbacks": {callback.name: callback.state() for callback in self.callbacks},
        }

    def load_state(self, state: dict[str, Any]) -> None:
        self.step = state["step"]
        self.loader.load_state_dict(state["loader"])
        for callback in self.callbacks:
            callback.load_state(state["callbacks"].get(callback.name, {}))

    def _advance(self, stop: StopSignal) -> Report:
        start = time.perf_counter()
        self.step += 1
        window = [next(self.loader) for _ in range(self.training.accumulation)]
        waited = time.perf_counter() - start
        data = DataSums.of(window, waited, sum(self._flops(batch) for batch in window))
        weight = self.engine.sum([sum(target_weight(batch) for batch in window)])[0]
        if weight == 0:
            raise InputError(f"step {self.step} has nothing to predict (examples {_names(window)})")
        rate = learning_rate(self.step, self.training)
        parts, norm = self.engine.update([batch.to(self.engine.device) for batch in window], weight, rate)
        sums = Sums(self.blocks)
        totals, worst = [], (-math.inf, list[str]())
        for batch, part in zip(window, parts, strict=True):
            before = sums.total, sums.weight
            sums.add_parts(part, batch.n_frames)
            totals.append(sums.total - before[0])
            mean = totals[-1] / (sums.weight - before[1]) if sums.weight > before[1] else -math.inf
            worst = max(worst, (mean, batch.example_ids), key=lambda pair: pair[0])
        asked, *values = self.engine.sum([float(stop.number > 0), *data.vector(), *sums.vector()])
        everywhere = Sums(self.blocks)
        everywhere.add_vector(values[DataSums.SIZE :])
        data = DataSums(*values[: DataSums.SIZE])
        if not (math.isfinite(everywhere.total) and math.isfinite(norm)):
            self._refuse(window, totals)
        is_last = self.step == self.training.steps
        seconds = time.perf_counter() - start
        stopping = asked > 0 and not is_last
        return Report(self.step, everywhere, rate, norm, seconds, data, self.loader.epoch, is_last, stopping, worst)

    def _refuse(self, window: list[Batch], totals: list[float]) -> None:
        """End with the names of the examples whose loss is not finite, from whichever process met them."""
        bad = [batch for batch, total in zip(window, totals, strict=True) if not math.isfinite(total)]
        names = [name for names in self.engine.gather([i for b in bad for i in b.example_ids]) for name in names]
        what = "the loss" if names else "the gradient"
        shown = ", ".join(names[:5] or _names(window).split(", ")) + (", …" if len(names) > 5 else "")
        raise InputError(
            f"{what} of step {self.step} is not finite (examples {shown}): lower training.lr, or look at these examples"
        )


def target_weight(batch: Batch) -> float:
    """Sum of w over the cells that are predicted: all but those of each document's first step."""
    return float(batch.weight_NR[~batch.is_start_N].double().sum())


def _names(window: list[Batch]) -> str:
    return ", ".join([name for batch in window for name in batch.example_ids][:5])
