"""Fair timing on a noisy machine: the candidates take turns, and the median of each counts."""

import datetime
import platform
import statistics
import time
from collections.abc import Callable, Mapping

import torch


def interleaved(candidates: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Median seconds of each candidate over `rounds` rounds in which each runs once, after one warm-up round."""
    seconds: dict[str, list[float]] = {name: [] for name in candidates}
    for turn in range(rounds + 1):
        for name, run in candidates.items():
            began = time.perf_counter()
            run()
            if turn:
                seconds[name].append(time.perf_counter() - began)
    return {name: statistics.median(values) for name, values in seconds.items()}


def heading(title: str) -> str:
    """A title with date, machine and versions."""
    today = datetime.date.today().isoformat()
    return f"{title}\n{today}, {platform.machine()}, {torch.get_num_threads()} thread(s), torch {torch.__version__}"
