"""A corpus: codes, texts and words of many segments, mapped into memory, and the card that says what it is.

    corpus/
      corpus.json                    the card, written last: a folder without it is no finished corpus
      data-00000.arrow …             shards of rows
      dataset_info.json, state.json  so that datasets.load_from_disk opens the folder too
      rejected.jsonl                 clips that could not be used, each with its reason

Opening reads the card and looks at the shards' sizes; a shard is mapped when it is first needed. `corpus[i]` costs
some microseconds and its codes are a view of the file; `gather` reads the codes of many examples at about 1 µs each.
A corpus behind a URL is copied into the cache folder first.

Shapes: N examples, T frames of an example, S frames of several, K levels.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch

from hocket.codec import CodecIdentity
from hocket.data.card import CorpusCard, ShardCard
from hocket.data.clips import SPLITS
from hocket.data.places import Place, cache_folder, fetch
from hocket.data.shards import AUDIO, Shard
from hocket.data.words import Word
from hocket.errors import InputError, did_you_mean

REJECTED_FILE = "rejected.jsonl"


@dataclass(frozen=True, kw_only=True)
class Example:
    """One segment as a model meets it."""

    id: str
    streams: dict[str, np.ndarray]
    """Codes by stream name: {"audio": codes_TK}, uint16, read-only views of the file."""
    text: str | None
    words: tuple[Word, ...]
    """Words with times in seconds from the segment's start."""
    speaker: str | None
    language: str | None
    split: str
    recording: str
    """The clip that it was cut from."""
    start: float
    """Seconds into the recording."""
    duration: float
    """Seconds of audio."""
    audio: str
    """What the source called the audio."""


class _Shards:
    """The shards of a folder, each mapped when it is first needed."""

    def __init__(self, folder: Path, cards: Sequence[ShardCard]):
        self._folder, self._cards = folder, cards
        self._mapped: list[Shard | None] = [None] * len(cards)
        self.first_row = np.cumsum([0] + [card.n_examples for card in cards])
        for card in cards:
            _check_size(folder, card)

    @property
    def n_rows(self) -> int:
        return int(self.first_row[-1])

    def __len__(self) -> int:
        return len(self._cards)

    def __getitem__(self, number: int) -> Shard:
        shard = self._mapped[number]
        if shard is None:
            shard = self._mapped[number] = _map_shard(self._folder, self._cards[number])
        return shard

    def __getstate__(self) -> dict:
        """Mapped files are mapped anew in another process."""
        return self.__dict__ | {"_mapped": [None] * len(self._cards)}


