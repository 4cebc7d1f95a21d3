"""Runs on mixtures, with workers: resumed exactly, and with what the log says of their data."""

import shutil
import signal

import pytest
from launching import rows

from hocket.errors import InputError
from hocket.training import run_recipe
from hocket.training.callbacks import MetricsLog


@pytest.fixture
def mixed(overrides, corpus_folder, tmp_path):
    """mixed("name", "key=value", …) -> overrides for a run on two corpora, 70 and 30 % of the steps."""
    shutil.copytree(corpus_folder, tmp_path / "other")
    source = f"data.corpus='{corpus_folder}:0.7,{tmp_path / 'other'}:0.3'"
    return lambda name, *more: overrides(name, source, "training.engine=accelerate", "training.log_every=2", *more)


def test_a_mixture_goes_on_with_other_workers_as_if_nothing_had_happened(mixed, monkeypatch):
    def on_step(self, report):
        original(self, report)
        if report.step == 4:
            signal.raise_signal(signal.SIGTERM)

    whole = run_recipe("tiny", mixed("whole"))
    original = MetricsLog.on_step
    with monkeypatch.context() as patch:
        patch.setattr(MetricsLog, "on_step", on_step)
        assert run_recipe("tiny", mixed("parts", "data.workers=1")).steps == 5
    assert rows(run_recipe("tiny", mixed("parts")).folder) == rows(whole.folder)


@pytest.mark.parametrize("packing", ["packed", "padded"])
def test_the_log_says_how_full_batches_are(overrides, packing):
    more = [f"data.packing={packing}", "data.batch_steps=256", "training.steps=4", "training.engine=accelerate"]
    metrics = run_recipe("tiny", overrides("run", *more)).metrics
    assert 0.5 < metrics["data/fill"] <= 1
    assert (metrics["data/padding"] > 0) == (packing == "padded")
    assert 0 < metrics["data/wait"] < 1


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("data.packing=paded", r'data.packing has no choice "paded" .did you mean "padded"'),
        ("data.missing=skip", 'data.missing has no choice "skip"'),
        ("data.workers=-1", "data.workers is -1, but must be at least 0"),
        ("data.temperature=0", "data.temperature is 0"),
        ("data.temperature=2", "weights or a temperature, not both"),
    ],
)
def test_mistakes_are_named(mixed, override, sentence):
    with pytest.raises(InputError, match=sentence):
        run_recipe("tiny", mixed("run", override))
