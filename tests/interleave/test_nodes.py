"""Every node by hand: grids written as words, a row a line.

`a0x` is level 0 of frame 0 of the stream that begins with a (levels are x, y, z, w); `a0x'` is a cell of that code
which is never predicted; `.` is filler; anything else is a special token.
"""

import warnings
from fractions import Fraction

import numpy as np
import pytest

from hocket.errors import InputError
from hocket.interleave import load_layout
from tests.interleave.cases import grid_of

RATES = {"audio": Fraction(25, 2), "semantic": Fraction(50), "user": Fraction(25, 2)}


def check(expression: str, lengths: dict[str, int], rows: list[str], levels: int = 2, **arguments) -> None:
    """The grid of a layout is the one drawn, padding of the drawing aside."""
    assert grid_of(expression, lengths, levels, **arguments) == [" ".join(row.split()) for row in rows]


# --- one stream -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("expression", "levels", "n", "rows"),
    [
        ("Parallel(audio)", 2, 2, ["bos a0x a1x end.audio", ".   a0y a1y ."]),
        ("Parallel(audio, offset=1)", 2, 2, ["bos wait a0x a1x end.audio", ".   .    a0y a1y ."]),
        ("Delay(audio)", 3, 2, ["bos a0x a1x end.audio .", ".   .   a0y a1y .", ".   .   .   a0z a1z"]),
        ("Delay(audio, [0, 1, ...])", 3, 1, ["bos a0x end.audio", ".   .   a0y", ".   .   a0z"]),
        ("Delay(audio, [0, 1], offset=2)", 2, 2, ["bos wait wait a0x a1x end.audio", ". . . . a0y a1y"]),
        ("Delay(audio, [1, 0])", 2, 2, ["bos . a0x a1x", ". a0y a1y end.audio"]),
        ("Flatten(audio)", 2, 2, ["bos a0x a0y a1x a1y end.audio"]),
        ('Flatten(audio, order="level")', 2, 2, ["bos a0x a1x end.audio a0y a1y"]),
        ("Flatten(audio, groups=[1, -1])", 3, 2, ["bos a0x a0y a1x a1y end.audio", ".   .   a0z .   a1z ."]),
        ("Flatten(audio, groups=[2, ...])", 4, 2, ["bos a0x a0z a1x a1z end.audio", ".   a0y a0w a1y a1w ."]),
        ("Flatten(audio, groups=[2, ...])", 3, 1, ["bos a0x a0z end.audio", ".   a0y .   ."]),
        (
            'Flatten(audio, order="level", groups=[2, ...])',
            4,
            2,
            ["bos a0x a1x end.audio a0z a1z", ".   a0y a1y . a0w a1w"],
        ),
        ('Flatten(audio, order="level", groups=[-1])', 2, 2, ["bos a0x a1x end.audio", ".   a0y a1y ."]),
        ("CoarseFirst(audio)", 3, 2, ["bos a0x a1x end.audio . .", ". . . . a0y a1y", ". . . . a0z a1z"]),
        ("CoarseFirst(audio, [0, 2])", 3, 1, ["bos a0x end.audio . wait .", ". . . a0y . .", ". . . . . a0z"]),
        ("CoarseFirst(audio)", 1, 2, ["bos a0x a1x end.audio"]),
        ("CoarseFirst(audio, [0, ...])", 1, 2, ["bos a0x a1x end.audio"]),
        ("Repeat(audio, 2)", 1, 2, ["bos a0x a0x' a1x a1x' end.audio"]),
        ("Repeat(audio, 3/2)", 1, 4, ["bos a0x a0x' a1x a2x a2x' a3x end.audio"]),
        ("Repeat(audio, 1)", 1, 2, ["bos a0x a1x end.audio"]),
        ("Repeat(Delay(audio), 2)", 2, 2, ["bos a0x a0x' a1x a1x' end.audio", ".   .   a0y a0y' a1y a1y'"]),
        ("Repeat(Delay(audio, [1, 0]), 2)", 2, 1, ["bos . a0x a0x'", ".   a0y a0y' end.audio"]),
    ],
)
def test_a_node_by_hand(expression, levels, n, rows):
    check(expression, {"audio": n}, rows, levels)


def test_text_by_hand():
    check("Text(text)", {"text": 2}, ["bos t0x t1x end.text"])
    check("Text(text)", {"text": 2}, ["cont t0x t1x"], start="<cont>", ended=())


