"""A trained run in a second: the bundled codec's codes of a few made-up clips and a model of two layers."""

from pathlib import Path

import pytest

from hocket.training import run_recipe

SMALL = [
    "training.steps=4",
    "training.valid_every=2",
    "training.save_every=4",
    "training.engine=accelerate",
    "training.tensorboard=false",
    "model.context=128",
    "data.batch_steps=256",
]


@pytest.fixture(scope="session")
def runs_folder(tmp_path_factory) -> Path:
    """A folder of runs with the bundled speech, tokenised, in it and the trained run `tiny`."""
    folder = tmp_path_factory.mktemp("runs")
    run_recipe("tiny", [f"output={folder}/tiny", *SMALL])
    return folder


@pytest.fixture(scope="session")
def run_folder(runs_folder) -> Path:
    return runs_folder / "tiny"
