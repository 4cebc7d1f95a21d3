"""Layouts by hand: what single nodes place, how expressions are read, and what is refused in words."""

# pyright: reportArgumentType=false

import numpy as np
import pytest
import torch

from hocket.errors import InputError
from hocket.interleave import Concat, Delay, Flatten, Parallel, Text, load_layout
from hocket.vocab import Vocabulary
from tests.interleave.cases import CASES, codes_for, lengths_for, plan_for, stages


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
        ("Delay(audio, **{'offset': 3})", "write each setting of Delay once"),
        ("Delay(audio, offset=1, offset=2)", "keyword argument repeated|write each setting"),
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


def plan_of(expression: str, levels=2, n=3, **arguments):
    layout = load_layout(expression, levels)
    return layout.plan(dict.fromkeys(layout.streams, n), **arguments)


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: plan_of("Lead(audio)"), "leads nothing on its own"),
        (lambda: load_layout("Lead(audio)").plan({"audio": 3}), "number of levels|leads nothing on its own"),
        (lambda: plan_of("Concat(Lead(audio), text)"), "leads nothing in Concat"),
        (lambda: plan_of("Stack(Lead(Marker('<x>')), audio)"), "leads without placing a stream"),
        (lambda: plan_of("Alternate(text, audio)"), "goes by a ratio or by spans"),
        (lambda: plan_of("Alternate(audio[:1], audio[1:], spans='turn')"), "a stream of its own for each part"),
        (lambda: plan_of("Alternate(text, audio, spans='word', words=((1.5, 2.5), (1, 1)))"), "fewest and most units"),
        (lambda: plan_of("Marker('<x>')"), "places no stream"),
        (lambda: plan_of("Concat(Marker('<none>'), audio)"), "<none> is filler"),
        (lambda: plan_of("Delay(audio, delays=3)"), r"delays are a list such as \[0, 1, ...\]"),
        (lambda: plan_of("Delay(audio, [0, 9999999999999])"), "whole numbers of steps"),
        (lambda: plan_of("Delay(audio, offset=9999999999999)"), "a whole number of frames"),
        (lambda: plan_of("Delay(audio[:129])"), "names no levels"),
        (lambda: plan_of("Text(text[:2])"), "text has up to 1"),
        (lambda: plan_of("Repeat(audio, 99999999999/99999999998)"), "cannot be counted in"),
        (lambda: Delay(3), "is no stream"),
        (lambda: Flatten("audio", groups=["x"]), "groups are sizes"),
        (lambda: load_layout("Delay(audio)", True), "number of levels from 1 to 128, not True"),
        (lambda: load_layout("Delay(audio)", {"audio": 2.5}), "not 2.5"),
        (lambda: load_layout("Delay(audio, offset='1s')", 2, {"audio": 0}), "a number of Hz above 0"),
        (lambda: load_layout("Delay(audio)", 2).steps_per_second({"audio": float("nan")}), "is a number, not nan"),
        (lambda: plan_of("Delay(audio)", n=2.5), 'not 2.5 of "audio"'),
        (lambda: plan_of("Delay(audio)", n="3"), "lengths are whole numbers"),
        (lambda: plan_of("Delay(audio)", n=True), "lengths are whole numbers"),
        (lambda: plan_of("Delay(audio)", n=[3, 4]), "of one document"),
        (lambda: plan_of("Delay(audio)", n=10**12), "lengths are whole numbers"),
        (lambda: plan_of("Delay(audio)", 128, n=2**31 - 1), "a plan has up to"),
        (lambda: load_layout("Delay(audio)", 2).batch({"audio": [1.5]}), "lengths are whole numbers"),
        (lambda: load_layout("Delay(audio)", 2).batch({"audio": [1, 2]}, start=["<bos>"]), "needs as many starts"),
        (lambda: load_layout("Delay(audio)", 2).batch({"audio": [1, 2]}, seeds=[1]), "needs as many seeds"),
        (lambda: load_layout("Delay(audio)", 2).batch({"audio": [1, 2]}, ended={"user": [True] * 2}), "no stream"),
        (lambda: load_layout("Delay(audio)", 2).batch({"audio": [1, 2]}, ended={"audio": [True]}), "as many ends"),
        (lambda: plan_of("Delay(audio)").interleave({"audio": np.ones((3, 2))}), "an array of whole numbers"),
        (lambda: plan_of("Delay(audio)").interleave({"audio": [[1, 2]] * 3}), "an array of whole numbers, not a list"),
        (lambda: plan_of("Delay(audio)").interleave({"audio": torch.ones(3, 2)}), "an array of whole numbers"),
        (
            lambda: plan_of("Concat(audio, user)").interleave(
                {"audio": torch.ones(3, 2, dtype=torch.int64), "user": np.ones((3, 2), int)}
            ),
            "give one kind",
        ),
        (lambda: plan_of("Delay(audio)").known({"audoi": 2}), 'did you mean "audio"'),
        (lambda: plan_of("Delay(audio)").known({"audio": 1.5}), "a prompt is a number of frames"),
        (lambda: load_layout(f"Concat({', '.join(f's{i}' for i in range(130))})", 1), "up to 127 streams"),
    ],
)
def test_what_cannot_be_laid_out_gets_one_sentence(call, sentence):
    with pytest.raises(InputError, match=sentence):
        call()


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64])
def test_codes_of_any_whole_number_come_back(dtype):
    plan = plan_of("Stack(Delay(audio), user)", n=9)
    wide_TK = torch.arange(36).reshape(9, 4).to(dtype)
    codes = {"audio": wide_TK[:, ::2], "user": wide_TK.T.contiguous().T[:, 2:]}  # not contiguous
    grid_TR = plan.interleave(codes)
    assert grid_TR.dtype == torch.int64
    back, as_numpy = plan.deinterleave(grid_TR), plan.interleave({name: c.numpy() for name, c in codes.items()})
    assert all(torch.equal(back[name], codes[name].long()) for name in codes)
    assert np.array_equal(as_numpy, grid_TR.numpy())


