"""What happens around the steps: rows of metrics, validation, the progress bar, checkpoints."""

import contextlib
import math
import sys
import time
from collections.abc import Callable
from typing import Any

from hocket.data.loading import Batch
from hocket.errors import InputError
from hocket.model import Model
from hocket.progress import ProgressBar
from hocket.training.bits import Nats, bits_per_second, has_exact_bits, watching_structure
from hocket.training.ema import WeightAverage
from hocket.training.engine import Engine
from hocket.training.loop import Callback, Report
from hocket.training.metrics import DataSums, MetricsFiles, Sums, used_memory


class MetricsLog(Callback):
    """Writes a row every `every` steps: means over these steps, and what the run has seen so far.

    Args:
        frame_rate: of the audio, in Hz.
        peak_flops: what all devices can do in a second; without it there is no MFU.
        has_bits: whether the losses of a step add up to all that was said in it; not where codes are masked.
    """

    name = "metrics"

    def __init__(
        self,
        files: MetricsFiles | None,
        blocks: list[str],
        frame_rate: float,
        every: int,
        peak_flops: float | None,
        has_bits: bool = True,
    ):
        self._files, self._blocks, self._frame_rate, self._every = files, blocks, frame_rate, every
        self._peak_flops, self._has_bits = peak_flops, has_bits
        self._sums, self._data = Sums(blocks), DataSums()
        self._seconds, self._steps = 0.0, 0
        self._tokens, self._frames, self._flops = 0.0, 0.0, 0.0  # of the whole run
        self._wall_before, self._started = 0.0, time.monotonic()

    def on_step(self, report: Report) -> None:
        self._sums.add_vector(report.sums.vector())
        self._data.add_vector(report.data.vector())
        self._seconds += report.seconds
        self._steps += 1
        self._tokens += report.sums.n_cells
        self._frames += report.sums.frames
        self._flops += report.data.flops
        if report.step % self._every == 0 or report.is_last:
            if self._files:
                self._files.write(self._row(report))
            self._sums, self._data = Sums(self._blocks), DataSums()
            self._seconds, self._steps = 0.0, 0

    def _row(self, report: Report) -> dict[str, Any]:
        return {
            "step": report.step,
            **self._sums.losses(""),
            **self._sums.perplexities(""),
            **self._bits(),
            "lr": report.rate,
            "grad_norm": report.norm,
            "tokens_per_second": self._sums.n_cells / self._seconds,
            "audio_seconds_per_second": self._sums.frames / self._frame_rate / self._seconds,
            **self._speed(),
            **self._data.row(self._seconds / self._steps),
            "tokens": int(self._tokens),
            "audio_seconds": self._frames / self._frame_rate,
            "flops": self._flops,
            "epoch": report.epoch,
            "wall": self._wall,
        }

    def _bits(self) -> dict[str, float]:
        """Of all that was predicted, by second of audio; means over the steps, so of weights that moved."""
        seconds = self._sums.frames / self._frame_rate
        if not (self._has_bits and seconds):
            return {}
        return {"bits_per_audio_second": sum(self._sums.nats) / math.log(2) / seconds}

    def _speed(self) -> dict[str, float]:
        flops = self._data.flops / self._seconds
        mfu = {"mfu": flops / self._peak_flops} if self._peak_flops else {}
        return {"tflops": flops / 1e12, **mfu, "memory_gib": used_memory() / 2**30}

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
            "frames": self._frames,
            "flops": self._flops,
            "wall": self._wall,
        }

    def load_state(self, state: dict[str, Any]) -> None:
        self._sums.add_vector(state["sums"])
        self._data.add_vector(state["data"])
        self._steps = state["steps"]
        self._seconds, self._tokens, self._wall_before = state["seconds"], state["tokens"], state["wall"]
        self._frames, self._flops = state["frames"], state["flops"]

    def close(self) -> None:
        if self._files:
            self._files.close()


