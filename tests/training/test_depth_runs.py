"""Runs of models with a depth head: resumed exactly, in several processes, and dialogues from corpus to sound."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from launching import rows, train_in

from hocket.codec import CodecIdentity, load_codec
from hocket.data import Corpus
from hocket.data.shards import Row
from hocket.data.tokenizing.workspace import Job, Workspace
from hocket.data.words import Word
from hocket.evaluation.scores import measure_bits
from hocket.inference import Generator, Request, Sampling
from hocket.model import load_model
from hocket.training import run_recipe

DEPTH = ["interleave=parallel", "interleave.head=depth", "model.depth_fraction=0.25"]


@pytest.fixture(scope="module")
def codec():
    return load_codec("bundled")


@pytest.fixture(scope="module")
def dialogues(codec, tmp_path_factory) -> Path:
    """Ten dialogues of random codes of the bundled codec, one speaker in each stream, with times of the words."""
    folder, rng = tmp_path_factory.mktemp("dialogues") / "corpus", np.random.default_rng(0)
    streams = {"audio": codec.identity, "user": codec.identity}
    work = Workspace(folder, Job(streams=streams, source="random", source_fingerprint="0", settings={}))
    work.start()
    work.commit(0, [_dialogue(i, codec.identity, rng) for i in range(10)], [], n_clips=10, clips_hash="0")
    work.finish()
    return folder


def _dialogue(number: int, identity: CodecIdentity, rng: np.random.Generator) -> Row:
    return Row(
        id=f"talk-{number}",
        streams={name: rng.integers(0, 1024, (25, identity.levels)).astype(np.uint16) for name in ("audio", "user")},
        text="good day",
        words=[Word(text="good", start=0.1, end=0.3), Word(text="day", start=0.4, end=0.7)],
        split="valid" if number % 5 == 0 else "train",
        recording=f"talk-{number}",
        duration=25 / float(identity.frame_rate),
        audio=f"talk-{number}.wav",
    )


def test_a_run_in_two_parts_draws_the_same_steps(overrides, in_two_parts):
    more = [*DEPTH, "training.engine=accelerate", "model.dropout=0.1", "training.accumulation=2"]
    whole = run_recipe("tiny", overrides("whole", *more))
    parts = in_two_parts(overrides("parts", *more))
    assert rows(parts.folder) == rows(whole.folder)
    ours, wanted = (load_model(run.folder).state_dict() for run in (parts, whole))
    assert all(torch.equal(ours[name], wanted[name]) for name in wanted)


def test_bits_of_dialogues_count_the_ends_that_the_depth_head_chooses(overrides, dialogues):
    more = ["codec=bundled", "interleave=moshi", "vocab=bpe", "vocab.text_size=260", "training.engine=accelerate"]
    run = run_recipe("tiny", overrides("talk", *more, f"data.corpus={dialogues}", "training.steps=2"))
    bits, _ = measure_bits(load_model(run.folder), Corpus.open(dialogues).split("valid"))
    assert {"text", "audio"} < {key.partition("/")[2] for key in run.metrics if key.startswith("valid_bits/")}
    assert "valid_bits/user" not in run.metrics  # it is heard, not predicted
    assert run.metrics["valid_bits/structure"] == pytest.approx(bits.structure, rel=1e-4)
    assert run.metrics["valid_bits/total"] == pytest.approx(bits.total, rel=1e-4)


def test_validation_takes_all_steps(overrides, corpus_folder):
    run = run_recipe("tiny", overrides("run", *DEPTH, "training.engine=accelerate"))
    _, losses = measure_bits(load_model(run.folder), Corpus.open(corpus_folder).split("valid"))
    assert losses["audio.1"] == pytest.approx(run.metrics["valid/audio.1"], rel=1e-4)


@pytest.mark.slow
def test_two_processes_at_stage_3_are_one_that_accumulates_two(make_overrides, tmp_path):
    more = [*DEPTH, "training.engine=deepspeed", "model.dim=128", "model.depth_dim=64", "training.zero_stage=3"]
    done = train_in(2, tmp_path, [make_overrides(tmp_path / "two", *more)])
    assert not done.returncode, done.stderr
    run_recipe("tiny", make_overrides(tmp_path / "one", *more, "training.accumulation=2"))
    for row, wanted in zip(rows(tmp_path / "two"), rows(tmp_path / "one"), strict=True):
        for key in {"loss", "valid/loss", "grad_norm", "loss/audio.1"} & set(wanted):
            assert row[key] == pytest.approx(wanted[key], rel=1e-5), (row["step"], key)


def test_a_dialogue_is_learned_and_sampled(overrides, dialogues, codec):
    """Moshi's layout: text and own voice are predicted row by row, the user is heard."""
    more = [f"data.corpus='{dialogues}'", "interleave=moshi", "vocab=bpe", "vocab.text_size=260", "codec=bundled"]
    run = run_recipe("tiny", overrides("run", *more, "training.engine=accelerate", "training.steps=4"))
    model = load_model(run.folder)
    assert model.depth is not None
    assert model.depth.rows == tuple(range(9))
    assert run.metrics["loss/audio.7"] < 1.05 * math.log(1024)
    user_TK = np.random.default_rng(1).integers(0, 1024, (12, 8))
    limits, prompts = {"audio": 12, "aligned_text": 12}, {"audio": user_TK[:3], "aligned_text": user_TK[:3, :1] % 256}
    request = Request(given={"user": user_TK}, prompts=prompts, limits=limits, seed=1)
    out = Generator(model).generate_batch([request], Sampling())[0]
    assert out.codes_TK.shape[1] == 8
    assert np.array_equal(out.prompt_codes_TK, user_TK[:3])
    assert len(out.codes_TK) > 0 or out.ended
    assert len(out.wav_T) == len(out.codes_TK) * codec.hop
    assert torch.isfinite(out.wav_T).all()
