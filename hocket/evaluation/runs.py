"""Reads what a training run left behind: configuration, metrics, the newest checkpoint, and a sample if there is one.

    runs/NAME/config.yaml  metrics.jsonl  latest  checkpoints/STEP/model/
    runs/NAME/scores.json  sample.json  prompt.wav  continuation.wav …                                   (made here)

Shapes: T frames, K levels.
"""

import hashlib
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import yaml

from hocket.data import Corpus, Mixture
from hocket.errors import InputError
from hocket.training.bundled import bundled_kind
from hocket.training.config import InterleaveGroup
from hocket.training.parts import all_streams

SAMPLE_FILE = "sample.json"
RECENT = 64  # rows of training that are looked at for the names of losses
Line = list[tuple[float, float]]


@dataclass(frozen=True, kw_only=True)
class Run:
    """A run folder, read."""

    folder: Path
    config: dict[str, Any]
    """config.yaml: the recipe, nested."""
    train: list[dict[str, Any]]
    """Rows of training metrics, by ascending step."""
    valid: list[dict[str, Any]]
    """Rows of held-out metrics."""
    step: int | None
    """Step of the newest checkpoint; None while there is none."""

    @property
    def name(self) -> str:
        return self.folder.resolve().name

    @property
    def checkpoint(self) -> Path | None:
        return None if self.step is None else self.folder / "checkpoints" / str(self.step)

    @property
    def fingerprint(self) -> str:
        """Hash of the newest checkpoint's weights; empty while there is none."""
        path = None if self.checkpoint is None else self.checkpoint / "model" / "model.safetensors"
        return hashlib.sha256(path.read_bytes()).hexdigest()[:16] if path and path.is_file() else ""

    @property
    def trainer(self) -> dict[str, Any]:
        """trainer.json of the newest checkpoint: engine, processes and more."""
        path = None if self.checkpoint is None else self.checkpoint / "trainer.json"
        return json.loads(path.read_text(encoding="utf-8")) if path and path.is_file() else {}

    @property
    def blocks(self) -> list[str]:
        """Blocks that are scored, such as audio.0, stream after stream as the metrics have them; a step of a masked
        model need not have all."""
        rows = self.train[-RECENT:] + self.valid[-1:]
        found = [key.partition("/")[2] for row in rows for key in row if key.startswith(("loss/", "valid/"))]
        names = [name for name in dict.fromkeys(found) if name != "loss"]
        streams = list(dict.fromkeys(name.partition(".")[0] for name in names))

        def place(name: str) -> tuple[int, int]:
            stream, _, level = name.partition(".")
            return streams.index(stream), int(level) if level.isdigit() else 0  # <to.text> has no level

        return sorted(names, key=place)

    def line(self, key: str) -> Line:
        """(step, value) of one metric over the run."""
        rows = self.valid if key.startswith("valid/") else self.train
        return [(row["step"], row[key]) for row in rows if key in row]

    def last(self, key: str) -> float | None:
        line = self.line(key)
        return line[-1][1] if line else None

    def setting(self, dotted: str) -> Any:
        """A value of the recipe, such as "training.steps"; None if it is not there."""
        node: Any = self.config
        for part in dotted.split("."):
            node = node.get(part) if isinstance(node, dict) else None
        return node


def read_run(folder: str | Path) -> Run:
    """Read a run folder.

    Raises:
        InputError: it is no run folder, or its metrics are damaged.
    """
    folder = Path(folder)
    config_path = folder / "config.yaml"
    if not config_path.is_file():
        raise InputError(f'"{folder}" is no run folder (it has no config.yaml); `hocket train RECIPE` makes one')
    rows = _read_metrics(folder / "metrics.jsonl")
    latest = folder / "latest"
    return Run(
        folder=folder,
        config=yaml.safe_load(config_path.read_text(encoding="utf-8")) or {},
        train=[row for row in rows if "loss" in row],
        valid=[row for row in rows if any(key.startswith("valid/") for key in row)],
        step=int(latest.read_text(encoding="utf-8")) if latest.is_file() else None,
    )


def _read_metrics(path: Path) -> list[dict[str, Any]]:
    if not path.is_file():
        return []
    rows = []
    whole_lines = path.read_text(encoding="utf-8").split("\n")[:-1]  # a kill may have cut the last one short
    for number, line in enumerate(whole_lines, 1):
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError as error:
            raise InputError(f"{path} line {number} is no JSON: {error.msg}") from error
    return rows


def bundled_corpus_of(run: Run) -> Path:
    """Where the trainer keeps the bundled speech as the run's layout needs it, tokenised: beside the runs."""
    group = InterleaveGroup(**run.config.get("interleave", {}))
    return run.folder.parent / bundled_kind(all_streams(group)).folder


def open_corpus(run: Run) -> Corpus | Mixture:
    """The corpus that the run was trained on, or the mixture. InputError where it is gone."""
    named = run.setting("data.corpus")
    mixture = Mixture.open(bundled_corpus_of(run) if named in (None, "bundled") else named)
    first, *others = mixture.corpora
    return mixture if others else first


@dataclass(frozen=True, kw_only=True)
class Sample:
    """A continuation that was sampled from the run, and how. The wav files lie beside it in the run folder."""

    clip: str
    """Id of the held-out clip."""
    text: str | None
    """What is said in the clip."""
    prompt_seconds: float
    seconds: float
    """Length of the continuation."""
    wall_seconds: float
    """Time that sampling took."""
    ended: bool
    """The model ended the clip itself."""
    step: int
    """Training step of the checkpoint."""
    sampling: dict[str, Any]
    """Temperature, top_k, top_p, seed."""
    prompt_codes: list[list[int]] = field(default_factory=list)  # [T, K]
    codes: list[list[int]] = field(default_factory=list)  # [T, K] of the continuation

    @property
    def real_time_factor(self) -> float:
        """Seconds of work for a second of audio; below 1 is faster than real time."""
        return self.wall_seconds / self.seconds

    def save(self, folder: Path) -> None:
        (folder / SAMPLE_FILE).write_text(json.dumps(asdict(self)) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> "Sample | None":
        path = folder / SAMPLE_FILE
        return cls(**json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else None
