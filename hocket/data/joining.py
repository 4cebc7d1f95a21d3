"""Sequences of short clips in one voice: spoken digits become "three one four".

    silence │ clip "three" │ silence │ clip "one" │ silence │ clip "four"        one speaker

A clip of half a second is too little for a language model to see what follows what, and for a recogniser to hear; a
model that has heard long sequences alone takes long to find out which word is which sound. So the number of clips n is
drawn with a probability that goes as 1/n: each length holds as many clips as any other. The clips are drawn evenly over
texts, then over the speaker's clips of that text, with silence of random length before and between them; what is made
for training is also played faster or slower, by resampling, and louder or softer, so that a codec gives other codes
each time. The samples of a clip are otherwise its own.

Costs 3 ms a sequence of three clips, reading them included.

Shapes: S samples.
"""

import re
from collections import defaultdict
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import soxr

from hocket.data.clips import Clip
from hocket.data.sources import read_clips
from hocket.errors import InputError

NOBODY = "speaker"
"""Who speaks where the source does not say."""

Voices = dict[str, dict[str, list[Clip]]]
"""Clips by speaker and text."""
Range = tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class Joining:
    """How clips are joined; each range is drawn from evenly."""

    sample_rate: int = 16000
    clips: tuple[int, int] = (1, 5)
    """Fewest and most clips of a sequence; n of them with a probability that goes as 1/n."""
    lead: Range = (0.0, 0.1)
    """Seconds of silence before the first clip."""
    gap: Range = (0.15, 0.3)
    """Seconds of silence between two clips."""
    speed: Range = (1.0, 1.0)
    """How much faster a clip is played."""
    gain: Range = (0.0, 0.0)
    """Decibels."""

    def __post_init__(self) -> None:
        for name, least in (("clips", 1), ("lead", 0), ("gap", 0), ("speed", 0.1), ("gain", -60)):
            low, high = getattr(self, name)
            if not least <= low <= high:
                raise InputError(f"{name} goes from the least to the most, {least} or more, not {low:g} to {high:g}")


@dataclass(frozen=True)
class Joined:
    """Clips of one speaker in a row."""

    speaker: str
    clips: tuple[Clip, ...]
    starts: tuple[float, ...]  # seconds at which each clip begins
    wav_S: np.ndarray  # float32

    @property
    def text(self) -> str:
        return " ".join((clip.text or "").strip() for clip in self.clips)


def read_voices(src: str, held_out: str) -> dict[str, Voices]:
    """Clips with text by split ("train", "valid"), speaker and text.

    Args:
        src: any source of clips.
        held_out: a regular expression; clips whose id it is found in are "valid", all others "train".

    Raises:
        InputError: the expression is none, or leaves no clip with text for a split.
    """
    try:
        pattern = re.compile(held_out)
    except re.error as error:
        raise InputError(f"{held_out!r} is no regular expression for ids of clips that are held out: {error}") from None
    splits: dict[str, Voices] = {split: defaultdict(lambda: defaultdict(list)) for split in ("train", "valid")}
    for clip in read_clips(src):
        if clip.audio is not None and clip.text:
            split = "valid" if pattern.search(clip.id) else "train"
            splits[split][clip.speaker or NOBODY][clip.text.strip()].append(clip)
    for split, voices in splits.items():
        if not voices:
            raise InputError(f"with {held_out!r} as held out, no clip with text of {src} is left for {split}")
    return splits


def join_clips(voices: Voices, joining: Joining, rng: np.random.Generator) -> Joined:
    """One sequence."""
    speaker = sorted(voices)[rng.integers(len(voices))]
    texts, n_clips = sorted(voices[speaker]), _draw_number(joining.clips, rng)
    found = [voices[speaker][texts[i]] for i in rng.integers(len(texts), size=n_clips)]
    clips = [of_text[rng.integers(len(of_text))] for of_text in found]
    speed, gain = rng.uniform(*joining.speed), 10 ** (rng.uniform(*joining.gain) / 20)
    rate, pieces, starts, n_samples = joining.sample_rate, [], [], 0
    for number, clip in enumerate(clips):
        silence = np.zeros(int(rng.uniform(*(joining.gap if number else joining.lead)) * rate), np.float32)
        wav_S = _read(clip, rate) * np.float32(gain)
        if speed != 1:
            wav_S = soxr.resample(wav_S, rate * speed, rate)
        starts.append((n_samples + len(silence)) / rate)
        pieces += [silence, wav_S]
        n_samples += len(silence) + len(wav_S)
    return Joined(speaker, tuple(clips), tuple(starts), np.clip(np.concatenate(pieces), -1, 1))


def _draw_number(clips: tuple[int, int], rng: np.random.Generator) -> int:
    numbers = np.arange(clips[0], clips[1] + 1)
    return int(rng.choice(numbers, p=1 / numbers / np.sum(1 / numbers)))


@lru_cache(maxsize=4096)
def _read(clip: Clip, sample_rate: int) -> np.ndarray:
    return clip.read(sample_rate).numpy()
