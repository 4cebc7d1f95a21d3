"""What `hocket inspect` says about a corpus: hours, lengths, and how fully the codec's codebooks are used.

Counting reads every code once, at memory speed (some hundred million codes a second).

Shapes: S frames of a shard, K levels.
"""

from dataclasses import dataclass

import numpy as np

from hocket.data.corpus import Corpus

DURATION_EDGES = (0.0, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0)
"""Seconds at which the classes of the duration histogram begin; the last is open."""


@dataclass(frozen=True, kw_only=True)
class LevelUse:
    """How a codebook is used."""

    size: int
    used: int
    """Entries that occur at least once."""
    entropy_bits: float
    """Entropy of the entries' frequencies; log2(size) if all are equally frequent."""


@dataclass(frozen=True, kw_only=True)
class CorpusStatistics:
    """Numbers over the examples of a corpus or of one split."""

    n_examples: int
    n_frames: int
    hours: float
    levels: list[LevelUse]
    duration_edges: tuple[float, ...]
    """Seconds at which the classes begin."""
    duration_counts: list[int]
    """Examples in each class."""


def describe(corpus: Corpus) -> CorpusStatistics:
    """Count codes and durations of all examples in the view."""
    sizes = corpus.streams["audio"].codebook_sizes
    durations = corpus.durations
    counts, _ = np.histogram(durations, bins=[*DURATION_EDGES, np.inf])
    return CorpusStatistics(
        n_examples=len(corpus),
        n_frames=int(corpus.lengths["audio"].sum()),
        hours=float(durations.sum()) / 3600,
        levels=[_level_use(level_counts) for level_counts in _count_codes(corpus, sizes)],
        duration_edges=DURATION_EDGES,
        duration_counts=counts.tolist(),
    )


def _count_codes(corpus: Corpus, sizes: tuple[int, ...]) -> list[np.ndarray]:
    totals = [np.zeros(size, np.int64) for size in sizes]
    for codes_SK, mine_S in corpus.blocks():
        chosen_SK = codes_SK if mine_S.all() else codes_SK[mine_S]
        for level, total in enumerate(totals):
            total += np.bincount(chosen_SK[:, level], minlength=len(total))
    return totals


def _level_use(counts: np.ndarray) -> LevelUse:
    present = counts[counts > 0] / max(counts.sum(), 1)
    entropy = float(-(present * np.log2(present)).sum()) + 0.0
    return LevelUse(size=len(counts), used=len(present), entropy_bits=entropy)
