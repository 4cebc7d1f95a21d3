"""One training run from recipe to checkpoint: start it, continue it, or say that it is finished."""

import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from hocket.data import Batch, Mixture, PackedLoader, one_pass
from hocket.errors import InputError
from hocket.model import load_model
from hocket.training.adapters import choose_what_trains
from hocket.training.callbacks import Averaging, Checkpoints, MetricsLog, Progress, Spikes, Validation
from hocket.training.checkpoints import RunFolder, check_processes, save_checkpoint
from hocket.training.config import Recipe, TrainingGroup
from hocket.training.ema import AVERAGE_FILE, WeightAverage, check_average
from hocket.training.engine import Engine
from hocket.training.flops import BatchFlops, peak_flops
from hocket.training.health import describe, score_kinds
from hocket.training.loop import Callback, Loop
from hocket.training.metrics import MetricsFiles, read_rows
from hocket.training.parts import build_model, find_stage, hiding, make_loader, open_corpus
from hocket.training.recipes import load_recipe
from hocket.training.samples import Samples
from hocket.training.trackers import open_tracker
from hocket.training.work import spend


@dataclass(frozen=True)
class RunResult:
    """How a run ended."""

    folder: Path
    steps: int
    seconds: float  # of this call
    metrics: dict[str, Any] = field(default_factory=dict)  # the last value of each; empty except in the first process
    signal: int = 0  # what ended it early, 0 if nothing did

    @property
    def summary(self) -> str:
        """One line for the terminal."""
        losses = [f"{key} {self.metrics[key]:.3f}" for key in ("loss", "valid/loss") if key in self.metrics]
        return ", ".join([f"{self.folder}: {self.steps} steps", *losses])


def run_recipe(recipe: str | Path, overrides: list[str] | None = None, fresh: bool = False) -> RunResult:
    """Train a recipe by name or path with overrides such as `model.dim=128`. InputError in one sentence."""
    return train(load_recipe(recipe, overrides), fresh)


def train(recipe: Recipe, fresh: bool = False) -> RunResult:
    """Train, going on with the run in `recipe.output` if there is one, unless `fresh`.

    A run that was killed goes on from its newest checkpoint and gives the losses it would have given.
    """
    start = time.monotonic()
    run = RunFolder(recipe.output)
    run.check_usable(fresh)
    find_stage(recipe.interleave)
    step = None
    if not fresh:
        run.check_config(recipe)
        step = run.latest_step()
    engine = Engine(recipe.training)
    try:
        for note in engine.notes:
            _say(engine, note)
        if recipe.training.flops is not None:
            recipe.training.steps = spend(recipe, open_corpus(recipe, engine), engine.world_size)
        _check_steps(run, recipe, step)
        if step is not None and step == recipe.training.steps:
            done = f"{run.path} is finished, {step} steps"
            _say(engine, f"{done}: raise training.steps to go on, or give --fresh to start over")
            return RunResult(run.path, step, 0.0, _last_metrics(run))
        ended_by, metrics, done = _Training(engine, run, recipe, step, fresh).run()
        return RunResult(run.path, done, time.monotonic() - start, metrics, ended_by)
    finally:
        engine.close()


def _check_steps(run: RunFolder, recipe: Recipe, step: int | None) -> None:
    if step is not None and step > recipe.training.steps:
        raise InputError(
            f'the run "{run.path}" has done {step} steps, more than training.steps={recipe.training.steps}: '
            "steps may be raised, not lowered"
        )


