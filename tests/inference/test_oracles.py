"""An oracle's rule comes out exactly, over every next-token stage, both heads and mixed batches."""

import numpy as np
import pytest

from hocket.inference import Sampling
from hocket.inference.autoregressive import Autoregressive
from hocket.inference.generator import sampled
from tests.inference.oracles import OracleStepper, build_model, expected, next_token_stages, request_for

STAGES = next_token_stages()
GREEDY = Sampling(temperature=0)


def check(model, requests) -> None:
    """Samples the requests together, and compares every cell with the rule."""
    truths = [expected(model, request) for request in requests]
    model.stepper = lambda *shape: OracleStepper(model, truths, *shape)
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
