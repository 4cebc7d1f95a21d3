"""`tokenize`: from a source and codecs to a corpus.

    source ──runs──▶ blocks ──read ahead, prepared──▶ segments ──batches──▶ codes ──▶ an Arrow file a run

Which clip goes into which shard and batch depends on the clips and the settings alone, so that a job that was killed
and run again goes on from the finished shards and ends with the same files.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch

from hocket.codec import Codec
from hocket.data.card import CorpusCard
from hocket.data.clips import BadAudio, Clip, Rejected
from hocket.data.preparing import Preparation, Segment, StreamAudio
from hocket.data.shards import AUDIO, MAX_CODEBOOK, Row
from hocket.data.sources import Source, open_source
from hocket.data.tokenizing.encoding import Encoder, StreamCodec
from hocket.data.tokenizing.reading import Reader, cut_blocks, default_workers
from hocket.data.tokenizing.runs import Item, Run, cut_runs
from hocket.data.tokenizing.splits import VALID_SHARE, SplitRule, Survey, fact_hash, survey
from hocket.data.tokenizing.workspace import Job, Workspace
from hocket.errors import InputError

BATCH_SECONDS = 60.0
SHARD_SECONDS = 1800.0

Progress = Callable[[float, float], object]
Made = tuple[Run, list[Row], list[Rejected]]


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What shapes the files, besides clips and codecs."""

    batch_seconds: float = BATCH_SECONDS
    """Audio encoded at once, padding counted."""
    shard_seconds: float = SHARD_SECONDS
    """Audio in one file."""
    valid_share: float = VALID_SHARE
    """Share of the clips without a split of their own that is held out."""
    preparation: Preparation = field(default_factory=Preparation)

    def __post_init__(self) -> None:
        for name in ("batch_seconds", "shard_seconds"):
            if not getattr(self, name) > 0:
                raise InputError(f"{name} is {getattr(self, name):g}, but must be above 0")
        if not 0 <= self.valid_share < 1:
            raise InputError(f"valid_share is {self.valid_share:g}, but must be from 0 to below 1")


@dataclass(frozen=True)
class Maker:
    """Makes the rows of runs; it is what a worker of a cluster holds."""

    streams: Mapping[str, StreamCodec]
    settings: Settings
    rule: SplitRule
    n_workers: int = 0

    def make(self, runs: Iterable[Run], on_block: Callable[[float], object] | None = None) -> Iterator[Made]:
        """Yield the rows and the rejected clips of each run; `on_block` gets the seconds of what was done since."""
        encoder = Encoder(self.streams, self.settings.batch_seconds)
        rows: list[Row] = []
        rejected: list[Rejected] = []
        with Reader(self.wanted(), self.settings.preparation, self.n_workers) as reader:
            for part in reader.read(cut_blocks(runs)):
                segments = [made for made in part.made if isinstance(made, Segment)]
                rows += encoder.encode(segments, self._splits(part.block.items))
                rejected += [made for made in part.made if isinstance(made, Rejected)]
                if on_block:
                    on_block(part.seconds)
                if part.ends_run:
                    yield part.block.run, rows, rejected
                    rows, rejected = [], []

    def wanted(self) -> list[StreamAudio]:
        """What is to be prepared for each stream."""
        return [
            StreamAudio(name, stream.channel, stream.codec.input_rate, stream.codec.hop / stream.codec.sample_rate)
            for name, stream in self.streams.items()
        ]

    def _splits(self, items: Iterable[Item]) -> dict[str, str]:
        return {item.id: self.rule.of(item) for item in items if isinstance(item, Clip)}


def tokenize(
    src: str | Path,
    dst: str | Path,
    codec: Codec | Mapping[str, Codec | StreamCodec] | None,
    *,
    settings: Settings | None = None,
    strict: bool = False,
    device: str | torch.device = "cpu",
    n_workers: int | None = 0,
    engine: Callable[[Maker, Iterable[Run]], Iterator[Made]] | None = None,
    on_progress: Progress | None = None,
    notify: Callable[[str], object] | None = None,
) -> CorpusCard:
    """Encode every clip of `src` (see `open_source`) into a corpus in the folder `dst`; go on where a run was killed.

    Bad clips are left out, counted in the card and named in rejected.jsonl; with `strict` the first ends the job.

    Args:
        codec: of the stream "audio"; or codecs by stream, as `{"audio": StreamCodec(mimi, channel=0), "user":
            StreamCodec(mimi, channel=1)}`; None for text alone.
        n_workers: processes that read ahead; 0 reads on threads of this one; None chooses. Processes need a main
            module that does nothing when it is imported.
        engine: makes runs elsewhere, as `hocket.data.tokenizing.on_ray.on_ray` does; same bytes.
        on_progress: gets seconds of audio done and in all; the latter is estimated until the end and 0 for streams.
        notify: gets a sentence where there is something to say.

    Raises:
        InputError: the source is unusable, no clip is usable, or `dst` holds something else than this job makes, is
            another job's just now, or cannot be written. A folder that this job began is taken away again unless a
            shard of it is finished.
    """
    settings, source = settings or Settings(), open_source(src)
    streams = {name: _stream_codec(name, made) for name, made in _by_stream(codec).items()}
    found = survey(source, settings.valid_share) if source.n_clips is not None else None
    identities = {name: stream.codec.identity for name, stream in streams.items()}
    fingerprint = found.fingerprint if found else ""
    job = Job(streams=identities, source=str(src), source_fingerprint=fingerprint, settings=asdict(settings))
    with closing(Workspace(dst, job)) as work:
        if card := work.begin(strict, notify or _ignore):
            return card
        for stream in streams.values():
            stream.codec.to(device)
        rule = found.rule if found else SplitRule(settings.valid_share)
        maker = Maker(streams, settings, rule, _n_workers(n_workers, source))
        return _Job(work, source, maker, engine, _Estimate(found, on_progress or _ignore)).run(strict)


