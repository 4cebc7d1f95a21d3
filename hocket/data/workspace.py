"""The folder that a corpus grows in: what is finished stays finished when the job is killed.

    corpus/
      data-00000-of-00003.arrow      finished shards
      .tokenizing/job.json           of which codec, clips and settings
      .tokenizing/00000.json         one record a finished shard: counts, hash, rejected clips

A shard is written into .tokenizing and renamed into place, then its record likewise. A shard without a record is made
again, and comes out the same byte for byte, because what goes into it depends on the job alone.
"""

import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from hocket.codec import CodecIdentity
from hocket.data.corpus import (
    CARD_FILE,
    REJECTED_FILE,
    UNFINISHED_FOLDER,
    CorpusCard,
    ShardCard,
    SplitCard,
    name_codec,
)
from hocket.data.shards import (
    Row,
    sha256,
    shard_bytes,
    shard_name,
    write_datasets_metadata,
    write_file,
    write_json,
)
from hocket.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Job:
    """What decides the content of a corpus."""

    codec: CodecIdentity
    source: str
    """Where the clips came from, as it was given; two names of one list of clips are one source."""
    source_fingerprint: str
    settings: dict[str, Any]

    def refuse_other(self, other: "Job | CorpusCard", folder: Path) -> None:
        """Raise InputError where the folder holds (part of) something else than this job makes."""
        advice = "choose another folder, or delete this one"
        if other.codec.fingerprint != self.codec.fingerprint:
            raise InputError(f'"{folder}" is of {name_codec(other.codec)}, not of {name_codec(self.codec)}: {advice}')
        if other.source_fingerprint != self.source_fingerprint:
            was, now = f'"{other.source}" ({other.source_fingerprint[:8]})', f'"{self.source}"'
            raise InputError(
                f'"{folder}" was made from the clips of {was}, not those of {now} as they are now '
                f"({self.source_fingerprint[:8]}): {advice}"
            )
        if other.settings != self.settings:
            settings = f"{_words(other.settings)}, not {_words(self.settings)}"
            raise InputError(f'"{folder}" was made with {settings}: {advice}')


@dataclass(frozen=True, kw_only=True)
class Rejected:
    """A clip that could not be used."""

    id: str
    audio: str
    """What the source called the audio."""
    reason: str


@dataclass(frozen=True, kw_only=True)
class ShardRecord:
    """What is kept of a finished shard until the card is written."""

    shard: ShardCard
    splits: dict[str, SplitCard]
    n_texts: int
    rejected: list[Rejected] = field(default_factory=list)

    @classmethod
    def from_dict(cls, stored: dict[str, Any]) -> "ShardRecord":
        """The inverse of `dataclasses.asdict`."""
        return cls(
            shard=ShardCard(**stored["shard"]),
            splits={name: SplitCard(**split) for name, split in stored["splits"].items()},
            n_texts=stored["n_texts"],
            rejected=[Rejected(**rejected) for rejected in stored["rejected"]],
        )