class Spikes(Callback):
    """Names the examples of a step whose loss lies far above the running mean: in metrics.jsonl and on stderr.

    Mean and variance fade over some 50 steps; a spike counts no more than what would just be none.
    """

    name = "spikes"
    KEEP, LEAST, SHOWN = 0.98, 20, 16

    def __init__(self, engine: Engine, files: MetricsFiles | None, deviations: float):
        self._engine, self._files, self._deviations = engine, files, deviations
        self._n, self._mean, self._variance = 0, 0.0, 0.0

    def on_step(self, report: Report) -> None:
        loss = report.sums.total / report.sums.weight
        bound = self._mean + self._deviations * math.sqrt(self._variance)
        if self._n >= self.LEAST and loss > bound:
            self._tell(report, loss)
            loss = bound
        self._n += 1
        share = max(1 - self.KEEP, 1 / self._n)
        away = loss - self._mean
        self._mean += share * away
        self._variance = (1 - share) * (self._variance + share * away**2)

    def _tell(self, report: Report, loss: float) -> None:
        """Every process calls it: all see the same loss."""
        names = max(self._engine.gather(report.worst), key=lambda pair: pair[0])[1]
        if self._files:
            held = {"spike": loss, "spike_mean": self._mean, "spike_deviation": math.sqrt(self._variance)}
            self._files.write({"step": report.step, **held, "examples": names[: self.SHOWN], "n_examples": len(names)})
            print(
                f"step {report.step}: the loss jumps to {loss:.3f} from a mean of {self._mean:.3f} "
                f"(examples {', '.join(names[:5])}{', …' if len(names) > 5 else ''})",
                file=sys.stderr,
            )

    def state(self) -> dict[str, Any]:
        return {"n": self._n, "mean": self._mean, "variance": self._variance}

    def load_state(self, state: dict[str, Any]) -> None:
        self._n, self._mean, self._variance = state["n"], state["mean"], state["variance"]


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
        model: Model,
        average: WeightAverage | None = None,
    ):
        self._engine, self._batches, self._blocks, self._files, self._every = engine, batches, blocks, files, every
        self._model, self._average = model, average
        self.scored_at, self.loss = 0, 0.0
        """The step that was scored last, and its valid/loss."""

    def on_step(self, report: Report) -> None:
        if not self._batches or (report.step % self._every and not report.is_last):
            return
        with self._average.applied() if self._average else contextlib.nullcontext():
            sums, structure = self._score()
        row = sums.losses("valid/") | sums.perplexities("valid_")
        if structure is not None and sums.frames:
            row |= self._bits(sums, structure)
        if not math.isfinite(row["valid/loss"]):  # before this step is saved
            raise InputError(f"valid/loss of step {report.step} is not finite: lower training.lr")
        self.scored_at, self.loss = report.step, row["valid/loss"]
        if self._files:
            self._files.write({"step": report.step, **row})

    def _score(self) -> tuple[Sums, dict[str, float] | None]:
        """Over all processes; nats of structure by block where the model gives a likelihood."""
        mine, everywhere, is_exact = Sums(self._blocks), Sums(self._blocks), has_exact_bits(self._model)
        with watching_structure(self._model) if is_exact else contextlib.nullcontext({}) as watched:
            for start in range(0, len(self._batches), self._engine.world_size):
                number = start + self._engine.rank  # a process without a batch runs the first again: Engine.evaluate
                batch, before = self._batches[number if number < len(self._batches) else 0], dict(watched)
                parts = self._engine.evaluate(batch.to(self._engine.device))
                if number < len(self._batches):
                    mine.add_parts(parts, batch.n_frames)
                else:
                    watched |= before
        structure = [watched.get(block, 0.0) for block in self._blocks]
        values = self._engine.sum([*mine.vector(), *structure])
        everywhere.add_vector(values[: -len(structure)])
        structure = dict(zip(self._blocks, values[-len(structure) :], strict=True))
        return everywhere, structure if is_exact else None

    def _bits(self, sums: Sums, structure: dict[str, float]) -> dict[str, float]:
        nats = Nats(dict(zip(self._blocks, sums.nats, strict=True)), structure)
        stream, seconds = self._model.main_stream, sums.frames / float(self._model.codec_identity.frame_rate)
        bits = bits_per_second(nats, stream, self._model.layout.streams[stream], seconds)
        return {f"valid_bits/{name}": value for name, value in bits.items()}


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
