"""What predicting a cell counts in the loss.

Moshi weighs the semantic level 100 times as much as the others and pads of its text by half (Défossez et al., 2024);
most systems give no weight to prompts and to the other speaker. Filler is never predicted and always counts 0.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from hocket.errors import InputError, did_you_mean
from hocket.interleave.checks import as_tuple

if TYPE_CHECKING:
    from hocket.interleave.plan import Plan


@dataclass(frozen=True, kw_only=True)
class LossWeights:
    """Weights of cells; they multiply. What is not named counts 1."""

    streams: Mapping[str, float] = field(default_factory=dict)
    """By stream; 0 for one that is heard but not learned, as the other speaker."""
    levels: Mapping[str, Sequence[float]] = field(default_factory=dict)
    """By stream, one number a level; levels beyond the last number count as much as it."""
    pad: float = 1.0
    """Pads of aligned text."""
    ends: float = 1.0
    """Ends of streams, and switches between them."""

    def __post_init__(self) -> None:
        numbers = [
            *self.streams.values(),
            *(w for weights in self.levels.values() for w in as_tuple(weights, "loss weights of levels")),
            self.pad,
            self.ends,
        ]
        fits = all(isinstance(number, int | float | np.number) and 0 <= number < np.inf for number in numbers)
        if not fits or any(not len(weights) for weights in self.levels.values()):
            raise InputError(f"loss weights are numbers from 0 on, at least one a stream, not {self}")

    def of(self, stream: str, level: int) -> float:
        """The weight of a code."""
        by_level = self.levels.get(stream, (1.0,))
        return float(self.streams.get(stream, 1.0) * by_level[min(level, len(by_level) - 1)])

    def table(self, cells: Sequence[tuple[str, int] | None], streams: Sequence[str]) -> np.ndarray:
        """Weights by legal set: float32, from the stream and level of each (`Layout.legal_cells`).

        Raises:
            InputError: a weight is given for a stream that there is not.
        """
        for name in (*self.streams, *self.levels):
            if name not in streams:
                raise InputError(
                    f'a loss weight is given for "{name}", which the layout lacks' + did_you_mean(name, streams)
                )
        choice = (0.0, *(self.ends for _ in cells[1:]))
        return np.array([self.of(*cell) if cell else choice[i] for i, cell in enumerate(cells)], dtype=np.float32)


def weigh(
    plan: "Plan", rules: LossWeights, prompt: Mapping | None, pads: Mapping[str, np.ndarray] | None
) -> np.ndarray:
    """See `Plan.weights`."""
    weight_TR = rules.table(plan.layout.legal_cells, tuple(plan.levels))[plan.legal_TR]
    if rules.ends != 1.0:
        for cells, _, _ in plan.marks:
            is_code_set = np.array([cell is not None for cell in plan.layout.legal_cells])[
                plan.legal_TR.reshape(-1)[cells]
            ]
            weight_TR.reshape(-1)[cells[is_code_set]] *= rules.ends
    for name, is_pad_T in (pads or {}).items():
        padded_T = np.asarray(is_pad_T)
        if name not in plan.levels or padded_T.dtype != bool or padded_T.shape != (plan.lengths[name],):
            raise InputError(
                f'pads are one bool for each frame of a stream of the layout, which those of "{name}" are not'
            )
        if rules.pad != 1.0:
            weight_TR.reshape(-1)[plan.where[name][padded_T]] *= rules.pad
    if prompt:
        weight_TR[plan.known(prompt)] = 0.0
    return weight_TR
