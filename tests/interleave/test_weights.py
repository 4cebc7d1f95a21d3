"""Loss weights by hand: rows of the grid as numbers."""

import numpy as np
import pytest

from hocket.errors import InputError
from hocket.interleave import LossWeights, Plan, load_layout


def rows_of(plan: Plan, rules: LossWeights, **arguments) -> list[list[float]]:
    """Weights `[R][T]`, a row of the grid a list."""
    weight_TR = plan.weights(rules, **arguments)
    assert weight_TR.dtype == np.float32
    return weight_TR.T.tolist()


def delayed(**arguments) -> Plan:
    """Row 0: `<bos>` a b `<end>` and filler; row 1: two fillers, then level 1 of both, then filler."""
    return load_layout("Delay(audio, [0, 1])", 2).plan({"audio": 2}, **arguments)


def moshi() -> Plan:
    layout = load_layout("Stack(aligned_text, audio, user)", 1)
    return layout.plan({"aligned_text": 2, "audio": 2, "user": 2}, given=["user"])


def test_what_is_predicted_counts_1_and_filler_nothing():
    assert rows_of(delayed(), LossWeights()) == [[0, 1, 1, 1], [0, 0, 1, 1]]


def test_the_first_level_may_count_a_hundred_times():
    rules = LossWeights(levels={"audio": [100, 1]})
    assert rows_of(delayed(), rules) == [[0, 100, 100, 100], [0, 0, 1, 1]]
    layout = load_layout("Parallel(audio)", 4)
    assert rows_of(layout.plan({"audio": 1}, ended=()), rules) == [[0, 100], [0, 1], [0, 1], [0, 1]]


def test_streams_levels_and_ends_multiply():
    rules = LossWeights(streams={"audio": 2}, levels={"audio": [3, 5]}, ends=0.5)
    assert rows_of(delayed(), rules) == [[0, 6, 6, 3], [0, 0, 10, 10]]
    assert rows_of(delayed(ended=()), rules) == [[0, 6, 6, 0], [0, 0, 10, 10]]


def test_a_stream_of_weight_0_is_not_learned_nor_one_that_is_given():
    rules = LossWeights(streams={"audio": 0})
    assert rows_of(moshi(), rules) == [[0, 1, 1, 1], [0, 0, 0, 0], [0, 0, 0, 0]]
    assert rows_of(moshi(), LossWeights(streams={"user": 7}))[2] == [0, 0, 0, 0]


def test_pads_count_less():
    pads = {"aligned_text": np.array([True, False])}
    assert rows_of(moshi(), LossWeights(pad=0.5), pads=pads)[0] == [0, 0.5, 1, 1]
    assert rows_of(moshi(), LossWeights(), pads=pads)[0] == [0, 1, 1, 1]


def test_prompts_count_nothing():
    assert rows_of(delayed(), LossWeights(), prompt={"audio": 1}) == [[0, 0, 1, 1], [0, 0, 0, 1]]
    assert rows_of(delayed(), LossWeights(), prompt={"audio": 3}) == [[0, 0, 0, 0], [0, 0, 0, 0]]


def test_copies_and_markers_count_nothing():
    plan = load_layout('Concat(Marker("<x>"), Repeat(audio, 2))', 1).plan({"audio": 2})
    assert rows_of(plan, LossWeights()) == [[0, 0, 1, 0, 1, 0, 1]]


def test_switches_between_streams_are_ends():
    layout = load_layout("Alternate(text, semantic, spans='turn')", 1)
    plan = layout.plan({"text": 1, "semantic": 1}, spans={"text": [0, 1], "semantic": [0, 1]})
    # <bos> <to.text> t0 <to.semantic> s0 <end.semantic>
    rules = LossWeights(streams={"text": 3, "semantic": 5}, ends=0.5)
    assert rows_of(plan, rules) == [[0, 0.5, 3, 1.5, 5, 2.5]]


def test_weights_of_a_batch_are_those_of_its_documents():
    layout = load_layout("Stack(aligned_text, Delay(audio))", 3)
    frames, pads = [3, 0, 5], [np.array([True, False, True]), np.zeros(0, bool), np.arange(5) % 2 == 0]
    rules = LossWeights(levels={"audio": [100, 1]}, ends=2, pad=0.25)
    batch = layout.batch({"aligned_text": frames, "audio": frames})
    joined = batch.weights(
        rules,
        prompt={"audio": np.array([1, 0, 2]), "aligned_text": 1},
        pads={"aligned_text": np.concatenate(pads)},
    )
    alone = [
        layout.plan({"aligned_text": n, "audio": n}).weights(
            rules, prompt={"audio": prompt, "aligned_text": 1}, pads={"aligned_text": is_pad_T}
        )
        for n, prompt, is_pad_T in zip(frames, [1, 0, 2], pads, strict=True)
    ]
    assert np.array_equal(joined, np.concatenate(alone))


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"pad": -1}, "numbers from 0 on"),
        ({"pad": "much"}, "numbers from 0 on"),
        ({"ends": float("nan")}, "numbers from 0 on"),
        ({"ends": float("inf")}, "numbers from 0 on"),
        ({"streams": {"audio": None}}, "numbers from 0 on"),
        ({"levels": {"audio": []}}, "at least one a stream"),
        ({"levels": {"audio": 100}}, "loss weights of levels are a list"),
    ],
)
def test_weights_that_are_none_are_refused(values, sentence):
    with pytest.raises(InputError, match=sentence):
        LossWeights(**values)


@pytest.mark.parametrize(
    ("rules", "arguments", "sentence"),
    [
        (LossWeights(streams={"audoi": 1}), {}, r'"audoi", which the layout lacks.*did you mean "audio"'),
        (LossWeights(levels={"user": [1]}), {}, 'for "user", which the layout lacks'),
        (LossWeights(), {"prompt": {"user": 1}}, 'a prompt is given for "user"'),
        (LossWeights(), {"prompt": {"audio": 1.5}}, "a number of frames for each document"),
        (LossWeights(), {"prompt": {"audio": [1, 2]}}, "a number of frames for each document"),
        (LossWeights(pad=0.5), {"pads": {"audio": [True]}}, "pads are one bool for each frame"),
        (LossWeights(pad=0.5), {"pads": {"user": [True, True]}}, "pads are one bool for each frame"),
        (LossWeights(pad=0.5), {"pads": {"audio": [0, 1]}}, "pads are one bool for each frame"),
    ],
)
def test_weights_that_fit_no_plan_are_refused(rules, arguments, sentence):
    with pytest.raises(InputError, match=sentence):
        delayed().weights(rules, **arguments)
