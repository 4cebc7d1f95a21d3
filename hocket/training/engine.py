"""The engine: Accelerate with DeepSpeed under it, on GPUs and on CPU, in one process and in several.

One optimizer step is a *window* of `accumulation` micro-batches per process. Its gradient is that of

    sum over processes and micro-batches of w * ce   /   sum over processes and micro-batches of w

whatever the packing, the accumulation or the number of processes. Accelerate and DeepSpeed both divide by the
accumulation and average over processes, so each micro-batch's sum is scaled by accumulation * processes / sum of w.

DeepSpeed on CPU needs a C++ compiler and ninja for its shared-memory op (built once, about a minute, see `warmup`).
Where it cannot run, plain Accelerate takes over.
"""

import contextlib
import importlib.util
import io
import logging
import os
import shutil
import socket
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator, DeepSpeedPlugin, InitProcessGroupKwargs
from accelerate.state import AcceleratorState

from hocket.errors import InputError
from hocket.training.config import TrainingGroup

BUCKET_ELEMENTS = 20_000_000
_ALONE = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1"}


def why_no_deepspeed() -> str | None:
    """What DeepSpeed lacks on this machine, or None if it can run."""
    _put_interpreter_on_path()
    if importlib.util.find_spec("deepspeed") is None:
        return "deepspeed is not installed"
    if torch.backends.mps.is_available():
        return "DeepSpeed has no Apple GPU support"
    if not torch.cuda.is_available():
        if shutil.which(os.environ.get("CXX", "c++")) is None:
            return "there is no C++ compiler"
        if shutil.which("ninja") is None:
            return "ninja is not on the PATH"
    return None


def _put_interpreter_on_path() -> None:
    """`ninja` is installed beside the interpreter, whose folder is on the PATH only in an activated environment."""
    folder = str(Path(sys.executable).parent)
    if folder not in os.environ.get("PATH", "").split(os.pathsep):
        os.environ["PATH"] = folder + os.pathsep + os.environ.get("PATH", "")


def choose_engine(wanted: str) -> tuple[str, str | None]:
    """`("deepspeed" | "accelerate", a line to show or None)`. InputError if DeepSpeed is demanded and cannot run."""
    if wanted == "accelerate":
        return "accelerate", None
    lacking = why_no_deepspeed()
    if lacking is None:
        return "deepspeed", None
    if wanted == "deepspeed":
        raise InputError(f"training.engine=deepspeed cannot run here: {lacking}; training.engine=accelerate can")
    return "accelerate", f"DeepSpeed cannot run here ({lacking}): training with plain Accelerate"


