"""The run folder and its checkpoints, written so that a kill at any moment leaves a run that can go on.

    runs/NAME/
      config.yaml              the recipe
      metrics.jsonl            one row of metrics a line
      tensorboard/
      latest                   the step of the newest whole checkpoint, written last
      checkpoints/STEP/
        model/                 plain weights and vocabulary: `load_model` reads them
        engine/                weights, optimizer and random states of every process
        trainer.json           where the data, the counters and the callbacks stood; sizes of all files
        config.yaml

A checkpoint is written into a folder aside and renamed; `latest` follows; only then are old ones removed.
"""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import yaml

from hocket.errors import InputError
from hocket.model import Model, save_model_files
from hocket.training.config import Recipe, flatten
from hocket.training.engine import Engine

FREE_KEYS = (
    "name",
    "output",
    "data.workers",
    "training.steps",
    "training.save_every",
    "training.keep",
    "training.tensorboard",
    "training.tracker",
    "training.peak_flops",
    "training.sample_every",
)
"""Keys (and the group inference) that do not change what a run computes; steps may only be raised."""
ASIDE = ".writing"


class RunFolder:
    """Paths of a run and what is known about it."""

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self.config = self.path / "config.yaml"
        self.metrics = self.path / "metrics.jsonl"
        self.tensorboard = self.path / "tensorboard"
        self.latest = self.path / "latest"
        self.checkpoints = self.path / "checkpoints"

    def checkpoint(self, step: int) -> Path:
        return self.checkpoints / str(step)

    def check_usable(self, fresh: bool) -> None:
        """Refuse a folder that holds something else than a run."""
        if self.path.is_file():
            raise InputError(f'the run folder "{self.path}" is a file')
        foreign = self.path.is_dir() and any(self.path.iterdir()) and not self.config.is_file()
        if foreign:
            doing = "start a run over" if fresh else "train"
            raise InputError(f'"{self.path}" is not empty and holds no run: name another run (name=…) to {doing}')

    def clear(self) -> None:
        """Remove what training wrote; other files stay."""
        for folder in (self.checkpoints, self.tensorboard):
            shutil.rmtree(folder, ignore_errors=True)
        for file in (self.latest, self.metrics, self.config):
            file.unlink(missing_ok=True)

    def check_config(self, recipe: Recipe) -> None:
        """Refuse to continue a run under another recipe, naming the first key that differs."""
        if not self.config.is_file():
            return
        before = flatten(yaml.safe_load(self.config.read_text(encoding="utf-8")) or {})
        now = flatten(recipe.to_dict())
        for key, value in now.items():
            free = key in FREE_KEYS or key.startswith("inference.")
            if not free and key in before and before[key] != value:
                raise InputError(
                    f'the run "{self.path}" was made with {key}={before[key]}, not {value}: '
                    "name another run (name=…) or start over with --fresh"
                )

    def write_config(self, recipe: Recipe) -> None:
        self.path.mkdir(parents=True, exist_ok=True)
        write_text(self.config, _to_yaml(recipe))
        shutil.rmtree(self.checkpoints / ASIDE, ignore_errors=True)

    def latest_step(self) -> int | None:
        """Step of the newest checkpoint, None where there is none. InputError if `latest` names a broken one."""
        if not self.latest.is_file():
            return None
        text = self.latest.read_text(encoding="utf-8").strip()
        if not text.isdigit():
            raise InputError(f'"{self.latest}" should hold a step, not "{text[:40]}"')
        self.read_state(int(text))
        return int(text)

    def read_state(self, step: int) -> dict[str, Any]:
        """trainer.json of a checkpoint, once all its files are known to be whole. InputError if one is not."""
        folder = self.checkpoint(step)
        advice = f"write the step of another checkpoint into {self.latest}, or start over with --fresh"
        if not folder.is_dir():
            raise InputError(f'the checkpoint "{folder}" is missing, though {self.latest} names it: {advice}')
        try:
            state = json.loads((folder / "trainer.json").read_text(encoding="utf-8"))
            files: dict[str, int] = state["files"]
        except (OSError, json.JSONDecodeError, KeyError, TypeError) as error:
            raise InputError(f'the checkpoint "{folder}" has no usable trainer.json: {advice}') from error
        for name, size in files.items():
            path = folder / name
            if not path.is_file() or path.stat().st_size != size:
                raise InputError(f'the checkpoint "{folder}" is damaged, {name} is missing or cut short: {advice}')
        return state


def save_checkpoint(
    run: RunFolder, engine: Engine, model: Model, recipe: Recipe, step: int, state: dict[str, Any], keep: int
) -> None:
    """Write checkpoints/STEP and point `latest` to it; every process calls it."""
    aside = run.checkpoints / ASIDE
    engine.on_main(lambda: shutil.rmtree(aside, ignore_errors=True))
    engine.save(aside / "engine")
    weights = engine.weights()

    def finish() -> None:
        save_model_files(aside / "model", model, weights)
        write_text(aside / "config.yaml", _to_yaml(recipe))
        write_text(aside / "trainer.json", json.dumps(state | {"step": step, "files": _sizes(aside)}, indent=1))
        final = run.checkpoint(step)
        shutil.rmtree(final, ignore_errors=True)
        os.replace(aside, final)
        write_text(run.latest, f"{step}\n")
        _remove_old(run, keep)

    engine.on_main(finish)


def _remove_old(run: RunFolder, keep: int) -> None:
    steps = sorted(int(folder.name) for folder in run.checkpoints.iterdir() if folder.name.isdigit())
    for step in steps[:-keep]:
        shutil.rmtree(run.checkpoint(step))


def _sizes(folder: Path) -> dict[str, int]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.stat().st_size for path in files}


def _to_yaml(recipe: Recipe) -> str:
    return yaml.safe_dump(recipe.to_dict(), sort_keys=False, allow_unicode=True)


def write_text(path: Path, text: str) -> None:
    """Write a whole file or none."""
    partial = path.with_name(f"{path.name}.partial")
    with partial.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(partial, path)
