"""Runs that start from a text model: dimensions and tokenizer are its own, a resumed run needs it no more."""

import shutil

import pytest
import torch

from hocket.data import Mixture
from hocket.errors import InputError
from hocket.model import Model, load_model
from hocket.training import run_recipe
from hocket.training.parts import build_model
from hocket.training.recipes import load_recipe
from tests.model.stock_models import ROWS, make_stock

START = [
    "codec=corpus", "model=pretrained", "model.context=96", "interleave=tts-delay", "training.engine=accelerate",
    "training.steps=2", "training.save_every=2", "training.tensorboard=false", "data.batch_steps=96",
]  # fmt: skip


def overrides(corpus, stock, output, *further) -> list[str]:
    return [*START, f"data.corpus={corpus}", f"model.warm_start={stock}", f"output={output}", *further]


def test_a_run_starts_from_a_text_model_and_goes_on_without_it(corpus_folder, tmp_path):
    make_stock(tmp_path / "stock", "qwen3", head_dim=16)
    run_recipe("tiny", overrides(corpus_folder, tmp_path / "stock", tmp_path / "run"))
    model = load_model(tmp_path / "run")
    assert model.vocabulary.text_rows == ROWS
    assert (model.config.dim, model.config.n_layers, model.config.head_dim) == (32, 4, 16)
    shutil.rmtree(tmp_path / "stock")
    again = overrides(corpus_folder, tmp_path / "stock", tmp_path / "run", "training.steps=3")
    assert run_recipe("tiny", again).steps == 3


def test_a_run_goes_on_from_another_model_of_ours(corpus_folder, tmp_path):
    make_stock(tmp_path / "stock", "qwen3")
    run_recipe("tiny", overrides(corpus_folder, tmp_path / "stock", tmp_path / "first"))
    further = ["training.lr=0", "training.steps=1"]
    run_recipe("tiny", overrides(corpus_folder, tmp_path / "first", tmp_path / "second", *further))
    first, second = load_model(tmp_path / "first"), load_model(tmp_path / "second")
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
    assert second.vocabulary.fingerprint == first.vocabulary.fingerprint


def build(corpus, source, *further) -> Model:
    return build_model(load_recipe("tiny", overrides(corpus, source, "unused", *further)), Mixture.open(corpus))


def test_what_contradicts_the_source_is_refused(corpus_folder, make_model, tmp_path):
    make_stock(tmp_path / "stock", "llama")
    for change, sentence in {
        "model.dim=48": r"model.dim is 48, but model.warm_start=.* has 32",
        "vocab.text_tokenizer=x.json": r"vocab.text_tokenizer=x.json is not the tokenizer of",
    }.items():
        with pytest.raises(InputError, match=sentence):
            build(corpus_folder, tmp_path / "stock", change)
    with pytest.raises(InputError, match=r"model.warm_start has no value yet"):
        load_recipe("tiny", ["model=pretrained"])
    make_model("Delay(audio)").save(tmp_path / "ours")
    with pytest.raises(InputError, match=r'the corpus has stream "audio" of a codec .*; .*ours has it of a codec'):
        build(corpus_folder, tmp_path / "ours")


def test_a_depth_head_starts_from_the_rows_of_the_source(corpus_folder, tmp_path):
    make_stock(tmp_path / "stock", "smollm3")
    model = build(corpus_folder, tmp_path / "stock", "interleave=csm", "model.depth_dim=16", "model.embeddings=copy")
    assert model.depth is not None
    block = model.vocabulary["audio.0"]
    rows = model.depth.embedding.weight[model.depth.input_V[torch.arange(block.start, block.stop)]]
    assert torch.equal(rows, model.decoder.embedding.weight[block.start : block.stop])
    model.save(tmp_path / "first")
    again = build(corpus_folder, tmp_path / "first", "interleave=csm")
    assert again.config.depth_dim == 16
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True))


@pytest.mark.parametrize("stage", [1, 3])
def test_frozen_text_rows_stay_exact_in_half_precision(corpus_folder, tmp_path, stage):
    make_stock(tmp_path / "stock", "qwen3")
    more = ["model.text_rows=frozen", "training.engine=deepspeed", "training.dtype=bfloat16"]
    made = overrides(corpus_folder, tmp_path / "stock", tmp_path / "run", *more, f"training.zero_stage={stage}")
    run_recipe("tiny", made)
    before, after = build(corpus_folder, tmp_path / "stock"), load_model(tmp_path / "run")
    for table in ("decoder.embedding.weight", "head.weight"):
        old_VD, new_VD = before.get_parameter(table), after.get_parameter(table)
        assert torch.equal(old_VD[:ROWS], new_VD[:ROWS])
        assert not torch.equal(old_VD[ROWS:], new_VD[ROWS:])


def test_a_model_beyond_the_machine_is_refused(corpus_folder):
    huge = ["codec=corpus", "vocab=none", "model.dim=1048576", "model.ffn_dim=1048576"]
    with pytest.raises(InputError, match=r"the model has .* billion parameters, .* GiB in float32, but this machine"):
        build_model(load_recipe("tiny", [*huge, f"data.corpus={corpus_folder}"]), Mixture.open(corpus_folder))


def test_a_model_that_goes_on_finds_its_codec_where_the_first_did(corpus_folder, tmp_path):
    make_stock(tmp_path / "stock", "qwen3")
    first = build(corpus_folder, tmp_path / "stock")
    first.codec_source = "some/folder/mimi"
    first.save(tmp_path / "first")
    assert build(corpus_folder, tmp_path / "first").codec_source == "some/folder/mimi"
