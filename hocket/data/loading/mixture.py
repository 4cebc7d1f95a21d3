"""Several corpora as one: their examples one after the other, and how much of each the model sees.

    "a"                     one corpus
    "a,b"                   both by size: together they are one corpus, every example once an epoch
    "a:0.7,b:0.3"           of the grid steps that the model sees, 70 % are of a, whatever the corpora's sizes
    "s3://bucket/a:2,b:1"   shares are relative: two thirds and one third

Without weights, a temperature T above 1 lifts small corpora: the share of each is proportional to size^(1/T), where
size is its grid steps under the layout (Arivazhagan et al., 2019, arXiv:1907.05019; Conneau et al., 2020,
arXiv:1911.02116, whose exponent 0.3 is T = 3.3). Weights that are given are shares already, so that a temperature
beside them is refused.

Shapes: N examples of all corpora, T frames, S frames of several examples, K levels.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np

from hocket.codec import CodecIdentity
from hocket.data.card import CorpusCard
from hocket.data.corpus import Corpus, Example, name_codec
from hocket.data.places import is_url
from hocket.data.shards import AUDIO
from hocket.errors import InputError

Source = str | Path | Sequence[str | Path]


class Mixture(Sequence[Example]):
    """Corpora that agree on the codec of every stream that they share, or one split of each.

    Args:
        corpora: one or more.
        weights: a share of each, relative to each other; None goes by size.
        temperature: without weights, above 1 gives small corpora more than their share of the size.

    Raises:
        InputError: two corpora have different codecs, or weights and temperature are no use.
    """

    def __init__(self, corpora: Sequence[Corpus], weights: Sequence[float] | None = None, temperature: float = 1.0):
        if not corpora:
            raise InputError("a mixture needs at least one corpus")
        if not temperature > 0:
            raise InputError(f"the temperature of a mixture must be above 0, not {temperature}")
        if weights is not None and temperature != 1:
            raise InputError(
                f"a mixture takes weights or a temperature, not both: its weights {list(weights)} are shares already"
            )
        self.corpora: tuple[Corpus, ...] = tuple(corpora)
        self.weights, self.temperature = weights, temperature
        _check_codecs(self.corpora)
        self.first = np.cumsum([0, *(len(corpus) for corpus in corpora)])
        """Number of the first example of each corpus, and N."""

    @classmethod
    def open(
        cls,
        source: Source,
        codec: CodecIdentity | None = None,
        levels: int | Mapping[str, int] | None = None,
        temperature: float = 1.0,
    ) -> "Mixture":
        """Map one or several corpora into memory.

        Args:
            source: folders or URLs, separated by commas or in a list, each perhaps with `:weight`.
            codec: refuses corpora whose stream "audio" is of another one; corpora without such a stream are fine.
            levels: of each stream only so many of its first levels, as in `Corpus.open`.

        Raises:
            InputError: as `Corpus.open`; some have weights and some have none; a corpus is named twice.
        """
        named = parse_mixture(source)
        corpora = [_open(path, codec, levels) for path, _ in named]
        weights = [weight for _, weight in named if weight is not None]
        return cls(corpora, weights or None, temperature)

    @classmethod
    def of(cls, corpus: "Corpus | Mixture") -> "Mixture":
        """A corpus as a mixture of one."""
        return corpus if isinstance(corpus, Mixture) else cls([corpus])

    def __len__(self) -> int:
        return int(self.first[-1])

    def __getitem__(self, index: int) -> Example:  # pyright: ignore[reportIncompatibleMethodOverride]
        number = int(self.numbers(np.array([index]))[0])
        return self.corpora[number][index - int(self.first[number])]

    def __repr__(self) -> str:
        return f"Mixture({', '.join(map(repr, self.corpora))})"

    @property
    def folder(self) -> str:
        """The names of all corpora."""
        return ",".join(str(corpus.folder) for corpus in self.corpora)

    @property
    def card(self) -> CorpusCard:
        """The card of the first corpus that has a stream "audio", or of the first."""
        return next((c.card for c in self.corpora if AUDIO in c.levels), self.corpora[0].card)

    @property
    def fingerprint(self) -> str:
        """The fingerprints of all corpora."""
        return ",".join(corpus.card.fingerprint for corpus in self.corpora)

    @cached_property
    def streams(self) -> dict[str, CodecIdentity]:
        """The codec of each stream of codes that any corpus has."""
        return {name: codec for corpus in reversed(self.corpora) for name, codec in corpus.streams.items()}

    @property
    def levels(self) -> dict[str, int]:
        """Levels by stream."""
        return {name: codec.levels for name, codec in self.streams.items()}

    @property
    def lengths(self) -> dict[str, np.ndarray]:
        """Frames of each example by stream, int64 [N]; 0 for what an example lacks."""
        return {name: self.frames(name) for name in self.streams}

    @property
    def has_text(self) -> np.ndarray:
        """Which examples have a text, bool [N]."""
        return np.concatenate([corpus.has_text for corpus in self.corpora])

    @property
    def durations(self) -> np.ndarray:
        """Seconds of audio of each example, float64 [N]."""
        return np.concatenate([corpus.durations for corpus in self.corpora])

    def split(self, name: str) -> "Mixture":
        """The examples of train, valid or test of every corpus."""
        return Mixture([corpus.split(name) for corpus in self.corpora], self.weights, self.temperature)

    def texts(self, split: str | None = None) -> Iterator[str]:
        """The texts there are."""
        for corpus in self.corpora:
            yield from corpus.texts(split)

    def frames(self, stream: str) -> np.ndarray:
        """Frames of each example in a stream, int64 [N]; 0 where a corpus lacks it."""
        return np.concatenate(
            [
                corpus.lengths[stream] if stream in corpus.levels else np.zeros(len(corpus), np.int64)
                for corpus in self.corpora
            ]
        )

    def numbers(self, indices: np.ndarray) -> np.ndarray:
        """The corpus of each example, counted from 0."""
        return np.searchsorted(self.first, indices, side="right") - 1

    def ids(self, indices: np.ndarray) -> list[str]:
        """The ids of some examples."""
        numbers = self.numbers(indices)
        local = indices - self.first[numbers]
        return [self.corpora[n].id(i) for n, i in zip(numbers.tolist(), local.tolist(), strict=True)]

    def gather(self, stream: str, indices: np.ndarray, start: np.ndarray, stop: np.ndarray) -> np.ndarray:
        """Frames `start` to `stop` of many examples, one after the other, uint16 [S, K]."""
        numbers = self.numbers(indices)
        present = np.unique(numbers)
        local = indices - self.first[numbers]
        if len(present) == 1 and stream in self.corpora[present[0]].levels:
            return self.corpora[present[0]].gather(stream, local, start, stop)
        n_B = stop - start
        number_S = np.repeat(numbers, n_B)
        codes_SK = np.zeros((len(number_S), self.levels[stream]), np.uint16)
        for number in present.tolist():
            corpus, mine_B = self.corpora[number], numbers == number
            if stream in corpus.levels:
                codes_SK[number_S == number] = corpus.gather(stream, local[mine_B], start[mine_B], stop[mine_B])
        return codes_SK


def parse_mixture(source: Source) -> list[tuple[str, float | None]]:
    """Paths, each with its weight or None.

    A number after the last colon is a weight, unless there is a folder of just that name; `~` is the user's home.

    Raises:
        InputError: a name is empty or named twice, a weight is not above 0, or only some have one.
    """
    if isinstance(source, str | Path):
        source = [source] if Path(source).is_dir() else str(source).split(",")
    items = list(source)
    named = [_parse(os.path.expanduser(str(item).strip())) for item in items]
    paths = [path for path, _ in named]
    if not named or not all(paths):
        raise InputError(f'"{",".join(map(str, items))}" names no corpus; write one folder, or several as a:0.7,b:0.3')
    places = [path if is_url(path) else os.path.realpath(path) for path in paths]
    doubles = [path for path, place in zip(paths, places, strict=True) if places.count(place) > 1]
    if doubles:
        raise InputError(f'the mixture names the corpus "{doubles[0]}" twice')
    without = [path for path, weight in named if weight is None]
    if without and len(without) < len(named):
        raise InputError(f'the mixture gives weights to some corpora, but none to "{without[0]}": give all or none')
    return named


def _parse(item: str) -> tuple[str, float | None]:
    path, colon, tail = item.rpartition(":")
    try:
        weight = float(tail)
    except ValueError:
        return item, None
    if not colon or Path(item).is_dir():
        return item, None
    if not 0 < weight < float("inf"):
        raise InputError(f'the weight of the corpus "{path}" is {tail}, but must be above 0; or leave the corpus out')
    return path, weight


def _open(path: str, codec: CodecIdentity | None, levels: int | Mapping[str, int] | None) -> Corpus:
    corpus = Corpus.open(path)
    if isinstance(levels, int):
        levels = {AUDIO: levels}
    wanted = {name: n for name, n in (levels or {}).items() if name in corpus.levels}
    has_audio = AUDIO in corpus.levels
    return Corpus.open(path, codec if has_audio else None, wanted) if wanted or (codec and has_audio) else corpus


def _check_codecs(corpora: Sequence[Corpus]) -> None:
    seen: dict[str, tuple[Corpus, CodecIdentity]] = {}
    for corpus in corpora:
        for stream, codec in corpus.streams.items():
            other, theirs = seen.setdefault(stream, (corpus, codec))
            if theirs.fingerprint != codec.fingerprint:
                fewest = min(theirs.levels, codec.levels)
                alike = theirs.with_levels(fewest).fingerprint == codec.with_levels(fewest).fingerprint
                need = f"levels: tokenise both with --levels {fewest}" if alike else "codec"
                raise InputError(
                    f'the stream "{stream}" of the corpus "{other.folder}" is of {name_codec(theirs)}, '
                    f'that of "{corpus.folder}" of {name_codec(codec)}: corpora that are mixed need the same {need}'
                )
