"""The card of a corpus, corpus.json: of which codecs its codes are, where they come from, how much there is."""

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from hocket.codec import CodecIdentity
from hocket.data.places import Place
from hocket.data.shards import AUDIO, Row
from hocket.errors import InputError

CARD_FILE = "corpus.json"
UNFINISHED_FOLDER = ".tokenizing"
"""Folder inside an unfinished corpus that holds what is needed to go on."""

FORMAT = 2


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
class Counts:
    """What is counted over rows, shard by shard, and added up."""

    splits: dict[str, SplitCard] = field(default_factory=dict)
    n_texts: int = 0
    """Examples with a text."""
    n_aligned: int = 0
    """Examples with word times."""
    languages: dict[str, int] = field(default_factory=dict)
    """Examples by language, of those that have one."""

    @classmethod
    def of(cls, rows: Sequence[Row]) -> "Counts":
        """Count some rows."""
        return cls(
            splits=_add_splits({row.split: SplitCard(n_examples=1, seconds=row.duration)} for row in rows),
            n_texts=sum(row.text is not None for row in rows),
            n_aligned=sum(bool(row.words) for row in rows),
            languages=dict(sorted(Counter(row.language for row in rows if row.language).items())),
        )

    @classmethod
    def total(cls, parts: Sequence["Counts"]) -> "Counts":
        """The sum."""
        languages = sum((Counter(part.languages) for part in parts), Counter())
        return cls(
            splits=_add_splits(part.splits for part in parts),
            n_texts=sum(part.n_texts for part in parts),
            n_aligned=sum(part.n_aligned for part in parts),
            languages=dict(sorted(languages.items())),
        )

    @classmethod
    def from_dict(cls, stored: dict[str, Any]) -> "Counts":
        """The inverse of `dataclasses.asdict`."""
        splits: Any = {name: SplitCard(**split) for name, split in stored["splits"].items()}
        return cls(**stored | {"splits": splits})

    @property
    def n_examples(self) -> int:
        return sum(split.n_examples for split in self.splits.values())

    @property
    def seconds(self) -> float:
        return sum(split.seconds for split in self.splits.values())


def _add_splits(parts: Iterable[dict[str, SplitCard]]) -> dict[str, SplitCard]:
    totals: dict[str, list[float]] = {}
    for part in parts:
        for name, split in part.items():
            sofar = totals.setdefault(name, [0, 0.0])
            sofar[0] += split.n_examples
            sofar[1] += split.seconds
    return {name: SplitCard(n_examples=int(n), seconds=seconds) for name, (n, seconds) in sorted(totals.items())}


@dataclass(frozen=True, kw_only=True)
class CorpusCard:
    """What a corpus is: of which codecs, from what, how much."""

    streams: dict[str, CodecIdentity]
    """The codec of each stream of codes; empty for text alone."""
    source: str
    """Where the clips came from, as it was given."""
    source_fingerprint: str
    """Hash over what the source says of the clips: ids, names, texts, words, splits, spans."""
    settings: dict[str, Any]
    """The settings that shape the files."""
    counts: Counts
    n_rejected: int
    """Clips that could not be used; rejected.jsonl names them."""
    shards: list[ShardCard] = field(default_factory=list)
    fingerprint: str
    """Hash over the content of all shards and the codecs' fingerprints."""
    format: int = FORMAT

    @property
    def codec(self) -> CodecIdentity:
        """Of the stream "audio". Raises InputError where there is no such stream."""
        if AUDIO not in self.streams:
            have = ", ".join(sorted(self.streams)) or "text alone"
            raise InputError(f'the corpus of "{self.source}" has no stream "audio" (it has {have})')
        return self.streams[AUDIO]

    @property
    def levels(self) -> dict[str, int]:
        """Codebook levels by stream."""
        return {stream: codec.levels for stream, codec in self.streams.items()}

    @property
    def n_examples(self) -> int:
        return self.counts.n_examples

    @property
    def seconds(self) -> float:
        """Of audio."""
        return self.counts.seconds

    @property
    def splits(self) -> dict[str, SplitCard]:
        return self.counts.splits

    @property
    def n_texts(self) -> int:
        """Examples with a text."""
        return self.counts.n_texts

    def to_dict(self) -> dict[str, Any]:
        """As corpus.json holds it, with examples and hours beside for people."""
        streams = {stream: codec.to_dict() for stream, codec in self.streams.items()}
        totals = {"n_examples": self.n_examples, "seconds": self.seconds, "hours": round(self.seconds / 3600, 6)}
        stored = {name: value for name, value in asdict(self).items() if name != "streams"}
        return {"format": stored.pop("format"), "streams": streams, **totals, **stored}

    @classmethod
    def load(cls, place: Place) -> "CorpusCard":
        """Read corpus.json. Raises InputError where there is none or it is not one of ours."""
        content = None if place.is_file() else place.read(CARD_FILE)
        if content is None:
            raise InputError(_no_corpus(place))
        where = f'"{place.path(CARD_FILE)}"'
        try:
            stored = json.loads(content)
            if "source_fingerprint" in stored and stored.get("format", 1) != FORMAT:
                was = stored.get("format", 1)
                raise InputError(f"{where} is of format {was}, this hocket reads {FORMAT}: tokenise the source again")
            stored["streams"] = {name: CodecIdentity.from_dict(codec) for name, codec in stored["streams"].items()}
            stored["counts"] = Counts.from_dict(stored["counts"])
            stored["shards"] = [ShardCard(**shard) for shard in stored["shards"]]
            return cls(**{known.name: stored[known.name] for known in fields(cls)})
        except InputError:
            raise
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise InputError(f"{where} is not the card of a hocket corpus: {error!r}") from error


def _no_corpus(place: Place) -> str:
    if not place.has(""):
        return f'there is no corpus "{place.name}"'
    if place.is_file():
        return f'"{place.name}" is a file, no corpus; `hocket tokenize SRC DST` makes one'
    if place.has(UNFINISHED_FOLDER):
        return f'the corpus "{place.name}" is unfinished: run the same command that began it again to complete it'
    return f'"{place.name}" is no corpus (it has no {CARD_FILE}); `hocket tokenize SRC DST` makes one'