class Corpus(Sequence[Example]):
    """Examples of a corpus, or of one split of it, in the order of the source."""

    def __init__(self, folder: Path, card: CorpusCard, shards: _Shards, rows_N: np.ndarray, levels: dict[str, int]):
        self.folder, self.card, self.levels = folder, card, levels
        self._shards, self._rows_N = shards, rows_N

    @classmethod
    def open(
        cls, folder: str | Path, codec: CodecIdentity | None = None, levels: int | Mapping[str, int] | None = None
    ) -> "Corpus":
        """Map a corpus into memory.

        Args:
            folder: where it lies, also behind a URL of fsspec's.
            codec: refuses a corpus whose stream "audio" is of another one.
            levels: of each stream only so many of its first levels; a number is meant for "audio".

        Raises:
            InputError: no corpus, an unfinished or damaged one, one of another codec, or of fewer levels.
        """
        place = Place.at(folder)
        card = CorpusCard.load(place)
        if codec is not None and codec.fingerprint != card.codec.fingerprint:
            raise InputError(f'the corpus "{folder}" is of {name_codec(card.codec)}, not of {name_codec(codec)}')
        local = Path(place.root) if place.is_local else _copy(place, card)
        wanted = {AUDIO: levels} if isinstance(levels, int) else dict(levels or {})
        shards = _Shards(local, card.shards)
        if shards.n_rows != card.n_examples:
            state = f"its card counts {card.n_examples:,} examples and {shards.n_rows:,} rows of shards"
            raise InputError(f'the corpus "{folder}" is damaged: {state}')
        rows_N = np.arange(card.n_examples, dtype=np.int32)
        return cls(local, card, shards, rows_N, _cut(card, wanted, place.name))

    def __len__(self) -> int:
        return len(self._rows_N)

    def __getitem__(self, index: int) -> Example:  # pyright: ignore[reportIncompatibleMethodOverride]
        shard, row = self._locate(index)
        names = ("id", "text", "speaker", "language", "split", "recording", "start", "duration", "audio")
        streams = {name: shard.codes_TK(name, row)[:, :n] for name, n in self.levels.items()}
        return Example(streams=streams, words=shard.words(row), **{name: shard.value(row, name) for name in names})

    def __repr__(self) -> str:
        return f"Corpus({str(self.folder)!r}, {len(self)} examples of {', '.join(self.levels) or 'text'})"

    def codes(self, stream: str, index: int) -> torch.Tensor:
        """Codes of one example, a uint16 tensor [T, K] over the bytes of the file."""
        shard, row = self._locate(index)
        offsets = shard.block(stream)[1]
        return shard.tensor(stream)[offsets[row] : offsets[row + 1], : self.levels[stream]]

    def gather(
        self,
        stream: str,
        indices: np.ndarray,
        start: np.ndarray | None = None,
        stop: np.ndarray | None = None,
        out: np.ndarray | None = None,
    ) -> np.ndarray:
        """Codes of many examples one after the other, uint16 [S, K].

        Args:
            stream: which codes.
            indices: the examples.
            start, stop: of each example only these frames.
            out: uint16 [S or more, K] to be filled; memory that is used again is twice as fast as fresh memory.
        """
        rows = self._rows_N[indices]
        numbers = np.searchsorted(self._shards.first_row, rows, side="right") - 1
        local = (rows - self._shards.first_row[numbers]).tolist()
        blocks = {number: self._shards[number].rows_of(stream) for number in set(numbers.tolist())}
        n_levels, pieces = self.levels[stream], []
        if start is None or stop is None:
            for number, row in zip(numbers.tolist(), local, strict=True):
                codes_SK, offsets = blocks[number]
                pieces.append(codes_SK[offsets[row] : offsets[row + 1]])
        else:
            for number, row, first, last in zip(numbers.tolist(), local, start.tolist(), stop.tolist(), strict=True):
                codes_SK, offsets = blocks[number]
                begin = offsets[row]
                pieces.append(codes_SK[begin + first : begin + last])
        if not pieces:
            return np.zeros((0, n_levels), np.uint16)
        if out is not None:
            whole = pieces[0].shape[1] == n_levels
            filled_SK = out[: sum(map(len, pieces))]
            return np.concatenate(pieces if whole else [piece[:, :n_levels] for piece in pieces], out=filled_SK)
        packed_SK = np.concatenate(pieces)
        return packed_SK if packed_SK.shape[1] == n_levels else packed_SK[:, :n_levels]

    def words(self, index: int) -> tuple[Word, ...]:
        """The words of one example."""
        shard, row = self._locate(index)
        return shard.words(row)

    def id(self, index: int) -> str:
        """The id of one example."""
        shard, row = self._locate(index)
        return shard.value(row, "id")

    def text(self, index: int) -> str | None:
        """The text of one example."""
        shard, row = self._locate(index)
        return shard.value(row, "text")

    def _locate(self, index: int) -> tuple[Shard, int]:
        row = int(self._rows_N[index])
        number = int(np.searchsorted(self._shards.first_row, row, side="right")) - 1
        return self._shards[number], row - int(self._shards.first_row[number])

    @property
    def streams(self) -> dict[str, CodecIdentity]:
        """The codec of each stream of codes, cut to the levels that are read."""
        return {name: self.card.streams[name].with_levels(n) for name, n in self.levels.items()}

    @property
    def lengths(self) -> dict[str, np.ndarray]:
        """Frames of each example by stream, int64 [N]."""
        return {name: self._per_row(lambda shard, name=name: np.diff(shard.block(name)[1])) for name in self.levels}

    @property
    def has_text(self) -> np.ndarray:
        """Which examples have a text, bool [N]."""
        return self._per_row(lambda shard: shard.column("text").is_valid().to_numpy(zero_copy_only=False)) > 0

    @property
    def n_words(self) -> np.ndarray:
        """How many words with times each example has, int64 [N]."""
        return self._per_row(lambda shard: shard.n_words_N)

    @property
    def durations(self) -> np.ndarray:
        """Seconds of audio of each example, float64 [N]."""
        return self._per_row(lambda shard: shard.column("duration").to_numpy(), np.float64)

    def split(self, name: str) -> "Corpus":
        """The examples of train, valid or test; possibly none."""
        if name not in SPLITS:
            raise InputError(f'a corpus has no split "{name}"{did_you_mean(name, SPLITS)}')
        mine = self._per_row(lambda shard: _equals(shard.column("split"), name)) > 0
        return Corpus(self.folder, self.card, self._shards, self._rows_N[mine], self.levels)

    def texts(self, split: str | None = None) -> Iterator[str]:
        """The texts there are, of one split or of all examples."""
        examples = self.split(split) if split else self
        for shard, rows in examples._by_shard():
            yield from (text for text in shard.column("text").take(pa.array(rows)).to_pylist() if text is not None)

    @property
    def rows(self) -> np.ndarray:
        """Which rows of the whole corpus this view has: int32 [N], ascending."""
        return self._rows_N

    def columns(self, name: str) -> Iterator[pa.Array]:
        """A column of the whole corpus, whatever the view, shard by shard."""
        for number in range(len(self._shards)):
            yield self._shards[number].column(name)

    def blocks(self, stream: str = AUDIO) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """For each shard its codes [S, K] and which of these frames belong to this view, bool [S]."""
        for shard, rows in self._by_shard():
            codes_SK, offsets = shard.block(stream)
            mine = np.zeros(len(shard), bool)
            mine[rows] = True
            yield codes_SK[:, : self.levels[stream]], np.repeat(mine, np.diff(offsets))

    def _by_shard(self) -> Iterator[tuple[Shard, np.ndarray]]:
        """Each shard that this view meets, with its own rows of it, in order."""
        first_row = self._shards.first_row
        cuts = np.searchsorted(self._rows_N, first_row)
        for number in range(len(self._shards)):
            if cuts[number] < cuts[number + 1]:
                yield self._shards[number], self._rows_N[cuts[number] : cuts[number + 1]] - first_row[number]

    def _per_row(self, values: Callable[[Shard], Any], dtype: Any = np.int64) -> np.ndarray:
        """`values(shard)`, one a row of the shard, for the rows of this view."""
        parts = [np.asarray(values(shard), dtype)[rows] for shard, rows in self._by_shard()]
        return np.concatenate([np.zeros(0, dtype), *parts])


