"""Random requests over every next-token stage and both heads: what comes out is legal, keeps what was asked, does not
depend on the batch, and was as probable as teacher forcing says.

Shapes: T steps or frames, R rows, K levels, J legal ids of a cell.
"""

from functools import cache

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hocket.codec import CodecIdentity
from hocket.inference import Request, Sampling
from hocket.inference.autoregressive import Autoregressive
from hocket.inference.generator import Sampled, sampled
from hocket.model import Model
from tests.conftest import CODES, batch_of
from tests.inference.oracles import build_model, next_token_stages, request_for

STAGES = next_token_stages()
IDENTITY = CodecIdentity(
    name="fake", revision="1", weight_hash="0", sample_rate=16000, hop=640, codebook_sizes=(CODES,) * 3
)
PLAIN = Sampling()
ITEM = st.fixed_dictionaries(
    {
        "n_prompt": st.sampled_from([0, 0, 1, 2, 5]),
        "more": st.sampled_from([0, 1, 3, 6]),
        "n_given": st.sampled_from([0, 1, 5]),
        "seed": st.integers(0, 99),
        "least": st.sampled_from([0, 0, 3]),
        "start": st.sampled_from(["<bos>", "<cont>"]),
        "ends": st.booleans(),
    }
)


@cache
def model_of(name: str) -> Model:
    return build_model(STAGES[name], IDENTITY)


def request_of(model: Model, n_prompt, more, n_given, seed, least, start, ends) -> Request:
    request = request_for(model, n_prompt, n_prompt + more, seed, n_given)
    return Request(
        given=request.given,
        prompts=request.prompts,
        limits=request.limits,
        seed=seed,
        start=start,
        ends=ends or model.layout.has_spans,
        least={name: min(least, n) for name, n in request.limits.items()},
    )


def run(model: Model, requests: list[Request], sampling: Sampling = PLAIN) -> tuple[Autoregressive, list[Sampled]]:
    loop = Autoregressive(model, requests, sampling)
    for _ in loop.run():
        pass
    return loop, [sampled(loop, b) for b in range(len(requests))]


def same(one: Sampled, other: Sampled) -> None:
    assert (one.steps, one.ended) == (other.steps, other.ended)
    for name, codes_TK in one.streams.items():
        assert np.array_equal(codes_TK, other.streams[name])
        scores = one.log_probabilities[name], other.log_probabilities[name]
        np.testing.assert_allclose(*scores, rtol=1e-3, atol=1e-4, equal_nan=True)


def keeps(model: Model, request: Request, item: Sampled) -> None:
    """Codes are legal, prompts and conditions stay, lengths are within limits."""
    for name, codes_TK in item.streams.items():
        assert ((codes_TK >= 0) & (codes_TK < model.vocabulary.sizes(name))).all()
        for source in (request.given, request.prompts):
            known = source.get(name, np.zeros((0, 1), np.int64))
            assert np.array_equal(codes_TK[: len(known), : known.shape[1]], known)
        if name in request.given:
            assert len(codes_TK) == len(request.given[name])
        elif not model.layout.has_spans:
            assert request.least[name] <= len(codes_TK) <= request.limits[name]
        else:
            assert len(codes_TK) <= request.limits[name]


def open_cells(loop: Autoregressive, b: int) -> np.ndarray:
    """Cells of codes and ends that the model must have drawn itself: bool `[T, R]`."""
    item, request = loop.items[b], loop.items[b].request
    plan = item.plan
    drawn = np.zeros(plan.n_steps * plan.n_rows, dtype=bool)
    for name, where_TK in plan.where.items():
        n_levels = request.given[name].shape[1] if name in request.given else 0
        cells = where_TK[len(request.prompts.get(name, ())) :, n_levels:]
        drawn[cells[cells >= 0]] = True
        if name in item.ended:
            drawn[np.flatnonzero(plan.source_TR.reshape(-1) == plan.symbols.index(f"<end.{name}>"))] = True
    return drawn.reshape(plan.shape)


def scored(model: Model, loop: Autoregressive, b: int) -> None:
    """Log-probabilities are those of the finished grid, read whole; nan where nothing was drawn."""
    item = loop.items[b]
    plan, ids_TR = item.plan, torch.from_numpy(loop.grid(b))
    found_TR, drawn_TR = loop.log_probabilities(b), open_cells(loop, b)
    is_switch_TR = np.isin(plan.source_TR, [i for i, name in enumerate(plan.symbols) if name.startswith("<to.")])
    assert np.array_equal(~np.isnan(found_TR) & ~is_switch_TR, drawn_TR)
    sets = plan.legal_sets
    with torch.no_grad():
        packed = batch_of([(ids_TR, torch.from_numpy(plan.legal_TR.astype(np.int64)))])
        for index, step_M, row_M, log_p_MJ in model.distributions(packed):
            legal = model.head.legal_sets[index]
            ends = [name for name in plan.levels if f"<end.{name}>" in sets[index]]
            for step, row, log_p_J in zip(step_M.tolist(), row_M.tolist(), log_p_MJ, strict=True):
                may_be_banned = any(name.startswith("<to.") for name in sets[index])
                may_be_banned |= any(plan.frame_TR[step, row] < item.request.least.get(name, 0) for name in ends)
                if drawn_TR[step, row] and not may_be_banned:
                    assert found_TR[step, row] == pytest.approx(
                        float(log_p_J[legal.position(ids_TR[step, row])]), abs=1e-4
                    )


def check(name: str, items: list[dict]) -> None:
    model = model_of(name)
    requests = [request_of(model, **item) for item in items]
    loop, together = run(model, requests)
    for b, request in enumerate(requests):
        keeps(model, request, together[b])
        scored(model, loop, b)
    if len(requests) > 1:
        for one, other in zip(run(model, requests[::-1])[1], together[::-1], strict=True):
            same(one, other)
        same(run(model, requests[:1])[1][0], together[0])


@settings(max_examples=30, deadline=None)
@given(st.sampled_from(sorted(STAGES)), st.lists(ITEM, min_size=1, max_size=4))
def test_any_request_gives_what_it_may(name, items):
    check(name, items)


@pytest.mark.slow
@pytest.mark.parametrize("name", STAGES)
@settings(max_examples=8, deadline=None)
@given(st.lists(ITEM, min_size=1, max_size=4))
def test_any_request_of_each_stage_gives_what_it_may(name, items):
    check(name, items)
