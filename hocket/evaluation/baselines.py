"""Baselines: what counting alone predicts of held-out codes, in nats per cell.

A model is scored on the cells of each level: every code, and at the level that may end the stream also `<end>`, once an
example. The baselines are scored on exactly these cells over exactly these choices, so the numbers compare directly.

    unigram   p(v) = (count(v) + a) / (n + a V)
    bigram    p(v | u) = (count(u, v) + b p(v)) / (count(u) + b), or with absolute discounting; u is the code before

The free numbers (a, b, the discount) are those that score best on the held-out codes themselves: no count-based model
of this form does better, and beating it is no accident of smoothing. Fitting costs a few milliseconds per level and
20 minutes of audio.

Shapes: T frames, K levels, N cells, V choices.
"""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from hocket.data import Corpus, Mixture
from hocket.errors import InputError

STRENGTHS = tuple(float(x) for x in 2.0 ** np.arange(-8, 9))
"""Pseudo-counts that are tried."""
DISCOUNTS = (0.3, 0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95)
"""Shares of one occurrence that are tried for absolute discounting."""


@dataclass(frozen=True, kw_only=True)
class Baselines:
    """Nats per held-out cell."""

    unigram: tuple[float, ...]
    """By level, 0 first."""
    bigram: float
    """At the leading level, from the code one frame earlier."""
    leader: int
    """The level that may predict the end and whose cells include it, where the model predicts ends."""
    n_train: int
    """Frames counted."""
    n_valid: int
    """Frames scored."""

    def to_dict(self) -> dict[str, Any]:
        return asdict(self) | {"unigram": list(self.unigram)}


def fit_baselines(
    corpus: Corpus | Mixture, levels: int | None = None, leader: int = 0, stream: str = "audio", ends: bool = True
) -> Baselines:
    """Count the train split of a corpus and score its valid split.

    Args:
        levels: levels to look at, from 0 up; all of them unless given.
        leader: the level whose cells include `<end>`.
        stream: whose codes.
        ends: whether there are cells of `<end>` at all.

    Raises:
        InputError: one of the two splits is empty.
    """
    sizes = corpus.streams[stream].codebook_sizes[:levels]
    train, valid = (
        [example.streams[stream] for example in corpus.split(name) if stream in example.streams]
        for name in ("train", "valid")
    )
    return baselines_of(train, valid, sizes, leader, ends)


def baselines_of(
    train: Sequence[np.ndarray], valid: Sequence[np.ndarray], sizes: Sequence[int], leader: int = 0, ends: bool = True
) -> Baselines:
    """The same for lists of codes [T, K] of each example."""
    for name, codes in (("train", train), ("valid", valid)):
        if not sum(len(codes_TK) for codes_TK in codes):
            raise InputError(f"baselines need codes in both splits, but {name} has none")
    ended = [ends and level == leader for level in range(len(sizes))]
    cells = [(_cells(train, k, sizes[k], ended[k]), _cells(valid, k, sizes[k], ended[k])) for k in range(len(sizes))]
    choices = [size + int(ends) for size, ends in zip(sizes, ended, strict=True)]
    unigrams = [best_unigram(seen[1], held[1], v) for (seen, held), v in zip(cells, choices, strict=True)]
    seen, held = cells[leader]
    return Baselines(
        unigram=tuple(nats for nats, _ in unigrams),
        bigram=best_bigram(seen, held, unigrams[leader][1]),
        leader=leader,
        n_train=sum(map(len, train)),
        n_valid=sum(map(len, valid)),
    )


def _cells(examples: Iterable[np.ndarray], level: int, size: int, ends: bool) -> tuple[np.ndarray, np.ndarray]:
    """What stands before each cell (`size + 1` at the start) and the cell itself (`size` for the end), int64 [N]."""
    before, cells = [], []
    for codes_TK in examples:
        line = codes_TK[:, level].astype(np.int64)
        line = np.append(line, size) if ends else line
        before.append(np.concatenate([[size + 1], line[:-1]])[: len(line)])
        cells.append(line)
    return np.concatenate(before), np.concatenate(cells)


def best_unigram(train_N: np.ndarray, valid_N: np.ndarray, n_choices: int) -> tuple[float, np.ndarray]:
    """Nats per cell of the best smoothing, and its probabilities [V]."""
    counts_V = np.bincount(train_N, minlength=n_choices).astype(np.float64)
    tried = [(counts_V + a) / (len(train_N) + a * n_choices) for a in STRENGTHS]
    scored = [float(-np.log(p_V[valid_N]).mean()) for p_V in tried]
    best = int(np.argmin(scored))
    return scored[best], tried[best]


def best_bigram(
    train: tuple[np.ndarray, np.ndarray], valid: tuple[np.ndarray, np.ndarray], unigram_V: np.ndarray
) -> float:
    """Nats per cell of the best interpolation of pair counts with the unigram."""
    n_states = len(unigram_V) + 2
    pairs, pair_counts = np.unique(train[0] * n_states + train[1], return_counts=True)
    state_counts = np.bincount(train[0], minlength=n_states).astype(np.float64)
    kinds = np.bincount(pairs // n_states, minlength=n_states).astype(np.float64)
    wanted = valid[0] * n_states + valid[1]
    place = np.minimum(np.searchsorted(pairs, wanted), len(pairs) - 1)
    both_N = np.where(pairs[place] == wanted, pair_counts[place], 0).astype(np.float64)
    state_N, kinds_N, unigram_N = state_counts[valid[0]], kinds[valid[0]], unigram_V[valid[1]]
    tried = [(both_N + b * unigram_N) / (state_N + b) for b in STRENGTHS]
    tried += [_discounted(both_N, state_N, kinds_N, unigram_N, discount) for discount in DISCOUNTS]
    return min(float(-np.log(p_N).mean()) for p_N in tried)


def _discounted(
    both_N: np.ndarray, state_N: np.ndarray, kinds_N: np.ndarray, unigram_N: np.ndarray, discount: float
) -> np.ndarray:
    """Absolute discounting: each seen pair gives up `discount` of an occurrence to the unigram."""
    seen_N = np.maximum(state_N, 1)
    p_N = np.maximum(both_N - discount, 0) / seen_N + discount * kinds_N / seen_N * unigram_N
    return np.where(state_N > 0, p_N, unigram_N)
