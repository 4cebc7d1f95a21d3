"""Layouts by hand: what single nodes place, how expressions are read, and what is refused in words."""

import numpy as np
import pytest

from hocket.errors import InputError
from hocket.interleave import Concat, Delay, Flatten, Parallel, Text, load_layout
from hocket.vocab import Vocabulary
from tests.interleave.cases import CASES, stages


def test_delay_by_hand():
    plan = Delay("audio", [0, 1, 2]).plan({"audio": 2})
    grid = plan.interleave({"audio": np.array([[10, 20, 30], [11, 21, 31]])})
    none, bos, end = -1, -2, -5
    assert grid.tolist() == [
        [bos, none, none],
        [10, none, none],
        [11, 20, none],
        [end, 21, 30],
        [none, none, 31],
    ]
    assert [plan.ready(step)["audio"] for step in range(5)] == [0, 0, 0, 1, 2]


def test_a_gap_in_a_short_document_waits():
    plan = Delay("audio", [0, 3]).plan({"audio": 1})
    assert [plan.symbols[i] for i in plan.source_TR[:, 0] if i < 5] == ["<bos>", "<end.audio>", "<wait>", "<none>"]


def test_level_major_by_hand():
    plan = Flatten("audio[:2]", order="level").plan({"audio": 2})
    grid = plan.interleave({"audio": np.array([[1, 2], [3, 4]])})
    assert grid[:, 0].tolist() == [-2, 1, 3, -5, 2, 4]


def test_concat_fills_missing_rows_with_none():
    plan = Concat(Text(), Delay("audio", [0, 1])).plan({"text": 2, "audio": 1}, start="<cont>")
    grid = plan.interleave({"text": np.array([7, 8]), "audio": np.array([[1, 2]])})
    end_text, end_audio = -5, -6
    assert grid.tolist() == [[-3, -1], [7, -1], [8, -1], [end_text, -1], [1, -1], [end_audio, 2]]


def test_rates_follow_from_the_layout():
    layout = load_layout("flatten", levels=8)
    assert layout.steps_per_second({"audio": 25}) == 200
    assert load_layout("delay", levels=8).steps_per_second({"audio": 25}) == 25


@pytest.mark.parametrize("k", [4, 9])
@pytest.mark.parametrize("case", CASES)
def test_an_expression_reads_back(case, k):
    for stage in stages(case, k):
        assert load_layout(stage.layout.expression) == stage.layout
        assert load_layout(stage.layout) is stage.layout


def test_python_and_presets_are_the_same():
    assert load_layout("delay", levels=4) == Delay("audio", [0, 1, 2, 3])
    assert load_layout("parallel", levels=4) == Parallel("audio[:4]")
    assert load_layout("acoustic-delay", levels=4) == Delay("audio", [0, 1, 1, 1])
    assert load_layout("flatten", levels=4) == Flatten("audio[:4]")


@pytest.mark.parametrize(
    ("spec", "sentence"),
    [
        ("dellay", 'no layout "dellay".*did you mean "delay"'),
        ("Dellay(audio)", 'unknown node Dellay.*did you mean "Delay"'),
        ("Delay(audio", "no layout expression"),
        ("Delay(audio, [0, 1])", "places 2 levels of .audio., which has 4"),
        ("Delay(audio, [1, 2, 3, 4])", "the least of them 0"),
        ("Delay(audio, [0, -1, 2, 3])", "whole numbers of steps"),
        ("Flatten(audio, order='time')", 'not "time"'),
        ("Text(audio)", "write Flatten"),
        ("Concat()", "Concat joins layouts"),
        ("Concat(3)", "Concat joins layouts"),
        ("Parallel(audio[:9])", "names no levels"),
        ("Delay(1 + 2)", "has no meaning"),
        ("Delay()", "cannot take"),
        ("nowhere.yaml", "no layout"),
    ],
)
def test_bad_layouts_get_one_sentence(spec, sentence):
    with pytest.raises(InputError, match=sentence):
        load_layout(spec, levels=4)


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: load_layout("delay").plan({"audio": 3}), "number of levels"),
        (lambda: load_layout("delay", 2).plan({"audoi": 3}), 'needs the length of "audio"'),
        (lambda: load_layout("delay", 2).plan({"audio": 3, "text": 1}), 'has no stream "text"'),
        (lambda: load_layout("delay", 2).plan({"audio": -3}), "negative"),
        (lambda: load_layout("delay", 2).plan({"audio": 3}, start="<eos>"), "starts with"),
        (lambda: load_layout("delay", 2).plan({"audio": 3}).interleave({}), "is missing"),
        (lambda: load_layout("delay", 2).plan({"audio": 3}).interleave({"audio": np.ones((3, 3))}), "shape"),
        (lambda: load_layout("delay", 2).plan({"audio": 3}).deinterleave(np.ones((3, 3))), "shape"),
        (lambda: load_layout("Concat(Flatten(audio[:1]), Flatten(audio[2:]))", 3).streams, "exactly one place"),
    ],
)
def test_wrong_use_gets_one_sentence(call, sentence):
    with pytest.raises(InputError, match=sentence):
        call()


def test_a_grid_with_a_foreign_id_is_refused_by_name():
    vocabulary = Vocabulary.build(None, {"audio": [4, 4]})
    plan = load_layout("parallel", 2).plan({"audio": 1})
    grid = plan.interleave({"audio": np.array([[1, 2]])}, vocabulary)
    grid[1, 1] = vocabulary.id("<mask.audio.0>")
    with pytest.raises(InputError, match=r"<mask.audio.0>, which is no code"):
        plan.deinterleave(grid, vocabulary)
