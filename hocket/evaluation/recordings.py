"""The recordings that codecs are judged on: clips of some sources, perhaps only those that a split holds out.

A split is JSON that names, for each set (the name of the source's folder), the clips or the speakers that are held out:

    {"held_out": {"ljspeech": {"ids": ["LJ001-0012"]}, "digits": {"speakers": ["theo"]}}}

Sets held out by `ids` make the group "seen speakers", those held out by `speakers` "unseen speakers"; a set may name
another `group`. The bundled codec's own split is named "bundled".

Shapes: S samples.
"""

import json
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import torch

from hocket.codec.loading import BUNDLED
from hocket.data import BadAudio, Clip, read_clips
from hocket.errors import InputError

SEEN, UNSEEN = "seen speakers", "unseen speakers"
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
    rules = read_split(split) if split else None
    recordings, rejected = [], []
    for source in sources:
        name = set_name(source)
        clips, group = read_clips(source), None
        if rules is not None:
            clips, group = held_out(clips, rules, name)
        timed = []
        for clip in clips:
            try:
                timed.append((clip, clip.probe()))
            except BadAudio as error:
                rejected.append(str(error))
        recordings += [Recording(name, group, joined) for joined in thin(join_words(timed), limit)]
    return recordings, rejected


def set_name(source: str) -> str:
    """A folder's name; of a manifest or an audio file the name of its folder."""
    path = Path(source)
    return path.name if path.is_dir() or not path.exists() else path.resolve().parent.name


def read_split(split: str) -> dict[str, Any]:
    """Which clips each set holds out."""
    file = BUNDLED / "split.json" if split == "bundled" else Path(split)
    try:
        rules = json.loads(file.read_text(encoding="utf-8"))["held_out"]
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, KeyError, TypeError) as error:
        raise InputError(f'"{file}" is no split: it must be JSON with "held_out" ({error})') from error
    if not isinstance(rules, dict) or not all(isinstance(rule, dict) for rule in rules.values()):
        raise InputError(f'"{file}" is no split: "held_out" must name "ids" or "speakers" for each set')
    return rules


def held_out(clips: list[Clip], rules: dict[str, Any], name: str) -> tuple[list[Clip], str]:
    """The clips of one set that the split holds out, and the set's group."""
    if name not in rules:
        sets = ", ".join(f'"{known}"' for known in rules)
        raise InputError(f'the split holds out nothing of a set named "{name}" (its sets: {sets})')
    rule = rules[name]
    ids, speakers = set(rule.get("ids", [])), set(rule.get("speakers", []))
    kept = [clip for clip in clips if clip.id in ids or clip.speaker in speakers]
    if not kept:
        raise InputError(f'no clip of the set "{name}" is one that the split holds out')
    return kept, rule.get("group") or (UNSEEN if speakers else SEEN)


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
