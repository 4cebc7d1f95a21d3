"""What a step takes: mean work of a recipe's batches, counted over the first of them, and how many steps a budget buys.

Runs that are compared should have cost the same. Layouts differ in steps a second of audio, cells a step and legal ids
a cell, so that equal steps are not equal work: `training.flops` states the work, and the steps follow.

    compare-layouts, 4e13   acoustic delay, depth head   193 GFLOP a step   207 steps
                            delay                         90 GFLOP a step   443 steps
                            flatten                       83 GFLOP a step   483 steps

Counting takes as long as laying out 64 batches: tenths of a second.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hocket.data import Mixture
from hocket.errors import InputError
from hocket.model import Model
from hocket.training.adapters import choose_what_trains
from hocket.training.config import Recipe
from hocket.training.flops import BatchFlops
from hocket.training.parts import make_loader, plan_model

BATCHES = 64
"""Of the corpus, over which work is counted."""


@dataclass(frozen=True)
class Work:
    """Of a micro-batch on average."""

    grid_steps: float
    cells: float
    audio_seconds: float
    flops: float
    epoch_steps: int

    @classmethod
    def of(cls, recipe: Recipe, model: Model, corpus: Mixture) -> "Work":
        """Counted over the first batches; the model may be a sketch without weights."""
        loader, count = make_loader(recipe, model, corpus.split("train")), BatchFlops(model)
        try:
            batches = [next(loader) for _ in range(BATCHES)]
        finally:
            loader.close()
        rate = float(model.codec_identity.frame_rate)

        def mean(values: Sequence[float]) -> float:
            return float(np.mean(values))

        return cls(
            grid_steps=mean([batch.n_steps for batch in batches]),
            cells=mean([float((batch.legal_NR > 0).sum()) for batch in batches]),
            audio_seconds=mean([batch.n_frames / rate for batch in batches]),
            flops=mean([count(batch) for batch in batches]),
            epoch_steps=loader.epoch_steps,
        )


def spend(recipe: Recipe, corpus: Mixture, processes: int) -> int:
    """The optimizer steps that take `training.flops` operations.

    Raises:
        InputError: one step takes more.
    """
    training = recipe.training
    assert training.flops is not None
    model = plan_model(recipe, corpus).sketch()
    choose_what_trains(model, training)
    return steps_of(training.flops, Work.of(recipe, model, corpus).flops * processes * training.accumulation)


def steps_of(flops: float, flops_per_step: float) -> int:
    """How many steps some operations buy, rounded. InputError where not even one."""
    if flops < flops_per_step:
        raise InputError(f"training.flops is {flops:.3g}, but one step takes {flops_per_step:.3g} operations: raise it")
    return round(flops / flops_per_step)