@pytest.mark.parametrize(
    ("expression", "rows"),
    [
        ("Delay(audio)", ["bos a0x a1x .", ". . a0y a1y"]),
        ("CoarseFirst(audio)", ["bos a0x a1x . .", ". . . a0y a1y"]),
        ('Flatten(audio, order="level")', ["bos a0x a1x a0y a1y"]),
        ("Repeat(Delay(audio), 3/2)", ["bos a0x a0x' a1x .", ". . a0y a0y' a1y"]),
    ],
)
def test_a_document_that_is_cut_off_has_no_end(expression, rows):
    check(expression, {"audio": 2}, rows, ended=())


@pytest.mark.parametrize(
    "expression", ["Delay(audio)", "Flatten(audio)", "CoarseFirst(audio)", "Repeat(audio, 3/2)", "Concat(audio)"]
)
def test_a_stream_without_frames_has_its_end_alone(expression):
    rows = load_layout(expression, 2).n_rows
    check(expression, {"audio": 0}, ["bos end.audio", *[". ."] * (rows - 1)])
    check(expression, {"audio": 0}, ["bos", *["."] * (rows - 1)], ended=())


# --- one after another, side by side ----------------------------------------------------------------------------------


def test_markers_stand_between_the_parts_of_concat():
    check(
        'Concat(Marker("<task.asr>"), Delay(audio), Marker("<task.next>"), text)',
        {"audio": 2, "text": 1},
        ["bos task.asr a0x a1x end.audio task.next t0x end.text", ". . . a0y a1y . . ."],
    )


def test_a_leading_part_of_a_stack():
    check(
        "Stack(Lead(semantic, 1), audio)",
        {"semantic": 2, "audio": 3},
        ["bos s0x s1x end.semantic .   .", ". . a0x a1x a2x end.audio", ". . a0y a1y a2y ."],
    )
    check(
        "Stack(Lead(semantic, 1), Lead(audio, 3), user)",
        {"semantic": 1, "audio": 1, "user": 1},
        ["bos . . s0x end.semantic .", ". a0x end.audio . . .", ". . . . u0x end.user"],
        levels=1,
    )


def test_parts_of_a_stack_drain_and_are_filler_after():
    check(
        "Stack(Delay(audio), user)",
        {"audio": 1, "user": 3},
        ["bos a0x end.audio .   .", ". . a0y . .", ". u0x u1x u2x end.user", ". u0y u1y u2y ."],
    )
    check("Stack(audio, user)", {"audio": 0, "user": 1}, ["bos end.audio .", ". u0x end.user"], levels=1)


def test_a_step_in_which_nothing_is_due_waits():
    check(
        "Stack(Delay(audio, [0, 3]), Lead(user, 1))",
        {"audio": 1, "user": 1},
        ["bos . a0x end.audio wait .", ". . . . . a0y", ". u0x end.user . . .", ". u0y . . . ."],
    )


# --- by turns ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "semantic", "row"),
    [
        (5, 7, "bos t0x t1x s0x s1x s2x t2x t3x s3x s4x s5x t4x end.text s6x end.semantic"),
        (1, 7, "bos t0x end.text s0x s1x s2x s3x s4x s5x s6x end.semantic"),
        (5, 1, "bos t0x t1x s0x end.semantic t2x t3x t4x end.text"),
        (2, 4, "bos t0x t1x s0x s1x s2x end.text s3x end.semantic"),
        (2, 3, "bos t0x t1x s0x s1x s2x end.text end.semantic"),
        (0, 4, "bos end.text s0x s1x s2x s3x end.semantic"),
        (3, 0, "bos t0x t1x end.semantic t2x end.text"),
        (0, 0, "bos end.text end.semantic"),
    ],
)
def test_turns_by_ratio(text, semantic, row):
    check("Alternate(text, semantic, ratio=(2, 3))", {"text": text, "semantic": semantic}, [row])


def test_a_turn_is_laid_out_whole():
    check(
        "Alternate(text, Delay(audio), ratio=(1, 2))",
        {"text": 2, "audio": 3},
        ["bos t0x a0x a1x .   t1x a2x end.audio end.text", ". . . a0y a1y . . a2y ."],
    )


