import numpy as np
import pytest

from hocket.errors import InputError
from hocket.evaluation.baselines import baselines_of, best_bigram, best_unigram


def markov(rng, n_frames, size, stay):
    """A chain that goes to the next code with probability `stay`, else anywhere."""
    line = [int(rng.integers(size))]
    for _ in range(n_frames - 1):
        line.append((line[-1] + 1) % size if rng.random() < stay else int(rng.integers(size)))
    return np.array(line)[:, None]


def test_unigram_of_uniform_codes_is_the_logarithm_of_the_size():
    rng = np.random.default_rng(0)
    nats, p_V = best_unigram(rng.integers(0, 16, 50_000), rng.integers(0, 16, 50_000), 16)
    assert nats == pytest.approx(np.log(16), abs=2e-3)
    assert p_V.sum() == pytest.approx(1)


def test_bigram_finds_the_entropy_rate_of_a_chain():
    rng = np.random.default_rng(1)
    train, valid = [markov(rng, 30_000, 8, 0.9)], [markov(rng, 30_000, 8, 0.9)]
    p_next = 0.9 + 0.1 / 8
    rate = -p_next * np.log(p_next) - 7 * (0.1 / 8) * np.log(0.1 / 8)
    found = baselines_of(train, valid, [8])
    assert found.bigram == pytest.approx(rate, abs=0.02)
    assert found.bigram < found.unigram[0]


def test_every_bigram_is_a_distribution():
    rng = np.random.default_rng(2)
    line = rng.integers(0, 5, 40)
    before, cells = np.concatenate([[6], line[:-1]]), line
    _, unigram_V = best_unigram(cells, cells, 5)
    for state in range(5):
        alone = [best_bigram((before, cells), (np.array([state]), np.array([v])), unigram_V) for v in range(5)]
        assert all(np.isfinite(alone))


def test_the_leader_is_scored_on_its_end_cells_too():
    codes = [np.zeros((9, 2), np.uint16)] * 10
    found = baselines_of(codes, codes, [4, 4], leader=1)
    entropy_with_end = -(0.9 * np.log(0.9) + 0.1 * np.log(0.1))
    assert found.unigram[0] == pytest.approx(0, abs=1e-3)
    assert found.unigram[1] == pytest.approx(entropy_with_end, abs=1e-3)


def test_an_empty_split_is_named():
    codes = [np.zeros((3, 1), np.uint16)]
    with pytest.raises(InputError, match="valid has none"):
        baselines_of(codes, [], [4])
