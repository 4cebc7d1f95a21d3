"""What is compared: a run with its metrics, its evaluations, and what its checkpoints say about the model.

A run need not have all of them. What decides a fact is asked in this order: the newest evaluation, scores.json (which
`hocket train` leaves for its report), the newest checkpoint's config.json, the recipe.
"""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from hocket.codec import CodecIdentity
from hocket.errors import InputError
from hocket.evaluation.layout_facts import StageView
from hocket.evaluation.results import EVALUATION_FOLDER, Evaluation, find_evaluations
from hocket.evaluation.runs import Run, read_run
from hocket.evaluation.scores import Scores, read_scores
from hocket.interleave import Stage, load_layout
from hocket.vocab import TEXT

CONFIG_FILE = "config.json"
NOT_SETTINGS = ("name", "output", "interleave.when")


@dataclass(frozen=True)
class Subject:
    """A run that is compared."""

    label: str
    run: Run
    evaluations: dict[int, Evaluation] = field(default_factory=dict)
    scores: Scores | None = None
    model: dict[str, Any] = field(default_factory=dict)
    """The newest checkpoint's config.json; empty where there is none."""

    @property
    def newest(self) -> Evaluation | None:
        return next(reversed(self.evaluations.values()), None)

    def evaluation_folder(self, evaluation: Evaluation) -> Path:
        """Where an evaluation of the run lies."""
        step = next(number for number, one in self.evaluations.items() if one is evaluation)
        return self.run.folder / EVALUATION_FOLDER / str(step)

    @property
    def scored(self) -> Evaluation | None:
        """The newest evaluation with a likelihood."""
        return next((e for e in reversed(self.evaluations.values()) if e.likelihood), None)

    def _fact(self, evaluated: str, stored: str, stage: str, recipe: str) -> Any:
        """A fact by its names in an evaluation, in scores.json, in a checkpoint's stage and in the recipe."""
        if self.newest is not None:
            return getattr(self.newest, evaluated)
        if self.scores is not None and stored:
            return getattr(self.scores, stored)
        return self.model["stage"][stage] if self.model else self.run.setting(f"interleave.{recipe}")

    @property
    def layout(self) -> str:
        """The layout's expression, or its name in the recipe."""
        if self.newest is None and self.scores is None and self.model:
            return self.model["layout"]
        return self._fact("layout", "layout", "", "layout") or ""

    @property
    def objective(self) -> str:
        return self._fact("objective", "objective", "objective", "objective") or "next-token"

    @property
    def attention(self) -> str:
        return self._fact("attention", "", "attention", "attention") or "causal"

    @property
    def head(self) -> str:
        return self._fact("head", "", "head", "head") or "parallel"

    @property
    def given(self) -> tuple[str, ...]:
        """Streams, or levels of them, that the model is given and never predicts."""
        return tuple(sorted(self._fact("given", "", "given", "given") or ()))

    @property
    def stream(self) -> str:
        """The stream that is scored."""
        if self.newest or self.scores:
            return self._fact("stream", "stream", "", "")
        named = [name for name in self.model.get("levels", {}) if name != TEXT]
        blocks = [block.partition(".")[0] for block in self.run.blocks if not block.startswith(("<", TEXT))]
        return next((name for name in ("audio", *named, *blocks) if name in named + blocks), "audio")

    @property
    def levels(self) -> int | None:
        """Codebook levels of the scored stream."""
        if self.newest or self.scores:
            return self._fact("levels", "levels", "", "")
        if self.model:
            return self.model["levels"].get(self.stream)
        numbers = [block.partition(".")[2] for block in self.run.blocks if block.startswith(f"{self.stream}.")]
        return max((int(number) + 1 for number in numbers if number.isdigit()), default=None)

    @cached_property
    def settings(self) -> dict[str, Any]:
        """The recipe by dotted keys, without its name and folder."""
        return {key: value for key, value in flatten(self.run.config).items() if key not in NOT_SETTINGS}

    @property
    def codec(self) -> CodecIdentity | None:
        holder: Any = self.newest or self.scores
        values = holder.codec if holder else self.model.get("codec")
        known = CodecIdentity.__dataclass_fields__
        return CodecIdentity.from_dict({k: v for k, v in values.items() if k in known}) if values else None

    @property
    def n_parameters(self) -> int | None:
        holder = self.newest or self.scores
        return holder.n_parameters if holder else None

    @property
    def context_seconds(self) -> float | None:
        holder = self.newest or self.scores
        return holder.context_seconds if holder else None

    @property
    def is_bound(self) -> bool:
        """Masked objectives have no exact likelihood."""
        return self.objective == "masked"

    @cached_property
    def view(self) -> StageView | None:
        """The layout at its rates, for drawings and steps a second; None where it cannot be built from what is left."""
        if self.codec is None or self.levels is None:
            return None
        codecs = {name: CodecIdentity.from_dict(of) for name, of in self.model.get("codecs", {}).items()}
        try:
            layout = load_layout(self._expression, levels=self._levels)
        except InputError:
            return None
        stage = Stage(
            name=self.label,
            layout=layout,
            given=self.given,
            objective=self.objective,
            attention=self.attention,
            head=self.head,
        )
        rates = {name: codecs.get(name, self.codec).frame_rate for name in layout.streams if name != TEXT}
        return StageView(stage, rates)

    @property
    def _expression(self) -> str:
        nodes = self.model.get("layout_nodes")
        folder = self.run.checkpoint
        return f"{folder / 'model' / nodes}:{self.layout}" if nodes and folder else self.layout

    @property
    def _levels(self) -> dict[str, int] | int | None:
        levels = {name: k for name, k in self.model.get("levels", {}).items() if name != TEXT}
        return levels or self.levels


