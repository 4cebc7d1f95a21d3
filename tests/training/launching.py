"""How the tests read and start runs."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

TIMINGS = {"tokens_per_second", "audio_seconds_per_second", "data/wait", "wall", "tflops", "mfu", "memory_gib"}


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
import json, os, signal, sys
import torch
from hocket.data.loading import PackedLoader
from hocket.training import run_recipe
from hocket.training.callbacks import MetricsLog
from hocket.training.engine import Engine

torch.set_num_threads(1)
runs, kill_at = json.loads(sys.argv[1]), int(sys.argv[2])
rank = int(os.environ.get("RANK", 0))
draw, log, load = PackedLoader.__next__, MetricsLog.on_step, Engine.load


def recorded(loader):
    batch = draw(loader)
    record["drawn"].append(sorted(batch.example_ids))
    return batch


def killed(callback, report):
    if report.step == kill_at and rank == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    log(callback, report)


def loaded(engine, *arguments):
    load(engine, *arguments)
    weights = engine.weights()
    if rank == 0:
        torch.save(weights, record["folder"] + "/loaded.pt")


PackedLoader.__next__, MetricsLog.on_step, Engine.load = recorded, killed, loaded
for overrides in runs:
    folder = next(o for o in overrides if o.startswith("output=")).split("=")[1].strip("'")
    record = {"drawn": [], "folder": folder}
    run_recipe("tiny", overrides)
    with open(f"{folder}/drawn-{os.environ['WORLD_SIZE']}-{rank}.json", "w") as file:
        json.dump(record["drawn"], file)
"""
"""Runs several recipes; each run folder gets what each process drew (drawn-PROCESSES-RANK.json) and, where a run went
on, the weights as they were loaded (loaded.pt). Process 1 kills itself at a step, if there is one to kill at."""


def train_in(processes: int, folder: Path, runs: list[list[str]], kill_at: int = 0) -> subprocess.CompletedProcess:
    """Several runs, one after the other, in one group of processes."""
    file = folder / "many.py"
    file.write_text(MANY)
    launch = ["torch.distributed.run", "--nproc_per_node", str(processes), "--master_port", free_port()]
    return python(*launch, str(file), json.dumps(runs), str(kill_at))


def free_port() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])
