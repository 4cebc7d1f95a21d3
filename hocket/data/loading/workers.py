"""Processes that lay out batches ahead of the model, in order.

The parent decides which segments make a batch and sends these few numbers; a worker maps the corpora itself, reads the
codes and sends tensors back through shared memory (torch's DataLoader). A worker that meets bad input says so in the
parent's words.

Laying out a packed batch of 2,048 steps takes 0.5 to 1.4 ms in the parent, a batch's way from a worker up to 4: workers
are for layouts by spans, slow disks and models that leave processors idle.
"""

import math
import multiprocessing
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from types import FrameType
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from hocket.data.loading.batch import TENSORS, Batch
from hocket.data.loading.documents import Documents
from hocket.data.loading.segments import Segments
from hocket.errors import InputError

AHEAD = 4  # batches that each worker makes ahead
DIED = (
    "a data worker was killed from outside, perhaps because memory ran out: the same command goes on from the last "
    "checkpoint; data.workers=0 does without workers"
)
Task = tuple[Segments, np.ndarray]
Shapes = list[tuple[str, torch.dtype, tuple[int, ...]]]


class Workers:
    """Turns tasks into batches, in as many processes."""

    def __init__(self, documents: Documents, n_workers: int):
        if n_workers < 0:
            raise InputError(f"the number of data workers is {n_workers}, but must be at least 0")
        self._documents, self._n_workers = documents, n_workers
        self._running: Any = None

    def run(self, tasks: Iterator[Task]) -> Iterator[Batch]:
        """The batches of all tasks, in order. What ran before is ended."""
        self.close()
        if not self._n_workers:
            return (self._documents.lay_out(*task) for task in tasks)
        return self._ahead(tasks)

    def close(self) -> None:
        """End the processes."""
        if self._running is not None:
            self._running._shutdown_workers()
        self._running = None

    def _ahead(self, tasks: Iterator[Task]) -> Iterator[Batch]:
        with (
            warnings.catch_warnings()
        ):  # the worker touches none of the parent's threads; how many is the user's choice
            warnings.filterwarnings("ignore", message="This DataLoader will create", category=UserWarning)
            loader = DataLoader(
                _Worker(self._documents),
                batch_size=None,
                sampler=_Tasks(tasks),
                num_workers=self._n_workers,
                prefetch_factor=AHEAD,
                multiprocessing_context="fork" if sys.platform == "linux" else multiprocessing.get_start_method(),
            )
            warnings.filterwarnings("ignore", message=".*multi-threaded, use of fork.*", category=DeprecationWarning)
            self._running = iter(loader)
        _name_deaths()
        while True:
            made = self._next_made()
            if isinstance(made, InputError):
                raise made
            yield _unwrap(*made)

    def _next_made(self) -> Any:
        """Of the workers. Raises InputError where one of them died, killed for its memory for example."""
        try:
            return next(self._running)
        except RuntimeError as error:
            if "exited unexpectedly" not in str(error):
                raise
            raise InputError(DIED) from error


def _name_deaths() -> None:
    """The RuntimeError that torch's handler of SIGCHLD raises where a worker died is an InputError from now on."""
    before = signal.getsignal(signal.SIGCHLD) if hasattr(signal, "SIGCHLD") else None
    if not callable(before) or before is _named or threading.current_thread() is not threading.main_thread():
        return
    _handlers[:] = [before]
    signal.signal(signal.SIGCHLD, _named)


def _named(number: int, frame: FrameType | None) -> None:
    try:
        _handlers[0](number, frame)
    except RuntimeError as error:
        raise InputError(DIED) from error


_handlers: list[Callable[[int, FrameType | None], object]] = []  # torch's


class _Tasks(Sampler):
    """An endless sampler whose indices are tasks."""

    def __init__(self, tasks: Iterable[Task]):
        self._tasks = tasks

    def __iter__(self) -> Iterator[Task]:
        return iter(self._tasks)


class _Worker(Dataset):
    """Lays out one task; an error for the user travels as a value."""

    def __init__(self, documents: Documents):
        self._documents = documents

    def __getitem__(self, task: Task) -> tuple[Batch, Shapes, torch.Tensor] | InputError:
        try:
            return _wrap(self._documents.lay_out(*task))
        except InputError as error:
            return error


def _wrap(batch: Batch) -> tuple[Batch, Shapes, torch.Tensor]:
    """A batch without its tensors, and all of these as one run of bytes: one piece of shared memory instead of four."""
    held = {name: getattr(batch, name) for name in TENSORS if getattr(batch, name) is not None}
    tensors = dict(sorted(held.items(), key=lambda item: -item[1].itemsize))  # so that each begins aligned
    shapes = [(name, tensor.dtype, tuple(tensor.shape)) for name, tensor in tensors.items()]
    content = torch.cat([tensor.contiguous().view(torch.uint8).reshape(-1) for tensor in tensors.values()])
    return replace(batch, **dict.fromkeys(TENSORS)), shapes, content


def _unwrap(batch: Batch, shapes: Shapes, content: torch.Tensor) -> Batch:
    """The inverse of `_wrap`, without a copy."""
    tensors, at = {}, 0
    for name, dtype, shape in shapes:
        size = math.prod(shape) * dtype.itemsize
        tensors[name] = content[at : at + size].view(dtype).reshape(shape)
        at += size
    return replace(batch, **tensors)
