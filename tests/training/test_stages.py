"""From a recipe's layout to a stage and a vocabulary."""

from pathlib import Path

import pytest

from hocket.data import Corpus
from hocket.errors import InputError
from hocket.evaluation.scores import measure_bits
from hocket.interleave import load_layout, written
from hocket.model import load_model
from hocket.training import run_recipe
from hocket.training.parts import build_model, find_stage
from hocket.training.recipes import load_recipe

WITH_TASK = "interleave.layout='Concat(Marker(\"<task.continue>\"), Delay(audio))'"


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (["interleave.attention=bidirectional"], "every step would see what it predicts"),
        (["interleave=csm", "interleave.objective=masked"], "add interleave.head=parallel"),
        (["interleave=valle"], r"choose one with interleave.stage=… \(there are: ar, nar\)"),
        (["interleave=valle", "interleave.stage=na"], 'no stage "na".*did you mean "nar"'),
        (["interleave.objective=mask"], "objective is one of next-token, masked, levels"),
    ],
)
def test_what_cannot_be_trained_is_refused_with_the_way_out(overrides, sentence):
    with pytest.raises(InputError, match=sentence):
        find_stage(load_recipe("tiny", overrides).interleave, 8, {"audio": 25})


def test_a_head_may_be_replaced_and_a_stage_chosen():
    stage = find_stage(load_recipe("tiny", ["interleave=csm", "interleave.head=parallel"]).interleave, 8)
    assert (stage.head, stage.given) == ("parallel", ("text",))
    assert find_stage(load_recipe("tiny", ["interleave=valle", "interleave.stage=ar"]).interleave, 8).name == "ar"


def test_loss_weights_come_from_the_recipe():
    recipe = load_recipe("tiny", ["+training.level_weights.audio=[100,1]", "+training.stream_weights.text=0.5"])
    rules = recipe.training.loss_weights()
    assert (rules.of("audio", 0), rules.of("audio", 7), rules.of("text", 0)) == (100, 1, 0.5)
    with pytest.raises(InputError, match="from 0 on"):
        load_recipe("tiny", ["+training.stream_weights.text=-1"])


def test_the_tokens_of_markers_enter_the_vocabulary(overrides, corpus_folder):
    model = build_model(load_recipe("tiny", overrides("marked", WITH_TASK)), Corpus.open(corpus_folder))
    assert model.vocabulary.id("<task.continue>") == model.vocabulary["task"].start


@pytest.mark.parametrize(
    "more",
    [
        ["interleave=partial-flatten"],
        ["interleave=csm", "vocab=bpe", "model.depth_fraction=0.25"],
        ["interleave=parallel", "interleave.head=depth", "model.depth_weights=rows"],
        ["interleave=coarse-first", "+training.level_weights.audio=[2,1]"],
        ["interleave=tts-delay", "vocab=bpe", "+training.stream_weights.text=0"],
        ["interleave=valle", "interleave.stage=ar", "vocab=bpe"],
        ['interleave.layout="examples/chunks.py:Chunks(audio, size=2)"'],
    ],
)
def test_layouts_train_resume_and_load_again(overrides, corpus_folder, more):
    """Weights, given streams and nodes from a file survive the way through a checkpoint."""
    settings = overrides("run", *more, "training.steps=4", "training.save_every=2", "training.engine=accelerate")
    first = run_recipe("tiny", settings)
    model = load_model(first.folder)
    assert model.layout == build_model(load_recipe("tiny", settings), Corpus.open(corpus_folder)).layout
    assert measure_bits(model, Corpus.open(corpus_folder).split("valid"))[0].audio > 0
    longer = run_recipe("tiny", [*settings, "training.steps=6"])
    assert longer.metrics["loss"] > 0


def test_a_checkpoint_carries_the_nodes_of_its_layout(overrides, tmp_path):
    nodes = tmp_path / "mine.py"
    nodes.write_text(Path("examples/chunks.py").read_text().replace("Chunks", "Pieces"))
    layout = f'interleave.layout="{nodes}:Pieces(audio, size=2)"'
    run = run_recipe("tiny", overrides("own", layout, "training.steps=2", "training.engine=accelerate"))
    nodes.unlink()
    model = load_model(run.folder)
    assert model.layout.expression == "Pieces(audio[:2], size=2)"
    assert load_layout(written(model.layout)) == model.layout


def test_a_stage_trains_on_a_corpus_without_the_streams_of_the_others():
    stage = find_stage(load_recipe("tiny", ["interleave=bark", "interleave.stage=fine"]).interleave, {"audio": 8})
    assert list(stage.layout.streams) == ["audio"]
