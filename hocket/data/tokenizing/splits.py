"""One look at all clips before the job: their hash, and who is held out.

A clip without a split of its own is drawn by the hash of its id, or of its audio where it is a part of a longer
recording, so that two parts of one recording never land on both sides. It keeps its split when others come or go.
Streams are not looked at beforehand; there the hash alone decides. Costs about 5 µs a clip and no memory.
"""

import contextlib
import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from hocket.data.clips import Clip, HeldAudio, Rejected

VALID_SHARE = 0.05
"""Share of the clips without a split of their own that is held out."""


@dataclass(frozen=True)
class SplitRule:
    """Which split each clip belongs to."""

    valid_share: float = VALID_SHARE
    forced: Mapping[str, str] = field(default_factory=dict)
    """Splits by key where chance would leave train or valid empty."""

    def of(self, clip: Clip) -> str:
        """train, valid or test."""
        key = split_key(clip)
        return clip.split or self.forced.get(key) or self.drawn(key)

    def drawn(self, key: str) -> str:
        """What the hash alone says."""
        return "valid" if draw(key) < self.valid_share else "train"


@dataclass(frozen=True)
class Survey:
    """What one pass over the clips found."""

    n_clips: int
    fingerprint: str
    rule: SplitRule


def survey(items: Iterable[Clip | Rejected], valid_share: float = VALID_SHARE) -> Survey:
    """Hash the clips and settle who is held out.

    Where chance would leave train or valid without any clip, the clip of the highest or lowest draw changes sides; a
    single clip is trained on.
    """
    rule = SplitRule(valid_share)
    digest, n_clips = hashlib.sha256(), 0
    splits: set[str] = set()
    lowest: tuple[float, str] = (2.0, "")
    highest: tuple[float, str] = (-1.0, "")
    for item in items:
        digest.update(fact_line(item))
        n_clips += 1
        if isinstance(item, Rejected):
            continue
        splits.add(rule.of(item))
        if item.split is None:
            key = split_key(item)
            lowest, highest = min(lowest, (draw(key), key)), max(highest, (draw(key), key))
    forced = _forced(splits, lowest[1], highest[1], valid_share)
    return Survey(n_clips, digest.hexdigest(), SplitRule(valid_share, forced))


def _forced(splits: set[str], lowest: str, highest: str, valid_share: float) -> dict[str, str]:
    if not lowest:
        return {}
    if "train" not in splits:
        return {highest: "train"}
    if "valid" not in splits and valid_share > 0 and lowest != highest:
        return {lowest: "valid"}
    return {}


def split_key(clip: Clip) -> str:
    """What is hashed: the id, or the recording that the clip is a part of."""
    return clip.id if clip.start is None and clip.end is None else clip.name


def draw(key: str) -> float:
    """A number in [0, 1) that depends on the key alone."""
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big") / 2**64


def fact_line(item: Clip | Rejected) -> bytes:
    """All that the source says of an item, and the size of its file, as a line to hash."""
    if isinstance(item, Rejected):
        return json.dumps(asdict(item)).encode() + b"\n"
    words = [asdict(word) for word in item.words]
    facts = (item.id, item.name, item.text, words, item.speaker, item.language, item.split)
    return json.dumps([*facts, item.start, item.end, item.seconds, item.channel, _size(item)]).encode() + b"\n"


def _size(clip: Clip) -> int | None:
    """Bytes of a clip's audio where that is known without reading: in a file that is there, or in memory."""
    if isinstance(clip.audio, HeldAudio):
        return len(clip.audio.content)
    if isinstance(clip.audio, Path):
        with contextlib.suppress(OSError):
            return clip.audio.stat().st_size
    return None


def fact_hash(items: Iterable[Clip | Rejected]) -> str:
    """Hash over some items."""
    digest = hashlib.sha256()
    for item in items:
        digest.update(fact_line(item))
    return digest.hexdigest()
