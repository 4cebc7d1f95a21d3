"""One optimizer step over several micro-batches, on whatever there is.

One optimizer step is a *window* of `accumulation` micro-batches per process. Its gradient is that of

    sum over processes and micro-batches of w * ce   /   sum over processes and micro-batches of w

whatever the packing, the accumulation or the number of processes. Accelerate and DeepSpeed both divide by the
accumulation and average over processes, so each micro-batch's sum is scaled by accumulation * processes / sum of w.

DeepSpeed on CPU needs a C++ compiler and ninja for its shared-memory op (built once, about a minute, see `warmup`).
Where it cannot run, plain Accelerate takes over.
"""

import os
import shutil
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator, DeepSpeedPlugin, InitProcessGroupKwargs
from accelerate.state import AcceleratorState
from torch import Tensor, nn

from hocket.errors import InputError
from hocket.training.config import TrainingGroup
from hocket.training.engine import zero
from hocket.training.engine.environment import ALONE, choose_engine, free_port, modern, quiet, why_no_compiler
from hocket.training.optimizers import build_optimizer, engine_for
from hocket.training.saving import Saver, Write, to_host

PATIENCE = timedelta(hours=1)
"""How long processes wait for each other: the first may be tokenising, or converting a checkpoint."""
PATIENCE_AT_END = 60.0
"""Seconds that a process which ends with an error waits for its files."""
STATE_FILE, UNIVERSAL = "state.pt", "universal"


