"""Whole runs: interrupted ones equal whole ones, two processes equal one."""

import json
import shutil
import signal

import pytest
import torch
import yaml
from launching import free_port, losses, python, rows

from hocket.data import Corpus
from hocket.errors import InputError
from hocket.model import load_model
from hocket.training import run_recipe
from hocket.training.callbacks import MetricsLog
from hocket.training.loop import Loop, target_weight

KILL_AT_5 = """
import os, signal, sys
from hocket.training.callbacks import Progress
from hocket.training import run_recipe
Progress.on_step = lambda self, report: os.kill(os.getpid(), signal.SIGKILL) if report.step == 5 else None
run_recipe("tiny", sys.argv[1:])
"""


def weights(folder, step):
    return load_model(folder / "checkpoints" / str(step)).state_dict()


@pytest.mark.parametrize("engine", ["accelerate", "deepspeed"])
def test_a_killed_run_goes_on_as_if_nothing_had_happened(engine, overrides, tmp_path, capsys):
    more = [f"training.engine={engine}", "training.log_every=2", "model.dropout=0.1", "training.background_save=false"]
    torch.set_num_threads(1)
    whole = run_recipe("tiny", overrides("whole", *more))
    killed = python(KILL_AT_5, *overrides("killed", *more), module=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert (tmp_path / "killed/latest").read_text() == "3\n"
    resumed = run_recipe("tiny", overrides("killed", *more))
    assert f"continuing {tmp_path}/killed from step 3" in capsys.readouterr().err
    assert rows(resumed.folder) == rows(whole.folder)
    ours, theirs = weights(resumed.folder, 8), weights(whole.folder, 8)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_two_deepspeed_processes_are_one_that_accumulates_two(overrides, tmp_path):
    launch = [
        "accelerate.commands.launch",
        "--use_deepspeed",
        "--num_processes",
        "2",
        "--main_process_port",
        free_port(),
    ]
    two = python(*launch, "-m", "hocket", "train", "tiny", "--json", *overrides("two", "training.engine=deepspeed"))
    assert json.loads(two.stdout)["steps"] == 8, two.stderr
    run_recipe("tiny", overrides("one", "training.accumulation=2"))
    assert losses(tmp_path / "two") == pytest.approx(losses(tmp_path / "one"), rel=1e-5)
    assert json.loads((tmp_path / "two/checkpoints/8/trainer.json").read_text())["processes"] == 2


def test_training_learns_writes_its_files_and_ends(overrides, tmp_path, capsys):
    result = run_recipe("tiny", overrides("run", "training.engine=accelerate", "training.steps=30"))
    train = [row for row in rows(result.folder) if "loss" in row]
    assert train[0]["loss"] == pytest.approx(torch.tensor(16.0).log().item(), rel=0.05)
    assert train[-1]["loss"] < 0.8 * train[0]["loss"]
    assert {"loss/audio.0", "loss/audio.1", "lr", "grad_norm", "tokens", "epoch"} <= set(train[-1])
    assert result.metrics["valid/loss"] < train[0]["loss"]
    assert sorted(p.name for p in (result.folder / "checkpoints").iterdir()) == ["27", "30"]
    assert yaml.safe_load((result.folder / "config.yaml").read_text())["model"]["dim"] == 32
    assert run_recipe("tiny", overrides("run", "training.engine=accelerate", "training.steps=30")).seconds == 0
    assert "is finished, 30 steps" in capsys.readouterr().err


@pytest.fixture
def short_run(overrides):
    """A finished run of 2 steps, and the overrides that made it."""
    made = overrides("run", "training.engine=accelerate", "training.steps=2")
    return run_recipe("tiny", made).folder, made


def test_another_recipe_is_refused_by_its_first_key_and_fresh_starts_over(short_run):
    folder, made = short_run
    with pytest.raises(InputError, match=r"was made with model\.ffn_dim=32, not 48"):
        run_recipe("tiny", [*made, "model.ffn_dim=48"])
    with pytest.raises(InputError, match=r"was made with training\.accumulation=1, not 2, and as many processes"):
        run_recipe("tiny", [*made, "training.accumulation=2", "training.steps=3"])
    with pytest.raises(InputError, match=r"has done 2 steps, more than training\.steps=1"):
        run_recipe("tiny", [*made, "training.steps=1"])
    assert run_recipe("tiny", [*made, "training.steps=3"]).steps == 3
    assert run_recipe("tiny", [*made, "model.ffn_dim=48"], fresh=True).steps == 2
    assert [row["step"] for row in rows(folder) if "loss" in row] == [1, 2]


def test_a_damaged_checkpoint_is_named(short_run):
    folder, made = short_run
    weights_file = folder / "checkpoints/2/engine/state.pt"
    weights_file.write_bytes(weights_file.read_bytes()[:-1])
    with pytest.raises(InputError, match=r'2" is damaged, engine/state.pt is missing or cut short'):
        run_recipe("tiny", made)
    shutil.rmtree(folder / "checkpoints/2")
    with pytest.raises(InputError, match=r'checkpoints/2" is missing, though .*latest names it'):
        run_recipe("tiny", made)
    (folder / "latest").write_text("soon")
    with pytest.raises(InputError, match='should hold a step, not "soon"'):
        run_recipe("tiny", made)


def test_fresh_never_removes_what_is_no_run(tmp_path, overrides):
    (tmp_path / "run").mkdir()
    (tmp_path / "run/thesis.txt").write_text("words")
    with pytest.raises(InputError, match="is not empty and holds no run"):
        run_recipe("tiny", overrides("run"), fresh=True)
    assert (tmp_path / "run/thesis.txt").exists()


def test_bad_parts_leave_no_run_behind(tmp_path, overrides):
    no_text = "interleave=tts-delay vocab=none"
    for mistake in ("interleave.layout=dealy", no_text, "codec.levels=3", "data.corpus=nowhere"):
        with pytest.raises(InputError):
            run_recipe("tiny", overrides("run", "training.engine=accelerate", *mistake.split()))
    assert not (tmp_path / "run").exists()


def test_a_loss_that_is_not_finite_names_its_examples(overrides, monkeypatch, corpus_folder):
    monkeypatch.setattr("hocket.training.loop.learning_rate", lambda step, training: float("inf"))
    with pytest.raises(InputError, match=r"of step 2 is not finite \(examples clip-\d+") as error:
        run_recipe("tiny", overrides("run", "training.engine=accelerate"))
    assert str(error.value).split("examples ")[1].split(",")[0] in {e.id for e in Corpus.open(corpus_folder)}


def test_sigterm_saves_and_says_so(overrides, monkeypatch, capsys):
    def on_step(self, report):
        original(self, report)
        if report.step == 4:
            signal.raise_signal(signal.SIGTERM)

    original = MetricsLog.on_step
    monkeypatch.setattr(MetricsLog, "on_step", on_step)
    result = run_recipe("tiny", overrides("run", "training.engine=accelerate"))
    assert (result.signal, result.steps) == (signal.SIGTERM, 5)
    assert (result.folder / "latest").read_text() == "5\n"
    assert "stopped by SIGTERM after step 5" in capsys.readouterr().err


def test_the_weight_known_before_the_forward_pass_is_the_models(overrides, monkeypatch):
    seen = []

    def spy(self, stop):
        windows, original = [], type(self.loader).__next__
        monkeypatch.setattr(
            type(self.loader), "__next__", lambda loader: windows.append(original(loader)) or windows[-1]
        )
        report = advance(self, stop)
        monkeypatch.setattr(type(self.loader), "__next__", original)
        seen.append((report.sums.weight, sum(target_weight(batch) for batch in windows)))
        return report

    advance = Loop._advance
    monkeypatch.setattr(Loop, "_advance", spy)
    run_recipe("tiny", overrides("run", "training.engine=accelerate", "training.accumulation=2", "training.steps=2"))
    assert all(theirs == ours for theirs, ours in seen)
    assert len(seen) == 2


def test_text_is_trained_on_when_the_layout_has_it(overrides):
    more = ["interleave=tts-delay", "vocab.text_size=300", "training.engine=accelerate", "training.steps=2"]
    result = run_recipe("tiny", overrides("run", *more, "model.context=128", "data.batch_steps=256"))
    assert "loss/text" in result.metrics
    assert load_model(result.folder).vocabulary.text is not None
