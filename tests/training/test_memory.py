"""The memory and the disk that `--dry-run` counts against what DeepSpeed really holds and writes."""

import json
import subprocess
from pathlib import Path

import pytest
import torch
from launching import free_port, python

from hocket.model import ModelConfig
from hocket.model.decoder import TransformerBlock, rotary
from hocket.model.documents import Documents
from hocket.training import dry_run
from hocket.training.config import TrainingGroup
from hocket.training.memory import activations

MEASURE = """
import gc, json, os, sys
import torch
from hocket.training import run_recipe
from hocket.training.engine import Engine

torch.set_num_threads(1)
prepare, found = Engine.prepare, []


def held():
    "Bytes by storage of all tensors that Python knows, gradients too."
    storages = {}
    for thing in gc.get_objects():
        if issubclass(type(thing), torch.Tensor) and not thing.is_meta:
            for tensor in (thing, thing.grad if thing.is_leaf else None):
                if tensor is not None:
                    storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
    return sum(storages.values())


def watched(engine, module):
    prepare(engine, module)
    inner = engine.optimizer
    while not isinstance(inner, torch.optim.AdamW):
        inner = inner.optimizer
    inner.register_step_pre_hook(lambda *ignored: found.append(held()))
    step = engine._wrapped.step
    engine._wrapped.step = lambda *given, **named: (found.append(held()), step(*given, **named))[1]


Engine.prepare = watched
run_recipe("tiny", json.loads(sys.argv[1]))
if os.environ["RANK"] == "0":
    print("FOUND", max(found))
"""
"""At the end of each backward pass and whenever the optimizer begins."""
SHAPE = [
    "model.dim=192",
    "model.n_layers=4",
    "model.ffn_dim=512",
    "model.n_heads=4",
    "model.n_kv_heads=4",
    "training.engine=deepspeed",
    "training.steps=3",
    "training.processes=2",
    "training.save_every=3",
]
CASES = [(1, "float32", 1), (2, "float32", 1), (3, "float32", 1), (1, "bfloat16", 2), (2, "bfloat16", 1)]
CASES += [(3, "bfloat16", 1), (0, "float32", 1)]


def measure(made: list[str], folder: Path) -> int:
    """Bytes of all tensors of the first process at the fullest moment."""
    file = folder / "measure.py"
    file.write_text(MEASURE)
    launch = ["torch.distributed.run", "--nproc_per_node", "2", "--master_port", free_port()]
    done: subprocess.CompletedProcess = python(*launch, str(file), json.dumps(made))
    lines = [line for line in done.stdout.splitlines() if line.startswith("FOUND")]
    assert lines, done.stderr[-2000:]
    return int(lines[0].removeprefix("FOUND"))


@pytest.mark.slow
@pytest.mark.parametrize(("stage", "dtype", "accumulation"), CASES)
def test_states_and_checkpoints_have_the_bytes_that_are_counted(overrides, tmp_path, stage, dtype, accumulation):
    kind = [f"training.zero_stage={stage}", f"training.dtype={dtype}", f"training.accumulation={accumulation}"]
    made = overrides("run", *SHAPE, *kind)
    plan = dry_run("tiny", made)
    held, states = measure(made, tmp_path), plan.memory.states
    print(f"stage {stage} {dtype}: {held:,} held, {states:,} counted, {plan.memory.buffers:,} of buckets")
    assert min(abs(held - states), abs(held - states - plan.memory.buffers)) < 0.1 * states  # buckets come and go
    check_disk(plan, tmp_path / "run")


def check_disk(plan, run: Path) -> None:
    """A checkpoint's folders are as large as planned, and no more of them are left than planned."""
    checkpoints = run / "checkpoints"
    for folder, planned in {"3/model": plan.checkpoint["exported"], "3/engine": plan.checkpoint["engine"]}.items():
        files = [path for path in (checkpoints / folder).rglob("*") if path.is_file() and "random" not in path.name]
        assert sum(path.stat().st_size for path in files) == pytest.approx(planned, rel=0.05)
    assert len(list(checkpoints.iterdir())) <= plan.disk // sum(plan.checkpoint.values())


@pytest.mark.parametrize(("dropout", "qk_norm", "n_kv_heads"), [(0.0, True, 4), (0.1, False, 2)])
def test_a_block_keeps_the_activations_that_are_estimated(dropout, qk_norm, n_kv_heads):
    config = ModelConfig(
        dim=128, n_layers=1, n_heads=4, n_kv_heads=n_kv_heads, ffn_dim=384, dropout=dropout, qk_norm=qk_norm
    )
    block, n_steps, kept = TransformerBlock(config, 0), 96, {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    own = {p.untyped_storage().data_ptr() for p in block.parameters()}
    documents = Documents([0, n_steps], n_steps, torch.device("cpu"), longest=n_steps)
    x_ND = torch.randn(n_steps, config.dim, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        block(x_ND, rotary(documents.positions_N, config, torch.float32), documents)
    measured = sum(size for pointer, size in kept.items() if pointer not in own)
    whole = activations(config, TrainingGroup(dtype="float32"), n_steps, n_rows=0) - n_steps * 4 * 2 * config.dim
    assert measured == pytest.approx(whole, rel=0.15)
