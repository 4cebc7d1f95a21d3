"""How masked codes are filled in: how many passes a level takes, and what stays masked after each.

    cosine, 100 cells in 4 passes      masked  100 92 70 38 0
    linear                             masked  100 75 50 25 0

A level starts masked but for the prompt. Each pass draws all cells that are still masked and keeps the surest; the
others are masked again (MaskGIT: Chang et al., 2022, arXiv:2202.04200). After pass i of s there stay n cos(i pi/2s)
masked, rounded down and at least one, and none after the last: SoundStorm (Borsos et al., 2023, arXiv:2305.09636) with
16 passes of the lowest level and one of each other, MAGNeT (Ziv et al., 2024, arXiv:2401.04577) with 20, 10, 10, 10,
by spans of 3 frames, temperature and guidance annealed.

Shapes: S passes.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

from hocket.errors import InputError, did_you_mean
from hocket.interleave.checks import is_whole

SCHEDULES = ("cosine", "linear")
SCORES = ("confidence", "random")
SPAN_SCORES = ("max", "mean")
MOST_STEPS = 10_000


@dataclass(frozen=True, kw_only=True)
class MaskSampling:
    """Settings of models that predict in place, beside `Sampling`; checked when built."""

    steps: int | Sequence[int] | None = None
    """Passes of each predicted level, lowest first; the last number is that of all further levels. Unless given
    (16, 1) for objective "masked", and 1 for "levels"."""
    schedule: str = "cosine"
    """How many cells stay masked after each pass: "cosine" or "linear"."""
    score: str = "confidence"
    """Which of the drawn codes are kept: the most probable ("confidence"), or any ("random")."""
    choice_temperature: float = 1.0
    """Gumbel noise on log-probabilities when the most probable are chosen, times the share of passes that are left:
    0 is none (MAGNeT), 4.5 that of MaskGIT's code. Without noise dull codes come first, and draw others like them."""
    span: int = 1
    """Frames that are kept or masked together; the last span of a document may be shorter."""
    span_score: str = "max"
    """What a span's score is: the highest log-probability of its codes ("max", MAGNeT), or their "mean"."""
    anneal_temperature: bool = False
    """The temperature goes down to 0 over a level's passes, evenly (MAGNeT, which starts at 3)."""
    greedy_last: bool = True
    """The last pass of a level, often its only one, takes the most probable codes (SoundStorm, VALL-E)."""
    guidance: float = 1.0
    """Classifier-free guidance at the start of a level: 1 is none, more follows the condition more closely; each pass
    costs two then. The model must have learned with training.condition_dropout."""
    guidance_end: float | None = None
    """Guidance once nothing is masked; between, the share that is masked decides (MAGNeT: 10 to 1). Constant unless
    given."""
    levels: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Other settings for single levels: `{"audio.0": {"steps": 32, "span": 3}}`."""

    def __post_init__(self) -> None:
        self._check_steps()
        for name, choices in {"schedule": SCHEDULES, "score": SCORES, "span_score": SPAN_SCORES}.items():
            value = getattr(self, name)
            if value not in choices:
                raise InputError(f'{name} has no choice "{value}"{did_you_mean(str(value), choices)}')
        if not is_whole(self.span, 1):
            raise InputError(f"span must be a whole number of frames from 1 on, not {self.span!r}")
        for name in ("choice_temperature", "guidance", "guidance_end"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < math.inf:
                raise InputError(f"{name} must be at least 0 and finite, not {value}")
        for level, changes in self.levels.items():
            for name in changes:
                if name not in LEVEL_SETTINGS:
                    raise InputError(f'level "{level}" has no setting "{name}"{did_you_mean(name, LEVEL_SETTINGS)}')
            if not is_whole(changes.get("steps", 1)):
                raise InputError(f'steps of level "{level}" must be a whole number, not {changes["steps"]!r}')
            replace(self, levels={}, **changes)

    def _check_steps(self) -> None:
        if self.steps is None:
            return
        if isinstance(self.steps, list):
            object.__setattr__(self, "steps", tuple(self.steps))
        numbers = self.steps if isinstance(self.steps, tuple) else (self.steps,)
        if not numbers or not all(is_whole(n, 1, MOST_STEPS) for n in numbers):
            raise InputError(f"steps must be whole numbers from 1 to {MOST_STEPS:,}, not {self.steps!r}")

    def of(self, block: str, number: int, objective: str) -> "LevelSampling":
        """The settings of a level.

        Args:
            block: its name, as `audio.0`.
            number: how many levels are predicted before it.
            objective: what the model learned: "masked" or "levels".

        Raises:
            InputError: several passes of a level, from a model that knows only of one.
        """
        own = replace(self, levels={}, **self.levels.get(block, {}))
        steps = own.steps if own.steps is not None else (16, 1) if objective == "masked" else 1
        n_steps = steps[min(number, len(steps) - 1)] if isinstance(steps, Sequence) else int(steps)
        if objective == "levels" and n_steps > 1:
            raise InputError(
                f'{n_steps} steps for "{block}", but the model learned each level at one go (objective "levels"): '
                "leave steps out, or set 1"
            )
        return LevelSampling(n_steps, own)


LEVEL_SETTINGS = [f.name for f in fields(MaskSampling) if f.name != "levels"]

MAGNET = MaskSampling(
    steps=(20, 10, 10, 10),
    span=3,
    choice_temperature=0.0,
    anneal_temperature=True,
    guidance=10.0,
    guidance_end=1.0,
)
"""The settings of MAGNeT; its temperature starts at 3, with top-p 0.9."""


@dataclass(frozen=True)
class LevelSampling:
    """The passes of one level."""

    steps: int
    settings: MaskSampling

    def share(self, step: int) -> float:
        """Share that is masked before pass `step`; 1 before pass 0, and 0 after the last."""
        done = step / self.steps
        return 1 - done if self.settings.schedule == "linear" else math.cos(done * math.pi / 2)

    def left(self, n_units: int) -> list[int]:
        """How many of so many cells, or spans, stay masked after each pass: `[S]`."""
        if not n_units:
            return [0] * self.steps
        inner = [max(1, math.floor(self.share(step) * n_units + 1e-9)) for step in range(1, self.steps)]
        return [*inner, 0]

    def temperature(self, step: int, start: float) -> float:
        """Temperature of pass `step` where that of sampling is `start`; 0 is greedy."""
        if step == self.steps - 1 and self.settings.greedy_last:
            return 0.0
        left = (self.steps - 1 - step) / self.steps
        return start * left if self.settings.anneal_temperature else start

    def noise(self, step: int) -> float:
        """How much Gumbel noise the scores of pass `step` have."""
        return self.settings.choice_temperature * (self.steps - 1 - step) / self.steps

    @property
    def guided(self) -> bool:
        """Whether any pass has guidance."""
        return self.settings.guidance != 1 or self.settings.guidance_end not in (None, 1)

    def guidance(self, step: int) -> float:
        """Guidance of pass `step`."""
        start, end = self.settings.guidance, self.settings.guidance_end
        return start if end is None else end + (start - end) * self.share(step)