class Engine:
    """Owns processes, precision, gradient, optimizer and their state on disk; knows nothing of the model's meaning."""

    def __init__(self, training: TrainingGroup):
        self.training = training
        wanted, why = engine_for(training)
        self.kind, note = choose_engine(wanted)
        self.notes = [line for line in (why, note) if line]
        self._environment = dict(os.environ)
        with quiet():
            self.accelerator = self._accelerator()
        self.rank: int = self.accelerator.process_index
        self.world_size: int = self.accelerator.num_processes
        self.is_main = self.rank == 0
        self.device: torch.device = self.accelerator.device
        self._module: torch.nn.Module | None = None
        self._saver = Saver(self.rank, self.world_size, training.background_save)
        self._stage_0_norm = torch.tensor(torch.nan)
        self._check()

    def _check(self) -> None:
        """Refuse settings that the engine found cannot follow."""
        if self.kind == "accelerate" and (self.training.offload != "none" or self.training.zero_stage == 3):
            key = "offload" if self.training.offload != "none" else "zero_stage"
            value = getattr(self.training, key)
            raise InputError(f"training.{key}={value} needs DeepSpeed, but the engine is plain Accelerate")
        if self.training.compile and self.device.type == "cpu" and (lacking := why_no_compiler()):
            raise InputError(f"training.compile=true cannot run here: {lacking}")

    def _accelerator(self) -> Accelerator:
        AcceleratorState._reset_state(reset_partial_state=True)
        cuda, alone = torch.cuda.is_available(), "LOCAL_RANK" not in os.environ
        common: dict[str, Any] = {
            "gradient_accumulation_steps": self.training.accumulation,
            "mixed_precision": "bf16" if self.training.dtype == "bfloat16" else "no",
        }
        if self.kind == "deepspeed" or not alone:
            common["kwargs_handlers"] = [InitProcessGroupKwargs(backend="nccl" if cuda else "gloo", timeout=PATIENCE)]
        if self.kind == "accelerate":
            os.environ.pop("ACCELERATE_USE_DEEPSPEED", None)
            return Accelerator(cpu=not cuda and not (alone and torch.backends.mps.is_available()), **common)
        if alone:
            os.environ.update(ALONE, MASTER_PORT=free_port())
        if not cuda:
            os.environ.setdefault("DS_ACCELERATOR", "cpu")
        config, notes = zero.deepspeed_config(self.training)
        self.notes += notes
        return Accelerator(deepspeed_plugin=DeepSpeedPlugin(hf_ds_config=config, zero3_init_flag=False), **common)

    def prepare(self, module: nn.Module) -> None:
        """Hand over the model: it goes to this process' device and gets its optimizer. Dropout is seeded here.

        DeepSpeed moves it itself, once it has halved it; its float32 masters start from the weights as they were.
        """
        torch.manual_seed(self.training.seed + self.rank)
        self._module = module if self.kind == "deepspeed" else module.to(self.device)
        if self.training.compile:
            compile_blocks(module)
        optimizer = build_optimizer(self._module, self.training)
        optimizer.register_step_pre_hook(self._clip_at_stage_0)
        halved = self.kind == "deepspeed" and self.training.dtype == "bfloat16"
        exact = to_host(dict(module.named_parameters())) if halved else {}
        with quiet():
            self._wrapped, self.optimizer = self.accelerator.prepare(self._module, optimizer)
            if halved:
                zero.restore_masters(module, exact)

    def _clip_at_stage_0(self, optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
        """DeepSpeed's stage 0 clips without telling the norm, so there the optimizer's hook clips instead."""
        if self.kind == "deepspeed" and self._wrapped.zero_optimization_stage() == 0:
            gradients = [p for group in optimizer.param_groups for p in group["params"]]
            self._stage_0_norm = torch.nn.utils.clip_grad_norm_(gradients, self.training.clip)

    @property
    def module(self) -> torch.nn.Module:
        """The bare model."""
        assert self._module is not None, "prepare comes first"
        return self._module

    def update(self, window: list[Any], weight: float, rate: float) -> tuple[list[Any], float]:
        """One optimizer step over the window, `weight` being its sum of w over all processes.

        Returns what the model returned for each micro-batch (with a scalar `.total`), and the gradient's norm before
        clipping.
        """
        scale = self.training.accumulation * self.world_size / weight
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group.get("rate_scale", 1.0)
        results: list[Any] = []
        norm = None
        for batch in window:
            with self.accelerator.accumulate(self._wrapped), modern():
                parts = self._wrapped(batch)
                self.accelerator.backward(parts.total * scale)
                if self.accelerator.sync_gradients:
                    norm = self.accelerator.clip_grad_norm_(self._wrapped.parameters(), self.training.clip)
                self.optimizer.step()
                self.optimizer.zero_grad()
            results.append(parts)
        return results, float(self._stage_0_norm if norm is None else norm)

    def evaluate(self, batch: Any) -> Any:
        """The model's result for a batch, without gradient.

        At stage 3 every process calls it equally often, because the weights of each layer are gathered from all.
        """
        self.module.eval()
        with torch.no_grad(), modern():
            parts = self._wrapped(batch) if self.kind == "deepspeed" else self.module(batch)
        self.module.train()
        return parts

    def sum(self, values: list[float]) -> list[float]:
        """Element-wise sum over processes, in float64."""
        if self.world_size == 1:
            return values
        totals = torch.tensor(values, dtype=torch.float64, device=self.device)
        torch.distributed.all_reduce(totals)
        return totals.tolist()

    def gather(self, value: Any) -> list[Any]:
        """Every process' value, in the order of ranks."""
        if self.world_size == 1:
            return [value]
        values: list[Any] = [None] * self.world_size
        torch.distributed.all_gather_object(values, value)
        return values

    def on_main(self, work: Callable[[], object]) -> None:
        """Do something in the first process while the others wait; its InputError is raised in all of them."""
        message = None
        if self.is_main:
            try:
                work()
            except InputError as error:
                message = str(error)
        message = self.gather(message)[0]
        if message is not None:
            raise InputError(message)

    def save_in_background(self, folder: Path, marked: Path, finish: Callable[[], object]) -> None:
        """Write weights, optimizer and random states into `folder` while training goes on; every process calls it.

        The first process calls `finish` when all have written; they tell each other by files in `marked`, which is the
        folder or one above it.

        Raises:
            InputError: the save before could not be written.
        """
        self.finish_saving()
        self._saver.start(marked, self._snapshot(folder), finish)

    def finish_saving(self) -> None:
        """Wait until what is being saved is on disk; every process calls it. InputError if it could not be written."""
        errors = [error for error in self.gather(self._saver.join()) if error is not None]
        if errors:
            raise InputError(f"a checkpoint could not be written: {errors[0]}")

    def save(self, folder: Path) -> None:
        """Write weights, optimizer and random states; every process calls it."""
        self.save_in_background(folder, folder, lambda: None)
        self.finish_saving()

    def _snapshot(self, folder: Path) -> list[Write]:
        writes = [Write(self._random_state(), folder / f"random-{self.rank}.pt")]
        if self.kind == "deepspeed":
            with quiet():
                return writes + zero.snapshot(self._wrapped, folder)
        if self.is_main:
            state = {"model": self.module.state_dict(), "optimizer": self.optimizer.state_dict()}
            writes.append(Write(to_host(state), folder / STATE_FILE))
        return writes

    def load(self, folder: Path, processes: int | None = None, step: int = 0) -> None:
        """Undo `save`: bit for bit at the same number of processes, otherwise all but the state of dropout.

        Args:
            processes: how many wrote it, this number unless given. Under another number, dropout is seeded anew from
                the recipe's seed, the rank and the step.
            step: optimizer steps done.

        Raises:
            InputError: a file is damaged, or DeepSpeed cannot make its checkpoint fit this number of processes.
        """
        changed = processes not in (None, self.world_size)
        try:
            with quiet():
                self._load_state(folder, changed)
            random = None if changed else torch.load(folder / f"random-{self.rank}.pt", weights_only=True)
        except (RuntimeError, UnpicklingError, EOFError) as error:
            reason = " ".join(str(error).split())[:120]
            raise InputError(f'the state in "{folder}" is damaged ({reason}): go on from another checkpoint') from error
        if changed:
            torch.manual_seed(int(np.random.SeedSequence([self.training.seed, self.rank, step]).generate_state(1)[0]))
        elif random is not None:
            self._set_random_state(random)

    def _load_state(self, folder: Path, changed: bool) -> None:
        if self.kind == "accelerate":
            state = torch.load(folder / STATE_FILE, map_location="cpu", weights_only=True)
            self.module.load_state_dict(state["model"])
            self.optimizer.load_state_dict(state["optimizer"])
        elif changed and self.shards_optimizer:
            self._load_universal(folder)
        else:
            zero.load(self._wrapped, folder)

    def _load_universal(self, folder: Path) -> None:
        aside = folder.parent / UNIVERSAL
        self.on_main(lambda: (shutil.rmtree(aside, ignore_errors=True), zero.make_universal(folder, aside)))
        zero.load(self._wrapped, aside, universal=True)
        self.on_main(lambda: shutil.rmtree(aside))

    def _random_state(self) -> dict[str, Tensor]:
        """What dropout draws from."""
        state = {"cpu": torch.get_rng_state()}
        return state | ({"cuda": torch.cuda.get_rng_state(self.device)} if self.device.type == "cuda" else {})

    def _set_random_state(self, state: dict[str, Tensor]) -> None:
        torch.set_rng_state(state["cpu"])
        if self.device.type == "cuda":
            torch.cuda.set_rng_state(state["cuda"], self.device)

    def weights(self) -> dict[str, Tensor]:
        """The model's state dict on the host, with whole float32 master weights, in the first process; elsewhere empty.

        Every process calls it.
        """
        if self.is_sharded or (self.kind == "deepspeed" and self.training.dtype == "bfloat16"):
            with modern():
                return zero.whole_weights(self.module, keep=self.is_main)
        return to_host(self.module.state_dict()) if self.is_main else {}

    @property
    def is_sharded(self) -> bool:
        """Whether weights are whole only inside their owner's forward pass: ZeRO stage 3."""
        return self.kind == "deepspeed" and self.training.zero_stage == 3

    @property
    def shards_optimizer(self) -> bool:
        """Whether each process holds a part of the optimizer's state: ZeRO from stage 1 on."""
        return self.kind == "deepspeed" and (self.training.zero_stage > 0 or self.training.dtype == "bfloat16")

    def close(self) -> None:
        """Leave the process as it was, so that another engine can start in it."""
        self._saver.join(PATIENCE_AT_END)
        self.accelerator.free_memory()
        AcceleratorState._reset_state(reset_partial_state=True)
        for key in ("ACCELERATE_USE_DEEPSPEED", "MASTER_PORT", *ALONE):
            os.environ.pop(key, None)
            if key in self._environment:
                os.environ[key] = self._environment[key]


def compile_blocks(module: nn.Module) -> None:
    """Compile each transformer block in place; all blocks of a decoder share their code."""
    for name, child in module.named_modules():
        if isinstance(child, nn.ModuleList) and name.rsplit(".", 1)[-1] == "blocks":
            for block in child:
                block.compile()
