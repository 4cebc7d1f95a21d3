"""`import_codes`: from codes that exist to a corpus.

Shards, cards and rejected.jsonl are as the tokenising job makes them, and so is going on: what is in a shard depends
on the source and the settings alone, finished shards are kept, and the rows that they were made of are passed over and
compared by hash, not read again. Rows are looked at once beforehand, to find the order of their axes and, in small
sources, that train and valid both get some.

Cost a row of Mimi's shape (8 levels, 10 s) on one CPU thread: .1 ms from Arrow tables and Kaldi archives, .2 from
.npy and JSON lines, .3 from .pt, so 30,000 to 120,000 hours of audio an hour (benchmarks/imports.py).

Shapes: T frames, K levels.
"""

import itertools
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import asdict, dataclass, field
from hashlib import blake2b, sha256
from pathlib import Path

import numpy as np
import pyarrow as pa

from hocket.codec import CodecIdentity
from hocket.data.card import CorpusCard
from hocket.data.clips import BadAudio, Rejected
from hocket.data.importing.beforehand import MixedOrders, Order, check_source, split_rule
from hocket.data.importing.entries import CodeRow, CodeSource, Entry
from hocket.data.importing.opening import open_codes
from hocket.data.importing.rules import Rules
from hocket.data.importing.verifying import Verification
from hocket.data.shards import AUDIO, MAX_CODEBOOK, Row
from hocket.data.tokenizing.splits import VALID_SHARE, SplitRule
from hocket.data.tokenizing.workspace import Job, Workspace
from hocket.errors import InputError

SHARD_SECONDS = 36_000.0
SHARD_ROWS = 20_000

Progress = Callable[[float, float], object]


@dataclass(frozen=True, kw_only=True)
class ImportSettings:
    """What shapes the files, besides rows and codec."""

    shard_seconds: float = SHARD_SECONDS
    """Audio in one file."""
    shard_rows: int = SHARD_ROWS
    """Rows in one file, those that are rejected counted."""
    valid_share: float = VALID_SHARE
    """Share of the rows without a split of their own that is held out."""

    def __post_init__(self) -> None:
        for name in ("shard_seconds", "shard_rows"):
            if not getattr(self, name) > 0:
                raise InputError(f"{name} is {getattr(self, name):g}, but must be above 0")
        if not 0 <= self.valid_share < 1:
            raise InputError(f"valid_share is {self.valid_share:g}, but must be from 0 to below 1")


def import_codes(
    src: str | Path,
    dst: str | Path,
    codec: CodecIdentity,
    *,
    stream: str = AUDIO,
    axes: str | None = None,
    levels: int | None = None,
    column: str | None = None,
    ignore: frozenset[str] | set[str] = frozenset(),
    deduplicated: bool | None = None,
    settings: ImportSettings | None = None,
    strict: bool = False,
    verify: Verification | None = None,
    on_progress: Progress | None = None,
    notify: Callable[[str], object] | None = None,
) -> CorpusCard:
    """Make a corpus in the folder `dst` of codes that exist; go on where an earlier call was killed.

    Bad rows are left out, counted in the card and named in rejected.jsonl; with `strict` the first ends the job.

    Args:
        src: file, folder, hf://name or stream:name; see `open_codes`.
        codec: whose codes they are; see `read_identity`. No weights are needed.
        stream: what the stream is to be called.
        axes: "TK" for [frames, levels], "KT" for [levels, frames]; found by the codec's levels unless declared.
        levels: how many of the codec's first levels the rows hold; all unless given.
        column: where rows hold their codes; found by the usual names unless given.
        ignore: columns that mean something else than hocket would take them for.
        deduplicated: True takes units whose durations are lost as they are, one frame each; False says that there were
            no runs; None refuses units that look deduplicated.
        verify: encodes up to 8 recordings again and refuses codes that differ.
        on_progress: gets the rows that are done and all rows, 0 for streams.
        notify: gets a sentence where there is something to say.

    Raises:
        InputError: the source is unusable or mixes orders of axes, no row is usable, or `dst` holds something else
            than this job makes.
    """
    settings = settings or ImportSettings()
    rules = Rules(_cut(codec, levels, stream), axes, bool(deduplicated))
    source = open_codes(src, column, frozenset(ignore))
    check_source(source, rules, deduplicated)
    first = Order.find(source, rules)
    n_rows, fingerprint = source.survey()
    facts = {"stream": stream, "axes": axes or first.order, "column": column, "ignore": sorted(ignore)}
    facts |= {"deduplicated": bool(deduplicated)} | asdict(settings)
    job = Job(
        streams={stream: rules.codec}, source=str(src), source_fingerprint=fingerprint, settings={"import": facts}
    )
    with closing(Workspace(dst, job)) as work:
        notify = notify or _ignore
        if verify:
            notify(verify.run(source, rules))
        if card := work.begin(strict, notify):
            return card
        splits = split_rule(source, rules, n_rows, settings.valid_share)
        return _Importer(work, source, rules, first, splits, settings, n_rows or 0, on_progress or _ignore).run(strict)


@dataclass
class _Made:
    """A shard in the making."""

    rows: list[Row] = field(default_factory=list)
    rejected: list[Rejected] = field(default_factory=list)
    seconds: float = 0.0
    n_entries: int = 0
    digest: "sha256" = field(default_factory=sha256)  # pyright: ignore[reportGeneralTypeIssues]


