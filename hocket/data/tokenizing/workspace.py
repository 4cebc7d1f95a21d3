"""The folder that a corpus grows in: what is finished stays finished when the job is killed.

    corpus/
      data-00000.arrow               finished shards
      .tokenizing/job.json           of which codecs, clips and settings
      .tokenizing/00000.json         one record a finished shard: counts, hashes, rejected clips
      .tokenizing/lock               held by the job that is at work; a job that was killed holds nothing

A shard is written into .tokenizing and renamed into place, then its record likewise. A shard without a record is made
again, and comes out the same byte for byte, because what goes into it depends on the job alone.
"""

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from filelock import FileLock, Timeout

from hocket.codec import CodecIdentity
from hocket.data.card import CARD_FILE, UNFINISHED_FOLDER, CorpusCard, Counts, ShardCard
from hocket.data.clips import BadAudio, Rejected
from hocket.data.corpus import REJECTED_FILE, name_codec
from hocket.data.places import Place
from hocket.data.shards import Row, datasets_metadata, json_bytes, sha256, shard_bytes, shard_name
from hocket.errors import InputError

SHARD_NAME = re.compile(r"data-\d{5,}\.arrow")
ADVICE = "choose another folder, or delete this one"

Stored = TypeVar("Stored")


@dataclass(frozen=True, kw_only=True)
class Job:
    """What decides the content of a corpus."""

    streams: dict[str, CodecIdentity]
    source: str
    """Where the clips came from, as it was given; two names of one list of clips are one source."""
    source_fingerprint: str
    """Empty for a stream, which is not looked at beforehand."""
    settings: dict[str, Any]

    @classmethod
    def from_dict(cls, stored: dict[str, Any]) -> "Job":
        """The inverse of `to_dict`."""
        streams: Any = {name: CodecIdentity.from_dict(codec) for name, codec in stored["streams"].items()}
        return cls(**stored | {"streams": streams})

    def to_dict(self) -> dict[str, Any]:
        return asdict(self) | {"streams": {name: codec.to_dict() for name, codec in self.streams.items()}}

    @property
    def levels(self) -> dict[str, int]:
        return {name: codec.levels for name, codec in self.streams.items()}

    def refuse_other(self, other: "Job | CorpusCard", folder: str) -> None:
        """Raise InputError where the folder holds (part of) something else than this job makes."""
        if list(other.streams) != list(self.streams):
            was, now = ", ".join(other.streams) or "text alone", ", ".join(self.streams) or "text alone"
            raise InputError(f'"{folder}" holds the streams {was}, not {now}: {ADVICE}')
        for name, codec in self.streams.items():
            if other.streams[name].fingerprint != codec.fingerprint:
                was, now = name_codec(other.streams[name]), name_codec(codec)
                raise InputError(f'"{folder}" is of {was}, not of {now}: {ADVICE}')
        if self.source_fingerprint and other.source_fingerprint != self.source_fingerprint:
            was, now = f'"{other.source}" ({other.source_fingerprint[:8]})', f'"{self.source}"'
            raise InputError(
                f'"{folder}" was made from the clips of {was}, not those of {now} as they are now '
                f"({self.source_fingerprint[:8]}): {ADVICE}"
            )
        if other.settings != self.settings:
            was, now = _differing(other.settings, self.settings)
            raise InputError(f'"{folder}" was made with {was}, not {now}: {ADVICE}')


@dataclass(frozen=True, kw_only=True)
class ShardRecord:
    """What is kept of a finished shard until the card is written."""

    shard: ShardCard
    counts: Counts
    n_clips: int
    """Of the source, the rejected ones among them."""
    clips_hash: str
    rejected: list[Rejected] = field(default_factory=list)

    @classmethod
    def from_dict(cls, stored: dict[str, Any]) -> "ShardRecord":
        """The inverse of `dataclasses.asdict`."""
        parts: dict[str, Any] = {
            "shard": ShardCard(**stored["shard"]),
            "counts": Counts.from_dict(stored["counts"]),
            "rejected": [Rejected(**rejected) for rejected in stored["rejected"]],
        }
        return cls(**stored | parts)


