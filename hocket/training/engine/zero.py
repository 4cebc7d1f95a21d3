"""DeepSpeed's side of the engine: its settings, its checkpoints, and whole weights out of sharded ones.

    stage 0   every process holds everything              stage 2   and gradients
    stage 1   optimizer state and float32 masters are     stage 3   and weights: each layer's are gathered
              sharded over the processes                            for its own forward and backward pass

A checkpoint belongs to the number of processes that wrote it. Another number goes through DeepSpeed's universal
checkpoint (Lian et al., 2024): one file for each weight and each of Adam's two means, made when needed and removed
after loading.
"""

import contextlib
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from hocket.errors import InputError
from hocket.training.config import TrainingGroup
from hocket.training.engine.environment import ALONE
from hocket.training.saving import Write, to_host

BUCKET_ELEMENTS = 20_000_000
WHOLE_ELEMENTS = 10_000
"""At stage 3, smaller weights (gains, biases) stay whole everywhere."""
TAG = "deepspeed"
CONVERT_WORKERS = 4


def deepspeed_config(training: TrainingGroup) -> tuple[dict[str, Any], list[str]]:
    """DeepSpeed's settings, and lines to show.

    Stage 0 in bfloat16 would start Adam's step count at 1 and shrink the first update, so stage 1 stands in.
    """
    stage, notes = training.zero_stage, []
    half = training.dtype == "bfloat16"
    if half and stage == 0:
        stage = 1
        notes.append("bfloat16 needs ZeRO stage 1: training.zero_stage=0 has no effect")
    zero: dict[str, Any] = {
        "stage": stage,
        "reduce_bucket_size": BUCKET_ELEMENTS,
        "allgather_bucket_size": BUCKET_ELEMENTS,
        "stage3_param_persistence_threshold": WHOLE_ELEMENTS,
    }
    if training.offload != "none":
        zero["offload_optimizer"] = {"device": "cpu", "pin_memory": torch.cuda.is_available()}
    if training.offload == "parameters":
        zero["offload_param"] = {"device": "cpu", "pin_memory": torch.cuda.is_available()}
    return {
        "train_micro_batch_size_per_gpu": 1,
        "gradient_accumulation_steps": training.accumulation,
        "gradient_clipping": training.clip if stage else 0.0,
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,
        "steps_per_print": 10**9,
        "bf16": {"enabled": half},
        "zero_optimization": zero,
    }, notes


def restore_masters(module: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Give what trains the float32 weights that DeepSpeed halved before it made its masters; every process calls it."""
    from deepspeed.utils import safe_set_full_fp32_param  # noqa: PLC0415

    for name, parameter in module.named_parameters():
        if parameter.requires_grad:
            safe_set_full_fp32_param(parameter, weights[name].to(parameter.device))


def whole_weights(module: nn.Module, keep: bool) -> dict[str, Tensor]:
    """The state dict with whole float32 masters on the host; every process calls it, only those that `keep` get it."""
    from deepspeed.utils import safe_get_full_fp32_param  # noqa: PLC0415

    weights = {name: tensor.detach() for name, tensor in module.state_dict().items()}
    for name, parameter in module.named_parameters():
        whole = safe_get_full_fp32_param(parameter) if parameter.requires_grad else _frozen(parameter)
        if keep:
            weights[name] = to_host(parameter.detach() if whole is None else whole)
    return {name: to_host(tensor) for name, tensor in weights.items()} if keep else {}


def _frozen(parameter: nn.Parameter) -> Tensor:
    """A parameter that has no float32 master."""
    with gathered([parameter], hasattr(parameter, "ds_id")):
        return parameter.detach().clone()


def gathered(parameters: list[nn.Parameter], sharded: bool) -> contextlib.AbstractContextManager[None]:
    """While entered, by every process, these parameters are whole."""
    if not sharded:
        return contextlib.nullcontext()
    from deepspeed.runtime.zero import GatheredParameters  # noqa: PLC0415

    return GatheredParameters(parameters)


class _Collector:
    """Stands in for DeepSpeed's writer while a checkpoint is made: takes copies instead of writing."""

    def __init__(self, writer: Any):
        self._writer = writer
        self.writes: list[Write] = []

    def save(self, state_dict: Any, path: str) -> None:
        self.writes.append(Write(to_host(state_dict), Path(path)))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._writer, name)


def snapshot(wrapped: Any, folder: Path) -> list[Write]:
    """What this process has to write for a checkpoint in `folder`, as copies; every process calls it."""
    collector = _Collector(wrapped.checkpoint_engine)
    wrapped.checkpoint_engine = collector
    try:
        wrapped.save_checkpoint(str(folder), tag=TAG, save_latest=False)
    finally:
        wrapped.checkpoint_engine = collector._writer
    return collector.writes


def load(wrapped: Any, folder: Path, universal: bool = False) -> None:
    """Read a checkpoint of the same number of processes, or a universal one; every process calls it.

    From a universal checkpoint, DeepSpeed 0.19's stage 3 gives the settings of the first group of parameters to all
    groups, and one count of steps, the same tensor, to all weights, which then counts several times a step. So the
    groups' own settings are put back, and each weight gets a count of its own.
    """
    groups = wrapped.optimizer.param_groups
    settings = [{key: value for key, value in group.items() if key != "params"} for group in groups]
    wrapped._config.load_universal_checkpoint = universal
    try:
        wrapped.load_checkpoint(str(folder), tag=TAG)
    finally:
        wrapped._config.load_universal_checkpoint = False
    if universal:
        for group, before in zip(groups, settings, strict=True):
            group.update(before)
        for state in wrapped.optimizer.state.values():
            state.update({key: value.clone() for key, value in state.items() if key == "step"})


def make_universal(source: Path, target: Path) -> None:
    """Write the checkpoint `source` as a universal one; one process calls it. InputError with DeepSpeed's last word."""
    workers = str(max(1, min(CONVERT_WORKERS, (os.cpu_count() or 2) // 2)))
    command = [sys.executable, "-m", "deepspeed.checkpoint.ds_to_universal", "--inject_missing_state"]
    command += ["--input_folder", str(source / TAG), "--output_folder", str(target / TAG)]
    command += ["--num_extract_workers", workers, "--num_merge_workers", workers]
    done = subprocess.run(command, env=_outside(os.environ), capture_output=True, text=True)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise InputError(f'DeepSpeed cannot make the checkpoint "{source}" fit another number of processes: {last}')


def _outside(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment without what would draw a new process into this group of processes."""
    return {key: value for key, value in environment.items() if key not in (*ALONE, "MASTER_PORT")}
