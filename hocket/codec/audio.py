"""Audio files in and out: mono float32 waveforms at the rate one asks for.

Reads whatever soundfile reads (WAV, FLAC, Ogg Vorbis and Opus, MP3, …) at any rate and number of channels.

Shapes: S samples, N channels.
"""

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import soxr
import torch

from hocket.errors import InputError

UNSTATED = 1 << 62  # frames that libsndfile gives from there on stand for no length in the header


@dataclass(frozen=True)
class AudioInfo:
    """What a file's header says."""

    sample_rate: int  # Hz
    channels: int
    n_samples: int  # of each channel
    format: str  # such as "WAV" or "OGG"

    @property
    def duration(self) -> float:
        """Seconds."""
        return self.n_samples / self.sample_rate


def audio_info(path: str | Path) -> AudioInfo:
    """Reads the header only. InputError for a file that is missing or no audio."""
    check_file(path)
    try:
        with soundfile.SoundFile(str(path)) as file:
            check_length(path, file)
            return AudioInfo(file.samplerate, file.channels, file.frames, file.format)
    except soundfile.LibsndfileError as error:
        raise InputError(not_audio(path, error)) from error


def read_audio(
    path: str | Path, sample_rate: int | None = None, start: float = 0.0, end: float | None = None
) -> tuple[torch.Tensor, int]:
    """The file as a mono waveform float32 [S] and its rate, resampled to `sample_rate` where that is given.

    `start` and `end` are seconds of the file. Channels are averaged. InputError, naming the file, when it is
    missing, no audio, has no samples there, or holds NaN or infinite samples.
    """
    check_file(path)
    try:
        with soundfile.SoundFile(str(path)) as file:
            check_length(path, file)
            rate = file.samplerate
            first = min(round(start * rate), file.frames)
            if first:
                file.seek(first)
            samples_SN = file.read(-1 if end is None else max(round(end * rate) - first, 0), "float32", always_2d=True)
    except soundfile.LibsndfileError as error:
        raise InputError(not_audio(path, error)) from error
    if not len(samples_SN):
        raise InputError(f'audio file "{path}" has no samples' + (f" after {start:g} s" if start or end else ""))
    if not np.isfinite(samples_SN).all():
        raise InputError(f'audio file "{path}" holds NaN or infinite samples')
    wav_S = torch.from_numpy(samples_SN.mean(axis=1))
    if sample_rate is None:
        return wav_S, rate
    return resample(wav_S, rate, sample_rate), sample_rate


def write_audio(path: str | Path, wav_S: torch.Tensor, sample_rate: int) -> None:
    """Writes a mono 16-bit WAV, clipped to [-1, 1]; written aside and renamed, so a kill leaves no half file."""
    path = Path(path)
    if wav_S.ndim != 1:
        raise InputError(f"a waveform to write must have one axis, samples, not {list(wav_S.shape)}")
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    samples_S = (wav_S.detach().float().cpu().clamp(-1, 1) * 32767).round().to(torch.int16).numpy()
    soundfile.write(str(aside), samples_S, sample_rate, subtype="PCM_16", format="WAV")
    aside.replace(path)


def resample(wav: torch.Tensor, from_rate: int, to_rate: int) -> torch.Tensor:
    """The waveform, [S] or [C, S] float32, at another rate (Hz); the same tensor where the rates are the same."""
    if from_rate == to_rate or not wav.shape[-1]:
        return wav
    return torch.from_numpy(soxr.resample(wav.cpu().numpy().T, from_rate, to_rate).T.copy()).to(wav)


def check_file(path: str | Path) -> None:
    if not Path(path).exists():
        raise InputError(f'audio file "{path}" does not exist')
    if Path(path).is_dir():
        raise InputError(f'"{path}" is a folder, not an audio file')
    if not Path(path).stat().st_size:
        raise InputError(f'audio file "{path}" is empty (0 bytes)')


def check_length(path: str | Path, file: soundfile.SoundFile) -> None:
    if file.frames >= UNSTATED:
        raise InputError(f'audio file "{path}" states no length in its header (or is empty); encode it again to a file')


def not_audio(path: str | Path, error: soundfile.LibsndfileError) -> str:
    return f'"{path}" cannot be read as audio ({error.error_string.rstrip(".")}); give WAV, FLAC, Ogg or MP3'
