"""A corpus: codes, texts and speakers of many clips, mapped into memory, and the card that says what it is.

    corpus/
      corpus.json                    the card, written last: a folder without it is no finished corpus
      data-00000-of-00002.arrow …    shards of rows
      dataset_info.json, state.json  so that datasets.load_from_disk opens the folder too
      rejected.jsonl                 clips that could not be used, each with its reason

Opening maps the shards (no reading); `corpus[i]` costs some microseconds and its codes are a view of the file.

Shapes: N examples, T frames, K levels.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from hocket.codec import CodecIdentity
from hocket.data.clips import SPLITS
from hocket.data.shards import Shard, write_json
from hocket.errors import InputError, did_you_mean

CARD_FILE = "corpus.json"
REJECTED_FILE = "rejected.jsonl"
UNFINISHED_FOLDER = ".tokenizing"
"""Folder inside an unfinished corpus that holds what is needed to go on."""


@dataclass(frozen=True, kw_only=True)
class ShardCard:
    """What the card knows of one shard."""

    file: str
    n_examples: int
    n_bytes: int
    sha256: str


@dataclass(frozen=True, kw_only=True)
class SplitCard:
    """How much of the corpus one split holds."""

    n_examples: int = 0
    seconds: float = 0.0


@dataclass(frozen=True, kw_only=True)
class CorpusCard:
    """What a corpus is: of which codec, from what, how much."""

    codec: CodecIdentity
    source: str
    """Where the clips came from, as it was given."""
    source_fingerprint: str
    """Hash over the clips: ids, names, texts, splits, lengths."""
    settings: dict[str, Any]
    """The tokenising settings that shape the files."""
    n_examples: int
    seconds: float
    splits: dict[str, SplitCard]
    n_texts: int
    """Examples with a text."""
    n_rejected: int
    """Clips that could not be used; rejected.jsonl names them."""
    shards: list[ShardCard] = field(default_factory=list)
    fingerprint: str
    """Hash over the content of all shards and the codec's fingerprint."""

    def save(self, folder: Path) -> None:
        """Write corpus.json, whole or not at all."""
        write_json(folder / CARD_FILE, asdict(self) | {"codec": self.codec.to_dict()})

    @classmethod
    def load(cls, folder: Path) -> "CorpusCard":
        """Read corpus.json. Raises InputError where there is none or it is not one of ours."""
        path = folder / CARD_FILE
        _check_is_corpus(folder)
        try:
            stored = json.loads(path.read_text(encoding="utf-8"))
            stored["codec"] = CodecIdentity.from_dict(stored["codec"])
            stored["splits"] = {name: SplitCard(**split) for name, split in stored["splits"].items()}
            stored["shards"] = [ShardCard(**shard) for shard in stored["shards"]]
            return cls(**{known.name: stored[known.name] for known in fields(cls)})
        except (json.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
            raise InputError(f'"{path}" is not the card of a hocket corpus: {error!r}') from error


def _check_is_corpus(folder: Path) -> None:
    if (folder / CARD_FILE).is_file():
        return
    if not folder.exists():
        raise InputError(f'there is no corpus "{folder}"')
    if (folder / UNFINISHED_FOLDER).is_dir():
        raise InputError(f'the corpus "{folder}" is unfinished: run the same `hocket tokenize` again to complete it')
    raise InputError(f'"{folder}" is no corpus (it has no {CARD_FILE}); `hocket tokenize SRC DST` makes one')


@dataclass(frozen=True, kw_only=True)
class Example:
    """One clip as a model meets it."""

    id: str
    streams: dict[str, np.ndarray]
    """Codes by stream name: {"audio": codes_TK}, uint16, a read-only view of the file."""
    text: str | None
    speaker: str | None
    language: str | None
    split: str
    duration: float
    """Seconds of audio."""
    audio: str
    """What the source called the audio."""


class Corpus(Sequence[Example]):
    """Examples of a corpus, or of one split of it, in the order of the source."""

    def __init__(self, folder: Path, card: CorpusCard, shards: list[Shard], rows_N: np.ndarray):
        self.folder, self.card = folder, card
        self._shards = shards
        self._first_row = np.cumsum([0] + [len(shard) for shard in shards])
        self._rows_N = rows_N

    @classmethod
    def open(cls, folder: str | Path, codec: CodecIdentity | None = None) -> "Corpus":
        """Map a corpus into memory; with `codec`, refuse one of another codec.

        Raises InputError for a folder that is no corpus, is unfinished or damaged, or holds another codec's codes.
        """
        folder = Path(folder)
        card = CorpusCard.load(folder)
        if codec is not None and codec.fingerprint != card.codec.fingerprint:
            raise InputError(f'the corpus "{folder}" is of {name_codec(card.codec)}, not of {name_codec(codec)}')
        return cls(folder, card, [_map_shard(folder, shard) for shard in card.shards], np.arange(card.n_examples))

    def __len__(self) -> int:
        return len(self._rows_N)

    def __getitem__(self, index: int) -> Example:  # pyright: ignore[reportIncompatibleMethodOverride]
        shard, row = self._locate(index)
        names = ("id", "text", "speaker", "language", "split", "duration", "audio")
        return Example(streams={"audio": shard.codes_TK(row)}, **{name: shard.value(row, name) for name in names})

    def __repr__(self) -> str:
        return f"Corpus({str(self.folder)!r}, {len(self)} examples of {self.card.codec.name})"

    def _locate(self, index: int) -> tuple[Shard, int]:
        row = int(self._rows_N[index])
        number = int(np.searchsorted(self._first_row, row, side="right")) - 1
        return self._shards[number], row - int(self._first_row[number])

    @property
    def lengths(self) -> dict[str, np.ndarray]:
        """Frames of each example by stream, int64 [N]."""
        per_shard = [np.diff(shard.offsets).astype(np.int64) for shard in self._shards]
        return {"audio": np.concatenate([np.zeros(0, np.int64), *per_shard])[self._rows_N]}

    def split(self, name: str) -> "Corpus":
        """The examples of train, valid or test; possibly none."""
        if name not in SPLITS:
            raise InputError(f'a corpus has no split "{name}"{did_you_mean(name, SPLITS)}')
        chosen_N = np.array(self._column("split"), dtype=object) == name
        return Corpus(self.folder, self.card, self._shards, self._rows_N[chosen_N])

    def texts(self, split: str | None = None) -> Iterator[str]:
        """The texts there are, of one split or of all examples."""
        examples = self.split(split) if split else self
        return (text for text in examples._column("text") if text is not None)

    @property
    def durations(self) -> np.ndarray:
        """Seconds of audio of each example, float64 [N]."""
        return np.array(self._column("duration"), np.float64)

    def blocks(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """For each shard its codes [S, K] and which of these frames belong to this view, bool [S]."""
        for number, shard in enumerate(self._shards):
            first, last = self._first_row[number : number + 2]
            mine = np.isin(np.arange(first, last), self._rows_N)
            yield shard.codes_SK, np.repeat(mine, np.diff(shard.offsets))

    def _column(self, name: str) -> list:
        values = [value for shard in self._shards for value in shard.column(name)]
        return [values[row] for row in self._rows_N]


def _map_shard(folder: Path, card: ShardCard) -> Shard:
    path = folder / card.file
    n_bytes = path.stat().st_size if path.is_file() else 0
    if n_bytes != card.n_bytes:
        state = f"has {n_bytes:,} bytes instead of {card.n_bytes:,}" if n_bytes else "is missing or empty"
        raise InputError(f'the corpus "{folder}" is damaged: {card.file} {state}')
    try:
        return Shard.map(path)
    except pa.ArrowInvalid as error:
        raise InputError(f'the corpus "{folder}" is damaged: {card.file} is no Arrow stream') from error


def name_codec(codec: CodecIdentity) -> str:
    """A codec for a message: name, levels, rate and the start of its fingerprint."""
    rate = float(codec.frame_rate)
    return f'codec "{codec.name}" ({codec.levels} levels at {rate:g} Hz, fingerprint {codec.fingerprint[:8]})'