class _Training:
    """The parts of a run, put together."""

    def __init__(self, engine: Engine, run: RunFolder, recipe: Recipe, step: int | None, fresh: bool):
        self.engine, self.run_folder, self.recipe = engine, run, recipe
        self.state = None if step is None else run.read_state(step)
        self.corpus = open_corpus(recipe, engine)
        self._check_same_setting(self.state)
        self.model = build_model(recipe, self.corpus) if step is None else load_model(run.checkpoint(step))
        self.blocks = list(dict.fromkeys(names[0] for names in self.model.layout.legal_sets if names))
        if engine.world_size > 1:  # the first process encodes texts, the others map what it wrote
            engine.on_main(lambda: self._loader(self.corpus.split("train")))
        self.loader = self._loader(self.corpus.split("train"))
        self.valid = list(self._one_pass(self.corpus.split("valid")))
        check_average(recipe.training, engine.is_sharded)
        choose_what_trains(self.model, recipe.training)
        engine.on_main(lambda: self._open_folder(fresh))
        engine.prepare(self.model.train())
        if step is not None and self.state:
            engine.load(run.checkpoint(step) / "engine", self.state["processes"], step)
        self.average = None
        if recipe.training.ema:
            file = None if step is None else run.checkpoint(step) / AVERAGE_FILE
            self.average = WeightAverage(self.model, recipe.training.ema, file)

    def run(self) -> tuple[int, dict[str, Any], int]:
        """Train. Returns the signal that ended it early (or 0), the last metrics, and the steps done."""
        step = self.state["step"] if self.state else 0
        opened: list[MetricsFiles] = []  # in the first process
        self.engine.on_main(lambda: opened.append(self._open_metrics(step)))
        files = opened[0] if opened else None
        flops = BatchFlops(self.model)
        loop = Loop(self.engine, self.loader, self._every, self.blocks, self._callbacks(files), flops=flops)
        loop.callbacks = [*loop.callbacks, Checkpoints(lambda at: self._save(loop, at), self._every.save_every)]
        if self.state:
            loop.load_state(self.state)
        self._greet(step)
        if not step:
            self._check_health()
        try:
            ended_by = loop.run()
            self.engine.finish_saving()
        finally:
            self.loader.close()
        if ended_by:
            name = signal.Signals(ended_by).name
            _say(self.engine, f"stopped by {name} after step {loop.step}; the same command goes on from there")
        return ended_by, files.last if files else {}, loop.step

    def _open_metrics(self, step: int) -> MetricsFiles:
        tensorboard = self.run_folder.tensorboard if self._every.tensorboard else None
        tracker = open_tracker(self._every.tracker, self.run_folder.path, self.recipe.to_dict())
        return MetricsFiles(self.run_folder.metrics, tensorboard, step, tracker)

    @property
    def _every(self) -> TrainingGroup:
        return self.recipe.training

    def _callbacks(self, files: MetricsFiles | None) -> list[Callback]:
        frame_rate = float(self.model.codec_identity.frame_rate)
        every, average, folder = self._every, self.average, self.run_folder.path
        callbacks: list[Callback] = [Averaging(average)] if average else []
        callbacks += [
            MetricsLog(
                files, self.blocks, frame_rate, every.log_every, self._peak_flops, not self.model.stage.in_place
            ),
            Validation(self.engine, self.valid, self.blocks, files, every.valid_every, self.model, average),
        ]
        if every.spike_deviations:
            callbacks.append(Spikes(self.engine, files, every.spike_deviations))
        if every.sample_every:
            examples, settings = self.corpus.split("valid" if self.valid else "train"), self.recipe.inference
            callbacks.append(
                Samples(self.engine, self.model, examples, settings, folder, files, every.sample_every, average)
            )
        return [*callbacks, Progress(every.steps)] if self.engine.is_main else callbacks

    @property
    def _peak_flops(self) -> float | None:
        """Of all devices."""
        of_one = self._every.peak_flops
        if of_one is None and self.engine.device.type == "cuda":
            of_one = peak_flops(torch.cuda.get_device_name(self.engine.device))
        return of_one * self.engine.world_size if of_one else None

    def _check_health(self) -> None:
        """Whether each kind of cell costs at first what it should, from scratch."""
        if self.model.config.warm_start:
            _say(self.engine, "the start is not checked: weights come from a warm start")
            return
        batches = self.valid or self._one_pass(self.corpus.split("train"))
        batch = next(iter(batches)).to(self.engine.device)
        full = self.model.vocabulary.size if self.model.config.softmax == "full" else 0
        for line in describe(score_kinds(self.engine.evaluate, batch, self.model.head.legal_sets, full)):
            _say(self.engine, line)

    def _save(self, loop: Loop, step: int) -> None:
        shape = {"processes": self.engine.world_size, "accumulation": self._every.accumulation}
        state = loop.state() | self._setting() | shape
        scored = [callback for callback in loop.callbacks if isinstance(callback, Validation)]
        valid_loss = next((callback.loss for callback in scored if callback.scored_at == step), None)
        save_checkpoint(self.run_folder, self.engine, self.model, self.recipe, step, state, valid_loss, self.average)

    def _setting(self) -> dict[str, Any]:
        """What must be the same when the run goes on."""
        return {
            "engine": self.engine.kind,
            "corpus": self.corpus.fingerprint,
        }

    def _check_same_setting(self, state: dict[str, Any] | None) -> None:
        for key, value in self._setting().items() if state else ():
            if state and state[key] != value:
                raise InputError(
                    f'the run "{self.run_folder.path}" was made with {key} {state[key]}, not {value}: '
                    "go on as it was, or start over with --fresh"
                )
        note = check_processes(self.run_folder, state, self.engine) if state else None
        if note:
            _say(self.engine, note)

    def _open_folder(self, fresh: bool) -> None:
        if fresh:
            self.run_folder.clear()
        self.run_folder.write_config(self.recipe)

    def _loader(self, corpus: Mixture) -> PackedLoader:
        return make_loader(self.recipe, self.model, corpus, self.engine.rank, self.engine.world_size)

    def _one_pass(self, corpus: Mixture) -> Iterator[Batch]:
        return one_pass(
            corpus,
            self.model.layout,
            self.model.vocabulary,
            **self.recipe.data.options(),
            context=self.recipe.model.context,
            weights=self.recipe.training.loss_weights(),
            **hiding(self.recipe, self.model, learning=False),
        )

    def _greet(self, step: int) -> None:
        doing = f"continuing {self.run_folder.path} from step {step}" if step else f"training {self.run_folder.path}"
        processes = f", {self.engine.world_size} processes" if self.engine.world_size > 1 else ""
        engine = "DeepSpeed" if self.engine.kind == "deepspeed" else "Accelerate"
        million = self.model.n_parameters / 1e6
        _say(self.engine, f"{doing}: {million:.1f}M parameters, {self.model.layout}, {engine}{processes}")
        facts = self.loader.facts
        if facts.lacking or facts.left_out or facts.n_cut:
            _say(self.engine, f"the training split: {facts}")
        if not self.valid:
            _say(self.engine, "the corpus has no valid split, so there is no validation")


def _last_metrics(run: RunFolder) -> dict[str, Any]:
    metrics: dict[str, Any] = {}
    for row in read_rows(run.metrics):
        metrics |= row
    return metrics


def _say(engine: Engine, sentence: str) -> None:
    if engine.is_main:
        print(sentence, file=sys.stderr, flush=True)
