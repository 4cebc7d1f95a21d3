"""Nats of examples: known probabilities, uniform logits in every layout, packing, resuming, bounds."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from hocket.evaluation.likelihood import score_corpus
from hocket.interleave import Stage, load_layout
from hocket.model import Model
from hocket.vocab import Vocabulary, train_bpe
from tests.conftest import LEVELS, TINY
from tests.data.corpora import codec_of, random_rows, write_corpus
from tests.interleave.cases import CASES, stages

RATE, SIZE = 25, 12
STAGES = {f"{case}/{stage.name}": stage for case in CASES for stage in stages(case, 9 if case == "dia" else 8)}
HEADS = [
    ("Delay(audio)", "parallel"),
    ("Delay(audio)", "depth"),
    ("Flatten(audio)", "parallel"),
    ("Parallel(audio)", "depth"),
]


def build(stage: Stage | str, head: str = "parallel", context: int = 128, **changes) -> Model:
    """A tiny model of a stage over codes of 12 entries."""
    if isinstance(stage, str):
        stage = Stage(name="", layout=load_layout(stage, levels={"audio": LEVELS, "semantic": 1}), head=head, **changes)
    sizes = {name: [SIZE] * k for name, k in stage.layout.streams.items() if "text" not in name}
    codec = codec_of(stage.layout.streams.get("audio", 1), SIZE, RATE)
    config = replace(TINY, context=context)
    return Model.build(config, Vocabulary.build(train_bpe(["w1 w2"], 256), sizes), stage, codec).eval()


def make_uniform(model: Model) -> Model:
    """Every legal id is as likely as any other."""
    torch.nn.init.zeros_(model.head.weight)
    if model.depth is not None:
        torch.nn.init.zeros_(model.depth.weight)
    return model


def corpus_for(folder: Path, model: Model, lengths=(12, 17, 9, 24)):
    """Random codes, texts and words for the streams that the model's layout has."""
    streams = {n: codec_of(k, SIZE, RATE) for n, k in model.layout.streams.items() if "text" not in n}
    return write_corpus(folder / "corpus", random_rows(lengths, streams, texts=True, words=True), streams)


@pytest.mark.parametrize("name", STAGES)
def test_uniform_logits_have_the_same_audio_bits_in_every_layout(name, tmp_path):
    model = make_uniform(build(STAGES[name], context=1024))
    found = score_corpus(model, corpus_for(tmp_path, model), missing="keep")
    levels = [block for block in found.levels if block.startswith(f"{model.main_stream}.")]
    if levels:
        assert found.bits["audio"].value == pytest.approx(len(levels) * RATE * math.log2(SIZE), rel=1e-6)
    assert sum(m.value for n, m in found.bits.items() if n != "total") == pytest.approx(found.bits["total"].value)