class Workspace:
    """A corpus folder while its shards are made."""

    def __init__(self, folder: str | Path, job: Job):
        self.place, self.job = Place.at(folder), job
        self.records: dict[int, ShardRecord] = {}
        self._n_created = 0
        self._lock: FileLock | None = None

    @property
    def name(self) -> str:
        return self.place.name

    def begin(self, strict: bool, notify: Callable[[str], object]) -> CorpusCard | None:
        """The card where this very job is done already; otherwise starts it, or goes on with it.

        Raises InputError as `finished_card` and `start` do, and where a finished job under `strict` rejected something.
        """
        if card := self.finished_card():
            if strict and card.n_rejected:
                first = read_rejected(self.name)[0]
                raise BadAudio(first.audio, first.reason)
            notify(f'already done: "{self.name}" holds these {card.n_examples} examples')
            return card
        self.start()
        if self.records:
            notify(f'going on in "{self.name}" after {len(self.records)} finished shards')
        return None

    def finished_card(self) -> CorpusCard | None:
        """The card of a corpus that this very job finished before. Raises InputError for anything else there."""
        if self.place.is_file():
            raise InputError(f'"{self.name}" is a file; a corpus is a folder')
        if self.place.has(CARD_FILE):
            card = CorpusCard.load(self.place)
            self.job.refuse_other(card, self.name)
            self._check_whole(card)
            self.place.remove(UNFINISHED_FOLDER)
            return card
        if not self.place.has(UNFINISHED_FOLDER) and not self.place.is_empty():
            raise InputError(f'"{self.name}" is not empty and holds no corpus: choose another folder')
        return None

    def start(self) -> None:
        """Make the folder, or pick up what an earlier run of this job finished.

        Raises InputError for another job, for damaged records, and where this job is at work already. A shard that
        is missing or has not its size is made again.
        """
        self._n_created = self._count_missing()
        self.place.make(UNFINISHED_FOLDER)
        self._take_lock()
        stored = self._read("job", _stored_job)
        if stored is None:
            try:
                self._write("job", self.job.to_dict() | {"n_created": self._n_created})
            except InputError:
                self.remove()
                raise
            return
        job, self._n_created = stored
        self.job.refuse_other(job, self.name)
        for number in self._record_numbers():
            record = self._read(f"{number:05d}", ShardRecord.from_dict)
            if record and self.place.size(record.shard.file) == record.shard.n_bytes:
                self.records[number] = record

    def close(self) -> None:
        """Let other jobs work here."""
        if self._lock:
            self._lock.release()

    def commit(
        self, number: int, rows: Sequence[Row], rejected: Sequence[Rejected], n_clips: int, clips_hash: str
    ) -> None:
        """Finish a shard: data first, then its record."""
        content = shard_bytes(rows, self.job.levels)
        shard = ShardCard(file=shard_name(number), n_examples=len(rows), n_bytes=len(content), sha256=sha256(content))
        record = ShardRecord(
            shard=shard, counts=Counts.of(rows), n_clips=n_clips, clips_hash=clips_hash, rejected=list(rejected)
        )
        self._put(shard.file, content)
        self._write(f"{number:05d}", asdict(record))
        self.records[number] = record

    def finish(self) -> CorpusCard:
        """Write what goes with the shards, the card last, and clear away the records."""
        card = self._card()
        lines = [json.dumps(asdict(item), ensure_ascii=False) + "\n" for item in self.rejected]
        files = {REJECTED_FILE: "".join(lines).encode()}
        files |= datasets_metadata([shard.file for shard in card.shards], card.levels, card.fingerprint)
        for name, content in (files | {CARD_FILE: json_bytes(card.to_dict())}).items():
            self._put(name, content)
        self.place.remove(UNFINISHED_FOLDER)
        return card

    def remove(self) -> None:
        """Take away all that this job wrote, and the folders that it made."""
        for name in self._names(""):
            if SHARD_NAME.fullmatch(name):
                self.place.remove(name)
        self.place.remove(UNFINISHED_FOLDER)
        if self.place.is_local:
            folder = Path(self.place.root)
            for made in (folder, *folder.parents)[: self._n_created]:
                if any(made.iterdir()):
                    break
                made.rmdir()

    @property
    def rejected(self) -> list[Rejected]:
        """Rejected clips of all finished shards, in the order of the source."""
        return [item for number in sorted(self.records) for item in self.records[number].rejected]

    def _card(self) -> CorpusCard:
        records = [self.records[number] for number in sorted(self.records)]
        codecs = [codec.fingerprint for codec in self.job.streams.values()]
        content = "".join([*codecs, *(record.shard.sha256 for record in records)])
        return CorpusCard(
            streams=self.job.streams,
            source=self.job.source,
            source_fingerprint=self.job.source_fingerprint or sha256("".join(r.clips_hash for r in records).encode()),
            settings=self.job.settings,
            counts=Counts.total([record.counts for record in records]),
            n_rejected=len(self.rejected),
            shards=[record.shard for record in records],
            fingerprint=sha256(content.encode()),
        )

    def _count_missing(self) -> int:
        """Folders that will be made."""
        folder = Path(self.place.root)
        return sum(not path.exists() for path in (folder, *folder.parents)) if self.place.is_local else 0

    def _names(self, folder: str) -> list[str]:
        return [str(path).rsplit("/", 1)[-1] for path in self.place.files.ls(self.place.path(folder), False)]

    def _record_numbers(self) -> list[int]:
        stems = [name.removesuffix(".json") for name in self._names(UNFINISHED_FOLDER) if name.endswith(".json")]
        return sorted(int(stem) for stem in stems if stem.isdigit())

    def _take_lock(self) -> None:
        """Be the only job here, as far as the file system knows; object stores have no locks."""
        if not self.place.is_local:
            return
        path = self.place.path(f"{UNFINISHED_FOLDER}/lock")
        lock = FileLock(path, timeout=0)
        try:
            lock.acquire()
        except Timeout as error:
            raise InputError(
                f'another job is at work in "{self.name}": wait for its end or choose another folder'
            ) from error
        except OSError as error:
            raise InputError(f'"{path}" cannot be locked: {error.strerror or error}') from error
        self._lock = lock
        if self.place.has(CARD_FILE):
            self.close()
            raise InputError(f'another job has just finished "{self.name}": run the same command again')

    def _check_whole(self, card: CorpusCard) -> None:
        for shard in card.shards:
            if (size := self.place.size(shard.file)) != shard.n_bytes:
                state = f"{shard.file} has {size:,} bytes instead of {shard.n_bytes:,}"
                raise InputError(f'the corpus "{self.name}" is damaged: {state}; delete the folder to make it again')

    def _read(self, name: str, made: Callable[[dict[str, Any]], Stored]) -> Stored | None:
        """`made` of a file's content; None where there is no file. Raises InputError where it is damaged."""
        content = self.place.read(f"{UNFINISHED_FOLDER}/{name}.json")
        try:
            return None if content is None else made(json.loads(content))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            path = self.place.path(f"{UNFINISHED_FOLDER}/{name}.json")
            lost = "the folder to begin anew" if name == "job" else "it, and its shard is made again"
            raise InputError(f'"{path}" is damaged ({error!r}): delete {lost}') from error

    def _write(self, name: str, value: dict[str, Any]) -> None:
        self._put(f"{UNFINISHED_FOLDER}/{name}.json", json_bytes(value))

    def _put(self, name: str, content: bytes) -> None:
        try:
            self.place.write(name, content, aside=UNFINISHED_FOLDER)
        except InputError as error:
            kept = f"; {len(self.records)} finished shards are kept, and the same command goes on" * bool(self.records)
            raise InputError(f"{error}{kept}") from error


def _stored_job(stored: dict[str, Any]) -> tuple[Job, int]:
    n_created = stored.pop("n_created")
    return Job.from_dict(stored), n_created


def read_rejected(folder: str | Path) -> list[Rejected]:
    """The clips of a finished corpus that could not be used. Raises InputError where a line names none."""
    content = Place.at(folder).read(REJECTED_FILE) or b""
    try:
        return [Rejected(**json.loads(line)) for line in content.decode().splitlines()]
    except (ValueError, TypeError) as error:
        raise InputError(
            f'the corpus "{folder}" is damaged: {REJECTED_FILE} holds a line that names no clip'
        ) from error


def _differing(was: dict[str, Any], now: dict[str, Any]) -> tuple[str, str]:
    names = [name for name in {**was, **now} if was.get(name) != now.get(name)]
    return tuple(", ".join(f"{name}={side.get(name)}" for name in names) for side in (was, now))  # pyright: ignore
