"""Writes the loss curve of a recipe as a reference, and draws all of them.

    python scripts/reference.py tiny demo tts        trains each, writes docs/reference/NAME.json and curves.svg
    python scripts/reference.py                      draws those that are there

A recipe is trained as `hocket train NAME` does, in a folder of its own. Tests compare later runs with what is written:
tests/training/test_reference.py.
"""

import json
import platform
import sys
import tempfile
from datetime import date
from importlib.metadata import version
from pathlib import Path

import matplotlib.pyplot as plt
import torch

import hocket
from hocket.training import run_recipe

FOLDER = Path(__file__).parents[1] / "docs" / "reference"
EVERY = 10
PACKAGES = ("torch", "accelerate", "deepspeed", "numpy")


def train(name: str) -> dict:
    """The curve of a recipe, trained now."""
    with tempfile.TemporaryDirectory() as folder:
        result = run_recipe(name, [f"output={folder}/runs/{name}"])
        lines = (result.folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    losses = {row["step"]: round(row["loss"], 5) for row in rows if "loss" in row}
    return {
        "recipe": name,
        "command": f"hocket train {name}",
        "date": date.today().isoformat(),
        "versions": {"hocket": hocket.__version__, "python": platform.python_version()}
        | {package: version(package) for package in PACKAGES},
        "machine": f"{platform.machine()} CPU, {torch.get_num_threads()} threads",
        "steps": result.steps,
        "seconds": round(result.seconds),
        "loss": {step: loss for step, loss in losses.items() if step == 1 or step % EVERY == 0},
        "valid/loss": {row["step"]: round(row["valid/loss"], 5) for row in rows if "valid/loss" in row},
    }


def write(curve: dict) -> Path:
    FOLDER.mkdir(parents=True, exist_ok=True)
    path = FOLDER / f"{curve['recipe']}.json"
    path.write_text(json.dumps(curve, indent=1) + "\n", encoding="utf-8")
    return path


def draw() -> Path:
    """All curves beside each other: training as a line, held-out loss as dots."""
    curves = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(FOLDER.glob("*.json"))]
    figure, axes = plt.subplots(1, len(curves), figsize=(3.6 * len(curves), 2.8), squeeze=False, layout="constrained")
    for ax, curve in zip(axes[0], curves, strict=True):
        train, valid = curve["loss"], curve["valid/loss"]
        ax.plot([int(step) for step in train], list(train.values()), label="training")
        ax.plot([int(step) for step in valid], list(valid.values()), "o", label="held out")
        ax.set(title=curve["command"], xlabel="step")
        ax.grid(alpha=0.3)
    axes[0][0].set_ylabel("loss, nats a cell")
    figure.legend(*axes[0][0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
    path = FOLDER / "curves.svg"
    figure.savefig(path, metadata={"Date": None})
    return path


if __name__ == "__main__":
    for name in sys.argv[1:]:
        print(write(train(name)))
    print(draw())
