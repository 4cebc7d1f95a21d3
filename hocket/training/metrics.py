"""What a run measures: sums that add up over micro-batches, processes and steps, and the files that rows go to.

All losses are in nats. `loss` is the weighted mean that training minimises; `loss/BLOCK` the plain mean over the cells
of one block, so that audio.3 of two runs can be compared whatever their weights, `stream_loss/STREAM` that over all
levels of a stream; `perplexity/…` is e to these. `data/fill` is the share of the budget of steps that holds documents,
`data/padding` the share of computed steps that does not, `data/wait` the share of the time that was spent waiting for
batches.
"""

import json
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import psutil
import torch

from hocket.data import Batch
from hocket.errors import InputError
from hocket.model import LossParts
from hocket.training.checkpoints import write_text
from hocket.training.trackers import Tracker


@dataclass
class Sums:
    """Sums of cross-entropy; `a.add(b)` of two windows is the window of both."""

    blocks: list[str]
    total: float = 0.0  # weight * cross-entropy
    weight: float = 0.0
    frames: float = 0.0
    nats: list[float] = field(default_factory=list)  # cross-entropy of each block
    cells: list[float] = field(default_factory=list)  # targets of each block

    def __post_init__(self) -> None:
        self.nats = self.nats or [0.0] * len(self.blocks)
        self.cells = self.cells or [0.0] * len(self.blocks)

    def add_parts(self, parts: LossParts, n_frames: int) -> None:
        """Add a micro-batch's loss; one transfer from the device."""
        zero = torch.zeros((), device=parts.total.device)
        by_block = [parts.by_block.get(block, (zero, zero)) for block in self.blocks]
        scalars = [parts.total.detach(), parts.weight.detach(), *(x for pair in by_block for x in pair)]
        values = torch.stack([torch.as_tensor(x, device=zero.device).float() for x in scalars]).tolist()
        self.add_vector([values[0], values[1], float(n_frames), *values[2::2], *values[3::2]])

    def vector(self) -> list[float]:
        return [self.total, self.weight, self.frames, *self.nats, *self.cells]

    def add_vector(self, values: list[float]) -> None:
        n = len(self.blocks)
        self.total += values[0]
        self.weight += values[1]
        self.frames += values[2]
        self.nats = [a + b for a, b in zip(self.nats, values[3 : 3 + n], strict=True)]
        self.cells = [a + b for a, b in zip(self.cells, values[3 + n :], strict=True)]

    @property
    def n_cells(self) -> float:
        """Targets in all blocks: what is counted as tokens."""
        return sum(self.cells)

    def perplexities(self, prefix: str) -> dict[str, float]:
        """e to the loss, by block and by stream; and the losses by stream, which are means over their cells."""
        nats, cells = dict(zip(self.blocks, self.nats, strict=True)), dict(zip(self.blocks, self.cells, strict=True))
        streams: dict[str, list[str]] = {}
        for block in self.blocks:
            name = block if block.startswith("<") else block.rpartition(".")[0] or block
            streams.setdefault(name, []).append(block)
        by_stream = {
            name: sum(nats[block] for block in blocks) / count
            for name, blocks in streams.items()
            if (count := sum(cells[block] for block in blocks))
        }
        by_block = {block: nats[block] / cells[block] for block in self.blocks if cells[block]}
        row = {f"{prefix}stream_loss/{name}": loss for name, loss in by_stream.items()}
        largest = math.log(sys.float_info.max)
        return row | {
            f"{prefix}perplexity/{name}": math.exp(min(loss, largest)) for name, loss in (by_block | by_stream).items()
        }

    def losses(self, prefix: str) -> dict[str, float]:
        """{"PREFIXloss": …, "PREFIXaudio.0": …}, the blocks under "loss/" where the prefix is empty."""
        row = {f"{prefix}loss": self.total / self.weight if self.weight else 0.0}
        for block, nats, cells in zip(self.blocks, self.nats, self.cells, strict=True):
            if cells:
                row[f"{prefix or 'loss/'}{block}"] = nats / cells
        return row


