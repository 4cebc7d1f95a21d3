"""Draws: their distribution, what is never drawn, settings by row, repetition, wrong settings in words."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hocket.errors import InputError
from hocket.inference.drawing import invert
from hocket.inference.sampling import Sampler, Sampling, last_cells
from hocket.interleave import load_layout
from hocket.model.stepping import Pass

PROBABILITIES = torch.tensor([0.1, 0.4, 0.2, 0.3])
LAYOUT = load_layout("Delay(audio)", 3)  # legal sets 1, 2 and 3 are levels 0, 1 and 2
NOTHING = float("-inf")
ONE = 1 - 2**-53  # the largest number below 1


def pass_of(logits_BPJ: torch.Tensor) -> Pass:
    """Rows 0, 1, … with ids that are 100 apart."""
    rows = logits_BPJ.shape[1]
    ids_PJ = torch.arange(logits_BPJ.shape[2]) + 100 * torch.arange(rows)[:, None]
    return Pass(tuple(range(rows)), logits_BPJ, ids_PJ)


def draw(sampling: Sampling, logits_BPJ, uniform_BPU, recent_BPW=None):
    sampler = Sampler(sampling, LAYOUT)
    return sampler.choose(pass_of(logits_BPJ), (1, 2, 3), uniform_BPU, recent_BPW)


def choose(sampling: Sampling, logits_MJ: torch.Tensor, uniform_M: torch.Tensor) -> torch.Tensor:
    """Draws of one row, each by one number."""
    return draw(sampling, logits_MJ[:, None], uniform_M[:, None, None].expand(-1, 1, 2))[0][:, 0]


def expected(sampling: Sampling, logits_J: np.ndarray) -> np.ndarray:
    """The distribution that settings mean, in float64, by sorting and cutting a list."""
    p_J = np.exp((logits_J - logits_J.max()) / sampling.temperature)
    order = np.argsort(-p_J, kind="stable")[: sampling.top_k or None]
    mass = np.cumsum(p_J[order]) / p_J[order].sum()
    order = order[: 1 + int(np.sum(mass < sampling.top_p))]
    order = order[p_J[order] >= sampling.min_p * p_J.max()]
    kept_J = np.zeros_like(p_J)
    kept_J[order] = p_J[order]
    return kept_J / kept_J.sum()


def frequencies(sampling: Sampling, n: int = 4000) -> torch.Tensor:
    logits = PROBABILITIES.log().expand(n, 4)
    chosen = choose(sampling, logits, (torch.arange(n) + 0.5) / n)
    return torch.bincount(chosen, minlength=4) / n


@pytest.mark.parametrize(
    ("sampling", "expected"),
    [
        (Sampling(), [0.1, 0.4, 0.2, 0.3]),
        (Sampling(temperature=0), [0, 1, 0, 0]),
        (Sampling(temperature=1e-300), [0, 1, 0, 0]),
        (Sampling(top_k=1), [0, 1, 0, 0]),
        (Sampling(top_k=2), [0, 4 / 7, 0, 3 / 7]),
        (Sampling(top_k=9), [0.1, 0.4, 0.2, 0.3]),
        (Sampling(top_p=0.39), [0, 1, 0, 0]),
        (Sampling(top_p=0.65), [0, 4 / 7, 0, 3 / 7]),
        (Sampling(top_k=3, top_p=0.7), [0, 4 / 7, 0, 3 / 7]),
        (Sampling(temperature=0.5), [1 / 30, 16 / 30, 4 / 30, 9 / 30]),
        (Sampling(min_p=0.4), [0, 4 / 9, 2 / 9, 3 / 9]),
        (Sampling(min_p=1), [0, 1, 0, 0]),
        (Sampling(temperature=0.5, min_p=0.3), [0, 16 / 25, 0, 9 / 25]),
    ],
)
def test_draws_follow_the_distribution(sampling, expected):
    torch.testing.assert_close(frequencies(sampling), torch.tensor(expected, dtype=torch.float32), atol=1e-3, rtol=0)


@pytest.mark.parametrize(
    "sampling",
    [
        Sampling(),
        Sampling(temperature=1.7),
        Sampling(top_k=7),
        Sampling(top_p=0.8, temperature=1.3),
        Sampling(min_p=0.05, top_p=0.95),
        Sampling(top_k=11, top_p=0.9, min_p=0.05, temperature=0.8),
    ],
)
def test_many_draws_pass_a_chi_square_test(sampling):
    """Random numbers, 20 ids; a deviation of five standard deviations would be a fault."""
    n, generator = 60_000, torch.Generator().manual_seed(3)
    logits_J = torch.randn(20, generator=generator) * 1.5
    chosen_B = draw(sampling, logits_J.expand(n, 1, -1), torch.rand(n, 1, 2, generator=generator))[0][:, 0]
    wanted_J = expected(sampling, logits_J.double().numpy()) * n
    count_J = np.bincount(chosen_B.numpy(), minlength=20)
    assert not count_J[wanted_J == 0].any(), "an id that was left out was drawn"
    kept = wanted_J > 0
    chi_square, freedom = float(np.sum((count_J - wanted_J)[kept] ** 2 / wanted_J[kept])), int(kept.sum()) - 1
    assert chi_square < freedom + 5 * np.sqrt(2 * freedom)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 60), st.integers(0, 70), st.floats(0.01, 1), st.floats(0, 1), st.integers(0, 999))
def test_no_id_that_was_left_out_is_ever_drawn(size, top_k, top_p, min_p, seed):
    rng = np.random.default_rng(seed)
    logits_J = np.log(rng.permutation(size) + 1.0).astype(np.float32)
    mass = np.cumsum(np.arange(size, 0, -1)[: top_k or None])
    if np.abs(mass / mass[-1] - top_p).min() < 1e-5 or np.abs(np.arange(1, size + 1) / size - min_p).min() < 1e-5:
        return  # the last bit of a sum decides
    sampling = Sampling(top_k=top_k, top_p=top_p, min_p=min_p)
    kept = set(np.flatnonzero(expected(sampling, logits_J.astype(np.float64))))
    numbers = torch.cat([torch.tensor([0.0, 1e-12, ONE], dtype=torch.float64), torch.rand(500, dtype=torch.float64)])
    drawn = choose(sampling, torch.from_numpy(logits_J).expand(len(numbers), -1), numbers)
    assert set(drawn.tolist()) <= kept
    everything = choose(sampling, torch.from_numpy(logits_J).expand(4001, -1), torch.arange(4001) / 4001)
    assert set(everything.tolist()) == kept


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 40), st.integers(0, 50), st.floats(0.01, 1), st.floats(0, 3), st.integers(0, 999))
def test_a_draw_depends_on_its_own_cell_alone(size, top_k, top_p, temperature, seed):
    generator = torch.Generator().manual_seed(seed)
    logits, uniform = torch.randn(5, size, generator=generator), torch.rand(5, generator=generator)
    sampling = Sampling(temperature=temperature, top_k=top_k, top_p=top_p)
    together = choose(sampling, logits, uniform)
    alone = [choose(sampling, logits[i : i + 1], uniform[i : i + 1]) for i in range(5)]
    assert torch.equal(together, torch.cat(alone))
    assert ((together >= 0) & (together < size)).all()


BY_ROW = Sampling(
    temperature=0.9,
    rows={"audio[1:]": {"top_k": 5, "top_p": 0.9}, "audio.1": {"temperature": 0}, "audio.0": {"min_p": 0.1}},
)


def test_rows_with_settings_of_their_own_draw_as_if_all_had_them():
    generator = torch.Generator().manual_seed(0)
    logits_BPJ, uniform_BPU = torch.randn(40, 3, 30, generator=generator), torch.rand(40, 3, 2, generator=generator)
    together, log_probability = draw(BY_ROW, logits_BPJ, uniform_BPU)
    each = [
        Sampling(temperature=0.9, min_p=0.1),
        Sampling(temperature=0, top_k=5, top_p=0.9),
        Sampling(temperature=0.9, top_k=5, top_p=0.9),
    ]
    for row, sampling in enumerate(each):
        alone = draw(sampling, logits_BPJ[:, row : row + 1], uniform_BPU[:, row : row + 1])
        assert torch.equal(together[:, row : row + 1], alone[0])
        torch.testing.assert_close(log_probability[:, row : row + 1], alone[1])


@pytest.mark.parametrize("sampling", [Sampling(), BY_ROW, Sampling(top_k=3, top_p=0.7), Sampling(temperature=0)])
def test_neither_the_batch_nor_padding_nor_other_rows_change_a_draw(sampling):
    generator = torch.Generator().manual_seed(1)
    logits_BPJ = torch.randn(6, 3, 9, generator=generator)
    logits_BPJ[:, 1:, 6:] = NOTHING
    uniform_BPU = torch.rand(6, 3, 2, generator=generator)
    together = draw(sampling, logits_BPJ, uniform_BPU)[0]
    sampler = Sampler(sampling, LAYOUT)
    for b in range(6):
        assert torch.equal(draw(sampling, logits_BPJ[b : b + 1], uniform_BPU[b : b + 1])[0], together[b : b + 1])
        cut = Pass((1, 2), logits_BPJ[b : b + 1, 1:, :6], torch.zeros(2, 6, dtype=torch.int64))
        alone = sampler.choose(cut, (1, 2, 3), uniform_BPU[b : b + 1, 1:])[0]
        assert torch.equal(alone, together[b : b + 1, 1:])


@pytest.mark.parametrize("number", [0.0, 0.5, ONE])
@pytest.mark.parametrize("sampling", [Sampling(), Sampling(top_k=2), Sampling(top_p=0.5), Sampling(min_p=0.1)])
def test_one_legal_id_is_drawn_for_certain(sampling, number):
    logits = torch.full((1, 1, 8), NOTHING)
    logits[..., 5] = -30
    position, log_probability = draw(sampling, logits, torch.full((1, 1, 2), number, dtype=torch.float64))
    assert position.item() == 5
    assert log_probability.item() == 0


def test_ties_at_the_floor_stay_and_the_first_of_equals_is_the_most_probable():
    logits = torch.tensor([1.0, 2.0, 2.0, 2.0, 0.0])
    numbers = torch.arange(300) / 300
    assert set(choose(Sampling(top_k=2), logits.expand(300, -1), numbers).tolist()) == {1, 2, 3}
    assert choose(Sampling(temperature=0), logits[None], numbers[:1]).item() == 1


@pytest.mark.parametrize("sampling", [Sampling(), Sampling(temperature=0.4, top_k=2), Sampling(temperature=0), BY_ROW])
def test_log_probabilities_are_those_of_the_model(sampling):
    generator = torch.Generator().manual_seed(2)
    logits, uniform = torch.randn(4, 3, 7, generator=generator), torch.rand(4, 3, 2, generator=generator)
    position, log_probability = draw(sampling, logits, uniform)
    wanted = logits.double().log_softmax(-1).gather(-1, position[..., None])[..., 0]
    torch.testing.assert_close(log_probability.double(), wanted, atol=1e-6, rtol=1e-6)


def test_hot_draws_have_finite_log_probabilities():
    logits = torch.tensor([[[0.0, -300.0]]])
    position, log_probability = draw(Sampling(temperature=1e6), logits, torch.zeros(1, 1, 2))
    assert (position.item(), log_probability.item()) == (1, -300)


def test_a_hundred_thousand_ids_keep_their_tail():
    """Text vocabularies: half of the mass is in ids of 5e-6 each."""
    logits = torch.zeros(1, 100_001)
    logits[0, 0] = np.log(100_000)
    drawn = choose(Sampling(), logits.expand(200, -1), (torch.arange(200) + 0.5) / 200)
    assert (drawn == 0).sum() == 100
    assert abs(drawn[drawn > 0].double().mean().item() - 50_000) < 600


def test_the_cumulative_sum_is_entered_at_weights_above_zero_only():
    weight = torch.tensor([[[0.0, 0.3, 0.0, 0.7, 0.0]]])
    for number in (0.0, 1e-30, 0.3, 0.7, 0.7000001, ONE):
        assert invert(weight, torch.tensor([[[number]]], dtype=torch.float64)).item() in (1, 3)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("sampling", [Sampling(top_k=50, top_p=0.9), Sampling(min_p=0.02), BY_ROW])
def test_a_captured_draw_is_that_of_the_cpu(sampling):
    """The last bit of a sum may decide otherwise, in one draw of many."""
    generator = torch.Generator().manual_seed(4)
    logits, uniform = torch.randn(64, 3, 500, generator=generator), torch.rand(64, 3, 2, generator=generator)
    held, numbers, sampler = torch.zeros_like(logits).cuda(), uniform.cuda(), Sampler(sampling, LAYOUT)
    pass_ = pass_of(held)._replace(ids_PJ=pass_of(logits).ids_PJ.cuda())
    sampler.choose(pass_, (1, 2, 3), numbers)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        position, log_probability = sampler.choose(pass_, (1, 2, 3), numbers)
    held.copy_(logits)
    graph.replay()
    wanted = draw(sampling, logits, uniform)
    same = position.cpu() == wanted[0]
    assert same.float().mean() > 0.98
    torch.testing.assert_close(log_probability.cpu()[same], wanted[1][same], atol=1e-5, rtol=1e-5)


# --- repetition -----------------------------------------------------------------------------------------------------

CERTAIN = torch.tensor([0.8, 0.1, 0.1]).log()  # with top_p .5, always the first id
AWARE = Sampling(top_p=0.5, repetition_window=4, repetition_ratio=0.5)


@pytest.mark.parametrize(
    ("recent", "redrawn"),
    [
        ([0, 0, 0, 0], True),
        ([7, 0, 0, 0], True),
        ([-1, 0, 0, 0], True),
        ([7, 8, 0, 0], False),  # half is not more than half
        ([-1, -1, 0, 0], False),
        ([-1, -1, -1, -1], False),
        ([1, 1, 1, 1], False),
    ],
)
def test_an_id_that_repeats_too_often_is_drawn_again_from_all(recent, redrawn):
    numbers = torch.stack([torch.full((100,), 0.3), (torch.arange(100) + 0.5) / 100], dim=-1)[:, None]
    position, log_probability = draw(
        AWARE, CERTAIN.expand(100, 1, -1), numbers, torch.tensor(recent).expand(100, 1, -1)
    )
    counts = torch.bincount(position[:, 0], minlength=3).tolist()
    assert counts == ([80, 10, 10] if redrawn else [100, 0, 0])
    torch.testing.assert_close(log_probability[:, 0], CERTAIN[position[:, 0]])


def test_rows_look_at_windows_of_their_own():
    sampling = Sampling(
        top_p=0.5,
        rows={
            "audio.0": {"repetition_window": 2, "repetition_ratio": 0.5},
            "audio.2": {"repetition_window": 4, "repetition_ratio": 0.5},
        },
    )
    sampler = Sampler(sampling, LAYOUT)
    assert sampler.window == 4
    recent = torch.tensor([[0, 0, 7, 0], [100, 100, 100, 100], [200, 200, 7, 200]])[None]
    numbers = torch.tensor([0.5, 0.05]).expand(1, 3, 2)
    position, _ = draw(sampling, CERTAIN.expand(1, 3, -1), numbers, recent)
    assert position.tolist() == [[0, 0, 2]]  # one of two; not looked at; three of four
    assert Sampler(Sampling(), LAYOUT).window == 0


@pytest.mark.parametrize("expression", ["Delay(audio)", "Flatten(audio)", "CoarseFirst(audio)"])
def test_the_last_tokens_are_those_of_the_same_level(expression):
    plan = load_layout(expression, 3).plan({"audio": 6})
    codes_TK = np.arange(18).reshape(6, 3)
    grid = plan.interleave({"audio": codes_TK}).reshape(-1)
    for frame, level in np.ndindex(6, 3):
        step, row = divmod(int(plan.where["audio"][frame, level]), plan.n_rows)
        cells_W = last_cells(plan, step, [row], 4)[0]
        before = [-1] * 4 + codes_TK[:frame, level].tolist()
        assert np.where(cells_W < 0, -1, grid[cells_W]).tolist() == before[-4:]
    (end,), _, _ = plan.marks[0]
    step, row = divmod(int(end), plan.n_rows)
    assert grid[last_cells(plan, step, [row], 2)[0]].tolist() == codes_TK[4:, 0].tolist()


# --- settings -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"temperature": -1}, r"temperature must be 0 \(the most probable id\) or more, not -1"),
        ({"temperature": float("nan")}, "temperature must be"),
        ({"temperature": float("inf")}, "temperature must be"),
        ({"temperature": "hot"}, "temperature must be .* not 'hot'"),
        ({"top_k": -1}, r"top_k must be 0 \(off\) or a whole number of ids, not -1"),
        ({"top_k": 2.5}, "top_k must be"),
        ({"top_p": 0}, r"top_p must be above 0 and at most 1 \(off\), not 0"),
        ({"top_p": 1.5}, "top_p must be"),
        ({"min_p": True}, r"min_p must be 0 \(off\) up to 1, not True"),
        ({"repetition_window": -3}, r"repetition_window must be 0 \(off\) or a whole number of tokens"),
        ({"repetition_ratio": 2}, "repetition_ratio must be 0 up to 1"),
        ({"rows": [1]}, "rows must be settings by stream"),
        (
            {"rows": {"audio[": {}}},
            r"rows: 'audio\[' is no stream; write a name such as audio, a level such as audio.0",
        ),
        ({"rows": {3: {}}}, "rows: 3 is no stream"),
        ({"rows": {"audio": 3}}, 'rows: settings of "audio" are such as'),
        ({"rows": {"audio": {"topk": 3}}}, r'rows: "audio" has no setting "topk" \(did you mean "top_k"\?\)'),
        ({"rows": {"audio": {"rows": {}}}}, 'rows: "audio" has no setting "rows"'),
        ({"rows": {"audio": {"top_k": -3}}}, 'rows: "audio": top_k must be 0'),
    ],
)
def test_impossible_settings_are_refused(wrong, sentence):
    with pytest.raises(InputError, match=sentence):
        Sampling(**wrong)


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("adio", r'has no stream "adio" \(did you mean "audio"\?\)'),
        ("audio.3", r'rows: "audio.3" names no levels of "audio", which has levels 0 to 2'),
        ("audio[1:9]", "names no levels"),
        ("audio[3:]", "names no levels"),
    ],
)
def test_rows_that_the_layout_lacks_are_refused(name, sentence):
    with pytest.raises(InputError, match=sentence):
        Sampler(Sampling(rows={name: {"top_k": 3}}), LAYOUT)


def test_later_rows_win_and_unset_keys_stay():
    sampler = Sampler(Sampling(top_k=9, rows={"audio": {"top_k": 5, "min_p": 0.1}, "audio.1": {"top_k": 2}}), LAYOUT)
    assert [(sampler.of(i).top_k, sampler.of(i).min_p) for i in range(4)] == [(9, 0), (5, 0.1), (2, 0.1), (5, 0.1)]


def test_every_legal_set_has_settings(make_model):
    model = make_model("Stack(aligned_text, Delay(audio, [0, 1, ...]))")
    sampler = Sampling(rows={"aligned_text": {"temperature": 0.7}, "audio.0": {"top_k": 3}}).bind(model)
    wanted = {("aligned_text", 0): (0.7, 0), ("audio", 0): (1.0, 3)}
    for legal, cell in enumerate(model.layout.legal_cells):
        row = sampler.of(legal)
        assert (row.temperature, row.top_k) == wanted.get(cell, (1.0, 0))
