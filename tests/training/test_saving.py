"""Checkpoints are written while training goes on, whole or not at all, and the right ones are kept."""

import json
import signal
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from launching import python, rows
from safetensors import SafetensorError

from hocket.errors import InputError
from hocket.training import run_recipe
from hocket.training.checkpoints import RunFolder, _remove_old, check_processes
from hocket.training.saving import Saver, Write, to_host

KILLED_WHILE_SAVING = """
import os, signal, sys, time
from hocket.training import run_recipe
from hocket.training.callbacks import Progress
from hocket.training.saving import Write
Progress.on_step = lambda self, report: os.kill(os.getpid(), signal.SIGKILL) if report.step == 5 else None
write = Write.do
Write.do = lambda self: (write(self), saves.append(1), time.sleep(60 if len(saves) > 2 else 0))
saves = []
run_recipe("tiny", sys.argv[1:])
"""


def test_a_kill_while_saving_leaves_the_checkpoint_before(overrides, tmp_path):
    more = ["training.engine=accelerate", "training.save_every=2"]
    assert python(KILLED_WHILE_SAVING, *overrides("run", *more), module=False).returncode == -signal.SIGKILL
    folder = tmp_path / "run/checkpoints"
    assert (tmp_path / "run/latest").read_text() == "2\n"
    assert {path.name for path in folder.iterdir()} <= {".writing", "2"}
    resumed, whole = run_recipe("tiny", overrides("run", *more)), run_recipe("tiny", overrides("whole", *more))
    assert rows(resumed.folder) == rows(whole.folder)
    assert sorted(path.name for path in folder.iterdir()) == ["6", "8"]


def test_training_goes_on_while_files_are_written(overrides, tmp_path):
    waiting = overrides("waiting", "training.engine=accelerate", "training.background_save=false")
    beside = overrides("beside", "training.engine=accelerate")
    assert rows(run_recipe("tiny", waiting).folder) == rows(run_recipe("tiny", beside).folder)


def test_a_full_disk_ends_the_run_in_words(overrides, monkeypatch):
    def do(self):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Write, "do", do)
    with pytest.raises(InputError, match=r"a checkpoint could not be written: OSError: \[Errno 28\] No space left"):
        run_recipe("tiny", overrides("run", "training.engine=accelerate"))


def test_the_first_process_finishes_when_all_have_written(tmp_path):
    finished = []
    first, second = Saver(0, 2), Saver(1, 2)
    first.start(tmp_path, [Write(torch.ones(2), tmp_path / "0.pt")], lambda: finished.append(1))
    assert first._thread is not None
    first._thread.join(0.2)
    assert not finished
    second.start(tmp_path, [Write(torch.ones(2), tmp_path / "1.pt")], lambda: None)
    assert (first.join(), second.join(), finished) == (None, None, [1])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0.pt", "1.pt"]


def test_copies_are_not_changed_by_training():
    weight = torch.ones(3)
    state = {"a": [weight, (weight[:2], 1)], "b": "words"}
    copied = to_host(state)
    weight.zero_()
    assert torch.equal(copied["a"][0], torch.ones(3))
    assert torch.equal(copied["a"][1][0], torch.ones(2))
    assert copied["b"] == "words"


def keep(folder: Path, valid_losses: dict[int, float | None], **options) -> tuple[list[str], str | None]:
    """The checkpoints that are kept of these, and the best."""
    run = RunFolder(folder)
    for step, loss in valid_losses.items():
        run.checkpoint(step).mkdir(parents=True)
        (run.checkpoint(step) / "trainer.json").write_text(json.dumps({"valid_loss": loss}))
    _remove_old(run, **options)
    return sorted(p.name for p in run.checkpoints.iterdir()), run.best.read_text() if run.best.is_file() else None


def test_the_newest_and_the_best_are_kept(tmp_path):
    losses = {1: 3.0, 2: 1.0, 3: None, 4: float("nan"), 5: 2.0}
    assert keep(tmp_path / "a", losses, keep=2, keep_best=True) == (["2", "4", "5"], "2\n")
    assert keep(tmp_path / "b", losses, keep=2, keep_best=False) == (["4", "5"], "5\n")
    assert keep(tmp_path / "c", {3: None, 6: None, 9: None}, keep=1, keep_best=True) == (["9"], None)


def test_a_run_keeps_its_best(overrides):
    more = ["training.engine=accelerate", "training.save_every=4", "training.keep=1", "training.lr=10"]
    result = run_recipe("tiny", overrides("run", *more, "training.min_lr_ratio=1", "training.steps=12"))
    scores = {row["step"]: row["valid/loss"] for row in rows(result.folder) if "valid/loss" in row}
    best = min(scores, key=scores.__getitem__)
    assert (result.folder / "best").read_text() == f"{best}\n"
    assert {p.name for p in (result.folder / "checkpoints").iterdir()} == {str(best), "12"}


def goes_on(before: tuple[int, int], now: tuple[int, int], lora_rank: int = 0) -> str | None:
    training = SimpleNamespace(accumulation=now[1], lora_rank=lora_rank)
    engine = SimpleNamespace(world_size=now[0], training=training, shards_optimizer=True)
    return check_processes(RunFolder("run"), {"processes": before[0], "accumulation": before[1]}, engine)  # type: ignore[arg-type]


def test_a_change_of_processes_is_told():
    assert goes_on((2, 1), (2, 1)) is None
    assert goes_on((2, 1), (1, 2)) == "processes: 1 instead of 2, so dropout is seeded anew"
    told = "processes: 2 instead of 4, so dropout is seeded anew; micro-batches in a step: 2 instead of 4"
    assert goes_on((4, 1), (2, 1)) == f"{told} (training.accumulation=2 keeps it)"
    assert "keeps it" not in str(goes_on((2, 1), (3, 1)))
    with pytest.raises(InputError, match="has adapters and was made with 2 processes, not 1"):
        goes_on((2, 1), (1, 2), lora_rank=4)


def test_an_error_of_safetensors_ends_the_run(overrides, monkeypatch):
    def full(*arguments):
        raise SafetensorError("No space left on device")

    monkeypatch.setattr("hocket.training.checkpoints.save_model_files", full)
    with pytest.raises(InputError, match="a checkpoint could not be written: SafetensorError: No space left"):
        run_recipe("tiny", overrides("run", "training.engine=accelerate"))


def test_damage_that_keeps_sizes_is_one_sentence(overrides):
    made = overrides("run", "training.engine=accelerate")
    folder = run_recipe("tiny", made).folder
    state = folder / "checkpoints/8/engine/state.pt"
    whole = state.read_bytes()
    state.write_bytes(whole[:100] + bytes(len(whole) - 100))
    with pytest.raises(InputError, match=r'the state in ".*engine" is damaged .*: go on from another checkpoint'):
        run_recipe("tiny", [*made, "training.steps=9"])
    state.write_bytes(whole)
    (folder / "metrics.jsonl").write_text("{}}\n")
    with pytest.raises(InputError, match=r'line 1 of ".*metrics.jsonl" is no row of metrics'):
        run_recipe("tiny", [*made, "training.steps=9"])
    (folder / "config.yaml").write_text("{")
    with pytest.raises(InputError, match=r'config.yaml" is no recipe'):
        run_recipe("tiny", made)
