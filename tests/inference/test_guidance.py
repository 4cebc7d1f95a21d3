"""Guidance: the formula, the scale over time, which cells are dropped, what is refused."""

import numpy as np
import pytest
import torch

from hocket.data.loading import Batch
from hocket.errors import InputError
from hocket.inference.guidance import Guidance, combine, double, dropped_cells
from hocket.interleave import Stage, load_layout
from hocket.model.stepping import Pass
from hocket.training.objectives import Objective
from hocket.vocab import Vocabulary, train_bpe

NOTHING = float("-inf")
SPEECH = Stage(name="", layout=load_layout("Concat(Text(text), Delay(audio))", 3), given=("text",))


def pass_of(logits_BPJ):
    return Pass((0,), logits_BPJ, torch.arange(logits_BPJ.shape[2])[None])


def test_logits_move_away_from_those_without_the_condition():
    logits = torch.tensor([[[1.0, 2.0, NOTHING]], [[0.0, 4.0, NOTHING]], [[1.0, 1.0, NOTHING]], [[0.0, 0.0, NOTHING]]])
    guided = combine(pass_of(logits), 3.0)
    assert guided.logits_BPJ.tolist() == [[[1.0, 4.0, NOTHING]], [[0.0, 12.0, NOTHING]]]
    assert guided.rows == (0,)
    each = combine(pass_of(logits), torch.tensor([0.0, 1.0]))
    assert each.logits_BPJ.tolist() == [[[1.0, 1.0, NOTHING]], [[0.0, 4.0, NOTHING]]]


def test_the_scale_goes_evenly_from_start_to_end():
    annealed = Guidance(scale=10, end_scale=1)
    assert [annealed.at(p) for p in (0, 0.5, 1, 2)] == [10, 5.5, 1, 1]
    assert [Guidance(scale=3).at(p) for p in (0, 0.7)] == [3, 3]
    assert Guidance(scale=1).is_off
    assert not Guidance(scale=1, end_scale=2).is_off
    assert not Guidance(scale=2, end_scale=1).is_off


@pytest.mark.parametrize(
    ("expression", "given"),
    [
        ("Concat(Text(text), Delay(audio))", ("text",)),
        ("Stack(Lead(Repeat(semantic, 2)), Parallel(audio))", ("semantic",)),
        ("Stack(Lead(Delay(user), 1), Delay(audio))", ("user",)),
    ],
)
def test_the_cells_that_are_dropped_are_those_that_training_dropped(expression, given):
    layout = load_layout(expression, 3)
    stage = Stage(name="", layout=layout, given=given)
    sizes = {name: [12] * k for name, k in layout.streams.items() if name != "text"}
    vocabulary = Vocabulary.build(train_bpe(["abc"], 256), sizes)
    lengths = {name: 4 if name in ("semantic", "text") else 8 for name in layout.streams}
    rng = np.random.default_rng(0)
    codes = {name: rng.integers(0, 12, (n, layout.streams[name])) for name, n in lengths.items()}
    plan = layout.plan(lengths, given=given)
    ids_TR = torch.from_numpy(plan.interleave(codes, vocabulary))
    batched = layout.batch({name: [n] for name, n in lengths.items()}, given=given)
    legal = torch.from_numpy(plan.legal_TR.astype(np.int64))
    batch = Batch(ids_TR, legal, (legal > 0).float(), torch.tensor([0, len(ids_TR)]), ["a"], 0)
    null = vocabulary.id("<null>")
    objective = Objective(conditions=Guidance().conditions(stage), dropout=1.0, null=null)
    dropped_TR = torch.from_numpy(dropped_cells(plan, Guidance().conditions(stage)))
    both = double(ids_TR[None], dropped_TR[None], null)
    assert torch.equal(both[0], ids_TR)
    assert torch.equal(both[1], objective(batch, batched, [0]).ids_NR)
    assert (both[1] == null).any()


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"scale": -1}, r"guidance: scale must be 1 \(none\) or another number from 0 on, not -1"),
        ({"scale": None}, "guidance: scale must be"),
        ({"scale": float("inf")}, "guidance: scale must be"),
        ({"end_scale": "low"}, "guidance: end_scale must be"),
        ({"streams": "text"}, "guidance: streams must be a list of names"),
    ],
)
def test_impossible_settings_are_refused(wrong, sentence):
    with pytest.raises(InputError, match=sentence):
        Guidance(**wrong)


def test_conditions_are_streams_that_the_model_is_given():
    assert Guidance().conditions(SPEECH) == ("text",)
    assert Guidance(streams=["text"]).conditions(SPEECH) == ("text",)  # type: ignore
    with pytest.raises(InputError, match=r'has no stream "txt" \(did you mean "text"\?\)'):
        Guidance(streams=("txt",)).conditions(SPEECH)
    with pytest.raises(InputError, match=r'"audio" is predicted by this model, so it was never dropped'):
        Guidance(streams=("audio",)).conditions(SPEECH)
    with pytest.raises(InputError, match=r"guidance needs a condition, but this model of .* is given none"):
        Guidance().conditions(Stage(name="", layout=SPEECH.layout))
