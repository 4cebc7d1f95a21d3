"""The recordings that codecs are judged on: clips of some sources, perhaps only those that a split holds out.

The split that the bundled codec was trained with is named "bundled".

Shapes: S samples.
"""

from dataclasses import dataclass
from itertools import groupby

import torch

from hocket.codec.loading import BUNDLED
from hocket.data import BadAudio, Clip, read_clips
from hocket.data.held_out import HeldOut, set_name
from hocket.errors import InputError

WORD_SECONDS, WORDS_JOINED = 2.5, 10
USUAL_SECONDS = (1.0, 12.0)


@dataclass(frozen=True)
class Recording:
    """One thing to listen to: a clip, or some single words of one speaker after one another."""

    set_name: str
    group: str | None
    clips: tuple[Clip, ...]

    def read(self, sample_rate: int) -> torch.Tensor:
        """`wav_S`, float32, mono. Raises BadAudio."""
        return torch.cat([clip.read(sample_rate) for clip in self.clips])

    @property
    def text(self) -> str | None:
        """What is said; joined words count as without text."""
        return self.clips[0].text if len(self.clips) == 1 else None

    @property
    def language(self) -> str | None:
        return self.clips[0].language


def read_recordings(
    sources: list[str], split: str | None = None, limit: int | None = None
) -> tuple[list[Recording], list[str]]:
    """The recordings of the sources, of each at most `limit`, spread evenly over it; and the clips that are no audio.

    With `split` ("bundled" or a file) only what it holds out. A thinned set takes clips of 1 to 12 s where it has
    enough of them. A set whose clips are all shorter than 2.5 s is one of single words; ten of one speaker become one
    recording. Raises InputError for sources or splits that cannot be read, and where nothing is held out.
    """
    rules = HeldOut.read(BUNDLED / "split.json" if split == "bundled" else split) if split else None
    recordings, rejected = [], []
    for source in sources:
        name = set_name(source)
        clips, group = read_clips(source), None
        if rules is not None:
            clips, group = held_out_clips(clips, rules, source), rules.group(source)
        timed = []
        for clip in clips:
            try:
                timed.append((clip, clip.probe()))
            except BadAudio as error:
                rejected.append(str(error))
        recordings += [Recording(name, group, joined) for joined in thin(join_words(timed), limit)]
    return recordings, rejected


def held_out_clips(clips: list[Clip], rules: HeldOut, source: str) -> list[Clip]:
    """The clips of one source that the split holds out."""
    name = set_name(source)
    if name not in rules.rules:
        sets = ", ".join(f'"{known}"' for known in rules.rules)
        raise InputError(f'the split holds out nothing of a set named "{name}" (its sets: {sets})')
    kept = [clip for clip in clips if rules.has(source, clip)]
    if not kept:
        raise InputError(f'no clip of the set "{name}" is one that the split holds out')
    return kept


def join_words(timed: list[tuple[Clip, float]]) -> list[tuple[tuple[Clip, ...], float]]:
    """Clips with their seconds, single words joined."""
    if len(timed) == 1 or any(seconds >= WORD_SECONDS for _, seconds in timed):
        return [((clip,), seconds) for clip, seconds in timed]
    joined = []
    for _, own in groupby(sorted(timed, key=lambda pair: pair[0].speaker or ""), lambda pair: pair[0].speaker):
        words = list(own)
        for start in range(0, len(words), WORDS_JOINED):
            taken = words[start : start + WORDS_JOINED]
            joined.append((tuple(clip for clip, _ in taken), sum(seconds for _, seconds in taken)))
    return joined


def thin(timed: list[tuple[tuple[Clip, ...], float]], limit: int | None) -> list[tuple[Clip, ...]]:
    """All of them, or `limit` of those of usual length, evenly spread."""
    if limit is None or len(timed) <= limit:
        return [clips for clips, _ in timed]
    low, high = USUAL_SECONDS
    usual = [clips for clips, seconds in timed if low <= seconds <= high]
    pool = usual if len(usual) >= limit else [clips for clips, _ in timed]
    return [pool[round(index * (len(pool) - 1) / max(limit - 1, 1))] for index in range(limit)]