class Engine:
    """Owns processes, precision, gradient, optimizer and their state on disk; knows nothing of the model's meaning."""

    def __init__(self, training: TrainingGroup):
        self.training = training
        self.kind, note = choose_engine(training.engine)
        self.notes = [note] if note else []
        self._environment = dict(os.environ)
        with _quiet():
            self.accelerator = self._accelerator()
        self.rank: int = self.accelerator.process_index
        self.world_size: int = self.accelerator.num_processes
        self.is_main = self.rank == 0
        self.device: torch.device = self.accelerator.device
        self._module: torch.nn.Module | None = None
        self._stage_0_norm = torch.tensor(torch.nan)

    def _accelerator(self) -> Accelerator:
        AcceleratorState._reset_state(reset_partial_state=True)
        cuda, alone = torch.cuda.is_available(), "LOCAL_RANK" not in os.environ
        common: dict[str, Any] = {
            "gradient_accumulation_steps": self.training.accumulation,
            "mixed_precision": "bf16" if self.training.dtype == "bfloat16" else "no",
        }
        if self.kind == "deepspeed" or not alone:
            common["kwargs_handlers"] = [InitProcessGroupKwargs(backend="nccl" if cuda else "gloo")]
        if self.kind == "accelerate":
            os.environ.pop("ACCELERATE_USE_DEEPSPEED", None)
            return Accelerator(cpu=not cuda and not (alone and torch.backends.mps.is_available()), **common)
        if alone:
            os.environ.update(_ALONE, MASTER_PORT=_free_port())
        if not cuda:
            os.environ.setdefault("DS_ACCELERATOR", "cpu")
        return Accelerator(deepspeed_plugin=DeepSpeedPlugin(hf_ds_config=self._deepspeed_config()), **common)

    def _deepspeed_config(self) -> dict[str, Any]:
        """Stage 0 in bfloat16 would start Adam's step count at 1 and shrink the first update, so stage 1 stands in."""
        stage = self.training.zero_stage
        if self.training.dtype == "bfloat16" and stage == 0:
            stage = 1
            self.notes.append("bfloat16 needs ZeRO stage 1: training.zero_stage=0 has no effect")
        return {
            "train_micro_batch_size_per_gpu": 1,
            "gradient_accumulation_steps": self.training.accumulation,
            "gradient_clipping": self.training.clip if stage else 0.0,
            "zero_allow_untested_optimizer": True,
            "steps_per_print": 10**9,
            "bf16": {"enabled": self.training.dtype == "bfloat16"},
            "zero_optimization": {
                "stage": stage,
                "reduce_bucket_size": BUCKET_ELEMENTS,
                "allgather_bucket_size": BUCKET_ELEMENTS,
            },
        }

    def prepare(self, module: torch.nn.Module) -> None:
        """Hand over the model: it goes to this process' device and gets its optimizer. Dropout is seeded here."""
        torch.manual_seed(self.training.seed + self.rank)
        self._module = module.to(self.device)
        optimizer = build_optimizer(self._module, self.training)
        optimizer.register_step_pre_hook(self._clip_at_stage_0)
        with _quiet():
            self._wrapped, self.optimizer = self.accelerator.prepare(self._module, optimizer)

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
            group["lr"] = rate
        results: list[Any] = []
        norm = None
        for batch in window:
            with self.accelerator.accumulate(self._wrapped), warnings.catch_warnings():
                warnings.filterwarnings("ignore", message=".*all_gather_into_tensor.*", category=FutureWarning)
                parts = self._wrapped(batch)
                self.accelerator.backward(parts.total * scale)
                if self.accelerator.sync_gradients:
                    norm = self.accelerator.clip_grad_norm_(self._wrapped.parameters(), self.training.clip)
                self.optimizer.step()
                self.optimizer.zero_grad()
            results.append(parts)
        return results, float(self._stage_0_norm if norm is None else norm)

    def evaluate(self, batch: Any) -> Any:
        """The model's result for a batch, without gradient."""
        self.module.eval()
        with torch.no_grad():
            parts = self.module(batch)
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

    def save(self, folder: Path) -> None:
        """Weights, optimizer and random states; every process calls it."""
        with _quiet():
            self.accelerator.save_state(str(folder))

    def load(self, folder: Path) -> None:
        """Undo `save`, bit for bit, at the same number of processes."""
        with _quiet():
            self.accelerator.load_state(str(folder))

    def weights(self) -> dict[str, torch.Tensor]:
        """The model's state dict with float32 master weights; every process calls it."""
        state = {name: tensor.detach() for name, tensor in self.module.state_dict().items()}
        if self.kind == "deepspeed" and self.training.dtype == "bfloat16":
            from deepspeed.utils import safe_get_full_fp32_param  # noqa: PLC0415

            masters = {name: safe_get_full_fp32_param(param) for name, param in self.module.named_parameters()}
            state |= {name: tensor for name, tensor in masters.items() if tensor is not None}
        return state

    def close(self) -> None:
        """Leave the process as it was, so that another engine can start in it."""
        self.accelerator.free_memory()
        AcceleratorState._reset_state(reset_partial_state=True)
        for key in ("ACCELERATE_USE_DEEPSPEED", "MASTER_PORT", *_ALONE):
            os.environ.pop(key, None)
            if key in self._environment:
                os.environ[key] = self._environment[key]


def build_optimizer(module: torch.nn.Module, training: TrainingGroup) -> torch.optim.AdamW:
    """AdamW that decays matrices only; gains and biases are left alone."""
    parameters = [p for p in module.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": training.weight_decay},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    return torch.optim.AdamW(groups, lr=training.lr, betas=(training.beta1, training.beta2))


def _free_port() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """DeepSpeed prints and logs while it starts, saves and loads; nothing of it concerns the user."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
