"""Splits: which clips and speakers of which sets are kept out of training, as JSON that a person can read.

    {"held_out": {"ljspeech": {"ids": ["LJ001-0012"]}, "digits": {"speakers": ["theo"]}}}

A set has the name of its source's folder. What is held out by `ids` makes the group "seen speakers", by `speakers`
"unseen speakers"; a set may name another `group`.
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hocket.data.clips import Clip
from hocket.errors import InputError

SEEN, UNSEEN = "seen speakers", "unseen speakers"
MOST_CLIPS = 30
SHARE = 0.1
"""Of the clips, and of the speakers where there are at least `MIN_SPEAKERS`, at most this share is drawn."""
MIN_SPEAKERS = 8


@dataclass(frozen=True)
class HeldOut:
    """Rules by set: `ids`, `speakers`, perhaps `group`."""

    rules: dict[str, dict[str, Any]]

    @classmethod
    def read(cls, file: str | Path) -> "HeldOut":
        """Raises InputError for a file that is no split."""
        try:
            rules = json.loads(Path(file).read_text(encoding="utf-8"))["held_out"]
        except (OSError, UnicodeDecodeError, json.JSONDecodeError, KeyError, TypeError) as error:
            raise InputError(f'"{file}" is no split: it must be JSON with "held_out" ({error})') from error
        if not isinstance(rules, dict) or not all(isinstance(rule, dict) for rule in rules.values()):
            raise InputError(f'"{file}" is no split: "held_out" must name "ids" or "speakers" for each set')
        return cls(rules)

    @classmethod
    def draw(cls, clips: dict[str, list[Clip]]) -> "HeldOut":
        """A split of sources that have none: see `draw_rule`. Sources of one name are one set."""
        by_set: dict[str, list[Clip]] = {}
        for source, own in clips.items():
            by_set.setdefault(set_name(source), []).extend(own)
        return cls({name: draw_rule(own) for name, own in by_set.items()})

    def write(self, file: Path) -> None:
        file.write_text(json.dumps({"held_out": self.rules}, indent=1) + "\n", encoding="utf-8")

    def has(self, source: str, clip: Clip) -> bool:
        """Whether this clip of this source is held out."""
        rule = self.rules.get(set_name(source), {})
        return clip.id in rule.get("ids", []) or clip.speaker in rule.get("speakers", [])

    def group(self, source: str) -> str:
        """The group of a source's held-out clips."""
        rule = self.rules.get(set_name(source), {})
        return rule.get("group") or (UNSEEN if rule.get("speakers") else SEEN)


def set_name(source: str) -> str:
    """A folder's name; of a manifest or an audio file the name of its folder."""
    path = Path(source)
    return path.name if path.is_dir() or not path.exists() else path.resolve().parent.name


def draw_rule(clips: list[Clip]) -> dict[str, Any]:
    """What the source marks as valid or test; else at most 30 clips and a tenth of them, by the hash of their ids.

    One speaker in ten is held out as well, where there are at least eight.
    """
    if marked := [clip.id for clip in clips if clip.split in ("valid", "test")]:
        return {"ids": sorted(marked)}
    speakers = sorted({clip.speaker for clip in clips if clip.speaker}, key=_hash)
    unseen = speakers[: int(len(speakers) * SHARE) or 1] if len(speakers) >= MIN_SPEAKERS else []
    seen = sorted((clip.id for clip in clips if clip.speaker not in unseen), key=_hash)
    return {"ids": sorted(seen[: min(MOST_CLIPS, int(len(seen) * SHARE))]), "speakers": sorted(unseen)}


def _hash(name: str) -> bytes:
    return hashlib.sha256(name.encode()).digest()
