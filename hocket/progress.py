"""Progress on stderr: a rich bar on a terminal, an occasional plain line elsewhere (logs, pipes, continuous builds)."""

import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import TextIO

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn

PLAIN_INTERVAL = 10.0
"""Seconds between two plain lines."""


class ProgressBar:
    """Shows how far a long piece of work is and how long it still takes; `update` may be called as often as one likes.

        with ProgressBar("tokenise", note=lambda bar: f"{bar.rate:.0f} h of audio an hour") as bar:
            tokenize(src, dst, codec, on_progress=bar.update)

    The first update sets where the work (perhaps a resumed one) began, so that speed counts only what is done now.
    """

    def __init__(
        self,
        label: str,
        note: Callable[["ProgressBar"], str] | None = None,
        stream: TextIO | None = None,
        interval: float = PLAIN_INTERVAL,
    ):
        self.label = label
        self.done = self.total = 0.0
        self._note, self._interval = note, interval
        self._stream = stream or sys.stderr
        self._start: tuple[float, float] | None = None  # time and amount at the first update
        self._last_line, self._text = 0.0, ""
        self._bar: tuple[Progress, TaskID] | None = None

    def __enter__(self) -> "ProgressBar":
        if self._stream.isatty():
            label, note = TextColumn("{task.description}"), TextColumn("{task.fields[note]}")
            bar = Progress(label, BarColumn(), TaskProgressColumn(), note, console=Console(file=self._stream))
            bar.start()
            self._bar = (bar, bar.add_task(self.label, total=None, note=""))
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        if self._bar:
            self._bar[0].stop()
        elif self._start and kind is None:
            self._print_line()

    def update(self, done: float, total: float, note: str = "") -> None:
        """Say that `done` of `total` (one's own unit; 0: nobody knows) is there; `note` comes before the time left."""
        now = time.monotonic()
        self.done, self.total = done, total
        if self._start is None:
            self._start, self._last_line = (now, done), now
        self._text = ", ".join(part for part in (note, self._note(self) if self._note else "", self.time_left) if part)
        if self._bar:
            bar, task = self._bar
            bar.update(task, completed=done, total=total or None, note=self._text)
        elif now - self._last_line >= self._interval:
            self._last_line = now
            self._print_line()

    @property
    def rate(self) -> float:
        """Units a second since the first update; 0 before there is anything to measure."""
        if self._start is None:
            return 0.0
        elapsed = time.monotonic() - self._start[0]
        return (self.done - self._start[1]) / elapsed if elapsed > 0 else 0.0

    @property
    def time_left(self) -> str:
        """Such as "3 min 20 s left"; empty while the speed is unknown and at the end."""
        seconds = (self.total - self.done) / self.rate if self.rate > 0 else 0.0
        return f"{format_seconds(seconds)} left" if round(seconds) > 0 else ""

    def _print_line(self) -> None:
        share = f"{100 * self.done / self.total:3.0f} %" if self.total else ""
        text = ", ".join(part for part in (share, self._text) if part)
        print(f"{self.label}: {text}", file=self._stream, flush=True)


def format_seconds(seconds: float) -> str:
    """A duration for people, two units at most: "42 s", "3 min 20 s", "5 h 7 min"."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
