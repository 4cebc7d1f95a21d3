"""What is asked of a clip's audio, and what comes of it.

Shapes: S samples.
"""

import math
from dataclasses import dataclass

import numpy as np

from hocket.data.words import Word
from hocket.errors import InputError

MIN_SECONDS = 0.02
"""A clip as short as this holds no speech; one shorter than a frame of the codec is refused too."""

MIN_CUT_SECONDS = 1.0


@dataclass(frozen=True)
class StreamAudio:
    """What one stream of a corpus is made from."""

    name: str
    channel: int | None
    """From 0 on; None is the mean of all channels."""
    sample_rate: int
    """In Hz, of the samples that are wanted."""
    frame_seconds: float = 0.0
    """How long a frame of the stream's codec is: what is shorter is refused."""


@dataclass(frozen=True, kw_only=True)
class Preparation:
    """What is done to a clip's audio before it is encoded; by default nothing."""

    trim: bool = False
    """Leave out what comes before the first and after the last speech, .15 s of margin kept (silero VAD)."""
    loudness: float | None = None
    """Bring each channel to this loudness, in LUFS (ITU-R BS.1770), as far as no sample exceeds 1."""
    min_seconds: float | None = None
    """Refuse recordings, after trimming, that are shorter."""
    max_seconds: float | None = None
    """Refuse recordings, after trimming, that are longer, also where they would be cut."""
    cut_seconds: float | None = None
    """Cut recordings at silences into segments of at most this. With text but no word times they stay whole."""

    def __post_init__(self) -> None:
        for name in ("loudness", "min_seconds", "max_seconds", "cut_seconds"):
            value = getattr(self, name)
            if value is not None and not math.isfinite(value):
                raise InputError(f"{name} is {value}, but must be a finite number")
        if self.loudness is not None and not -70 < self.loudness <= 0:
            raise InputError(f"loudness is {self.loudness:g} LUFS, but must be above -70 and at most 0, such as -23")
        if self.cut_seconds is not None and self.cut_seconds < MIN_CUT_SECONDS:
            raise InputError(f"cut_seconds is {self.cut_seconds:g}, but must be at least {MIN_CUT_SECONDS:g}")
        if self.min_seconds is not None and self.min_seconds < 0:
            raise InputError(f"min_seconds is {self.min_seconds:g}, but must be 0 or more")
        if self.max_seconds is not None and self.max_seconds <= 0:
            raise InputError(f"max_seconds is {self.max_seconds:g}, but must be above 0")
        if self.max_seconds is not None and self.max_seconds < (self.min_seconds or 0.0):
            raise InputError(f"max_seconds is {self.max_seconds:g}, but min_seconds is {self.min_seconds:g}")


@dataclass(frozen=True, kw_only=True)
class Segment:
    """One row of a corpus before encoding: a clip, or a piece that was cut from it."""

    id: str
    """The clip's, and `#000000`, `#000001` and so on behind it where it was cut."""
    recording: str
    """The clip's id, which all its segments share."""
    name: str
    """What the source calls the audio."""
    text: str | None
    """The clip's; where it was cut, the segment's own words."""
    words: tuple[Word, ...]
    """Those that start in the segment, times from its start."""
    speaker: str | None
    language: str | None
    split: str | None
    """The clip's, as the source gives it."""
    start: float
    """Seconds from the start of the clip."""
    duration: float
    """Seconds; 0 for text without audio."""
    waves: dict[str, np.ndarray]
    """Samples of each stream: float32 [S] at the stream's rate; none for text without audio."""
