"""Promise 1 over every layout: the inverse is exact, a plan equals its cursor; and the fine print of the plan."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hocket.errors import InputError
from hocket.interleave import Concat, Cursor, Delay, Flatten, Parallel, Text, draw_svg, draw_text, load_layout
from hocket.interleave.layout import Layout
from hocket.vocab import Vocabulary, train_bpe

LAYOUTS = [
    "Parallel(audio)",
    "Delay(audio)",
    "Delay(audio, [0, 1, ...])",
    "Flatten(audio)",
    'Flatten(audio, order="level")',
    "Concat(Text(text), Delay(audio))",
    "Concat(Flatten(audio), Text(text))",
    "Concat(Flatten(audio[:1]), Parallel(audio[1:]))",
    "Concat(Flatten(semantic[:1]), Delay(audio))",
]
lengths = st.one_of(st.integers(0, 4), st.sampled_from([5, 7, 31, 97, 250]))
levels = st.one_of(st.integers(2, 5), st.sampled_from([8, 17, 32]))
layouts = st.sampled_from(LAYOUTS)


def lengths_for(layout: Layout, first: int, second: int) -> dict[str, int]:
    return dict(zip(layout.streams, (first, second), strict=False))


def codes_for(layout: Layout, frames: dict[str, int], size: int = 50) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {name: rng.integers(0, size, (frames[name], k)).astype(np.uint16) for name, k in layout.streams.items()}


@given(layouts, lengths, lengths, levels)
def test_the_inverse_is_exact(expression, first, second, k):
    layout = load_layout(expression, levels={"audio": k, "semantic": 1})
    frames = lengths_for(layout, first, second)
    codes = codes_for(layout, frames)
    plan = layout.plan(frames)
    grid_TR = plan.interleave(codes)
    back = plan.deinterleave(grid_TR)
    assert all((back[name] == codes[name]).all() and back[name].shape == codes[name].shape for name in codes)
    in_cells = (plan.source_TR >= len(plan.symbols)).sum()
    assert in_cells == sum(c.size for c in codes.values()), "each code stands in exactly one cell"
    assert len(np.unique(np.concatenate([w.reshape(-1) for w in plan.where.values()]))) == in_cells


@given(layouts, lengths, lengths, levels)
def test_torch_and_numpy_agree(expression, first, second, k):
    layout = load_layout(expression, levels={"audio": k, "semantic": 1})
    codes = codes_for(layout, lengths_for(layout, first, second))
    plan = layout.plan({name: len(c) for name, c in codes.items()})
    as_torch = plan.interleave({name: torch.from_numpy(c.astype(np.int64)) for name, c in codes.items()})
    assert np.array_equal(as_torch.numpy(), plan.interleave(codes))
    assert all(
        torch.equal(back, torch.from_numpy(codes[n].astype(np.int64)))
        for n, back in plan.deinterleave(as_torch).items()
    )


@given(layouts, lengths, lengths, levels, st.booleans())
def test_steps_are_counted_without_compiling(expression, first, second, k, ended):
    layout = load_layout(expression, levels={"audio": k, "semantic": 1})
    frames = lengths_for(layout, first, second)
    plan = layout.plan(frames, ended=None if ended else ())
    assert plan.n_steps == layout.count_steps(frames, ended=ended)
    twice = layout.count_steps({name: np.array([n, n]) for name, n in frames.items()}, ended=ended)
    assert (twice == plan.n_steps).all()


@given(layouts, lengths, lengths, levels)
def test_no_step_is_all_filler(expression, first, second, k):
    layout = load_layout(expression, levels={"audio": k, "semantic": 1})
    plan = layout.plan(lengths_for(layout, first, second))
    assert (plan.source_TR != 0).any(axis=1).all()
    assert plan.symbols[plan.source_TR[0, 0]] == "<bos>"
    assert (plan.source_TR[0, 1:] == 0).all()


@given(layouts, lengths, lengths, levels)
def test_only_the_leader_ends_a_stream(expression, first, second, k):
    layout = load_layout(expression, levels={"audio": k, "semantic": 1})
    plan = layout.plan(lengths_for(layout, first, second))
    for name in layout.streams:
        cells = np.argwhere(plan.source_TR == plan.symbols.index(f"<end.{name}>"))
        assert len(cells) == 1
        step, row = cells[0]
        assert plan.frame_TR[step, row] == plan.lengths[name]
        may_end = [s for s in layout.legal_sets if f"<end.{name}>" in s]
        assert may_end == [layout.legal_sets[plan.legal_TR[step, row]]]


@given(layouts, lengths, lengths, levels)
def test_every_code_is_legal_where_it_stands(expression, first, second, k):
    layout = load_layout(expression, levels={"audio": k, "semantic": 1})
    frames = lengths_for(layout, first, second)
    streams = {name: [50] * n for name, n in layout.streams.items() if name != "text"}
    vocabulary = Vocabulary.build(TEXT_TOKENIZER, streams)
    plan = layout.plan(frames)
    grid_TR = plan.interleave(codes_for(layout, frames), vocabulary)
    for index, legal in enumerate(plan.legal_sets):
        cells = grid_TR[plan.legal_TR == index]
        ranges = vocabulary.ranges(legal)
        if index:
            assert all(any(a <= cell < b for a, b in ranges) for cell in cells)
        else:
            assert set(cells.tolist()) <= {vocabulary.id(n) for n in ("<none>", "<bos>", "<wait>")}
    back = plan.deinterleave(grid_TR, vocabulary)
    assert all((back[n] == c).all() for n, c in codes_for(layout, frames).items())


TEXT_TOKENIZER = train_bpe(["a"], 256)


@given(layouts, st.integers(0, 12), st.integers(0, 12), levels, st.integers(1, 6))
def test_a_plan_equals_its_cursor(expression, first, second, k, slack):
    """All streams open: going step by step and ending each where the plan does visits the plan's cells."""
    layout = load_layout(expression, levels={"audio": k, "semantic": 1})
    frames = lengths_for(layout, first, second)
    goal = layout.plan(frames)
    cursor = Cursor(layout, {}, {name: n + slack for name, n in frames.items()})
    step, visited = 0, []
    while step < cursor.plan.n_steps:
        ended = [
            name
            for name in layout.streams
            if goal.source_TR[step, :].tolist().count(goal.symbols.index(f"<end.{name}>"))
        ]
        for name in ended:
            cursor.close(name, frames[name], step)
        visited.append((cursor.plan.stream_TR[step], cursor.plan.frame_TR[step], cursor.plan.legal_TR[step]))
        step += 1
    assert step == goal.n_steps
    for t, (stream_R, frame_R, legal_R) in enumerate(visited):
        assert (stream_R == goal.stream_TR[t]).all()
        assert (frame_R == goal.frame_TR[t]).all()
        assert (legal_R == goal.legal_TR[t]).all()


