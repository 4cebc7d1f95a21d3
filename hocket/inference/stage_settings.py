"""How each stage of a cascade draws: the settings of the whole as far as they concern it, and its own over them."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from hocket.errors import InputError
from hocket.inference.cascade import CascadeStage
from hocket.inference.guidance import Guidance
from hocket.inference.masking import MaskSampling
from hocket.inference.pipeline_file import settings_of
from hocket.inference.sampling import Sampling


class Settings:
    """How each stage draws: the settings of the whole pipeline as far as they concern it, and its own.

    Raises:
        InputError: a setting concerns no stage.
    """

    def __init__(
        self,
        stages: Sequence[CascadeStage],
        sampling: Sampling,
        guidance: Guidance | None,
        masks: MaskSampling | None,
    ):
        self._sampling, self._guidance, self._masks = sampling, guidance, masks
        for name in sampling.rows:
            if not any(_has_row(stage, name, sampling) for stage in stages):
                raise InputError(f'rows: no stage of the pipeline has "{name}"')
        if masks is not None and not any(stage.model.stage.in_place for stage in stages):
            raise InputError("every stage goes step by step: there are no masks to set")
        if guidance is not None and not any(map(_can_be_guided, stages)):
            raise InputError("no stage that goes step by step is given a stream: there is nothing to guide")

    def of(self, stage: CascadeStage) -> dict[str, Any]:
        """Arguments of `Generator.sample`."""
        in_place, own = stage.model.stage.in_place, stage.settings
        rows = {name: how for name, how in self._sampling.rows.items() if _has_row(stage, name, self._sampling)}
        general = replace(self._sampling, rows=rows)
        how: dict[str, Any] = {}
        if in_place:
            general, masks = replace(general, repetition_window=0), self._masks
            if masks and stage.model.stage.objective == "levels":
                masks = replace(masks, steps=None)
            if masks or own.masked:
                how["masks"] = settings_of(MaskSampling, own.masked, masks)
        elif own.guidance or (self._guidance and _can_be_guided(stage)):
            how["guidance"] = settings_of(Guidance, own.guidance, self._guidance)
        how["sampling"] = settings_of(Sampling, own.sampling, general)
        return how


def _has_row(stage: CascadeStage, name: str, sampling: Sampling) -> bool:
    """Whether a stage has the stream or the levels that a key of `rows` names."""
    try:
        Sampling(rows={name: sampling.rows[name]}).bind(stage.model)
    except InputError:
        return False
    return True


def _can_be_guided(stage: CascadeStage) -> bool:
    whole = [name for name in stage.levels if name not in stage.model.stage.predicted]
    return bool(whole) and not stage.model.stage.in_place
