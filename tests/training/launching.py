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
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)


MANY = """
import json, sys
import torch
from hocket.training import run_recipe
torch.set_num_threads(1)
for overrides in json.loads(sys.argv[1]):
    run_recipe("tiny", overrides)
"""


def train_in(folder: Path, processes: int, runs: list[list[str]], script: str = MANY) -> subprocess.CompletedProcess:
    """Several runs, one after the other, in one group of processes; the script takes their overrides as JSON."""
    file = folder / f"script-{processes}.py"
    file.write_text(script)
    launch = ["torch.distributed.run", "--nproc_per_node", str(processes), "--master_port", free_port()]
    return python(*launch, str(file), json.dumps(runs))


def free_port() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])