@given(layouts, lengths, lengths, levels)
def test_frames_are_ready_neither_early_nor_late(expression, first, second, k):
    layout = load_layout(expression, levels={"audio": k, "semantic": 1})
    plan = layout.plan(lengths_for(layout, first, second))
    steps = np.unique(np.linspace(0, plan.n_steps - 1, 7).astype(int))
    for step in steps:
        for name, where_TK in plan.where.items():
            there_T = (where_TK // plan.n_rows <= step).all(axis=1)
            expected = int(np.argmin(there_T)) if not there_T.all() else len(there_T)
            assert plan.ready(step)[name] == expected


@given(layouts, st.integers(0, 9), st.integers(0, 9), levels, st.integers(0, 9))
def test_a_prompt_forces_its_frames_wherever_they_lie(expression, first, second, k, prompt):
    layout = load_layout(expression, levels={"audio": k, "semantic": 1})
    plan = layout.plan(lengths_for(layout, first, second))
    known_TR = plan.known({"audio": prompt})
    audio = list(plan.levels).index("audio")
    is_audio = plan.stream_TR == audio
    assert (known_TR[is_audio] == (plan.frame_TR[is_audio] < prompt)).all()
    assert known_TR[plan.stream_TR == -1].all()


@pytest.mark.parametrize("expression", ["Parallel(audio)", "Delay(audio)", "Flatten(audio)"])
def test_online_layouts_are_prefix_stable(expression):
    layout = load_layout(expression, levels=4)
    short, long = layout.plan({"audio": 6}, ended=()), layout.plan({"audio": 9})
    end = 1 + 6 * int(layout.steps_per_second({"audio": 1}))
    assert (short.frame_TR[:end] == long.frame_TR[:end])[short.source_TR[:end] > 3].all()


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


@pytest.mark.parametrize("expression", LAYOUTS)
def test_an_expression_reads_back(expression):
    layout = load_layout(expression, levels={"audio": 4, "semantic": 1})
    assert load_layout(layout.expression) == layout
    assert load_layout(layout) is layout


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


@pytest.mark.parametrize("expression", LAYOUTS)
def test_drawings_show_every_cell(expression):
    layout = load_layout(expression, levels={"audio": 3, "semantic": 1})
    plan = layout.plan(lengths_for(layout, 4, 3))
    assert draw_svg(plan, known={"audio": 2}).count("<rect") == plan.source_TR.size
    assert len(draw_text(plan).splitlines()) == plan.n_rows + 1


def test_text_drawing_by_hand():
    drawn = draw_text(Delay("audio", [0, 1]).plan({"audio": 2}))
    assert drawn.splitlines() == [
        "step       0    1    2    3",
        "audio.0  bos    0    1  end",
        "audio.1    .    .    0    1",
    ]


def test_svg_with_codes_shows_a_window_of_them():
    plan = Delay("audio", [0, 1]).plan({"audio": 4})
    codes_TK = np.arange(100, 108).reshape(4, 2)
    drawn = draw_svg(plan, 2, first_step=2, codes={"audio": codes_TK})
    assert drawn.count("<rect") == 4
    assert [text in drawn for text in (">102<", ">101<", ">104<", ">103<", ">100<")] == [True] * 4 + [False]
