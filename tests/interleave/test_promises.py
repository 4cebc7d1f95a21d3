"""The promises of the room over every stage of every preset, random lengths and 1 to 32 levels."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hocket.interleave import Cursor, Layout, Plan
from hocket.interleave.spans import find_turns, freeze_spans
from hocket.vocab import Vocabulary, train_bpe
from tests.interleave.cases import CASES, RATES, codes_for, lengths_for, plan_for, spans_for, stages

length = st.one_of(st.integers(0, 4), st.sampled_from([5, 7, 31, 97, 250]))
lengths = st.lists(length, min_size=4, max_size=4)
short = st.lists(st.integers(0, 12), min_size=4, max_size=4)
levels = st.one_of(st.integers(1, 9), st.sampled_from([16, 17, 32]))
seeds = st.integers(0, 5)
TEXT_TOKENIZER = train_bpe(["a"], 256)


def every(examples: int, *strategies):
    """A property over all cases, with `examples` draws each; `cases` fit into the test's first argument."""

    def wrap(test):
        drawn = settings(max_examples=examples, deadline=None)(given(*strategies)(test))
        return pytest.mark.parametrize("case", CASES)(drawn)

    return wrap


def vocabulary_for(layout: Layout, size: int = 50) -> Vocabulary:
    sizes = {name: [size] * k for name, k in layout.streams.items() if "text" not in name}
    return Vocabulary.build(TEXT_TOKENIZER, sizes)


def same_cells(first: Plan, second: Plan, upto: int) -> None:
    """Both plans have the same cells in the steps before `upto`. (Places in the pool depend on the lengths.)"""
    for name in ("stream_TR", "frame_TR", "legal_TR", "level_TR"):
        assert (getattr(first, name)[:upto] == getattr(second, name)[:upto]).all(), name
    n_symbols = len(first.symbols)
    symbols = [np.minimum(plan.source_TR[:upto], n_symbols) for plan in (first, second)]
    assert (symbols[0] == symbols[1]).all()


@every(12, lengths, levels, seeds)
def test_the_inverse_is_exact_and_each_code_has_one_cell(case, numbers, k, seed):
    for stage in stages(case, k):
        frames = lengths_for(stage.layout, numbers)
        codes, plan = codes_for(stage.layout, frames), plan_for(stage.layout, frames, seed)
        back = plan.deinterleave(plan.interleave(codes))
        cells = np.concatenate([where[where[:, 0] >= 0].reshape(-1) for where in plan.where.values()])
        assert all((back[name] == codes[name][plan.kept[name]]).all() for name in codes)
        assert len(np.unique(cells)) == len(cells)
        assert (plan.legal_TR.reshape(-1)[cells] > 0).all()
        in_cells = (plan.source_TR >= len(plan.symbols)).sum()
        assert in_cells - plan.copies.shape[1] == len(cells)
        if 'spans="word"' not in str(stage.layout):
            assert len(cells) == sum(c.size for c in codes.values())


@every(3, lengths, levels)
def test_torch_and_numpy_agree(case, numbers, k):
    for stage in stages(case, k):
        codes = codes_for(stage.layout, lengths_for(stage.layout, numbers))
        plan = plan_for(stage.layout, {name: len(c) for name, c in codes.items()})
        tensors = {name: torch.from_numpy(c.astype(np.int64)) for name, c in codes.items()}
        grid_TR = plan.interleave(tensors)
        assert np.array_equal(grid_TR.numpy(), plan.interleave(codes))
        assert all(
            np.array_equal(back, plan.deinterleave(grid_TR.numpy())[n])
            for n, back in plan.deinterleave(grid_TR).items()
        )


@every(4, lengths, levels, st.booleans())
def test_steps_are_counted_without_compiling(case, numbers, k, ended):
    for stage in stages(case, k):
        frames = lengths_for(stage.layout, numbers)
        spans = spans_for(stage.layout, frames)
        plan = stage.layout.plan(frames, spans=spans, ended=None if ended else ())
        twice = {name: np.array([n, n]) for name, n in frames.items()}
        counted = stage.layout.count_steps(twice, ended=ended, spans=[spans, spans] if spans else None)
        assert (counted == plan.n_steps).all()


