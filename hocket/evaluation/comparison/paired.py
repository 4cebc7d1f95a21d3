"""Two models on the same clips: what one needs more than the other, clip by clip.

Clips differ far more from each other than models do, so that the intervals of two totals overlap long before the
models are alike. The difference on each clip takes that away: its interval is that of a bootstrap over clips, both
models' bits of a clip drawn together (Koehn, 2004, does so for translations).
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from hocket.evaluation.bootstrap import bootstrap_ratio
from hocket.evaluation.likelihood.tally import Score
from hocket.evaluation.results import Measure

ITEMS_FILE = Path("items") / "likelihood.jsonl"


@dataclass(frozen=True)
class Clip:
    """What one clip took."""

    bits: float
    seconds: float


def read_clips(folder: Path) -> dict[str, Clip]:
    """The clips of an evaluation by id; none where they were not kept."""
    path = folder / ITEMS_FILE
    if not path.is_file():
        return {}
    rows = (json.loads(line) for line in path.read_text(encoding="utf-8").split("\n")[1:-1])
    scores = [Score.of_row(row) for row in rows]
    return {score.id: Clip(score.nats / math.log(2), score.seconds) for score in scores}


def clip_by_clip(one: Mapping[str, Clip], other: Mapping[str, Clip]) -> Measure | None:
    """Bits per second that the other needs more; None unless both have the same clips of the same length."""
    if not one or one.keys() != other.keys():
        return None
    if any(abs(clip.seconds - other[name].seconds) > 1e-6 for name, clip in one.items()):
        return None
    more = [other[name].bits - clip.bits for name, clip in one.items()]
    return bootstrap_ratio(more, [clip.seconds for clip in one.values()])
