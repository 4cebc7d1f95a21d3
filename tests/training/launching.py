"""How the tests read and start runs."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

TIMINGS = {"tokens_per_second", "audio_seconds_per_second", "data/wait", "wall"}


def rows(folder: Path) -> list[dict]:
    """metrics.jsonl without what is measured by the clock."""
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [{key: value for key, value in json.loads(line).items() if key not in TIMINGS} for line in lines]


def losses(folder: Path) -> list[float]:
    return [row["loss"] if "loss" in row else row["valid/loss"] for row in rows(folder)]


def python(*arguments: str, module: bool = True) -> subprocess.CompletedProcess:
    """Run this interpreter, one thread a process."""
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, *(["-m"] if module else ["-c"]), *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)


def free_port() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])