@every(4, st.lists(lengths, min_size=1, max_size=5), levels)
def test_a_batch_equals_its_documents(case, many, k):
    for stage in stages(case, k):
        layout, documents = stage.layout, [lengths_for(stage.layout, numbers) for numbers in many]
        drawn = [spans_for(layout, frames, b) for b, frames in enumerate(documents)]
        spans = [edges for edges in drawn if edges is not None] or None
        ended = {name: [b % 2 == 0 for b in range(len(documents))] for name in layout.streams}
        batch = layout.batch(
            {name: [frames[name] for frames in documents] for name in layout.streams},
            start=["<bos>" if b % 2 == 0 else "<cont>" for b in range(len(documents))],
            ended=ended,
            spans=spans,
            seeds=range(len(documents)),
        )
        codes = [codes_for(layout, frames) for frames in documents]
        packed = {name: np.concatenate([c[name] for c in codes]) for name in layout.streams}
        plans = [
            layout.plan(
                frames,
                start="<bos>" if b % 2 == 0 else "<cont>",
                ended=None if b % 2 == 0 else (),
                spans=spans[b] if spans else None,
                seed=b,
            )
            for b, frames in enumerate(documents)
        ]
        grid_NR = batch.interleave(packed)
        assert (grid_NR == np.concatenate([p.interleave(c) for p, c in zip(plans, codes, strict=True)])).all()
        for name in ("legal_TR", "stream_TR", "frame_TR", "level_TR"):
            assert (getattr(batch, name) == np.concatenate([getattr(p, name) for p in plans])).all(), name
        prompts = {name: np.arange(len(documents)) for name in layout.streams}
        known = [p.known(dict.fromkeys(layout.streams, b)) for b, p in enumerate(plans)]
        assert (batch.known(prompts) == np.concatenate(known)).all()
        padded_BTR = batch.pad(torch.from_numpy(grid_NR), filler=-1)
        assert (batch.unpad(padded_BTR).numpy() == grid_NR).all()
        assert padded_BTR.shape == (len(plans), max(p.n_steps for p in plans), layout.n_rows)


@every(4, lengths, levels)
def test_every_document_starts_with_its_start_and_no_step_is_filler(case, numbers, k):
    for stage in stages(case, k):
        plan = plan_for(stage.layout, lengths_for(stage.layout, numbers))
        assert (plan.source_TR != 0).any(axis=1).all()
        assert plan.symbols[plan.source_TR[0, 0]] == "<bos>"
        assert (plan.source_TR[0, 1:] == 0).all()


@every(4, lengths, levels)
def test_only_the_leader_ends_a_stream(case, numbers, k):
    for stage in stages(case, k):
        layout = stage.layout
        plan = plan_for(layout, lengths_for(layout, numbers))
        for name in layout.streams:
            cells = np.argwhere(plan.source_TR == plan.symbols.index(f"<end.{name}>"))
            by_spans = any(name in node.part_streams for node in layout.span_nodes())
            assert len(cells) == 1 or (by_spans and len(cells) == 0)
            for step, row in cells:
                leader = layout.leaders[name]
                assert plan.frame_TR[step, row] == plan.lengths[name]
                assert plan.legal_TR[step, row] == layout.first_legal[leader] + leader.leader
            assert sum(f"<end.{name}>" in legal for legal in layout.legal_sets) == 1


@every(4, lengths, levels, seeds)
def test_cells_are_legal_and_no_step_has_two_of_a_block(case, numbers, k, seed):
    for stage in stages(case, k):
        layout, frames = stage.layout, lengths_for(stage.layout, numbers)
        vocabulary, plan = vocabulary_for(layout), plan_for(layout, frames, seed)
        codes = codes_for(layout, frames)
        grid_TR = plan.interleave(codes, vocabulary)
        for index, legal in enumerate(plan.legal_sets[1:], start=1):
            ranges = vocabulary.ranges(legal)
            cells = grid_TR[plan.legal_TR == index]
            assert np.any([(a <= cells) & (cells < b) for a, b in ranges], axis=0).all()
        back = plan.deinterleave(grid_TR, vocabulary)
        assert all((back[n] == codes[n][plan.kept[n]]).all() for n in codes)
        live = np.sort(np.where(plan.legal_TR > 0, plan.legal_TR, -1 - np.arange(plan.n_rows)), axis=1)
        assert (live[:, 1:] != live[:, :-1]).all()


