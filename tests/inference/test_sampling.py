import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hocket.errors import InputError
from hocket.inference.sampling import Sampling

PROBABILITIES = torch.tensor([0.1, 0.4, 0.2, 0.3])


def frequencies(sampling: Sampling, n: int = 4000) -> torch.Tensor:
    logits = PROBABILITIES.log().expand(n, 4)
    chosen = sampling.choose(logits, (torch.arange(n) + 0.5) / n)
    return torch.bincount(chosen, minlength=4) / n


@pytest.mark.parametrize(
    ("sampling", "expected"),
    [
        (Sampling(), [0.1, 0.4, 0.2, 0.3]),
        (Sampling(temperature=0), [0, 1, 0, 0]),
        (Sampling(top_k=1), [0, 1, 0, 0]),
        (Sampling(top_k=2), [0, 4 / 7, 0, 3 / 7]),
        (Sampling(top_p=0.4), [0, 1, 0, 0]),
        (Sampling(top_p=0.65), [0, 4 / 7, 0, 3 / 7]),
        (Sampling(top_k=3, top_p=0.7), [0, 4 / 7, 0, 3 / 7]),
        (Sampling(temperature=0.5), [1 / 30, 16 / 30, 4 / 30, 9 / 30]),
    ],
)
def test_draws_follow_the_distribution(sampling, expected):
    torch.testing.assert_close(frequencies(sampling), torch.tensor(expected, dtype=torch.float32), atol=1e-3, rtol=0)


@settings(max_examples=50)
@given(st.integers(1, 40), st.integers(0, 50), st.floats(0.01, 1), st.floats(0, 3), st.integers(0, 999))
def test_a_draw_depends_on_its_own_row_alone(size, top_k, top_p, temperature, seed):
    generator = torch.Generator().manual_seed(seed)
    logits, uniform = torch.randn(5, size, generator=generator), torch.rand(5, generator=generator)
    sampling = Sampling(temperature=temperature, top_k=top_k, top_p=top_p)
    together = sampling.choose(logits, uniform)
    alone = [sampling.choose(logits[i : i + 1], uniform[i : i + 1]) for i in range(5)]
    assert torch.equal(together, torch.cat(alone))
    assert ((together >= 0) & (together < size)).all()


@pytest.mark.parametrize("wrong", [{"temperature": -1}, {"top_k": -1}, {"top_p": 0}, {"top_p": 1.5}])
def test_impossible_settings_are_refused(wrong):
    with pytest.raises(InputError, match=next(iter(wrong))):
        Sampling(**wrong)
