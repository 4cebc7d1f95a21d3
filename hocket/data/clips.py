"""A clip is one stretch of recorded audio with what is known about it; its samples are read only when asked for.

Reading seeks to `start`, so that an hour-long file cut into a thousand clips is not decoded a thousand times, mixes
channels down to mono and resamples. libsndfile does the decoding (wav, flac, ogg, opus, mp3, aiff and more), from
a path or from the bytes that a Hugging Face dataset stores, so neither ffmpeg nor torchcodec is needed.

Shapes: T samples.
"""

import hashlib
import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import fsspec
import numpy as np
import soundfile
import torch

from hocket.codec.audio import resample
from hocket.data.words import Word
from hocket.errors import InputError, did_you_mean

SPLITS = ("train", "valid", "test")
VALID_SHARE = 0.05
"""Share of the clips without a split of their own that is held out."""

END_TOLERANCE = 0.1
"""Seconds by which a clip's `end` may lie behind the end of its file (manifests round)."""

_SPLIT_NAMES = {
    "train": "train", "training": "train",
    "valid": "valid", "validation": "valid", "val": "valid", "dev": "valid", "eval": "valid",
    "test": "test",
}  # fmt: skip


class BadAudio(InputError):
    """One clip whose audio cannot be used: `name` says which one, `reason` why."""

    def __init__(self, name: str, reason: str):
        super().__init__(f'"{name}" cannot be used: {reason}')
        self.name, self.reason = name, reason


@dataclass(frozen=True, kw_only=True)
class Rejected:
    """What a source or a job names instead of a clip that could not be used."""

    id: str
    audio: str
    """What the source called the audio."""
    reason: str


class AudioSource(Protocol):
    """Where encoded audio comes from, other than a path on this machine; it is pickled on its way to a worker."""

    def file(self) -> Path | BinaryIO | None:
        """The encoded audio, or None where there is none. Raises OSError where it cannot be had."""
        ...


@dataclass(frozen=True)
class StoredAudio:
    """Audio in one row of a Hugging Face dataset whose `column` is cast to `Audio(decode=False)`."""

    dataset: Any
    column: str
    row: int

    def file(self) -> Path | io.BytesIO | None:
        """The encoded bytes, or the file that the row names, or None where it has neither."""
        stored = self.dataset[self.row][self.column]
        if stored and stored["bytes"] is not None:
            return io.BytesIO(stored["bytes"])
        return Path(stored["path"]) if stored and stored["path"] else None


@dataclass(frozen=True, repr=False)
class HeldAudio:
    """Encoded audio that came with its row, from a stream or a tar file."""

    content: bytes

    def file(self) -> io.BytesIO:
        return io.BytesIO(self.content)


@dataclass(frozen=True)
class RemoteAudio:
    """Encoded audio behind a URL that fsspec opens, such as s3://bucket/a.flac."""

    url: str

    def file(self) -> io.BytesIO:
        with fsspec.open(self.url, "rb") as remote:
            return io.BytesIO(remote.read())  # pyright: ignore[reportAttributeAccessIssue]


