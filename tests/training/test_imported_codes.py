"""Training on codes that were imported loads no codec, whether or not anybody knows its weights."""

import json

import numpy as np
import pytest

from hocket.data.importing import import_codes, read_identity
from hocket.errors import InputError
from hocket.evaluation.corpus_facts import Sample
from hocket.evaluation.inspect import inspect_all
from hocket.training import run_recipe

FACTS = {"name": "somebody/codec", "sample_rate": 16000, "hop": 640, "codebook_sizes": [16, 16]}


@pytest.fixture
def corpus(tmp_path):
    src = tmp_path / "codes"
    src.mkdir()
    rng = np.random.default_rng(0)
    for i in range(30):
        walk_T = rng.integers(0, 3, rng.integers(10, 60)).cumsum() % 16
        np.save(src / f"{i:02d}.npy", np.stack([walk_T, walk_T * 3 % 16]).astype(np.int16))
    import_codes(src, tmp_path / "corpus", read_identity(json.dumps(FACTS)))
    return tmp_path / "corpus"


def refuse(*args, **options):
    raise AssertionError("a codec was loaded")


def test_training_loads_no_codec(corpus, overrides, monkeypatch):
    for place in ("hocket.codec.loading", "hocket.codec", "hocket.training.parts", "hocket.model.model"):
        monkeypatch.setattr(f"{place}.load_codec", refuse)
    result = run_recipe("tiny", [*overrides("run", "training.engine=accelerate"), f"data.corpus='{corpus}'"])
    assert result.metrics["loss"] > 0


def test_no_codec_is_taken_for_one_whose_weights_are_unknown(corpus, tmp_path):
    with pytest.raises(InputError, match="without the hash of its weights"):
        inspect_all([str(corpus)], sample=Sample(wav=tmp_path / "a.wav"))
    assert not (tmp_path / "a.wav").exists()
