"""The tokenising job: clips in, a corpus of codes out, a shard at a time.

    clips ──probe headers──▶ shards: runs of clips of up to 30 minutes of audio
    shard ──read, on threads──▶ wavs ──batches of like lengths──▶ codec.encode ──▶ one Arrow file

Which clip goes into which shard and batch depends on the clips and the settings alone, so a job that was killed and
run again goes on from the finished shards and ends with the same files. Two shards of samples are in memory at most,
one being encoded while the next is read: about 230 MB at 16 kHz.

Shapes: B clips, T samples or frames, K levels.
"""

import hashlib
import json
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from hocket.codec import Codec
from hocket.data.clips import BadAudio, Clip, assign_splits
from hocket.data.corpus import CorpusCard
from hocket.data.shards import CODE_DTYPE, MAX_CODEBOOK, Row
from hocket.data.sources import read_clips
from hocket.data.workspace import Job, Rejected, Workspace, read_rejected
from hocket.errors import InputError

MIN_SECONDS = 0.02
"""A clip as short as this holds no speech; one shorter than a frame of the codec is refused too."""

BATCH_SECONDS = 60.0
SHARD_SECONDS = 1800.0
MAX_READERS = 8


@dataclass(frozen=True)
class _Plan:
    """The clips, how long each is by its header, and the runs of them that make a shard."""

    clips: list[Clip]
    seconds: list[float]  # 0 where the header cannot be read
    bad: list[Rejected]  # what the headers alone give away
    shards: list[range]

    def shard_seconds(self, number: int) -> float:
        return sum(self.seconds[index] for index in self.shards[number])


def tokenize(
    src: str | Path,
    dst: str | Path,
    codec: Codec,
    *,
    strict: bool = False,
    device: str | torch.device = "cpu",
    batch_seconds: float = BATCH_SECONDS,
    shard_seconds: float = SHARD_SECONDS,
    on_progress: Callable[[float, float], object] | None = None,
    notify: Callable[[str], object] | None = None,
) -> CorpusCard:
    """Encode every clip of `src` (see `read_clips`) into a corpus in the folder `dst`; go on where a run was killed.

    Bad clips are left out, counted in the card and named in rejected.jsonl; with `strict` the first ends the job.
    `batch_seconds`: audio encoded at once, padding counted. `shard_seconds`: audio in one file.
    `on_progress(done, total)` gets seconds of audio; `notify` gets a sentence where there is something to say.

    Raises InputError, leaving nothing behind, where the source is unusable, no clip is usable, or `dst` holds
    something else than this job makes.
    """
    if max(codec.codebook_sizes) > MAX_CODEBOOK:
        raise InputError(f'codec "{codec.identity.name}" has codebooks of more than {MAX_CODEBOOK:,} entries')
    plan = _make_plan(read_clips(src), codec, shard_seconds)
    settings = {"batch_seconds": float(batch_seconds), "shard_seconds": float(shard_seconds)}
    job = Job(codec=codec.identity, source=str(src), source_fingerprint=_fingerprint(plan), settings=settings)
    work = Workspace(Path(dst), job, len(plan.shards))
    notify = notify or _ignore
    if card := work.finished_card():
        if strict and card.n_rejected:
            raise _refusal(job, read_rejected(work.folder)[0], strict)
        notify(f'already done: "{dst}" holds these {card.n_examples} clips')
        return card
    _refuse_bad(job, plan.bad, len(plan.clips), strict)
    work.start()
    if work.records:
        notify(f'going on in "{dst}" after {len(work.records)} of {len(plan.shards)} shards')
    codec.to(device)
    try:
        for number, rows, rejected in _encode_shards(work, plan, codec, batch_seconds, on_progress or _ignore):
            _refuse_bad(job, rejected, len(plan.clips), strict)
            work.commit(number, rows, rejected)
        _refuse_bad(job, work.rejected, len(plan.clips), strict)
    except InputError:
        work.remove()
        raise
    return work.finish()


def _ignore(*args: object) -> None:
    """What is called where the caller wants to hear nothing."""


def _refuse_bad(job: Job, rejected: Sequence[Rejected], n_clips: int, strict: bool) -> None:
    """Raise where the rejected clips end the job: any in strict mode, otherwise only all of them."""
    if rejected and (strict or len(rejected) == n_clips):
        raise _refusal(job, rejected[0], strict)


def _refusal(job: Job, bad: Rejected, strict: bool) -> InputError:
    if strict:
        return BadAudio(bad.audio, bad.reason)
    return InputError(f'no clip of "{job.source}" can be used; the first, "{bad.audio}": {bad.reason}')


def _make_plan(clips: list[Clip], codec: Codec, shard_seconds: float) -> _Plan:
    with ThreadPoolExecutor(_n_readers()) as pool:
        probed = list(pool.map(lambda clip: _probe(clip, codec), clips))
    seconds = [0.0 if isinstance(length, BadAudio) else length for length in probed]
    bad = [_rejected(clip, why) for clip, why in zip(clips, probed, strict=True) if isinstance(why, BadAudio)]
    return _Plan(assign_splits(clips), seconds, bad, _runs(seconds, shard_seconds))


def _runs(seconds: Sequence[float], limit: float) -> list[range]:
    """Cut the clips into runs of at most `limit` seconds, and at least one clip, each."""
    starts, filled = [0], 0.0
    for index, length in enumerate(seconds):
        if index > starts[-1] and filled + length > limit:
            starts.append(index)
            filled = 0.0
        filled += length
    return [range(*pair) for pair in zip(starts, [*starts[1:], len(seconds)], strict=True)]