def flatten(node: Any, prefix: str = "") -> dict[str, Any]:
    """Nested values by dotted keys."""
    if not isinstance(node, dict):
        return {prefix: node}
    return {k: v for key, value in node.items() for k, v in flatten(value, f"{prefix}.{key}".lstrip(".")).items()}


def read_subjects(folders: Sequence[str | Path]) -> list[Subject]:
    """The runs, each with a label of its own; a folder of runs stands for all of them.

    Raises:
        InputError: a folder is no run, is given twice, or has neither metrics nor an evaluation.
    """
    found = [folder for given in folders for folder in _expand(Path(given))]
    if not found:
        raise InputError("nothing to compare: name run folders, as `hocket train` writes them")
    seen: dict[Path, Path] = {}
    for folder in found:
        if folder.resolve() in seen:
            raise InputError(f'the run "{folder}" is named twice: name each run once')
        seen[folder.resolve()] = folder
    runs = [read_run(folder) for folder in found]
    return [_read(run, label) for run, label in zip(runs, label_runs(found), strict=True)]


def _expand(folder: Path) -> list[Path]:
    """A run, or the runs right below a folder."""
    if (folder / "config.yaml").is_file() or not folder.is_dir():
        return [folder]
    return sorted(path.parent for path in folder.glob("*/config.yaml")) or [folder]


def label_runs(folders: Sequence[Path]) -> list[str]:
    """The shortest ends of the paths that tell them apart."""
    parts = [folder.resolve().parts for folder in folders]
    labels = [own[-1] for own in parts]
    for depth in range(2, max(map(len, parts)) + 1):
        twice = {label for label, n in Counter(labels).items() if n > 1}
        if not twice:
            break
        labels = ["/".join(own[-depth:]) if label in twice else label for own, label in zip(parts, labels, strict=True)]
    return labels


def _read(run: Run, label: str) -> Subject:
    evaluations = find_evaluations(run.folder)
    if not (run.train or run.valid or evaluations):
        raise InputError(
            f'the run "{run.folder}" has neither metrics nor an evaluation, so nothing to compare: train it, or leave '
            "it out"
        )
    path = run.checkpoint / "model" / CONFIG_FILE if run.checkpoint else None
    model = json.loads(path.read_text(encoding="utf-8")) if path and path.is_file() else {}
    return Subject(label, run, evaluations, read_scores(run.folder), model)