@dataclass
class DataSums:
    """What the data cost and how full it was, over micro-batches and processes."""

    SIZE: ClassVar[int] = 7

    real: float = 0.0  # steps that are not padding
    computed: float = 0.0  # steps
    budget: float = 0.0  # steps that there was room for
    waited: float = 0.0  # seconds that processes waited for batches
    windows: float = 0.0  # that were waited for: one a process and optimizer step
    left_out: float = 0.0  # words of aligned text that did not fit before the end of their audio
    flops: float = 0.0  # operations that the model needs for it

    @classmethod
    def of(cls, window: Sequence[Batch], waited: float, flops: float = 0.0) -> "DataSums":
        """Of one process' window, for which it waited some seconds and which takes so many operations."""
        return cls(
            real=sum(batch.n_real_steps for batch in window),
            computed=sum(batch.n_steps for batch in window),
            budget=sum(batch.budget or batch.n_steps for batch in window),
            waited=waited,
            windows=1,
            left_out=sum(batch.n_left_out for batch in window),
            flops=flops,
        )

    def vector(self) -> list[float]:
        return [self.real, self.computed, self.budget, self.waited, self.windows, self.left_out, self.flops]

    def add_vector(self, values: Sequence[float]) -> None:
        """Add the sums of another window."""
        total = [a + b for a, b in zip(self.vector(), values, strict=True)]
        self.real, self.computed, self.budget, self.waited, self.windows, self.left_out, self.flops = total

    def row(self, seconds: float) -> dict[str, float]:
        """Shares for the log; `seconds` is the mean length of a step."""
        row = {
            "data/fill": self.real / self.budget,
            "data/padding": 1 - self.real / self.computed,
            "data/wait": self.waited / self.windows / seconds,
        }
        return row | ({"data/left_out_words": self.left_out} if self.left_out else {})


class MetricsFiles:
    """metrics.jsonl of a run from a step on (later rows of an earlier attempt are dropped), and where else rows go:
    TensorBoard's events, a tracker."""

    def __init__(self, jsonl: Path, tensorboard: Path | None, step: int, tracker: Tracker | None = None):
        self._path, self._tracker = jsonl, tracker
        kept = [row for row in read_rows(jsonl) if row["step"] <= step]
        write_text(jsonl, "".join(json.dumps(row) + "\n" for row in kept))
        self.last: dict[str, Any] = {}
        for row in kept:
            self.last |= row
        self._events = None
        if tensorboard is not None:
            from torch.utils.tensorboard import SummaryWriter  # noqa: PLC0415

            self._events = SummaryWriter(str(tensorboard), purge_step=step + 1)

    def write(self, row: dict[str, Any]) -> None:
        """Append a row; it is on disk when this returns."""
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        self.last |= row
        numbers = {key: value for key, value in row.items() if key != "step" and isinstance(value, int | float)}
        if self._tracker is not None:
            self._tracker.write(numbers, row["step"])
        if self._events is not None:
            for name, value in numbers.items():
                self._events.add_scalar(name, value, row["step"])

    def close(self) -> None:
        if self._tracker is not None:
            self._tracker.close()
        if self._events is not None:
            self._events.close()


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a metrics.jsonl; a last line that a kill has cut short is left out.

    Raises:
        InputError: another line is no row.
    """
    if not path.is_file():
        return []
    rows = []
    for number, line in enumerate(path.read_text(encoding="utf-8").split("\n")[:-1], 1):
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError as error:
            raise InputError(f'line {number} of "{path}" is no row of metrics: remove it to go on') from error
    return rows


def used_memory() -> int:
    """Bytes of this process: the peak on its GPU, or what it holds of the host's memory."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    return psutil.Process().memory_info().rss
