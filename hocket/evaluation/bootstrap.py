"""Intervals by resampling items: what else the number might have been, had other items of the same kind been drawn.

Percentile bootstrap (Efron, 1979): items are drawn with replacement as often as there are items, the number is
computed again, and 95 % of a thousand such numbers lie between `low` and `high`. Word error rates of a corpus are
ratios of sums, as in Bisani and Ney (2004): the items are utterances, drawn with their words and their errors together.
Items that belong together (continuations of one prompt) are drawn together.

A draw is a row of counts, one for each item, so that a number is a matrix product: 1,000 items take 0.1 s, 20,000 take
3 s on one core.

Shapes: N items, G groups, D draws.
"""

from collections.abc import Hashable, Sequence
from dataclasses import replace

import numpy as np

from hocket.errors import InputError
from hocket.evaluation.results import Measure

DRAWS = 1000
COVERED = (2.5, 97.5)
"""Percentiles of the draws."""
CELLS = 2_000_000
"""Counts that are held at once."""

Numbers = Sequence[float] | np.ndarray


def bootstrap(
    values: Numbers, groups: Sequence[Hashable] | None = None, *, n: int = DRAWS, seed: int = 0, scale: float = 1.0
) -> Measure:
    """The mean of items, with its interval; none where there is only one item or group.

    Args:
        values: one for each item.
        groups: what an item belongs to; groups are drawn whole.
        n: draws.
        scale: what the number is multiplied by: 100 for percent.

    Raises:
        InputError: there are no items.
    """
    return bootstrap_ratio(values, np.ones(len(values)), groups, n=n, seed=seed, scale=scale)


def bootstrap_ratio(
    parts: Numbers,
    wholes: Numbers,
    groups: Sequence[Hashable] | None = None,
    *,
    n: int = DRAWS,
    seed: int = 0,
    scale: float = 1.0,
) -> Measure:
    """The sum of `parts` by the sum of `wholes` (wrong words by words, bits by seconds), with its interval.

    Args: as of `bootstrap`. Raises InputError where there are no items or the wholes sum to nothing.
    """
    pairs_N2 = np.stack([np.asarray(parts, np.float64), np.asarray(wholes, np.float64)], axis=1)
    if not len(pairs_N2) or not pairs_N2[:, 1].sum():
        raise InputError("a mean of nothing was asked for: there is no item to average over")
    value = float(pairs_N2[:, 0].sum() / pairs_N2[:, 1].sum())
    measure = Measure(value=scale * value, n=len(pairs_N2))
    pairs_G2 = pairs_N2 if groups is None else _sums(pairs_N2, groups)
    if len(pairs_G2) < 2:
        return measure
    low, high = np.percentile(_ratios(pairs_G2, n, seed), COVERED)
    return replace(measure, low=float(scale * low), high=float(scale * high))


def _sums(pairs_N2: np.ndarray, groups: Sequence[Hashable]) -> np.ndarray:
    """Sums of each group [G, 2]."""
    places = {group: place for place, group in enumerate(dict.fromkeys(groups))}
    pairs_G2 = np.zeros((len(places), 2))
    np.add.at(pairs_G2, [places[group] for group in groups], pairs_N2)
    return pairs_G2


def _ratios(pairs_G2: np.ndarray, n: int, seed: int) -> np.ndarray:
    """The ratio in each draw, in portions; a draw whose wholes sum to nothing says nothing and is left out."""
    random, size = np.random.default_rng(seed), len(pairs_G2)
    ratios, at_once = [], max(1, CELLS // size)
    for first in range(0, n, at_once):
        counts_DG = random.multinomial(size, np.full(size, 1 / size), size=min(at_once, n - first))
        sums_D2 = counts_DG @ pairs_G2
        sums_D2 = sums_D2[sums_D2[:, 1] > 0]
        ratios.append(sums_D2[:, 0] / sums_D2[:, 1])
    return np.concatenate(ratios)
