"""Intervals by resampling."""

import numpy as np
import pytest

from hocket.errors import InputError
from hocket.evaluation import bootstrap as resampling
from hocket.evaluation.bootstrap import bootstrap, bootstrap_ratio


def test_the_interval_of_a_mean_is_that_of_theory():
    values = np.random.default_rng(1).normal(5, 2, size=400)
    found = bootstrap(values)
    error = values.std() / np.sqrt(len(values))
    assert found.value == pytest.approx(values.mean())
    assert found.n == 400
    assert found.half == pytest.approx(1.96 * error, rel=0.1)


def test_equal_seeds_give_equal_intervals_and_others_do_not():
    values = np.arange(10.0)
    assert bootstrap(values) == bootstrap(list(values))
    assert bootstrap(values, seed=1) != bootstrap(values)


def test_a_ratio_is_of_sums_and_long_items_count_more():
    found = bootstrap_ratio([1, 0, 9], [10, 10, 20], scale=100)
    assert found.value == 25.0
    assert found.low == 0.0
    assert found.high == 45.0


def test_one_item_has_no_interval():
    found = bootstrap([3.0])
    assert (found.value, found.low, found.high, found.n, found.half) == (3.0, None, None, 1, None)


def test_groups_are_drawn_whole():
    values = [0.0, 0.0, 0.0, 1.0, 1.0, 1.0]
    grouped = bootstrap(values, ["a", "a", "a", "b", "b", "b"])
    assert (grouped.value, grouped.low, grouped.high, grouped.n) == (0.5, 0.0, 1.0, 6)
    assert bootstrap(values, ["a"] * 6).low is None
    assert bootstrap(values, list(range(6))) == bootstrap(values)


def test_portions_do_not_change_the_numbers(monkeypatch):
    values = np.random.default_rng(2).normal(size=50)
    whole = bootstrap(values)
    monkeypatch.setattr(resampling, "CELLS", 333)
    assert bootstrap(values) == whole


@pytest.mark.parametrize("wholes", [[], [0, 0]])
def test_a_mean_of_nothing_is_refused(wholes):
    with pytest.raises(InputError, match="no item to average"):
        bootstrap_ratio([0.0] * len(wholes), wholes)
