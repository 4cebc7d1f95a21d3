"""A small corpus of codes with some order in them, and a recipe that trains on it in a second."""

import signal
from pathlib import Path

import numpy as np
import pytest

from hocket.codec import CodecIdentity
from hocket.data.shards import Row
from hocket.data.tokenizing.workspace import Job, Workspace
from hocket.training import RunResult, run_recipe
from hocket.training.callbacks import MetricsLog

CODES, LEVELS = 16, 2
SMALL = [
    "codec=corpus",
    "model.dim=32",
    "model.ffn_dim=32",
    "model.context=64",
    "data.batch_steps=96",
    "training.warmup=2",
    "training.lr=0.01",
    "training.steps=8",
    "training.save_every=3",
    "training.valid_every=4",
    "training.tensorboard=false",
]


@pytest.fixture(scope="session")
def corpus_folder(tmp_path_factory) -> Path:
    """40 clips of 10 to 60 frames; level 0 walks, level 1 follows it."""
    identity = CodecIdentity(
        name="fake", revision="1", weight_hash="0", sample_rate=16000, hop=640, codebook_sizes=(CODES,) * LEVELS
    )
    rng = np.random.default_rng(0)
    folder = tmp_path_factory.mktemp("corpus") / "corpus"
    work = Workspace(folder, Job(streams={"audio": identity}, source="random", source_fingerprint="0", settings={}))
    work.start()
    work.commit(0, [_row(i, rng) for i in range(40)], [], n_clips=40, clips_hash="0")
    work.finish()
    return folder


def _row(number: int, rng: np.random.Generator) -> Row:
    walk_T = rng.integers(0, 3, rng.integers(10, 60)).cumsum() % CODES
    return Row(
        id=f"clip-{number}",
        streams={"audio": np.stack([walk_T, (walk_T * 3) % CODES], axis=1).astype(np.uint16)},
        text=f"number {number}",
        split="valid" if number % 8 == 0 else "train",
        recording=f"clip-{number}",
        duration=len(walk_T) / 25,
        audio=f"clip-{number}.wav",
    )


@pytest.fixture(scope="session")
def make_overrides(corpus_folder: Path):
    """make_overrides(folder, "key=value", …) -> the small recipe's overrides for a run in that folder."""

    def make(folder: Path, *more: str) -> list[str]:
        return [*SMALL, f"data.corpus='{corpus_folder}'", f"output='{folder}'", *more]

    return make


@pytest.fixture
def overrides(make_overrides, tmp_path: Path):
    """overrides("name", "key=value", …) -> the small recipe's overrides for a run of that name."""
    return lambda name, *more: make_overrides(tmp_path / name, *more)


@pytest.fixture
def in_two_parts():
    """in_two_parts(overrides) -> the result of a run that was stopped after step 5 and then went on."""

    def run(made: list[str], stop: int = 5) -> RunResult:
        with pytest.MonkeyPatch.context() as patch:
            original = MetricsLog.on_step

            def on_step(self, report) -> None:
                original(self, report)
                if report.step == stop - 1:
                    signal.raise_signal(signal.SIGTERM)

            patch.setattr(MetricsLog, "on_step", on_step)
            assert run_recipe("tiny", made).steps == stop
        return run_recipe("tiny", made)

    return run