def _fingerprint(plan: _Plan) -> str:
    digest = hashlib.sha256()
    for clip, seconds in zip(plan.clips, plan.seconds, strict=True):
        what = (clip.id, clip.name, clip.text, clip.speaker, clip.language, clip.split, clip.start, clip.end, seconds)
        digest.update(json.dumps(what).encode() + b"\n")
    return digest.hexdigest()


def _probe(clip: Clip, codec: Codec) -> float | BadAudio:
    try:
        seconds = clip.probe()
        _check_length(clip, seconds, codec)
        return seconds
    except BadAudio as bad:
        return bad


def _read(clip: Clip, codec: Codec) -> torch.Tensor | BadAudio:
    """wav_T of a usable clip at the codec's rate, or why it is not usable."""
    try:
        wav_T = clip.read(codec.input_rate)
        _check_length(clip, len(wav_T) / codec.input_rate, codec)
        if not wav_T.any():
            raise BadAudio(clip.name, "it is silent: every sample is zero")
        return wav_T
    except BadAudio as bad:
        return bad


def _check_length(clip: Clip, seconds: float, codec: Codec) -> None:
    frame = codec.hop / codec.sample_rate
    if seconds < max(frame, MIN_SECONDS) * (1 - 1e-9):
        least = f"at least {1000 * max(frame, MIN_SECONDS):g} ms are needed (a frame of the codec has {1000 * frame:g})"
        raise BadAudio(clip.name, f"it is too short: it lasts {1000 * seconds:.3g} ms and {least}")


def _encode_shards(
    work: Workspace, plan: _Plan, codec: Codec, batch_seconds: float, on_progress: Callable[[float, float], object]
) -> Iterator[tuple[int, list[Row], list[Rejected]]]:
    """Yield number, rows and rejected clips of every shard that is not finished."""
    total = sum(plan.seconds)
    done = sum(plan.shard_seconds(number) for number in work.records)
    on_progress(done, total)
    missing = [number for number in range(len(plan.shards)) if number not in work.records]
    for number, wavs in _read_ahead(plan, missing, codec):
        good = {index: wav for index, wav in wavs.items() if not isinstance(wav, BadAudio)}
        bad = [_rejected(plan.clips[index], why) for index, why in wavs.items() if isinstance(why, BadAudio)]
        rows: dict[int, Row] = {}
        for batch in _batches(good, batch_seconds * codec.input_rate):
            rows |= _encode(plan, batch, good, codec)
            done += sum(plan.seconds[index] for index in batch)
            on_progress(min(done, total), total)
        done += sum(plan.seconds[index] for index in wavs if index not in good)
        on_progress(min(done, total), total)
        yield number, [rows[index] for index in sorted(rows)], bad


def _rejected(clip: Clip, why: BadAudio) -> Rejected:
    return Rejected(id=clip.id, audio=clip.name, reason=why.reason)


def _read_ahead(
    plan: _Plan, numbers: Sequence[int], codec: Codec
) -> Iterator[tuple[int, dict[int, torch.Tensor | BadAudio]]]:
    """Yield each shard's samples by clip index, the next shard being read meanwhile."""
    waiting: deque[tuple[int, dict[int, Future]]] = deque()
    with ThreadPoolExecutor(_n_readers()) as pool:
        for number in numbers:
            clips = plan.shards[number]
            waiting.append((number, {index: pool.submit(_read, plan.clips[index], codec) for index in clips}))
            if len(waiting) > 1:
                yield _results(waiting.popleft())
        while waiting:
            yield _results(waiting.popleft())


def _results(shard: tuple[int, dict[int, Future]]) -> tuple[int, dict[int, torch.Tensor | BadAudio]]:
    return shard[0], {index: future.result() for index, future in shard[1].items()}


def _batches(wavs: dict[int, torch.Tensor], limit: float) -> list[list[int]]:
    """Clip indices in batches of like lengths, longest first, of at most `limit` samples with padding."""
    batches: list[list[int]] = []
    for index in sorted(wavs, key=lambda index: (-len(wavs[index]), index)):
        if batches and (len(batches[-1]) + 1) * len(wavs[batches[-1][0]]) <= limit:
            batches[-1].append(index)
        else:
            batches.append([index])
    return batches


@torch.inference_mode()
def _encode(plan: _Plan, batch: Sequence[int], wavs: dict[int, torch.Tensor], codec: Codec) -> dict[int, Row]:
    lengths_B = torch.tensor([len(wavs[index]) for index in batch])
    wav_BT = torch.nn.utils.rnn.pad_sequence([wavs[index] for index in batch], batch_first=True)
    codes = codec.encode(wav_BT.to(codec.device), codec.input_rate, lengths=lengths_B.to(codec.device))
    tokens_BTK = codes.tokens_BTK.cpu().numpy().astype(CODE_DTYPE)
    return {
        index: _row(plan.clips[index], tokens_BTK[i, :frames], len(wavs[index]) / codec.input_rate)
        for i, (index, frames) in enumerate(zip(batch, codes.lengths_B.tolist(), strict=True))
    }


def _row(clip: Clip, codes_TK: np.ndarray, duration: float) -> Row:
    assert clip.split is not None
    return Row(
        id=clip.id,
        codes_TK=codes_TK,
        text=clip.text,
        speaker=clip.speaker,
        language=clip.language,
        split=clip.split,
        duration=duration,
        audio=clip.name,
    )


def _n_readers() -> int:
    return min(MAX_READERS, os.cpu_count() or 1)
