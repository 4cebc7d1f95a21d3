"""The players of a report: each a wav with its spectrogram, as data that the page embeds.

Shapes: S samples.
"""

import base64
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hocket.codec import read_audio
from hocket.evaluation.plots import Tick, frequency_ticks, spectrogram_png, time_ticks
from hocket.evaluation.runs import Sample

PROMPT, CONTINUATION, BOTH = "prompt.wav", "continuation.wav", "prompt-and-continuation.wav"
ORIGINAL, RESYNTHESIS = "original.wav", "resynthesis.wav"
WAVS = {
    BOTH: ("prompt + continuation", "the prompt, then what the model makes of it"),
    PROMPT: ("prompt", "held-out speech, what the model is given"),
    CONTINUATION: ("continuation", "sampled from the model"),
    ORIGINAL: ("original", "what was really said, over the same span"),
    RESYNTHESIS: ("resynthesis", "the original through the codec only: the ceiling"),
}
"""File name -> title and what it is, in the order of the page."""


@dataclass(frozen=True, kw_only=True)
class Player:
    """One clip to listen to."""

    title: str
    note: str
    wide: bool
    """Takes the whole width of the page."""
    picture: str
    """PNG of the spectrogram, base64."""
    audio: str
    """The sound file, base64."""
    seam: float | None
    """Where the prompt ends, in percent of the clip; None where it does not lie inside."""
    x_ticks: list[Tick]
    y_ticks: list[Tick]
    media: str = "audio/wav"


def players(folder: Path, sample: Sample | None) -> list[Player]:
    """A player for each of the wav files that are there."""
    return [_player(folder / name, sample) for name in WAVS if (folder / name).is_file()]


def _player(path: Path, sample: Sample | None) -> Player:
    wav_S, sample_rate = read_audio(path)
    duration = len(wav_S) / sample_rate
    seam = sample.prompt_seconds if sample and path.name not in (PROMPT, CONTINUATION) else 0.0
    title, note = WAVS[path.name]
    return Player(
        title=title,
        note=note,
        wide=path.name == BOTH,
        picture=encode(spectrogram_png(np.asarray(wav_S), sample_rate)),
        audio=encode(path.read_bytes()),
        seam=100 * seam / duration if 0 < seam < duration else None,
        x_ticks=time_ticks(duration),
        y_ticks=frequency_ticks(sample_rate),
    )


def encode(content: bytes) -> str:
    """Base64 as text."""
    return base64.b64encode(content).decode("ascii")
