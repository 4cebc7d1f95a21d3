"""The run folder and its checkpoints, written so that a kill at any moment leaves a run that can go on.

    runs/NAME/
      config.yaml              the recipe
      metrics.jsonl            one row of metrics a line
      tensorboard/
      latest                   the step of the newest whole checkpoint, written last
      best                     the step of the one with the lowest valid/loss
      checkpoints/STEP/
        model/                 plain weights and vocabulary: `load_model` reads them; the average where there is one
        model-raw/             where there is an average, the weights themselves; ema.safetensors: the average, to go on
        engine/                weights, optimizer and random states, of every process its share
        trainer.json           where the data, the counters and the callbacks stood; sizes of all files
        config.yaml

A checkpoint is written into a folder aside, while training goes on, and renamed; `latest` follows; only then are old
ones removed.
"""

import json
import math
import os
import shutil
from pathlib import Path
from typing import Any

import safetensors.torch
import yaml

from hocket.errors import InputError
from hocket.model import Model, save_model_files
from hocket.training.adapters import merged
from hocket.training.config import Recipe, flatten
from hocket.training.ema import AVERAGE_FILE, WeightAverage
from hocket.training.engine import Engine
from hocket.training.trackers import ID_FILE

FREE_KEYS = (
    "name",
    "output",
    "data.workers",
    "training.steps",
    "training.flops",
    "training.save_every",
    "training.keep",
    "training.keep_best",
    "training.background_save",
    "training.accumulation",
    "model.checkpointing",
    "training.tensorboard",
    "training.processes",
    "training.tracker",
    "training.peak_flops",
    "training.sample_every",
    "training.spike_deviations",
)
"""Keys (and the group inference) that do not change what a run computes; steps may only be raised, and accumulation
changes only with the number of processes (`check_processes`)."""
ASIDE = ".writing"


class RunFolder:
    """Paths of a run and what is known about it."""

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self.config = self.path / "config.yaml"
        self.metrics = self.path / "metrics.jsonl"
        self.tensorboard = self.path / "tensorboard"
        self.latest, self.best = self.path / "latest", self.path / "best"
        self.checkpoints = self.path / "checkpoints"
        self.samples = self.path / "samples"

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
        for folder in (self.checkpoints, self.tensorboard, self.samples):
            shutil.rmtree(folder, ignore_errors=True)
        for file in (self.latest, self.best, self.metrics, self.config, self.path / ID_FILE):
            file.unlink(missing_ok=True)

    def check_config(self, recipe: Recipe) -> None:
        """Refuse to continue a run under another recipe, naming the first key that differs."""
        if not self.config.is_file():
            return
        try:
            before = flatten(yaml.safe_load(self.config.read_text(encoding="utf-8")) or {})
        except (yaml.YAMLError, AttributeError) as error:
            advice = "copy the newest checkpoint's over it, or start over with --fresh"
            raise InputError(f'"{self.config}" is no recipe: {advice}') from error
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
            raise InputError(f'"{self.latest}" should hold a step, not "{text[:40]}": write one of checkpoints/ there')
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
    run: RunFolder,
    engine: Engine,
    model: Model,
    recipe: Recipe,
    step: int,
    state: dict[str, Any],
    valid_loss: float | None = None,
    average: WeightAverage | None = None,
) -> None:
    """Write checkpoints/STEP and point `latest` to it, in the background; every process calls it.

    Args:
        state: what trainer.json holds beside the step and the sizes of the files; copied.
        valid_loss: valid/loss at this very step, if it was scored.
        average: of the weights, which is exported then.

    Raises:
        InputError: the checkpoint before could not be written.
    """
    aside = run.checkpoints / ASIDE
    engine.finish_saving()
    engine.on_main(lambda: shutil.rmtree(aside, ignore_errors=True))
    weights = engine.weights()
    averaged = average.put_into(weights) if average and engine.is_main else {}
    held = json.dumps(state | {"step": step, "valid_loss": valid_loss})

    def finish() -> None:
        save_model_files(aside / "model", model, merged(averaged or weights, recipe.training))
        if average:
            save_model_files(aside / "model-raw", model, merged(weights, recipe.training))
            safetensors.torch.save_file({name: averaged[name] for name in average.names}, aside / AVERAGE_FILE)
        write_text(aside / "config.yaml", _to_yaml(recipe))
        write_text(aside / "trainer.json", json.dumps(json.loads(held) | {"files": _sizes(aside)}, indent=1))
        final = run.checkpoint(step)
        shutil.rmtree(final, ignore_errors=True)
        os.replace(aside, final)
        write_text(run.latest, f"{step}\n")
        _remove_old(run, recipe.training.keep, recipe.training.keep_best)

    engine.save_in_background(aside / "engine", aside, finish)


def _remove_old(run: RunFolder, keep: int, keep_best: bool) -> None:
    steps = sorted(int(folder.name) for folder in run.checkpoints.iterdir() if folder.name.isdigit())
    kept = set(steps[-keep:])
    losses = {step: _valid_loss(run.checkpoint(step)) for step in (steps if keep_best else kept)}
    best = min(losses, key=lambda step: (losses[step], step))
    if losses[best] < math.inf:
        kept.add(best)
        write_text(run.best, f"{best}\n")
    for step in steps:
        if step not in kept:
            shutil.rmtree(run.checkpoint(step))


def _valid_loss(folder: Path) -> float:
    """valid/loss of a checkpoint at its step, infinite where it was not scored."""
    try:
        loss = json.loads((folder / "trainer.json").read_text(encoding="utf-8")).get("valid_loss")
    except (OSError, json.JSONDecodeError):
        return math.inf
    return loss if loss is not None and math.isfinite(loss) else math.inf


def check_processes(run: RunFolder, state: dict[str, Any], engine: Engine) -> str | None:
    """Whether a run may go on with this number of processes: a line to show where a step changes with it, or None.

    Raises:
        InputError: another accumulation at the same number of processes; or adapters beside sharded optimizer state, of
            which DeepSpeed's universal checkpoint keeps the adapters alone.
    """
    before = (state["processes"], state["accumulation"])
    now = (engine.world_size, engine.training.accumulation)
    if before == now:
        return None
    if before[0] == now[0]:
        raise InputError(
            f'the run "{run.path}" was made with training.accumulation={before[1]}, not {now[1]}, and as many '
            "processes: go on as it was, or start over with --fresh"
        )
    if engine.training.lora_rank and engine.shards_optimizer:
        raise InputError(
            f'the run "{run.path}" has adapters and was made with {before[0]} processes, not {now[0]}: with '
            "DeepSpeed it can only go on with as many"
        )
    return _describe_change(before, now)


def _describe_change(before: tuple[int, int], now: tuple[int, int]) -> str:
    """In words, of (processes, accumulation)."""
    changed = f"processes: {now[0]} instead of {before[0]}, so dropout is seeded anew"
    size_before, size = before[0] * before[1], now[0] * now[1]
    if size_before == size:
        return changed
    advice = "" if size_before % now[0] else f" (training.accumulation={size_before // now[0]} keeps it)"
    return f"{changed}; micro-batches in a step: {size} instead of {size_before}{advice}"


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
