"""Runs of several processes go on: killed ones as if nothing had happened, and with another number of processes."""

import json
import random
import shutil
from pathlib import Path

import pytest
import torch
from launching import losses, rows, train_in

from hocket.errors import InputError
from hocket.model import load_model
from hocket.training import run_recipe

pytestmark = pytest.mark.slow
DEEPSPEED = ["training.engine=deepspeed", "model.dim=128", "training.keep=9"]
SETTINGS = {
    "stage-1": [*DEEPSPEED, "training.zero_stage=1"],
    "stage-1-bfloat16": [*DEEPSPEED, "training.zero_stage=1", "training.dtype=bfloat16"],
    "stage-2": [*DEEPSPEED, "training.zero_stage=2"],
    "stage-3": [*DEEPSPEED, "training.zero_stage=3"],
    "stage-3-bfloat16": [*DEEPSPEED, "training.zero_stage=3", "training.dtype=bfloat16"],
    "stage-0": [*DEEPSPEED, "training.zero_stage=0"],
    "accelerate": ["training.engine=accelerate", "training.keep=9"],
}
DROPOUT = "model.dropout=0.1"


def finished(done) -> None:
    assert not done.returncode, done.stderr[-3000:]


@pytest.fixture(scope="module")
def whole(make_overrides, tmp_path_factory) -> Path:
    """A folder of uninterrupted runs of two processes, and one of one process that accumulates two."""
    folder = tmp_path_factory.mktemp("whole")
    runs = [make_overrides(folder / name, *more) for name, more in SETTINGS.items()]
    runs += [make_overrides(folder / f"{name}-dropout", *SETTINGS[name], DROPOUT) for name in ("stage-1", "stage-3")]
    finished(train_in(2, folder, runs))
    return folder


@pytest.mark.parametrize("name", ["stage-1", "stage-3"])
def test_killed_processes_go_on_as_if_nothing_had_happened(name, whole, make_overrides, tmp_path):
    overrides = make_overrides(tmp_path / "run", *SETTINGS[name], DROPOUT)
    step = random.randint(4, 8)
    killed = train_in(2, tmp_path, [overrides], kill_at=step)
    assert killed.returncode
    latest = tmp_path / "run/latest"
    assert not latest.exists() or int(latest.read_text()) < step  # what was being written may be lost
    finished(train_in(2, tmp_path, [overrides]))
    assert rows(tmp_path / "run") == rows(whole / f"{name}-dropout"), f"killed at step {step}"
    ours, wanted = (load_model(f).state_dict() for f in (tmp_path / "run", whole / f"{name}-dropout"))
    assert all(torch.equal(ours[key], wanted[key]) for key in wanted)


def copy_at(source: Path, target: Path, step: int) -> None:
    """The run as it was when that checkpoint was its newest."""
    shutil.copytree(source, target)
    (target / "latest").write_text(f"{step}\n")


def drawn(folder: Path, processes: int) -> list[list[str]]:
    """What all processes drew, in the order of the global sequence."""
    parts = [json.loads((folder / f"drawn-{processes}-{rank}.json").read_text()) for rank in range(processes)]
    return [batch for batches in zip(*parts, strict=True) for batch in batches]


def check_went_on(ours: Path, wanted: Path, checkpoint: Path, tolerance: float) -> None:
    loaded, saved = torch.load(ours / "loaded.pt"), load_model(checkpoint).state_dict()
    assert all(torch.equal(loaded[key], saved[key]) for key in saved)
    assert losses(ours) == pytest.approx(losses(wanted), rel=tolerance)


@pytest.fixture(scope="module")
def fewer(whole, make_overrides, tmp_path_factory) -> Path:
    """A folder of the same runs, gone on with from step 3 by one process that accumulates two."""
    folder = tmp_path_factory.mktemp("fewer")
    for name in SETTINGS:
        copy_at(whole / name, folder / name, 3)
    runs = [make_overrides(folder / name, *more, "training.accumulation=2") for name, more in SETTINGS.items()]
    finished(train_in(1, folder, runs))
    return folder


@pytest.mark.parametrize("name", SETTINGS)
def test_two_processes_become_one(name, whole, fewer):
    tolerance = 1e-3 if "bfloat16" in name else 1e-5
    check_went_on(fewer / name, whole / name, whole / name / "checkpoints/3", tolerance)
    assert drawn(fewer / name, 1) == drawn(whole / name, 2)[6:]


def test_one_process_becomes_two(make_overrides, tmp_path):
    names = ["stage-1", "stage-3", "accelerate"]
    for name in names:
        run_recipe("tiny", make_overrides(tmp_path / f"{name}-one", *SETTINGS[name], "training.accumulation=2"))
        copy_at(tmp_path / f"{name}-one", tmp_path / name, 6)
    finished(train_in(2, tmp_path, [make_overrides(tmp_path / name, *SETTINGS[name]) for name in names]))
    for name in names:
        check_went_on(tmp_path / name, tmp_path / f"{name}-one", tmp_path / f"{name}-one/checkpoints/6", 1e-5)


def test_what_cannot_change_is_refused(whole, make_overrides, tmp_path):
    copy_at(whole / "stage-2", tmp_path / "run", 3)
    for more, said in {
        "training.zero_stage=1": r"was made with training\.zero_stage=2, not 1",
        "training.dtype=bfloat16": r"was made with training\.dtype=float32, not bfloat16",
    }.items():
        with pytest.raises(InputError, match=said):
            run_recipe("tiny", make_overrides(tmp_path / "run", *SETTINGS["stage-2"], more))
