"""Metrics in an experiment tracker beside metrics.jsonl: trackio (local, free) or Weights & Biases.

Both are extras and imported when asked for. A run that goes on, goes on in the tracker too. W&B takes its own
environment variables: WANDB_MODE=offline writes into runs/NAME/wandb and sends nothing.
"""

import importlib
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hocket.errors import InputError

PROJECT = "hocket"
ID_FILE = "tracker"
"""In the run folder: the name under which the tracker knows the run."""


class Tracker:
    """An open run in a tracker.

    Args:
        kind: "trackio" or "wandb".
        folder: the run folder.
        settings: the recipe.

    Raises:
        InputError: the tracker is not installed, or wandb knows no account.
    """

    def __init__(self, kind: str, folder: Path, settings: Mapping[str, Any]):
        self._kind = kind
        try:
            self._library = importlib.import_module(kind)
        except ImportError as error:
            raise InputError(f'training.tracker={kind} needs a package: pip install "hocket[{kind}]"') from error
        start = self._start_wandb if kind == "wandb" else self._start_trackio
        self._run = start(folder, _name_of_run(folder), dict(settings))

    def _start_wandb(self, folder: Path, name: str, config: dict[str, Any]) -> Any:
        try:
            run = self._library.init(
                project=PROJECT, name=folder.name, id=name, resume="allow", dir=str(folder), config=config
            )
        except self._library.Error as error:
            reason = " ".join(str(error).split()).rstrip(".")
            raise InputError(f"training.tracker=wandb cannot start: {reason} (or set WANDB_MODE=offline)") from error
        run.define_metric("*", step_metric="step")
        return run

    def _start_trackio(self, folder: Path, name: str, config: dict[str, Any]) -> Any:
        return self._library.init(project=PROJECT, name=name, resume="allow", config=config)

    def write(self, numbers: Mapping[str, float], step: int) -> None:
        """Log a row of numbers."""
        if self._kind == "wandb":
            self._run.log({"step": step, **numbers})
        else:
            self._library.log(dict(numbers), step=step)

    def close(self) -> None:
        """Send what is left."""
        self._run.finish() if self._kind == "wandb" else self._library.finish()


def open_tracker(kind: str, folder: Path, settings: Mapping[str, Any]) -> Tracker | None:
    """The tracker that a recipe names; None for "none"."""
    return None if kind == "none" else Tracker(kind, folder, settings)


def _name_of_run(folder: Path) -> str:
    """The folder's name with something unique, the same each time the run goes on."""
    file = folder / ID_FILE
    if not file.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{folder.name}-{uuid.uuid4().hex[:8]}\n", encoding="utf-8")
    return file.read_text(encoding="utf-8").strip()