class _Importer:
    """A job under way."""

    def __init__(
        self,
        work: Workspace,
        source: CodeSource,
        rules: Rules,
        order: Order,
        splits: SplitRule,
        settings: ImportSettings,
        n_rows: int,
        on_progress: Progress,
    ):
        self.work, self.source, self.rules, self.order = work, source, rules, order
        self.splits, self.settings = splits, settings
        self._n_rows, self._on_progress, self._done = n_rows, on_progress, 0
        self._ids: set[int] = set()  # hashes of the ids of the rows that were taken
        self._stream = next(iter(work.job.streams))

    def run(self, strict: bool) -> CorpusCard:
        try:
            self._make_all(strict)
            self._check_any()
        except InputError:
            if not any(record.shard.n_examples for record in self.work.records.values()):
                self.work.remove()
            raise
        return self.work.finish()

    def _make_all(self, strict: bool) -> None:
        entries = self.source.entries()
        for number in itertools.count():
            if number in self.work.records:
                self._pass_over(number, entries)
                continue
            made = self._make(entries, strict)
            if not made.n_entries:
                return
            self.work.commit(number, made.rows, made.rejected, made.n_entries, made.digest.hexdigest())

    def _make(self, entries: Iterator[Entry], strict: bool) -> _Made:
        made, limits = _Made(), self.settings
        for entry in entries:
            _add(made.digest, entry)
            item = self._row(entry)
            if isinstance(item, Row):
                made.rows.append(item)
                made.seconds += item.duration
            elif strict:
                raise _refusal(self.work.job, item, strict)
            else:
                made.rejected.append(item)
            made.n_entries += 1
            self._advance()
            if made.n_entries >= limits.shard_rows or made.seconds >= limits.shard_seconds:
                break
        return made

    def _row(self, entry: Entry) -> Row | Rejected:
        id = entry.name
        try:
            row = entry.read()
            id = row.clip.id
            codes_TK, order = self.rules.check(row)
            self.order.check(order, entry.name, self.source.name)
            self._take_id(id)
        except MixedOrders:
            raise
        except InputError as error:
            return Rejected(id=id, audio=entry.name, reason=str(error))
        return self._finished(row, codes_TK)

    def _finished(self, row: CodeRow, codes_TK: np.ndarray) -> Row:
        clip = row.clip
        seconds = clip.seconds if clip.end is None else clip.end - (clip.start or 0.0)
        return Row(
            id=clip.id,
            streams={self._stream: codes_TK},
            text=clip.text,
            words=clip.words,
            speaker=clip.speaker,
            language=clip.language,
            split=self.splits.of(clip),
            recording=clip.id,
            start=clip.start or 0.0,
            duration=float(len(codes_TK) / self.rules.codec.frame_rate) if seconds is None else seconds,
            audio=clip.name,
        )

    def _take_id(self, id: str) -> None:
        digest = _id_hash(id)
        if digest in self._ids:
            raise InputError(f'its id "{id}" is that of an earlier row; ids name one row')
        self._ids.add(digest)

    def _pass_over(self, number: int, entries: Iterator[Entry]) -> None:
        """Go past the rows of a finished shard. Raises InputError where they have changed."""
        record, digest = self.work.records[number], sha256()
        for entry in itertools.islice(entries, record.n_clips):
            _add(digest, entry)
            self._advance()
        if digest.hexdigest() != record.clips_hash:
            raise InputError(
                f'"{self.work.name}" was begun with other rows than "{self.work.job.source}" has now: they differ '
                f"among the {record.n_clips} rows of shard {number}; choose another folder, or delete this one"
            )
        content = self.work.place.read(record.shard.file) or b""
        with pa.ipc.open_stream(content) as reader:
            self._ids |= {_id_hash(id) for id in reader.read_next_batch().column("id").to_pylist()}

    def _advance(self) -> None:
        self._done += 1
        if self._done % 256 == 0 or self._done == self._n_rows:
            self._on_progress(self._done, self._n_rows)

    def _check_any(self) -> None:
        """Raise where no row was usable."""
        if not any(record.shard.n_examples for record in self.work.records.values()):
            if not self.work.rejected:
                raise InputError(f'"{self.source.name}" has no rows')
            raise _refusal(self.work.job, self.work.rejected[0], strict=False)


def _cut(codec: CodecIdentity, levels: int | None, stream: str) -> CodecIdentity:
    if not stream.isidentifier() or stream == "text":
        raise InputError(f'a stream of codes cannot be called "{stream}": names are such as audio, user or semantic')
    if max(codec.codebook_sizes) > MAX_CODEBOOK:
        raise InputError(f'codec "{codec.name}" has codebooks of more than {MAX_CODEBOOK:,} entries')
    return codec if levels is None else codec.with_levels(levels)


def _add(digest, entry: Entry) -> None:
    digest.update(len(entry.digest).to_bytes(8, "big") + entry.digest)


def _id_hash(id: str) -> int:
    return int.from_bytes(blake2b(id.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big")


def _ignore(*args: object) -> None:
    """What is called where the caller wants to hear nothing."""


def _refusal(job: Job, bad: Rejected, strict: bool) -> InputError:
    if strict:
        return BadAudio(bad.audio, bad.reason)
    return InputError(f'no row of "{job.source}" can be used; the first, "{bad.audio}": {bad.reason}')