@dataclass(frozen=True, kw_only=True)
class Clip:
    """One stretch of audio and what is known about it; text alone where `audio` is None."""

    id: str
    """Unique within its source."""
    name: str
    """What the source calls the audio: a path as the source writes it, or `split[row]`."""
    audio: Path | AudioSource | None
    """Where the samples come from."""
    text: str | None = None
    """What is said."""
    words: tuple[Word, ...] = ()
    """What is said when, seconds from the clip's start."""
    speaker: str | None = None
    language: str | None = None
    split: str | None = None
    """train, valid or test; None leaves the choice to a hash."""
    start: float | None = None
    """Seconds into the audio where the clip begins."""
    end: float | None = None
    """Seconds into the audio where the clip ends."""
    seconds: float | None = None
    """How long the source says that the clip is; None where it says nothing."""
    channel: int | None = None
    """The one channel that is meant, from 0 on; None leaves them all."""

    def probe(self) -> float:
        """Seconds of audio by the file's header alone. Raises BadAudio."""
        with self._open() as file:
            first, last = self._span(file)
            return (last - first) / file.samplerate

    def read(self, sample_rate: int) -> torch.Tensor:
        """`wav_T`, float32, mono, at `sample_rate` Hz. Raises BadAudio."""
        with self._open() as file:
            first, last = self._span(file)
            file.seek(first)
            wav_TC = file.read(last - first, dtype="float32", always_2d=True)
            native_rate = file.samplerate
        if not len(wav_TC):
            raise BadAudio(self.name, "it holds no samples")
        if not np.isfinite(wav_TC).all():
            raise BadAudio(self.name, "it holds samples that are not finite (NaN or infinity)")
        return resample(torch.from_numpy(wav_TC.mean(axis=1)), native_rate, sample_rate)

    @contextmanager
    def _open(self) -> Iterator[soundfile.SoundFile]:
        try:
            with soundfile.SoundFile(self._encoded()) as file:
                yield file
        except soundfile.LibsndfileError as error:
            reason = error.error_string.strip().rstrip(".")
            raise BadAudio(self.name, f"it is not audio that can be read (libsndfile: {reason})") from error

    def _encoded(self) -> Path | BinaryIO:
        if self.audio is None:
            raise BadAudio(self.name, "it is text without audio")
        file = self.audio if isinstance(self.audio, Path) else self.audio.file()
        if file is None:
            raise BadAudio(self.name, "its row holds neither audio bytes nor a path")
        if isinstance(file, Path):
            if not file.is_file():
                raise BadAudio(self.name, f"there is no file {file}")
            if file.stat().st_size == 0:
                raise BadAudio(self.name, "the file is empty (0 bytes)")
        return file

    def _span(self, file: soundfile.SoundFile) -> tuple[int, int]:
        """First and last sample (exclusive) at the file's own rate."""
        rate, total = file.samplerate, file.frames
        first = round((self.start or 0.0) * rate)
        last = total if self.end is None else round(self.end * rate)
        if total == 0:
            raise BadAudio(self.name, "it holds no samples")
        if first >= total or last > total + END_TOLERANCE * rate:
            wanted = f"start {self.start or 0:g} s, end {self.end:g} s" if self.end else f"start {self.start:g} s"
            raise BadAudio(self.name, f"the clip ({wanted}) lies outside its file of {total / rate:.3f} s")
        return first, min(last, total)


def canonical_split(name: str, where: str) -> str:
    """train, valid or test for names such as `validation`, `dev-clean` and `train.360`. Raises InputError."""
    word = name.strip().lower().replace("-", ".").replace("_", ".").split(".")[0]
    if word not in _SPLIT_NAMES:
        raise InputError(f'{where} has the unknown split "{name}"{did_you_mean(name, _SPLIT_NAMES)}')
    return _SPLIT_NAMES[word]


def assign_splits(clips: Sequence[Clip]) -> list[Clip]:
    """Give each clip without a split one by the hash of its id: 5 % valid, the rest train.

    A clip keeps its split when others come or go. Only where chance would leave train or valid without any clip at
    all does the clip with the highest or lowest hash change sides, if there are two to share out.
    """
    draws = {clip.id: _draw(clip.id) for clip in clips if clip.split is None}
    chosen = {id: "valid" if draw < VALID_SHARE else "train" for id, draw in draws.items()}
    taken = {clip.split for clip in clips} | set(chosen.values())
    if len(draws) > 1 and "valid" not in taken:
        chosen[min(draws, key=draws.__getitem__)] = "valid"
    elif draws and "train" not in taken and len(clips) > 1:
        chosen[max(draws, key=draws.__getitem__)] = "train"
    elif len(clips) == 1 and draws:
        chosen = dict.fromkeys(draws, "train")
    return [clip if clip.split else replace(clip, split=chosen[clip.id]) for clip in clips]


def _draw(id: str) -> float:
    """A number in [0, 1) that depends on the id alone."""
    return int.from_bytes(hashlib.sha256(id.encode()).digest()[:8], "big") / 2**64
