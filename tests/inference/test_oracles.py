"""An oracle's rule comes out exactly, over every next-token stage, both heads and mixed batches."""

import numpy as np
import pytest

from hocket.inference import Generator, Sampling
from hocket.inference.autoregressive import Autoregressive
from hocket.inference.generator import sampled
from hocket.interleave import load_scheme
from tests.inference.late_codec import LateCodec
from tests.inference.oracle_in_place import PRESETS as IN_PLACE
from tests.inference.oracle_stepper import OracleStepper
from tests.inference.oracles import build_model, expected, next_token_stages, request_for
from tests.interleave.cases import PRESETS, RATES, levels_by_stream

STAGES = next_token_stages()
GREEDY = Sampling(temperature=0)


def check(model, requests) -> None:
    """Samples the requests together, and compares every cell with the rule."""
    truths = [expected(model, request) for request in requests]
    model.stepper = lambda batch, max_steps: OracleStepper(model, truths, batch, max_steps)
    loop = Autoregressive(model, requests, GREEDY)
    for _ in loop.run():
        pass
    for b, truth in enumerate(truths):
        item = sampled(loop, b)
        for name, codes_TK in truth.streams.items():
            assert np.array_equal(item.streams[name], codes_TK), name
        plan = truth.sight.plan
        assert np.array_equal(loop.grid(b), plan.interleave(truth.whole, model.vocabulary))
        assert item.steps == plan.n_steps
        drawn = {int(cell) for cell in np.flatnonzero(~np.isnan(loop.log_probabilities(b)))}
        assert drawn >= set(truth.chosen)


@pytest.mark.parametrize("name", STAGES)
def test_the_rule_comes_out_exactly(name, identity):
    model = build_model(STAGES[name], identity)
    requests = [request_for(model, n, limit, seed) for seed, (n, limit) in enumerate([(0, 9), (1, 7), (4, 12), (2, 2)])]
    check(model, requests)
    check(model, requests[1:2])


@pytest.mark.parametrize("name", [name for name in STAGES if "(" not in name and not name.endswith(", depth")])
def test_streams_follow_the_rule(name, identity):
    model = build_model(STAGES[name], identity)
    model.__dict__["codec"] = LateCodec()
    request = request_for(model, 2, 8, seed=1)
    truth = expected(model, request)
    model.stepper = lambda batch, max_steps: OracleStepper(model, [truth], batch, max_steps)
    chunks = list(Generator(model).stream(request, GREEDY, include_prompt=True))
    for stream, codes_TK in truth.streams.items():
        assert np.array_equal(np.concatenate([chunk.streams[stream] for chunk in chunks]), codes_TK), stream


def test_every_stage_of_every_preset_has_its_oracle():
    found = {name.partition(", depth")[0] for name in STAGES}
    found |= {name if stage is None else f"{name}/{stage}" for name, stage in IN_PLACE.items()}
    for preset in PRESETS:
        for stage in load_scheme(preset, levels_by_stream(9 if preset == "dia" else 8), RATES).stages:
            assert (preset if stage.name == preset else f"{preset}/{stage.name}") in found