def name_codec(codec: CodecIdentity) -> str:
    """A codec for a message: name, levels, rate and the start of its fingerprint."""
    rate = float(codec.frame_rate)
    return f'codec "{codec.name}" ({codec.levels} levels at {rate:g} Hz, fingerprint {codec.fingerprint[:8]})'


def _equals(column: pa.Array, value: str) -> np.ndarray:
    equal = cast(pa.BooleanArray, pc.equal(column, value))  # pyright: ignore[reportAttributeAccessIssue]
    return equal.to_numpy(zero_copy_only=False)


def _cut(card: CorpusCard, wanted: Mapping[str, int], name: str) -> dict[str, int]:
    """Levels of each stream that are read."""
    for stream, n in wanted.items():
        if stream not in card.streams:
            have = ", ".join(sorted(card.streams)) or "none"
            raise InputError(f'the corpus "{name}" has no stream "{stream}" to take {n} levels of (it has {have})')
        card.streams[stream].with_levels(n)
    return card.levels | dict(wanted)


def _copy(place: Place, card: CorpusCard) -> Path:
    """A copy of a remote corpus in the cache, in a folder of its own content."""
    folder = cache_folder() / "corpora" / card.fingerprint[:16]
    for shard in card.shards:
        fetch(place, shard.file, folder)
    return folder


def _check_size(folder: Path, card: ShardCard) -> None:
    path = folder / card.file
    n_bytes = path.stat().st_size if path.is_file() else 0
    if n_bytes != card.n_bytes:
        state = f"has {n_bytes:,} bytes instead of {card.n_bytes:,}" if n_bytes else "is missing or empty"
        raise InputError(f'the corpus "{folder}" is damaged: {card.file} {state}')


def _map_shard(folder: Path, card: ShardCard) -> Shard:
    try:
        shard = Shard.map(folder / card.file)
    except (pa.ArrowInvalid, OSError, StopIteration) as error:
        raise InputError(f'the corpus "{folder}" is damaged: {card.file} is no Arrow stream') from error
    if len(shard) != card.n_examples:
        state = f"{card.file} has {len(shard):,} rows and the card says {card.n_examples:,}"
        raise InputError(f'the corpus "{folder}" is damaged: {state}')
    return shard
