"""Runs on mixtures, with workers: resumed exactly, and with what the log says of their data."""

import multiprocessing
import os
import shutil
import signal
import time
from pathlib import Path

import numpy as np
import pytest
from launching import rows

from hocket.codec import CodecIdentity
from hocket.data.shards import Row
from hocket.data.tokenizing.workspace import Job, Workspace
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
        ("data.batch_steps=20000000", "data.batch_steps is 20,000,000, but can be at most 16,777,216"),
        ("data.batch_steps=2", "a context of 2 steps does not hold one frame"),
        ("codec.name=bundled", "add codec=corpus to take whatever codec it was made with"),
        ("interleave=delay-stereo", r'needs a stream "left", but the corpus .* has audio: `hocket tokenize` makes'),
        ("interleave.layout='Stack(aligned_text, audio)'", "none of 70 examples has any: `hocket align SRC MANIFEST`"),
    ],
)
def test_mistakes_are_named(mixed, override, sentence):
    with pytest.raises(InputError, match=sentence):
        run_recipe("tiny", mixed("run", override, "vocab=bpe"))


@pytest.mark.parametrize(
    ("kinds", "more", "sentence"),
    [
        (["a", "much"], "data.temperature=1e-300", "than a billionth of the mixture: raise its weight"),
        (["text"], "interleave=tts-delay", "is text alone: name one with codes beside it"),
        (["valid"], "interleave=delay", r"no example to train on \(it has 2 of split valid\)"),
    ],
)
def test_corpora_that_cannot_be_trained_on_are_named(overrides, tmp_path, kinds, more, sentence):
    names = [str(_corpus_of(kind, tmp_path / kind)) for kind in kinds]
    with pytest.raises(InputError, match=sentence):
        run_recipe("tiny", overrides("run", f"data.corpus={','.join(names)}", more))


def test_the_named_codec_is_looked_for_in_whatever_stream_there_is(overrides, tmp_path):
    corpus = _corpus_of("left", tmp_path / "stereo")
    with pytest.raises(InputError, match=r'is of codec "fake" .*, not of codec "bundled" .*add codec=corpus'):
        run_recipe("tiny", overrides("run", f"data.corpus={corpus}", "codec.name=bundled"))


def test_a_worker_that_dies_is_one_sentence(overrides, monkeypatch):
    def on_step(self, report):
        pid = multiprocessing.active_children()[0].pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        time.sleep(5)  # the signal of its death comes meanwhile

    monkeypatch.setattr(MetricsLog, "on_step", on_step)
    with pytest.raises(InputError, match="a data worker was killed from outside"):
        run_recipe("tiny", overrides("run", "data.workers=1", "training.engine=accelerate"))


def _corpus_of(kind: str, folder: Path) -> Path:
    """Two rows; of text alone, of split valid, of a stream "left", or long ones."""
    sizes = {"name": "fake", "revision": "1", "weight_hash": "0", "sample_rate": 16000, "hop": 640}
    stream = "left" if kind == "left" else "audio"
    streams = {} if kind == "text" else {stream: CodecIdentity(codebook_sizes=(4, 4), **sizes)}
    codes = {name: np.zeros((50 if kind == "much" else 5, 2), np.uint16) for name in streams}
    split = "valid" if kind == "valid" else "train"
    facts = {"split": split, "streams": codes, "text": "text", "duration": float(bool(streams)), "audio": ""}
    work = Workspace(folder, Job(streams=streams, source=kind, source_fingerprint="0", settings={}))
    work.start()
    work.commit(0, [Row(id=name, recording=name, **facts) for name in "xy"], [], n_clips=2, clips_hash="0")
    work.finish()
    return folder
