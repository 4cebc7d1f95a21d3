"""Recordings of any length, file to codes and codes to file, in bounded memory.

Audio passes through in blocks: read, mixed, resampled as one continuous signal, and pushed through the codec's stream.
The codes equal those of the whole recording. Ten hours take as much memory as ten minutes, besides their codes.

Shapes: C channels, S samples, T codec frames, K levels.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import soundfile
import soxr
import torch

from hocket.codec.audio import check_file, check_length, not_audio
from hocket.codec.base import Codec, Codes
from hocket.codec.batching import with_channels
from hocket.errors import InputError

BLOCK_SECONDS = 20.0


def encode_file(codec: Codec, path: str | Path, block_seconds: float = BLOCK_SECONDS) -> Codes:
    """Codes [1, T, K] of an audio file at any sample rate, equal to `codec.encode` of all of it.

    Raises InputError for a file that is missing, no audio, or holds no samples or NaN, and from a codec that cannot
    stream.
    """
    stream = codec.stream_encoder()
    codes, n_samples = [], 0
    for wav_CS in _blocks(path, codec.sample_rate, codec.identity.channels, block_seconds):
        n_samples += wav_CS.shape[1]
        codes.append(stream.push(wav_CS).cpu())
    tokens_TK = torch.cat([*codes, stream.finish().cpu()])
    return Codes(tokens_TK[None], torch.tensor([len(tokens_TK)]), codec.identity, torch.tensor([n_samples]))


def decode_file(codec: Codec, codes_TK: torch.Tensor, path: str | Path, block_frames: int = 500) -> None:
    """Writes what codes [T, K] sound like as a 16-bit WAV, written aside and renamed.

    Raises InputError on codes outside the codebooks, and from a codec that cannot stream.
    """
    path, stream = Path(path), codec.stream_decoder()
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    channels = codec.identity.channels
    try:
        with soundfile.SoundFile(str(aside), "w", codec.sample_rate, channels, "PCM_16", format="WAV") as file:
            for piece_TK in codes_TK.split(block_frames):
                file.write(_samples(stream.push(piece_TK)))
            file.write(_samples(stream.finish()))
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)


def _samples(wav: torch.Tensor) -> np.ndarray:
    """Int16 samples [S, C] as `write_audio` rounds them."""
    return (wav.float().cpu().clamp(-1, 1) * 32767).round().to(torch.int16).numpy().T


def _blocks(path: str | Path, to_rate: int, channels: int, block_seconds: float) -> Iterator[torch.Tensor]:
    """The file as waveforms [C, S] at `to_rate`, block after block."""
    check_file(path)
    try:
        with soundfile.SoundFile(str(path)) as file:
            check_length(path, file)
            if not file.frames:
                raise InputError(f'audio file "{path}" has no samples')
            resampler = soxr.ResampleStream(file.samplerate, to_rate, channels, dtype="float32")
            block_size = max(1, round(block_seconds * file.samplerate))
            for block_SC in file.blocks(block_size, dtype="float32", always_2d=True):
                if not np.isfinite(block_SC).all():
                    raise InputError(f'audio file "{path}" holds NaN or infinite samples')
                wav_SC = with_channels(torch.from_numpy(block_SC.T.copy()), channels).T.numpy()
                if file.samplerate != to_rate:
                    wav_SC = resampler.resample_chunk(np.ascontiguousarray(wav_SC), last=file.tell() == file.frames)
                yield torch.from_numpy(wav_SC.T.copy())
    except soundfile.LibsndfileError as error:
        raise InputError(not_audio(path, error)) from error
