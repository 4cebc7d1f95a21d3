"""Intervals by resampling items: what else the number might have been, had other items of the same kind been drawn.

Percentile bootstrap (Efron, 1979): items are drawn with replacement as often as there are items, the number is
computed again, and 95 % of a thousand such numbers lie between `low` and `high`. Word error rates of a corpus are
ratios of sums, as in Bisani and Ney (2004): the items are utterances, drawn with their words and their errors together.
Items that belong together (continuations of one prompt) are drawn together.

A draw is a row of counts, one for each item, so that a number is a matrix product: 1,000 items take 0.1 s, 20,000 take
3 s on one core.

Shapes: N items, C columns, G groups, X columns and a count, D draws.
"""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import replace

import numpy as np

from hocket.errors import InputError
from hocket.evaluation.results import Measure

DRAWS = 1000
COVERED = (2.5, 97.5)
"""Percentiles of the draws."""
CELLS = 2_000_000
"""Counts that are held at once."""

NOTHING = "a mean of nothing was asked for: there is no item to average over"

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
    if not pairs_N2[:, 1].sum():
        raise InputError(NOTHING)
    return bootstrap_means(pairs_N2, _ratio, groups, n=n, seed=seed, scale=scale)


def bootstrap_means(
    columns_NC: np.ndarray,
    function: Callable[[np.ndarray], np.ndarray],
    groups: Sequence[Hashable] | None = None,
    *,
    n: int = DRAWS,
    seed: int = 0,
    scale: float = 1.0,
) -> Measure:
    """A function of the means of several columns, `[…, C]` to `[…]`, with its interval; for perplexities and the like.

    Args and errors: as of `bootstrap`.
    """
    columns_NC = np.asarray(columns_NC, np.float64)
    if not len(columns_NC):
        raise InputError(NOTHING)
    measure = Measure(value=float(scale * function(columns_NC.mean(axis=0))), n=len(columns_NC))
    sums_GX = np.concatenate([columns_NC, np.ones((len(columns_NC), 1))], axis=1)
    sums_GX = sums_GX if groups is None else _sums(sums_GX, groups)
    if len(sums_GX) < 2:
        return measure
    drawn_D = function(_means(sums_GX, n, seed))
    low, high = np.percentile(drawn_D[np.isfinite(drawn_D)], COVERED)
    return replace(measure, low=float(scale * low), high=float(scale * high))


def _ratio(means_DC: np.ndarray) -> np.ndarray:
    """A draw whose wholes sum to nothing says nothing: nan."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return means_DC[..., 0] / means_DC[..., 1]


def _sums(columns_NX: np.ndarray, groups: Sequence[Hashable]) -> np.ndarray:
    """Sums of each group [G, X]."""
    places = {group: place for place, group in enumerate(dict.fromkeys(groups))}
    sums_GX = np.zeros((len(places), columns_NX.shape[1]))
    np.add.at(sums_GX, [places[group] for group in groups], columns_NX)
    return sums_GX


def _means(sums_GX: np.ndarray, n: int, seed: int) -> np.ndarray:
    """Means of the columns in each draw, the last column being how many items a group has; in portions."""
    random, size = np.random.default_rng(seed), len(sums_GX)
    means, at_once = [], max(1, CELLS // size)
    for first in range(0, n, at_once):
        counts_DG = random.multinomial(size, np.full(size, 1 / size), size=min(at_once, n - first))
        sums_DX = counts_DG @ sums_GX
        means.append(sums_DX[:, :-1] / sums_DX[:, -1:])
    return np.concatenate(means)
