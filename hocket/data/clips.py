"""A clip is one stretch of recorded audio with what is known about it; its samples are read only when asked for.

Reading seeks to `start`, so that an hour-long file cut into a thousand clips is not decoded a thousand times, mixes
channels down to mono and resamples. The audio lies at a path, in the bytes that a Hugging Face dataset or a tar file
stores, or behind a URL; `decoding` turns it into samples.

Shapes: T samples.
"""

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fsspec
import torch

from hocket.codec.audio import resample
from hocket.data.decoding import AudioSource, decode, probe
from hocket.data.decoding import BadAudio as BadAudio
from hocket.data.words import Word
from hocket.errors import InputError, did_you_mean

SPLITS = ("train", "valid", "test")
_SPLIT_NAMES = {
    "train": "train", "training": "train",
    "valid": "valid", "validation": "valid", "val": "valid", "dev": "valid", "eval": "valid",
    "test": "test",
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Rejected:
    """What a source or a job names instead of a clip that could not be used."""

    id: str
    audio: str
    """What the source called the audio."""
    reason: str


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
        return probe(self)

    def read(self, sample_rate: int) -> torch.Tensor:
        """`wav_T`, float32, mono, at `sample_rate` Hz. Raises BadAudio."""
        wav_CT, native_rate = decode(self)
        return resample(torch.from_numpy(wav_CT.mean(axis=0)), native_rate, sample_rate)


def canonical_split(name: str, where: str) -> str:
    """train, valid or test for names such as `validation`, `dev-clean` and `train.360`. Raises InputError."""
    word = name.strip().lower().replace("-", ".").replace("_", ".").split(".")[0]
    if word not in _SPLIT_NAMES:
        raise InputError(f'{where} has the unknown split "{name}"{did_you_mean(name, _SPLIT_NAMES)}')
    return _SPLIT_NAMES[word]
