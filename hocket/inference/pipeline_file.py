"""What a cascade is made of: a pipeline file, or checkpoints separated by commas, `runs/semantic,runs/coarse`.

codecs: {semantic: units}               where a stream's codec is found, to encode prompts with
given: []                               streams that the user gives
stages:
  - checkpoint: runs/semantic
    sampling: {temperature: 0.8}        beside the settings of the whole pipeline
  - checkpoint: runs/coarse
    window: 10                          seconds that the model sees at once, in long recordings
    overlap: 3                          of them made before
  - checkpoint: runs/soundstorm
    masked: {steps: [16, 1]}            of models that predict in place
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import yaml

from hocket.errors import InputError, did_you_mean
from hocket.inference.guidance import Guidance
from hocket.inference.masking import MaskSampling
from hocket.inference.sampling import Sampling

_CODEC = re.compile(r"([A-Za-z_]\w*)=(.+)")


@dataclass(frozen=True, kw_only=True)
class StageSettings:
    """One entry of a pipeline file.

    Raises:
        InputError: a setting that there is not, or that cannot be.
    """

    checkpoint: str
    """A run, one of its checkpoints, or a model folder."""
    name: str = ""
    """What the stage is called; its checkpoint's name unless given."""
    sampling: Mapping[str, Any] = field(default_factory=dict)
    """Settings of `Sampling` other than those of the whole pipeline."""
    masked: Mapping[str, Any] = field(default_factory=dict)
    """Settings of `MaskSampling`, for models that predict in place."""
    guidance: Mapping[str, Any] = field(default_factory=dict)
    """Settings of `Guidance`, for models that go step by step."""
    window: float | None = None
    """Seconds that the model sees at once; as many as its context holds unless given."""
    overlap: float | None = None
    """Seconds of a window that the one before made; a quarter of the window unless given."""

    def __post_init__(self) -> None:
        for kind, values in ((Sampling, self.sampling), (MaskSampling, self.masked), (Guidance, self.guidance)):
            self._check(kind, values)
        for key in ("window", "overlap"):
            value = getattr(self, key)
            is_number = isinstance(value, int | float) and not isinstance(value, bool)
            if value is not None and not (is_number and value >= 0):
                raise InputError(f'stage "{self.name}": {key} is a number of seconds, not {value!r}')
        if self.window == 0 or (self.window and self.overlap and self.overlap >= self.window):
            raise InputError(
                f'stage "{self.name}": a window of {self.window} s must be longer than its overlap of '
                f"{self.overlap or 0} s"
            )

    def _check(self, kind: type, values: Any) -> None:
        if not isinstance(values, Mapping):
            raise InputError(f'stage "{self.name}": settings are written as a mapping of names, not as {values!r}')
        names = [f.name for f in fields(kind)]
        for key in values:
            if key not in names:
                raise InputError(f'stage "{self.name}" has no setting "{key}"' + did_you_mean(str(key), names))
        kind(**_tuples(values))


@dataclass(frozen=True, kw_only=True)
class PipelineSpec:
    """What a pipeline file, or the command line, says."""

    stages: tuple[StageSettings, ...]
    codecs: Mapping[str, str] = field(default_factory=dict)
    """By stream, where its codec is found: needed to encode a prompt where the checkpoints do not know it."""
    given: tuple[str, ...] = ()
    """Streams that the user gives, or levels of them as `audio[:4]`."""


def read_spec(spec: str | Path) -> PipelineSpec:
    """A pipeline file, or checkpoints separated by commas, among which `semantic=units` says where a codec is found.

    Paths in a file are meant from where one stands, or else from the file's folder.

    Raises:
        InputError: there is no such file, or it describes no pipeline.
    """
    if not str(spec).endswith((".yaml", ".yml")):
        found = [part.strip() for part in str(spec).split(",")]
        codecs = {match[1]: match[2] for part in found if (match := _CODEC.fullmatch(part))}
        checkpoints = [part for part in found if not _CODEC.fullmatch(part)]
        if not all(checkpoints) or not checkpoints:
            raise InputError(f'"{spec}" is no pipeline: write checkpoints separated by commas, or name a .yaml file')
        return PipelineSpec(stages=_named([StageSettings(checkpoint=part) for part in checkpoints]), codecs=codecs)
    path = Path(spec)
    if not path.is_file():
        raise InputError(f'there is no pipeline file "{path}"')
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise InputError(f"{path} is no YAML: {' '.join(str(error).split())}") from None
    return _parse(content, path)


def _parse(content: Any, path: Path) -> PipelineSpec:
    stages = content.get("stages") if isinstance(content, dict) else None
    if not isinstance(stages, list) or not stages:
        raise InputError(f"{path} describes no pipeline: it needs `stages:`, a list of {{name, checkpoint}}")
    known, keys = [f.name for f in fields(StageSettings)], [f.name for f in fields(PipelineSpec)]
    for key in content:
        if key not in keys:
            raise InputError(f'{path} has the unknown key "{key}"' + did_you_mean(str(key), keys))
    for stage in stages:
        if not isinstance(stage, dict) or not isinstance(stage.get("checkpoint"), str):
            raise InputError(f"{path}: a stage is written as {{name, checkpoint}}, not as {stage!r}")
        for key in stage:
            if key not in known:
                raise InputError(f'{path}: a stage has the unknown key "{key}"' + did_you_mean(str(key), known))
    codecs = content.get("codecs") or {}
    if not isinstance(codecs, dict):
        raise InputError(f"{path}: `codecs:` says for each stream where its codec is found, not {codecs!r}")
    settings = [StageSettings(**stage | {"checkpoint": _locate(stage["checkpoint"], path)}) for stage in stages]
    return PipelineSpec(
        stages=_named(settings),
        codecs={name: _locate(str(source), path) for name, source in codecs.items()},
        given=tuple(content.get("given") or ()),
    )


def _locate(source: str, path: Path) -> str:
    beside = path.parent / source
    return str(beside) if not Path(source).exists() and beside.exists() else source


def _named(stages: Sequence[StageSettings]) -> tuple[StageSettings, ...]:
    """Stages with names that tell them apart."""
    named: list[StageSettings] = []
    for stage in stages:
        name = stage.name or Path(stage.checkpoint).name or "stage"
        taken = {other.name for other in named}
        if stage.name and name in taken:
            raise InputError(f'two stages are named "{name}"')
        if name in taken:
            name = next(f"{name}-{i}" for i in range(2, len(stages) + 2) if f"{name}-{i}" not in taken)
        named.append(replace(stage, name=name))
    return tuple(named)


def settings_of(kind: type, values: Mapping[str, Any], base: Any = None) -> Any:
    """Settings of a stage as `Sampling`, `MaskSampling` or `Guidance`: those of the whole pipeline but for its own."""
    return replace(base, **_tuples(values)) if base is not None else kind(**_tuples(values))


def _tuples(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}