class _Job:
    """A job under way."""

    def __init__(self, work: Workspace, source: Source, maker: Maker, engine, estimate: "_Estimate"):
        self.work, self.source, self.maker, self.estimate = work, source, maker, estimate
        self._engine = engine
        self._clips: list[str] = []  # hashes of the runs met so far, finished ones too

    def run(self, strict: bool) -> CorpusCard:
        try:
            made = self._engine(self.maker, self._missing()) if self._engine else self._make_here()
            for run, rows, rejected in made:
                if rejected and strict:
                    raise _refusal(self.work.job, rejected[0], strict)
                self.work.commit(run.number, rows, rejected, len(run.items), fact_hash(run.items))
                self.estimate.finished(run)
            self._check_any()
        except InputError:
            if not any(record.shard.n_examples for record in self.work.records.values()):
                self.work.remove()
            raise
        self.estimate.done()
        return self.work.finish()

    def _make_here(self) -> Iterator[Made]:
        return self.maker.make(self._missing(), self.estimate.add)

    def _missing(self) -> Iterator[Run]:
        """The runs that are still to be made."""
        finished = dict(self.work.records)
        sizes = {number: record.n_clips for number, record in finished.items()}
        for run in cut_runs(self.source, self.maker.settings.shard_seconds, sizes.get):
            if run.number not in finished:
                yield run
                continue
            record = finished[run.number]
            if fact_hash(run.items) != record.clips_hash:
                raise InputError(
                    f'"{self.work.name}" was begun with other clips than "{self.work.job.source}" has now: they differ '
                    f"among the {len(run.items)} clips of shard {run.number}; choose another folder, or delete this one"
                )
            self.estimate.skip(run, record.counts.seconds)

    def _check_any(self) -> None:
        """Raise where no clip was usable."""
        if not any(record.shard.n_examples for record in self.work.records.values()):
            if not self.work.rejected:
                raise InputError(f'"{self.work.job.source}" has no clip')
            raise _refusal(self.work.job, self.work.rejected[0], strict=False)


class _Estimate:
    """Seconds of audio done and in all; the latter from the share of clips that are done."""

    def __init__(self, found: Survey | None, on_progress: Progress):
        self._n_clips, self._on_progress = found.n_clips if found else None, on_progress
        self._done, self._clips = 0.0, 0
        self._counted = 0.0  # seconds of the clips that are done
        on_progress(0.0, 0.0)

    def skip(self, run: Run, seconds: float) -> None:
        """Finished by an earlier call."""
        self._done += seconds
        self._counted += seconds
        self._clips += len(run.items)
        self._say()

    def add(self, seconds: float) -> None:
        self._done += seconds
        self._say()

    def finished(self, run: Run) -> None:
        self._clips += len(run.items)
        self._counted += sum(run.seconds)
        self._done = max(self._done, self._counted)
        self._say()

    def done(self) -> None:
        """All of it."""
        self._on_progress(self._done, self._done)

    def _say(self) -> None:
        if self._n_clips is None:
            self._on_progress(self._done, 0.0)
        elif self._clips:
            self._on_progress(self._done, max(self._done, self._counted * self._n_clips / self._clips))


def _by_stream(codec: Codec | Mapping[str, Codec | StreamCodec] | None) -> Mapping[str, Codec | StreamCodec]:
    return {} if codec is None else {AUDIO: codec} if isinstance(codec, Codec) else codec


def _stream_codec(name: str, codec: Codec | StreamCodec) -> StreamCodec:
    stream = codec if isinstance(codec, StreamCodec) else StreamCodec(codec)
    if not name.isidentifier() or name == "text":
        raise InputError(f'a stream of codes cannot be called "{name}": names are such as audio, user or semantic')
    if max(stream.codec.codebook_sizes) > MAX_CODEBOOK:
        raise InputError(f'codec "{stream.codec.identity.name}" has codebooks of more than {MAX_CODEBOOK:,} entries')
    return stream


def _n_workers(wanted: int | None, source: Source) -> int:
    return default_workers(source.n_clips) if wanted is None else wanted


def _ignore(*args: object) -> None:
    """What is called where the caller wants to hear nothing."""


def _refusal(job: Job, bad: Rejected, strict: bool) -> InputError:
    if strict:
        return BadAudio(bad.audio, bad.reason)
    return InputError(f'no clip of "{job.source}" can be used; the first, "{bad.audio}": {bad.reason}')