@every(3, lengths, levels)
def test_given_streams_are_never_predicted(case, numbers, k):
    for stage in stages(case, k):
        plan = plan_for(stage.layout, lengths_for(stage.layout, numbers), given=stage.given)
        fixed = stage.layout.find_levels(stage.given)
        names = list(stage.layout.streams)
        for step, row in np.argwhere(plan.legal_TR > 0):
            cell = stage.layout.legal_cells[plan.legal_TR[step, row]]
            assert cell is None or cell not in fixed
            assert (
                cell is None
                or plan.stream_TR[step, row] == names.index(cell[0])
                or plan.source_TR[step, row] < len(plan.symbols)
            )


@pytest.mark.parametrize("case", CASES)
def test_what_is_predicted_in_place_has_no_end(case):
    for stage in stages(case, 9):
        plan = plan_for(stage.layout, lengths_for(stage.layout, [5, 6, 7, 4]), ended=stage.ended, given=stage.given)
        ends = [plan.symbols.index(f"<end.{name}>") for name in stage.predicted]
        by_spans = bool(stage.layout.span_nodes())
        assert np.isin(plan.source_TR, ends).any() == (stage.objective == "next-token") or by_spans


@every(3, lengths, levels)
def test_frames_are_ready_neither_early_nor_late(case, numbers, k):
    for stage in stages(case, k):
        plan = plan_for(stage.layout, lengths_for(stage.layout, numbers))
        for step in np.unique(np.linspace(0, plan.n_steps - 1, 7).astype(int)):
            for name, where_TK in plan.where.items():
                there_T = (where_TK // plan.n_rows <= step).all(axis=1)
                expected = int(np.argmin(there_T)) if not there_T.all() else len(there_T)
                assert plan.ready(step)[name] == expected


@every(3, short, levels)
def test_the_streaming_inverse_equals_the_whole(case, numbers, k):
    for stage in stages(case, k):
        frames = lengths_for(stage.layout, numbers)
        plan = plan_for(stage.layout, frames)
        grid_TR = plan.interleave(codes_for(stage.layout, frames))
        read = [plan.read(grid_TR[: step + 1], step - 1, step) for step in range(plan.n_steps)]
        for name, whole in plan.deinterleave(grid_TR).items():
            assert (np.concatenate([part[name] for part in read]) == whole).all()


@every(4, short, levels, st.integers(0, 13))
def test_a_prompt_split_anywhere_regenerates_the_rest(case, numbers, k, cut: int):
    """What the prompt forces comes from its frames alone; what is left open are the later frames, and all of them."""
    for stage in stages(case, k):
        frames = lengths_for(stage.layout, numbers)
        codes, plan = codes_for(stage.layout, frames), plan_for(stage.layout, frames)
        cut_off = {name: c.copy() for name, c in codes.items()}
        for c in cut_off.values():
            c[cut:] = 99  # a code that is nowhere else
        prompts: dict[str, int] = dict.fromkeys(frames, cut)
        known_TR = plan.known(prompts)
        whole, prompt = plan.interleave(codes), plan.interleave(cut_off)
        assert (prompt[known_TR] == whole[known_TR]).all()
        is_code = plan.source_TR >= len(plan.symbols)
        assert (prompt[~known_TR & is_code] == 99).all()
        back = plan.deinterleave(np.where(known_TR, prompt, whole))
        assert all((back[n] == codes[n][plan.kept[n]]).all() for n in codes)


@every(6, short, levels, st.integers(1, 6), seeds)
def test_a_plan_equals_its_cursor(case, numbers, k, slack, seed):
    """All streams open: going step by step, ending and switching where the plan does, visits the plan's cells."""
    for stage in stages(case, k):
        layout, frames = stage.layout, lengths_for(stage.layout, numbers)
        goal, turns = plan_for(layout, frames, seed), turns_of(layout, frames, seed)
        limits = {name: n + slack for name, n in frames.items()}
        first = [(*turns[0][:2], limits[turns[0][0]])] if turns else None
        cursor = Cursor(layout, {}, limits, spans=first)
        is_end = {name: goal.source_TR == goal.symbols.index(f"<end.{name}>") for name in layout.streams}
        switches = [i for i, name in enumerate(goal.symbols) if name.startswith("<to.")]
        _, *switch_steps = np.argwhere(np.isin(goal.source_TR, switches))[:, 0].tolist() or [0]
        for step in range(goal.n_steps):
            ended = {n: int(goal.frame_TR[step][at[step]][0]) for n, at in is_end.items() if at[step].any()}
            if ended:
                cursor.close_all(ended, step)
            if step in switch_steps:
                number = switch_steps.index(step)
                cursor.switch(turns[number + 1][0], turns[number][2], step, turns[number + 1][1])
            same_cells(goal, cursor.plan, step + 1)
        assert cursor.plan.n_steps == goal.n_steps


def turns_of(layout: Layout, frames: dict[str, int], seed: int) -> list:
    spans = spans_for(layout, frames, seed)
    return find_turns(layout.span_nodes()[0], freeze_spans(spans), frames, seed) if spans else []


@every(3, lengths, levels)
def test_online_layouts_are_prefix_stable(case, numbers, k):
    """A longer example has the same cells up to where the first stream of the shorter one ends."""
    for stage in stages(case, k):
        layout, frames = stage.layout, lengths_for(stage.layout, numbers)
        if layout.is_online:
            short_plan = layout.plan(frames, ended=())
            long_plan = layout.plan({name: n + 7 for name, n in frames.items()})
            upto = min(int(long_plan.where[name][n].min()) // layout.n_rows for name, n in frames.items())
            upto = min(upto, short_plan.n_steps)
            is_code = short_plan.source_TR[:upto] >= len(short_plan.symbols)
            for name in ("stream_TR", "frame_TR", "legal_TR", "level_TR"):
                assert (getattr(short_plan, name)[:upto] == getattr(long_plan, name)[:upto])[is_code].all(), name


@pytest.mark.parametrize("case", CASES)
def test_most_cases_fit_eight_levels(case):
    """So that no property above passes by having nothing to test."""
    assert stages(case, 9 if case == "dia" else 8)


@given(st.lists(st.tuples(length, length), min_size=1, max_size=6), levels)
def test_padded_codes_are_packed(pairs, k):
    layout = stages("moshi", k)[0].layout
    audio = [first for first, _ in pairs]
    batch = layout.batch({"aligned_text": audio, "audio": audio, "user": [second for _, second in pairs]})
    rng, longest = np.random.default_rng(0), max(max(pair) for pair in pairs) + 1
    padded = {name: rng.integers(0, 9, (len(pairs), longest, n)) for name, n in layout.streams.items()}
    packed = batch.pack(padded)
    for b, streams in enumerate(batch.documents(packed)):
        for name, codes_TK in streams.items():
            assert (codes_TK == padded[name][b, : batch.document_lengths[name][b]]).all()
    tensors = batch.pack({name: torch.from_numpy(codes) for name, codes in padded.items()})
    assert all(np.array_equal(tensors[name].numpy(), packed[name]) for name in packed)


@pytest.mark.parametrize("case", CASES)
def test_the_rate_is_what_a_long_document_costs(case):
    for stage in stages(case, 9):
        rates = {name: rate for name, rate in RATES.items() if name in stage.layout.streams}
        frames = {name: int(rates.get(name, 0) * 6000) for name in stage.layout.streams}
        steps = int(stage.layout.count_steps(frames, ended=False))
        assert steps / 6000 == pytest.approx(float(stage.layout.steps_per_second(rates)), abs=0.02)