class Workspace:
    """A corpus folder while its shards are made."""

    def __init__(self, folder: Path, job: Job, n_shards: int):
        self.folder, self.job, self.n_shards = folder, job, n_shards
        self.records: dict[int, ShardRecord] = {}
        self._work = folder / UNFINISHED_FOLDER
        self._n_created = 0

    def finished_card(self) -> CorpusCard | None:
        """The card of a corpus that this very job finished before. Raises InputError for anything else there."""
        if self.folder.is_file():
            raise InputError(f'"{self.folder}" is a file; a corpus is a folder')
        if (self.folder / CARD_FILE).is_file():
            card = CorpusCard.load(self.folder)
            self.job.refuse_other(card, self.folder)
            shutil.rmtree(self._work, ignore_errors=True)
            return card
        if not self._work.is_dir() and self.folder.exists() and any(self.folder.iterdir()):
            raise InputError(f'"{self.folder}" is not empty and holds no corpus: choose another folder')
        return None

    def start(self) -> None:
        """Make the folder, or pick up what an earlier run of this job finished. Raises InputError for another job."""
        stored = self._read_job()
        if stored is None:
            self._n_created = sum(not path.exists() for path in (self.folder, *self.folder.parents))
            self._work.mkdir(parents=True, exist_ok=True)
            job = asdict(self.job) | {"codec": self.job.codec.to_dict(), "n_created": self._n_created}
            write_json(self._work / "job.json", job)
            return
        self._n_created = stored.pop("n_created")
        self.job.refuse_other(Job(**stored), self.folder)
        for number in range(self.n_shards):
            record = self._work / f"{number:05d}.json"
            if record.is_file():
                self.records[number] = ShardRecord.from_dict(json.loads(record.read_text(encoding="utf-8")))

    def _read_job(self) -> dict[str, Any] | None:
        path = self._work / "job.json"
        if not path.is_file():
            return None
        stored = json.loads(path.read_text(encoding="utf-8"))
        return stored | {"codec": CodecIdentity.from_dict(stored["codec"])}

    def commit(self, number: int, rows: Sequence[Row], rejected: Sequence[Rejected]) -> None:
        """Finish a shard: data first, then its record."""
        content = shard_bytes(rows, self.job.codec.levels)
        name = shard_name(number, self.n_shards)
        shard = ShardCard(file=name, n_examples=len(rows), n_bytes=len(content), sha256=sha256(content))
        n_texts = sum(row.text is not None for row in rows)
        record = ShardRecord(shard=shard, splits=_split_cards(rows), n_texts=n_texts, rejected=list(rejected))
        write_file(self.folder / name, content, aside=self._work)
        write_json(self._work / f"{number:05d}.json", asdict(record))
        self.records[number] = record

    def finish(self) -> CorpusCard:
        """Write what goes with the shards, the card last, and clear away the records."""
        card = self._card()
        lines = [json.dumps(asdict(item), ensure_ascii=False) + "\n" for item in self.rejected]
        write_file(self.folder / REJECTED_FILE, "".join(lines).encode(), aside=self._work)
        files = [shard.file for shard in card.shards]
        write_datasets_metadata(self.folder, files, self.job.codec.levels, card.fingerprint)
        card.save(self.folder)
        shutil.rmtree(self._work)
        return card

    def remove(self) -> None:
        """Take away all that this job wrote, and the folders that it made."""
        for number in range(self.n_shards):
            (self.folder / shard_name(number, self.n_shards)).unlink(missing_ok=True)
        shutil.rmtree(self._work, ignore_errors=True)
        for folder in (self.folder, *self.folder.parents)[: self._n_created]:
            if any(folder.iterdir()):
                break
            folder.rmdir()

    @property
    def rejected(self) -> list[Rejected]:
        """Rejected clips of all finished shards, in the order of the source."""
        return [item for number in sorted(self.records) for item in self.records[number].rejected]

    def _card(self) -> CorpusCard:
        records = [self.records[number] for number in range(self.n_shards)]
        splits = _add_splits([record.splits for record in records])
        content = "".join([self.job.codec.fingerprint, *(record.shard.sha256 for record in records)])
        return CorpusCard(
            codec=self.job.codec,
            source=self.job.source,
            source_fingerprint=self.job.source_fingerprint,
            settings=self.job.settings,
            n_examples=sum(split.n_examples for split in splits.values()),
            seconds=sum(split.seconds for split in splits.values()),
            splits=splits,
            n_texts=sum(record.n_texts for record in records),
            n_rejected=len(self.rejected),
            shards=[record.shard for record in records],
            fingerprint=sha256(content.encode()),
        )


def read_rejected(folder: Path) -> list[Rejected]:
    """The clips of a finished corpus that could not be used."""
    lines = (folder / REJECTED_FILE).read_text(encoding="utf-8").splitlines()
    return [Rejected(**json.loads(line)) for line in lines]


def _split_cards(rows: Sequence[Row]) -> dict[str, SplitCard]:
    return _add_splits([{row.split: SplitCard(n_examples=1, seconds=row.duration)} for row in rows])


def _add_splits(parts: Sequence[dict[str, SplitCard]]) -> dict[str, SplitCard]:
    totals: dict[str, SplitCard] = {}
    for part in parts:
        for name, split in part.items():
            sofar = totals.get(name, SplitCard())
            totals[name] = SplitCard(
                n_examples=sofar.n_examples + split.n_examples, seconds=sofar.seconds + split.seconds
            )
    return dict(sorted(totals.items()))


def _words(settings: dict[str, Any]) -> str:
    return ", ".join(f"{name}={value}" for name, value in settings.items())
