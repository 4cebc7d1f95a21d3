"""Reading ahead: clips are decoded and prepared in other threads or processes while the codec is at work.

    runs ──blocks of 10 minutes of audio──▶ workers: prepare(clip) ──▶ segments of a block, in order

Two blocks are in memory at most, one being encoded while the next is read: 77 MB at 16 kHz. A longer recording that is
cut is read segment by segment in this process. Where a worker dies, its block is read again; a clip that goes on
crashing one, alone in a process of its own at last, is rejected by name, and the others go on.
"""

import multiprocessing
import multiprocessing.connection
import multiprocessing.forkserver
import multiprocessing.resource_tracker
import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType

import torch

from hocket.data.clips import Clip, Rejected
from hocket.data.preparing import Preparation, Segment, StreamAudio, iter_segments
from hocket.data.tokenizing.runs import Item, Run

BLOCK_SECONDS = 600.0
MAX_WORKERS = 8
TRIES_TOGETHER, TRIES_ALONE = 2, 2

Prepared = list[Segment | Rejected]


@dataclass(frozen=True)
class Block:
    """Part of a run that is read at once."""

    run: Run
    first: int
    stop: int

    @property
    def items(self) -> list[Item]:
        return self.run.items[self.first : self.stop]

    @property
    def is_last(self) -> bool:
        """Of its run."""
        return self.stop == len(self.run.items)

    @property
    def seconds(self) -> float:
        """As stated."""
        return sum(self.run.seconds[self.first : self.stop])

    @property
    def is_long(self) -> bool:
        """Whether it is one recording that is too long to be prepared at once."""
        return self.stop - self.first == 1 and self.seconds > BLOCK_SECONDS


@dataclass(frozen=True)
class Part:
    """What became of a block, or of part of a long one."""

    block: Block
    made: Prepared
    seconds: float
    """Of audio."""
    is_last: bool = True
    """Of its block."""

    @property
    def ends_run(self) -> bool:
        return self.is_last and self.block.is_last


class Reader:
    """Prepares clips with `n_workers` processes, or with threads of this process where that is 0."""

    def __init__(self, streams: Sequence[StreamAudio], preparation: Preparation, n_workers: int = 0):
        self._task = (tuple(streams), preparation)
        self._n_workers = n_workers
        self._pool = self._open()

    def __enter__(self) -> "Reader":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        self._pool.shutdown(cancel_futures=True)

    def read(self, blocks: Iterable[Block]) -> Iterator[Part]:
        """Yield what became of the clips of each block, the next block being read meanwhile."""
        waiting: deque[tuple[Block, list[Future]]] = deque()
        for block in blocks:
            if block.is_long:
                while waiting:
                    yield self._results(*waiting.popleft())
                yield from self._stream(block)
                continue
            waiting.append((block, [self._submit(item) for item in block.items]))
            if len(waiting) > 1:
                yield self._results(*waiting.popleft())
        while waiting:
            yield self._results(*waiting.popleft())

    def _submit(self, item: Item) -> Future:
        with _undisturbed():
            try:
                return self._pool.submit(_prepare, item, *self._task)
            except (BrokenProcessPool, EOFError, ConnectionError):  # a worker, or the server that forks them, is dead
                self._pool = self._open()
                return self._pool.submit(_prepare, item, *self._task)

    def _results(self, block: Block, futures: list[Future]) -> Part:
        for _ in range(TRIES_TOGETHER):
            try:
                return Part(block, [made for future in futures for made in future.result()], block.seconds)
            except BrokenProcessPool:
                futures = [self._submit(item) for item in block.items]
        return Part(block, [made for item in block.items for made in self._alone(item)], block.seconds)

    def _stream(self, block: Block) -> Iterator[Part]:
        """One long recording, read here and handed on in parts of about the seconds of a block."""
        made: Prepared = []
        filled = 0.0
        for segment in _segments(block.items[0], *self._task):
            seconds = segment.duration if isinstance(segment, Segment) else 0.0
            if made and filled + seconds > BLOCK_SECONDS:
                yield Part(block, made, filled, is_last=False)
                made, filled = [], 0.0
            made.append(segment)
            filled += seconds
        yield Part(block, made, filled)

    def _alone(self, item: Item) -> Prepared:
        """A clip in a process of its own, after a crash."""
        for _ in range(TRIES_ALONE):
            with _process_pool(1) as pool:
                try:
                    with _undisturbed():
                        future = pool.submit(_prepare, item, *self._task)
                    return future.result()
                except BrokenProcessPool:
                    continue
        reason = f"reading it crashed the worker process {TRIES_TOGETHER + TRIES_ALONE} times"
        return [Rejected(id=item.id, audio=item.name if isinstance(item, Clip) else item.audio, reason=reason)]

    def _open(self) -> Executor:
        if self._n_workers:
            return _process_pool(self._n_workers)
        return ThreadPoolExecutor(min(MAX_WORKERS, os.cpu_count() or 1))


def cut_blocks(runs: Iterable[Run]) -> Iterator[Block]:
    """Each run as blocks of at most `BLOCK_SECONDS`, and at least one clip."""
    for run in runs:
        first, filled = 0, 0.0
        for index, seconds in enumerate(run.seconds):
            if index > first and filled + seconds > BLOCK_SECONDS:
                yield Block(run, first, index)
                first, filled = index, 0.0
            filled += seconds
        yield Block(run, first, len(run.items))


def default_workers(n_clips: int | None) -> int:
    """Processes worth their start: none for a few clips."""
    return 0 if n_clips is not None and n_clips < 512 else min(MAX_WORKERS, os.cpu_count() or 1)


def _process_pool(n_workers: int) -> ProcessPoolExecutor:
    method = "forkserver" if sys.platform == "linux" else "spawn"
    context = multiprocessing.get_context(method)
    if method == "forkserver":
        context.set_forkserver_preload([__name__])
        _start_fork_server()
    return ProcessPoolExecutor(n_workers, mp_context=context, initializer=_become_worker)


def _start_fork_server() -> None:
    """Without Ctrl-C, which a terminal sends to all processes: this one ends its workers, and they inherit its mask."""
    multiprocessing.resource_tracker.ensure_running()  # which unblocks Ctrl-C when it starts
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        multiprocessing.forkserver.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Signals wait while a worker starts: torn off half-way, one would be left behind that nobody waits for."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    caught: list[int] = []
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    for number in handlers:
        signal.signal(number, lambda number, frame: caught.append(number))
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        if caught:
            signal.raise_signal(caught[0])


def _become_worker() -> None:
    torch.set_num_threads(1)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A worker whose parent was killed would wait for ever: its own end of the queue keeps the queue open."""
    parent = multiprocessing.parent_process()
    if parent:
        multiprocessing.connection.wait([parent.sentinel])
        os._exit(1)


def _prepare(item: Item, streams: Sequence[StreamAudio], preparation: Preparation) -> Prepared:
    return list(_segments(item, streams, preparation))


def _segments(item: Item, streams: Sequence[StreamAudio], preparation: Preparation) -> Iterator[Segment | Rejected]:
    if isinstance(item, Rejected):
        yield item
    elif not streams and not item.text:
        yield Rejected(id=item.id, audio=item.name, reason="it has no text, and no stream of codes is wanted")
    else:
        yield from iter_segments(item, streams, preparation)