def test_odd_compositions_come_back():
    odd = [
        ("Concat(Alternate(Stack(Delay(audio), Lead(user, 2)), text, ratio=(3, 2)), semantic)", 32),
        ("Concat(Stack(Alternate(audio, text, ratio=(1, 7)), left), right)", 1),
        ("Repeat(audio, 2147483647/2147483646)", 3),
        ("Stack(Stack, Concat)", 2),  # streams may be named as nodes are
        ("Alternate(text, audio, ratio=(1, 2147483647))", 4),
    ]
    for expression, levels in odd:
        layout = load_layout(expression, levels)
        for numbers in (range(5), range(9, 4, -1), [0] * 5, [1000] * 5):
            codes = codes_for(layout, lengths_for(layout, list(numbers)))
            plan = layout.plan({name: len(c) for name, c in codes.items()})
            back = plan.deinterleave(plan.interleave(codes))
            assert all(np.array_equal(back[name], codes[name]) for name in codes), expression


def test_a_grid_with_a_foreign_id_is_refused_by_name():
    vocabulary = Vocabulary.build(None, {"audio": [4, 4]})
    plan = load_layout("parallel", 2).plan({"audio": 1})
    grid = plan.interleave({"audio": np.array([[1, 2]])}, vocabulary)
    grid[1, 1] = vocabulary.id("<mask.audio.0>")
    with pytest.raises(InputError, match=r"<mask.audio.0>, which is no code"):
        plan.deinterleave(grid, vocabulary)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("case", CASES)
def test_plans_work_on_a_gpu(case):
    for stage in stages(case, 9):
        lengths = lengths_for(stage.layout, [7, 5, 6, 4])
        plan, codes = plan_for(stage.layout, lengths), codes_for(stage.layout, lengths)
        tensors = {name: torch.from_numpy(c.astype(np.int64)).cuda() for name, c in codes.items()}
        grid_TR = plan.interleave(tensors)
        assert grid_TR.is_cuda
        assert np.array_equal(grid_TR.cpu().numpy(), plan.interleave(codes))
        for name, codes_TK in plan.deinterleave(grid_TR).items():
            assert torch.equal(codes_TK, tensors[name][plan.kept[name]])