def test_turns_within_turns():
    check(
        "Alternate(text, Alternate(semantic, audio, ratio=(1, 2)), ratio=(1, 4))",
        {"text": 3, "semantic": 3, "audio": 5},
        [
            "bos t0x s0x a0x a1x s1x a2x a3x s2x end.semantic t1x a4x end.audio t2x end.text",
            ".   .   .   a0y a1y .   a2y a3y .   .            .   a4y .         .   .",
        ],
    )


UNITS = {"text": [0, 2, 3, 5], "semantic": [0, 3, 4, 6]}
BY_TURN = "Alternate(text, semantic, spans='turn')"
BY_WORD = "Alternate(text, semantic, spans='word', words=((1, 1), (1, 1)))"
BOTH = {"text": 5, "semantic": 6}


def test_every_unit_in_each_stream_in_turn():
    row = (
        "bos to.text t0x t1x to.semantic s0x s1x s2x to.text t2x to.semantic s3x "
        "to.text t3x t4x to.semantic s4x s5x end.semantic"
    )
    check(BY_TURN, BOTH, [row], spans=UNITS)


def test_each_unit_in_one_stream_drawn_by_the_seed():
    first = "bos to.text t0x t1x to.semantic s3x to.text t3x t4x end.text"
    second = "bos to.semantic s0x s1x s2x to.text t2x to.semantic s4x s5x end.semantic"
    drawn = [grid_of(BY_WORD, BOTH, spans=UNITS, seed=seed)[0] for seed in range(20)]
    assert set(drawn) == {first, second}
    assert drawn == [grid_of(BY_WORD, BOTH, spans=UNITS, seed=seed)[0] for seed in range(20)]


def test_each_stream_whole_in_an_order_drawn_by_the_seed():
    either = "Alternate(text, Delay(semantic), spans='either')"
    speech = "bos to.text t0x t1x t2x t3x t4x to.semantic s0x s1x s2x s3x s4x s5x end.semantic"
    recognition = "bos to.semantic s0x s1x s2x s3x s4x s5x to.text t0x t1x t2x t3x t4x end.text"
    drawn = [grid_of(either, BOTH, spans=UNITS, seed=seed)[0] for seed in range(40)]
    assert set(drawn) == {speech, recognition}
    assert 10 < drawn.count(speech) < 30
    assert drawn == [grid_of(either, BOTH, spans=UNITS, seed=seed)[0] for seed in range(40)]
    whole = {name: [0, n] for name, n in BOTH.items()}
    assert drawn[:9] == [grid_of(either, BOTH, spans=whole, seed=seed)[0] for seed in range(9)]


def test_a_stream_that_is_not_there_has_no_turn():
    either = "Alternate(text, semantic, spans='either')"
    for seed in range(4):
        row = grid_of(either, {"text": 2, "semantic": 0}, spans={"text": [0, 2], "semantic": [0, 0]}, seed=seed)[0]
        assert row == "bos to.text t0x t1x end.text"


def test_any_order_of_three_streams_is_drawn():
    layout = load_layout(
        "Alternate(text, Flatten(semantic), Delay(audio), spans='either')", {"semantic": 1, "audio": 2}
    )
    lengths = {"text": 2, "semantic": 3, "audio": 4}
    spans = {name: [0, n] for name, n in lengths.items()}
    plans = [layout.plan(lengths, spans=spans, seed=seed) for seed in range(60)]
    assert len({plan.source_TR.tobytes() for plan in plans}) == 6
    steps = layout.count_steps(
        {name: np.full(60, n) for name, n in lengths.items()}, spans=[spans] * 60, seeds=range(60)
    )
    assert steps.tolist() == [plan.n_steps for plan in plans]


def test_spans_of_several_words_differ_by_seed_and_keep_their_limits():
    layout = load_layout("Alternate(text, semantic, spans='word', words=((2, 4), (1, 3)))", 1)
    edges = list(range(101))
    plans = [
        layout.plan({"text": 100, "semantic": 100}, spans={"text": edges, "semantic": edges}, seed=s) for s in range(9)
    ]
    assert len({plan.source_TR.tobytes() for plan in plans}) > 5
    for plan in plans:
        both = np.sort(np.concatenate([plan.kept["text"], plan.kept["semantic"]]))
        assert both.tolist() == edges[:-1], "each unit stands in one stream"
        for name, (fewest, most) in {"text": (2, 4), "semantic": (1, 3)}.items():
            runs = np.split(plan.kept[name], (np.diff(plan.kept[name]) > 1).nonzero()[0] + 1)
            assert all(fewest <= len(run) <= most for run in runs[:-1])


