"""Steps without end: equal to a cache that holds everything, in memory that does not grow."""

import pytest
import torch

from hocket.model.decoder import rotary
from hocket.model.ring import far_turn
from tests.conftest import random_document


def states(stepper, ids_TR):
    found = []
    for ids_R in ids_TR:
        stepper.feed(ids_R[None, None])
        found.append(stepper._hidden_BD[0].clone())
    return torch.stack(found)


@pytest.fixture(params=["prepared", "plain"])
def way(request, monkeypatch):
    if request.param == "plain":
        monkeypatch.setattr("hocket.model.prepared.MOST_PREPARED", 0)
    return request.param


def close(one, other, way):
    return torch.equal(one, other) if way == "prepared" else torch.allclose(one, other, rtol=1e-5, atol=2e-5)


def test_within_the_context_it_is_a_plain_cache(make_model, way):
    model = make_model("Delay(audio)", context=32)
    ids_TR, _ = random_document(model, 28)
    assert close(states(model.endless_stepper(), ids_TR), states(model.stepper(1, 32), ids_TR), way)


@pytest.mark.parametrize("changes", [{}, {"qk_norm": True}, {"rope_scaling": (8.0, 1.0, 4.0, 64)}])
def test_past_the_context_it_sees_a_window(make_model, way, changes):
    """A model with a window and a cache of everything says what a step sees that is given no more."""
    model = make_model("Delay(audio)", context=128, window=8, **changes)
    ids_TR, _ = random_document(model, 60)
    assert close(states(model.endless_stepper(), ids_TR), states(model.stepper(1, 128), ids_TR), way)


def test_the_context_is_the_window_of_a_model_without_one(make_model, way):
    narrow = make_model("Delay(audio)", context=8)
    wide = make_model("Delay(audio)", context=128, window=8)
    wide.load_state_dict(narrow.state_dict())
    ids_TR, _ = random_document(wide, 60)
    assert close(states(narrow.endless_stepper(), ids_TR), states(wide.stepper(1, 128), ids_TR), "nearly")


def test_memory_stays(make_model):
    stepper = make_model("Parallel(audio)", context=16).endless_stepper()
    before = stepper._cache.kv_L2BGSC.data_ptr()
    for _ in range(100):
        stepper.feed(torch.zeros(1, 1, 3, dtype=torch.int64))
    assert stepper._cache.kv_L2BGSC.data_ptr() == before
    assert stepper._cache.kv_L2BGSC.shape[4] == 2 * 16
    assert stepper.length == 100


def test_a_batch_goes_round_together(make_model):
    model = make_model("Delay(audio)", context=8)
    grids = [random_document(model, 30, seed)[0] for seed in (0, 1)]
    stepper = model.endless_stepper(2)
    for pair in zip(*grids, strict=True):
        stepper.feed(torch.stack(pair)[:, None])
    stepper.select(torch.tensor([1]))
    alone = model.endless_stepper()
    for ids_R in grids[1]:
        alone.feed(ids_R[None, None])
    assert torch.allclose(stepper._hidden_BD, alone._hidden_BD, rtol=1e-5, atol=1e-6)


def test_positions_of_days_turn_as_exactly_as_the_first(make_model):
    config = make_model("Parallel(audio)").config
    near = rotary(torch.tensor([100]), config, torch.float32)
    assert all(
        torch.allclose(a, b[0], atol=1e-5)
        for a, b in zip(far_turn(100, config, torch.device("cpu")), near, strict=True)
    )
    one, two = (far_turn(10**7 + n, config, torch.device("cpu")) for n in (0, 3))
    half = config.head_width // 2
    between = two[0] * one[0] + two[1] * one[1]  # the cosine of the difference
    assert torch.allclose(
        between[0, :half], rotary(torch.tensor([3]), config, torch.float32)[0][0, 0, :half], atol=1e-5
    )
