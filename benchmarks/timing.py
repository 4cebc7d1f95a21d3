"""Fair timing on a noisy machine: the candidates take turns, and the median of each counts."""

import datetime
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch

Clock = Callable[[], float]


def interleaved(
    candidates: Mapping[str, Callable[[], object]], rounds: int, clock: Clock = time.perf_counter
) -> dict[str, float]:
    """Median seconds of each candidate over `rounds` rounds in which each runs once, after one warm-up round."""
    return prepared({name: lambda turn, run=run: run for name, run in candidates.items()}, rounds, clock)


def prepared(
    candidates: Mapping[str, Callable[[int], Callable[[], object]]], rounds: int, clock: Clock = time.perf_counter
) -> dict[str, float]:
    """As `interleaved`, for candidates that, given the number of the round (0 is the warm-up), return what to time."""
    seconds: dict[str, list[float]] = {name: [] for name in candidates}
    for turn in range(rounds + 1):
        for name, prepare in candidates.items():
            run = prepare(turn)
            began = clock()
            run()
            if turn:
                seconds[name].append(clock() - began)
    return {name: statistics.median(values) for name, values in seconds.items()}


def heading(title: str) -> str:
    """A title with date, machine and versions."""
    today = datetime.date.today().isoformat()
    return f"{title}\n{today}, {platform.machine()}, {torch.get_num_threads()} thread(s), torch {torch.__version__}"


class Seconds(NamedTuple):
    """How long something took."""

    wall: float
    processor: float  # of this process: on a busy machine the truer number


def timed(run: Callable[[], object]) -> Callable[[], Seconds]:
    """A candidate for `taking_turns`."""

    def measure() -> Seconds:
        wall, processor = time.perf_counter(), time.process_time()
        run()
        return Seconds(time.perf_counter() - wall, time.process_time() - processor)

    return measure


def taking_turns(candidates: Mapping[str, Callable[[], Seconds]], rounds: int) -> dict[str, Seconds]:
    """As `interleaved`, for candidates that say themselves how long they took: in another process, say."""
    found: dict[str, list[Seconds]] = {name: [] for name in candidates}
    for turn in range(rounds + 1):
        for name, run in candidates.items():
            seconds = run()
            if turn:
                found[name].append(seconds)
    return {name: Seconds(*map(statistics.median, zip(*values, strict=True))) for name, values in found.items()}
