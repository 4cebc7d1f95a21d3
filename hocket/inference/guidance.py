"""Classifier-free guidance of models that go step by step.

    logits = without + scale * (with - without)          with: the condition; without: <null> in its place

Ho and Salimans (2022), as MusicGen does it (Copet et al., 2023, arXiv:2306.05284): a batch of 2B goes through the
model, first the B documents, then the same with each code of the conditions replaced by `<null>` in place, as a
training with `training.condition_dropout` showed them; ends and markers stay. What is drawn goes into both halves. The
scale may go evenly from one number to another over the document, as MAGNeT's does over its passes (Ziv et al., 2024,
arXiv:2401.04577).

A checkpoint does not say whether conditions were dropped in its training: the run's `config.yaml` does. A model that
never saw `<null>` makes noise of it, and guidance of it is worth nothing.

Cost: each step is of twice the batch; the combination itself 5 microseconds for 4 rows of 2,049 logits.

Shapes: B documents, T steps, R rows, P rows of a pass, J legal ids.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from hocket.errors import InputError, did_you_mean
from hocket.interleave import Stage
from hocket.interleave.plan import Plan
from hocket.model.stepping import NOTHING, Pass


@dataclass(frozen=True, kw_only=True)
class Guidance:
    """How much more the condition counts than a model alone would let it.

    Raises:
        InputError: says which setting is wrong, and what would be right.
    """

    scale: float = 3.0
    """1 is none, more follows the condition more closely, 0 forgets it; MusicGen takes 3."""
    end_scale: float | None = None
    """The scale at the end of the document, which it reaches evenly; `scale` unless given."""
    streams: tuple[str, ...] = ()
    """The conditions that are dropped in the other half: all streams that the model is given unless named."""

    def __post_init__(self) -> None:
        end = self.scale if self.end_scale is None else self.end_scale
        for name, value in (("scale", self.scale), ("end_scale", end)):
            is_number = isinstance(value, int | float) and not isinstance(value, bool)
            if not (is_number and 0 <= value < math.inf):
                raise InputError(f"guidance: {name} must be 1 (none) or another number from 0 on, not {value!r}")
        if isinstance(self.streams, str) or not all(isinstance(name, str) for name in self.streams):
            raise InputError(f'guidance: streams must be a list of names such as ("text",), not {self.streams!r}')
        object.__setattr__(self, "streams", tuple(self.streams))

    @property
    def is_off(self) -> bool:
        """Whether the condition counts as the model alone lets it, from start to end: no second half is needed."""
        return self.scale == 1 and self.end_scale in (None, 1)

    def at(self, progress: float) -> float:
        """The scale where `progress`, from 0 to 1, of the steps (or passes) are done."""
        end = self.scale if self.end_scale is None else self.end_scale
        return self.scale + (end - self.scale) * min(max(progress, 0.0), 1.0)

    def conditions(self, stage: Stage) -> tuple[str, ...]:
        """The streams that are dropped.

        Raises:
            InputError: the model is given no stream, or not one that was named; what it predicts was never dropped.
        """
        whole = [name for name in stage.layout.streams if name not in stage.predicted]
        for name in self.streams:
            if name not in stage.layout.streams:
                raise InputError(
                    f'guidance: {stage.layout} has no stream "{name}"{did_you_mean(name, stage.layout.streams)}'
                )
            if name not in whole:
                raise InputError(
                    f'guidance: "{name}" is predicted by this model, so it was never dropped in training'
                    f"{did_you_mean(name, whole) if whole else ''}: name a stream that the model is given"
                )
        if not whole:
            raise InputError(
                f"guidance needs a condition, but this model of {stage.layout} is given none: leave guidance out, or "
                "train one with interleave.given and training.condition_dropout"
            )
        return self.streams or tuple(whole)


def dropped_cells(plan: Plan, streams: Sequence[str]) -> np.ndarray:
    """Which cells hold codes of some streams, copies included, but no ends: bool `[T, R]`."""
    numbers = [list(plan.levels).index(name) for name in streams]
    return np.isin(plan.stream_TR, numbers) & (plan.source_TR >= len(plan.symbols))


def double(ids_BTR: Tensor, dropped_BTR: Tensor, null: int) -> Tensor:
    """The ids `[2B, T, R]` that the model reads: as they are, then with `<null>` in the cells that are dropped."""
    return torch.cat([ids_BTR, ids_BTR.masked_fill(dropped_BTR.to(ids_BTR.device), null)])


def combine(pass_: Pass, scale: float | Tensor) -> Pass:
    """The guided pass of B documents from one of 2B.

    Args:
        scale: one number, or one for each document: float32 `[B]` on the device of the logits.
    """
    with_BPJ, without_BPJ = pass_.logits_BPJ.chunk(2)
    return pass_._replace(logits_BPJ=guide(with_BPJ, without_BPJ, scale))


def guide(with_BPJ: Tensor, without_BPJ: Tensor, scale: float | Tensor) -> Tensor:
    """Logits with a condition as far from those without it as `scale` says; what is illegal stays so."""
    scale = scale[:, None, None] if isinstance(scale, Tensor) else scale
    guided_BPJ = torch.lerp(without_BPJ, with_BPJ, scale)
    return guided_BPJ.nan_to_num_(nan=NOTHING, posinf=math.inf, neginf=NOTHING)  # -inf of both halves gave nan