def test_turns_may_be_given_as_they_are():
    row = "bos to.semantic s0x s1x to.text t0x to.semantic s4x end.semantic"
    check(BY_TURN, BOTH, [row], spans=[("semantic", 0, 2), ("text", 0, 1), ("semantic", 4, 5)])


def test_units_without_frames_have_no_turn():
    check(
        BY_TURN,
        {"text": 1, "semantic": 1},
        ["bos to.semantic s0x to.text t0x end.text"],
        spans={"text": [0, 0, 1], "semantic": [0, 1, 1]},
    )
    check(BY_TURN, {"text": 0, "semantic": 0}, ["bos to.text end.text"], spans={"text": [0], "semantic": [0]})


@pytest.mark.parametrize(
    ("spans", "sentence"),
    [
        (None, "needs spans: the boundaries of words or turns"),
        ({"text": [0, 5]}, "need as many boundaries for each stream"),
        ({"text": [0, 5], "semantic": [0, 3, 6]}, "need as many boundaries for each stream"),
        ({"text": [0, 4], "semantic": [0, 6]}, 'boundaries of "text" go from 0 to 4, but the stream goes from 0 to 5'),
        ({"text": [1, 5], "semantic": [0, 6]}, "go from 1 to 5"),
        ({"text": [0, 3, 2, 5], "semantic": [0, 1, 2, 6]}, "goes back behind 3"),
        ({"text": [0, 9, 5], "semantic": [0, 1, 6]}, "goes beyond its 5 frames"),
        ({"txet": [0, 5], "semantic": [0, 6]}, 'name the stream "txet".*did you mean "text"'),
        ([("audio", 0, 1)], 'name the stream "audio"'),
        ([("text", 3, 1)], "goes back"),
        ([("text", 0, 2), ("semantic", 0, 1), ("text", 1, 3)], "goes back behind 2"),
        ([("text", -1, 2)], "goes back behind 0"),
        ([("text", 0)], "spans are boundaries by stream, or turns"),
        ([3], "spans are boundaries by stream, or turns"),
        (3, "spans are boundaries by stream, or turns"),
        ("text", "spans are boundaries by stream, or turns"),
        ({"text": 5, "semantic": 6}, "spans are boundaries by stream, or turns"),
        ({}, "spans are boundaries by stream, or turns"),
        ([("text", 0, 1.5)], "spans are boundaries by stream, or turns"),
        ({"text": [0, "x"], "semantic": [0, 6]}, "spans are boundaries by stream, or turns"),
        ({"text": [0, 2.5, 5], "semantic": [0, 3, 6]}, "spans are boundaries by stream, or turns"),
    ],
)
def test_spans_that_do_not_fit_are_refused(spans, sentence):
    with pytest.raises(InputError, match=sentence):
        load_layout(BY_TURN, 1).plan(BOTH, spans=spans)


def test_spans_are_refused_where_nothing_goes_by_spans():
    with pytest.raises(InputError, match="does not go by spans; leave them out"):
        load_layout("Delay(audio)", 2).plan({"audio": 2}, spans={"audio": [0, 2]})


def test_speakers_side_by_side_and_by_turns():
    check(
        "Multispeaker(Delay(audio), Delay(user))",
        {"audio": 1, "user": 2},
        ["bos a0x end.audio .", ". . a0y .", ". u0x u1x end.user", ". . u0y u1y"],
    )
    check(
        'Multispeaker(Delay(audio), user, by="turn")',
        {"audio": 3, "user": 3},
        [
            "bos to.audio a0x a1x to.user u0x to.audio a2x to.user u1x u2x end.user",
            ".   .        .   a0y a1y u0y .        .   a2y u1y u2y .",
        ],
        spans={"audio": [0, 2, 3], "user": [0, 1, 3]},
    )


