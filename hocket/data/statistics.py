"""What `hocket inspect` says about a corpus: hours, lengths, texts, and how fully each stream's codebooks are used.

Counting reads every code once, some hundred million a second, and every text.

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
class StreamUse:
    """The codes of one stream."""

    n_frames: int
    levels: list[LevelUse]


@dataclass(frozen=True, kw_only=True)
class CorpusStatistics:
    """Numbers over the examples of a corpus or of one split."""

    n_examples: int
    hours: float
    streams: dict[str, StreamUse]
    n_texts: int
    n_letters: int
    """Of all texts, spaces and punctuation counted."""
    n_words: int
    """Words with times."""
    duration_edges: tuple[float, ...]
    """Seconds at which the classes begin."""
    duration_counts: list[int]
    """Examples with audio in each class."""


def describe(corpus: Corpus) -> CorpusStatistics:
    """Count codes, texts, words and durations of all examples in the view."""
    durations = corpus.durations
    counts, _ = np.histogram(durations[durations > 0], bins=[*DURATION_EDGES, np.inf])
    return CorpusStatistics(
        n_examples=len(corpus),
        hours=float(durations.sum()) / 3600,
        streams={name: _stream_use(corpus, name) for name in corpus.levels},
        n_texts=int(corpus.has_text.sum()),
        n_letters=sum(map(len, corpus.texts())),
        n_words=int(corpus.n_words.sum()),
        duration_edges=DURATION_EDGES,
        duration_counts=counts.tolist(),
    )


def _stream_use(corpus: Corpus, stream: str) -> StreamUse:
    totals = [np.zeros(size, np.int64) for size in corpus.streams[stream].codebook_sizes]
    for codes_SK, mine_S in corpus.blocks(stream):
        chosen_SK = codes_SK if mine_S.all() else codes_SK[mine_S]
        for level, total in enumerate(totals):
            total += np.bincount(chosen_SK[:, level], minlength=len(total))
    return StreamUse(n_frames=int(totals[0].sum()), levels=[_level_use(total) for total in totals])


def _level_use(counts: np.ndarray) -> LevelUse:
    present = counts[counts > 0] / max(counts.sum(), 1)
    entropy = float(-(present * np.log2(present)).sum()) + 0.0
    return LevelUse(size=len(counts), used=len(present), entropy_bits=entropy)
