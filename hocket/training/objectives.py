"""Objectives that hide codes: masked and level by level, predicted in place; and conditions that are dropped.

    level   0   a b c d e f g h      The level drawn is 1, the prompt 2 frames long.
            1   a b ? d ? ? g h      Levels below are shown. `?` is <mask.audio.1> and predicted.
            2   a b . . . . . .      Levels above are hidden: `.` is <mask.audio.2> and not predicted.

    "masked"   some frames of the level: MaskGIT (Chang et al., 2022; one level), SoundStorm (Borsos et al., 2023),
               MAGNeT (Ziv et al., 2024; `span` 3, `prompt` 0)
    "levels"   all of its frames: the second stage of VALL-E (Wang et al., 2023), the fine one of Bark (Suno, 2023)

Level, prompt and masked frames are drawn anew for each document in each epoch, from the training seed, the epoch, the
example and where its piece begins, and from nothing else: not the rank, the worker, the batch or the packing. So a run
that goes on, on however many processes, draws what it would have drawn, and torch's random state is left alone.

A dropped condition (classifier-free guidance: Ho and Salimans, 2022) keeps its length and place; its codes are <null>.
Ends and markers stay.

A batch of 2,048 steps in 10 documents of 8 levels costs 1.3 ms of one thread, as much as laying it out.

Shapes: N steps, R rows, K levels, T frames of a document.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch

from hocket.data import Batch
from hocket.errors import InputError, did_you_mean
from hocket.interleave import LossWeights, PlanBatch, Stage
from hocket.training.config import TrainingGroup
from hocket.vocab import Vocabulary

MASKS, DROPS, DEALS = range(3)  # what a random generator is for


@dataclass(frozen=True, kw_only=True)
class Masking:
    """How the frames of the predicted level are drawn."""

    schedule: str = "cosine"
    """Share of frames that are masked: "cosine", cos(u pi/2) for u uniform; "linear", uniform; "all"."""
    span: int = 1
    """Frames that are masked together; spans may overlap, and the last one is cut to keep the share."""
    prompt: float = 1.0
    """How often the first frames are shown at all levels: a uniform share of the document, 0 included."""
    level: int | None = None
    """Which of the predicted levels, counted over all streams; drawn unless given."""
    dealt: bool = False
    """Levels go round among the documents of a batch instead, so that few documents show all of them (validation)."""
    scaled: bool = False
    """Masked frames count (frames / masked frames) times, so that a document counts as if all were predicted."""

    def count(self, n_frames: int, rng: np.random.Generator) -> int:
        """How many of so many frames (at least one) are masked: at least one."""
        if self.schedule == "all":
            return n_frames
        uniform = rng.random()
        if self.schedule == "linear":
            return 1 + int(uniform * n_frames)
        return max(1, round(math.cos(uniform * math.pi / 2) * n_frames))

    def choose(self, n_frames: int, rng: np.random.Generator) -> np.ndarray:
        """The masked ones of so many frames, in no order: int64."""
        n_masked = self.count(n_frames, rng)
        if n_masked == n_frames:
            return np.arange(n_frames)
        turn = rng.permutation(n_frames + self.span - 1)  # of the span that ends at frame 0, 1, …
        covered_T = np.lib.stride_tricks.sliding_window_view(turn, self.span).min(axis=1) if self.span > 1 else turn
        return np.argsort(covered_T, kind="stable")[:n_masked]


@dataclass(frozen=True)
class Level:
    """One of the levels that are predicted in place."""

    stream: str
    level: int
    mask: int  # id of its <mask.…>
    counts: bool  # whether its loss has a weight


@dataclass(frozen=True, kw_only=True)
class Objective:
    """Hides codes of batches as they are laid out: what a loader takes as `hide`."""

    levels: tuple[Level, ...] = ()
    """What is predicted in place, lowest first; none for next-token."""
    masking: Masking = field(default_factory=Masking)
    conditions: tuple[str, ...] = ()
    """Streams that are dropped, all together."""
    dropout: float = 0.0
    """Share of the documents whose conditions are dropped."""
    null: int = 0
    """Id of <null>."""

    def __call__(self, batch: Batch, plan: PlanBatch, seeds: Sequence[int]) -> Batch:
        """The batch with codes hidden; targets, legal sets and weights are those of the masked cells.

        Args:
            batch: as laid out by `plan`.
            seeds: fixes what is drawn for each document.
        """
        ids_M = batch.ids_NR.numpy().reshape(-1).copy()
        weight_M = np.zeros(len(ids_M), np.float32)
        first = {name: (np.cumsum(n_D) - n_D).tolist() for name, n_D in plan.document_lengths.items()}
        dealt = self._deal(seeds)
        for number, seed in enumerate(seeds):
            cells = {n: plan.where[n][first[n][number] :][: plan.document_lengths[n][number]] for n in first}
            if self.levels:
                self._mask(cells, dealt[number], np.random.default_rng([seed, MASKS]), ids_M, weight_M)
            if self.dropout and np.random.default_rng([seed, DROPS]).random() < self.dropout:
                for name in self.conditions:
                    ids_M[cells[name][cells[name] >= 0]] = self.null
        if len(plan.copied_cells[0]):
            copies, held = plan.copies
            ids_M[copies] = ids_M[held]
        ids_NR = torch.from_numpy(ids_M).view_as(batch.ids_NR)
        if not self.levels:
            return replace(batch, ids_NR=ids_NR)
        factor_NR = torch.from_numpy(weight_M).view_as(batch.weight_NR)
        return replace(
            batch,
            ids_NR=ids_NR,
            target_NR=batch.ids_NR,
            legal_NR=batch.legal_NR * (factor_NR > 0),
            weight_NR=batch.weight_NR * factor_NR,
        )

    def _deal(self, seeds: Sequence[int]) -> list[int | None]:
        """The level of each document, None where it is drawn."""
        if not (self.levels and self.masking.dealt and seeds):
            return [self.masking.level] * len(seeds)
        counting = [i for i, level in enumerate(self.levels) if level.counts]
        order = np.random.default_rng([seeds[0], DEALS]).permutation(counting).tolist()
        return [order[number % len(order)] for number in range(len(seeds))]

    def _mask(
        self,
        cells: dict[str, np.ndarray],
        level: int | None,
        rng: np.random.Generator,
        ids_M: np.ndarray,
        weight_M: np.ndarray,
    ) -> None:
        """Hides codes of one document, of which `cells` `[T, K]` by stream are the places, and marks what is masked."""
        drawn = self._draw_level(cells, rng) if level is None else level
        has_prompt, share = rng.random() < self.masking.prompt, rng.random()
        for number, at in enumerate(self.levels):
            cells_T = cells[at.stream][:, at.level]
            rest_T = cells_T[int(share * len(cells_T)) if has_prompt else 0 :]
            if number < drawn or not len(rest_T):
                continue
            if number > drawn:
                ids_M[rest_T] = at.mask
                continue
            masked_T = rest_T[self.masking.choose(len(rest_T), rng)]
            ids_M[masked_T] = at.mask
            weight_M[masked_T] = len(rest_T) / len(masked_T) if self.masking.scaled else 1.0

    def _draw_level(self, cells: dict[str, np.ndarray], rng: np.random.Generator) -> int:
        """One of the levels that the document has, and that count."""
        here = [i for i, level in enumerate(self.levels) if level.counts and len(cells[level.stream])]
        return here[int(rng.integers(len(here)))] if here else len(self.levels)


def predicted_levels(stage: Stage, vocabulary: Vocabulary, weights: LossWeights | None = None) -> tuple[Level, ...]:
    """The levels that a stage predicts in place, lowest first, stream after stream; none for next-token.

    Raises:
        InputError: the layout goes by spans.
    """
    if not stage.in_place:
        return ()
    if stage.layout.has_spans:
        raise InputError(
            f'{stage.layout} goes by spans, so where a code stands tells what it is: objective "{stage.objective}" '
            "needs a layout without spans"
        )
    rules = weights or LossWeights()
    return tuple(
        Level(name, k, vocabulary.id(f"<mask.{stage.block(name, k)}>"), rules.of(name, k) > 0)
        for name, k in stage.predicted_levels
    )


def build_objective(stage: Stage, vocabulary: Vocabulary, training: TrainingGroup, *, learning: bool) -> Objective:
    """What a recipe's training hides; conditions only where it learns, not where it validates.

    Raises:
        InputError: the settings do not fit the stage.
    """
    schedule = "all" if stage.objective == "levels" else training.mask_schedule
    masking = Masking(schedule=schedule, span=training.mask_span, prompt=training.mask_prompt, dealt=not learning)
    _check_masking(stage, training)
    return Objective(
        levels=predicted_levels(stage, vocabulary, training.loss_weights()),
        masking=masking,
        conditions=_conditions(stage, training),
        dropout=training.condition_dropout if learning else 0.0,
        null=vocabulary.id("<null>"),
    )


def loading_options(stage: Stage, objective: Objective) -> dict[str, Any]:
    """What a loader or a single pass is told of a stage: what is given, what ends, what is hidden."""
    hides = bool(objective.levels or objective.dropout)
    return {
        "given": stage.given,
        "ended": stage.ended if stage.in_place else None,
        "hide": objective if hides else None,
    }


def _check_masking(stage: Stage, training: TrainingGroup) -> None:
    """Refuse settings that would have no effect."""
    for key in ("mask_schedule", "mask_span"):
        changed = getattr(training, key) != getattr(TrainingGroup(), key)
        if changed and stage.objective != "masked":
            raise InputError(
                f'training.{key} is for objective "masked", but this layout is learned by "{stage.objective}": '
                f"leave it out, or add interleave.objective=masked"
            )


def _conditions(stage: Stage, training: TrainingGroup) -> tuple[str, ...]:
    """The streams that are dropped: those named, else all that are given whole."""
    whole = [name for name in stage.layout.streams if name not in stage.predicted]
    for name in training.condition_streams:
        if name not in whole:
            raise InputError(
                f'training.condition_streams names "{name}", which {stage.layout} does not have as a given stream'
                f"{did_you_mean(name, whole)}"
            )
    chosen = tuple(training.condition_streams or whole)
    if training.condition_dropout and not chosen:
        raise InputError(
            f"training.condition_dropout is {training.condition_dropout}, but no stream of {stage.layout} is given: "
            "set it to 0, or name conditions in interleave.given"
        )
    return chosen