# --- seconds, rates, what is given ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("expression", "resolved"),
    [
        ('Delay(audio, offset="2s")', "Delay(audio[:2], [0, 1], offset=25)"),
        ('Delay(audio, offset="0.1s")', "Delay(audio[:2], [0, 1], offset=1)"),  # 1.25 frames
        ('Delay(audio, offset="0.12s")', "Delay(audio[:2], [0, 1], offset=2)"),  # 1.5 frames: half goes up
        ('Stack(Lead(semantic, "0.5s"), user)', "Stack(Lead(Parallel(semantic[:1]), 25), Parallel(user[:2]))"),
        ('Stack(Lead(Flatten(audio), "2s"), user)', "Stack(Lead(Flatten(audio[:2]), 50), Parallel(user[:2]))"),
        ("Repeat(audio, semantic)", "Repeat(audio[:2], 4)"),
        ("Repeat(audio, user)", "Repeat(audio[:2], 1)"),
    ],
)
def test_times_become_frames_and_steps_by_the_frame_rates(expression, resolved):
    assert str(load_layout(expression, 2, RATES)) == resolved
    assert load_layout(load_layout(expression, 2).expression, frame_rates=RATES).expression == resolved


@pytest.mark.parametrize(
    ("expression", "sentence"),
    [
        ('Delay(audio, offset="2s")', '"2s" of "audio" can be turned into frames only with its frame rate'),
        ('Stack(Lead(audio, "2s"), user)', '"2s" of "audio" can be turned'),
        ("Repeat(audio, user)", "needs the frame rates of both streams"),
    ],
)
def test_times_without_frame_rates_are_refused_when_planned(expression, sentence):
    layout = load_layout(expression, 2)
    with pytest.raises(InputError, match=sentence):
        layout.plan(dict.fromkeys(layout.streams, 2))


def test_what_is_given_is_never_predicted():
    check(
        "Stack(audio, user)",
        {"audio": 1, "user": 1},
        ["bos a0x end.audio", ". a0y .", ". u0x' end.user", ". u0y' ."],
        given=["user"],
    )
    check("Delay(audio)", {"audio": 1}, ["bos a0x' end.audio", ". . a0y"], given=["audio[:1]"])
    plan = load_layout("Stack(audio, user)", 1).plan({"audio": 1, "user": 1}, given=["user"])
    assert plan.legal_TR.tolist() == [[0, 0], [1, 0], [1, 0]], "nor is its end"
    with pytest.raises(InputError, match=r'has no stream "usr".*did you mean "user"'):
        load_layout("Stack(audio, user)", 1).plan({"audio": 1, "user": 1}, given=["usr"])
    with pytest.raises(InputError, match="names no levels of a stream that has 1"):
        load_layout("Parallel(audio)", 1).plan({"audio": 1}, given=["audio[1:]"])


def test_a_condition_that_comes_too_late_is_warned_of():
    layout = load_layout("Stack(semantic, audio)", 2)
    with pytest.warns(UserWarning, match=r'given stream "semantic" enters beside.*wrap it in Lead\(…, 1\)'):
        layout.plan({"semantic": 3, "audio": 3}, given=["semantic"])


@pytest.mark.parametrize(
    ("expression", "given"),
    [
        ("Stack(Lead(semantic, 1), audio)", ["semantic"]),
        ("Stack(semantic, Delay(audio, offset=1))", ["semantic"]),
        ("Stack(audio, user)", ["user"]),
        ("Concat(semantic, audio)", ["semantic"]),
        ("Stack(semantic, audio)", []),
        ("Stack(semantic, audio)", ["semantic", "audio"]),
        ("Delay(audio)", ["audio[:1]"]),
    ],
)
def test_what_comes_in_time_is_not_warned_of(expression, given):
    layout = load_layout(expression, 2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        layout.plan(dict.fromkeys(layout.streams, 3), given=given)


def test_a_batch_warns_of_a_late_condition_too():
    layout = load_layout("Stack(semantic, Parallel(audio))", 2)
    with pytest.warns(UserWarning, match="one step too late"):
        layout.batch({"semantic": [3, 4], "audio": [3, 4]}, given=["semantic"])


@pytest.mark.parametrize("slices", [("audio[:1]", "audio[1:]"), ("audio[1:]", "audio[:1]")])
def test_spans_tear_no_frame_apart(slices):
    expression = f'Concat(Alternate(text, Parallel({slices[0]}), spans="word"), Parallel({slices[1]}))'
    with pytest.raises(InputError, match="put all levels into the part"):
        load_layout(expression, 3)
