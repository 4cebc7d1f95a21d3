"""The gradient of a window is that of one big batch, and an engine comes back from disk as it was."""

import shutil
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn

from hocket.errors import InputError
from hocket.training.config import TrainingGroup
from hocket.training.engine import Engine, choose_engine
from hocket.training.optimizers import build_optimizer


@dataclass
class Parts:
    total: Tensor


class Square(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.inner = nn.Linear(4, 8)
        self.outer = nn.Sequential(nn.LayerNorm(8), nn.Linear(8, 1))

    def forward(self, batch: Tensor) -> Parts:
        return Parts(self.outer(self.inner(batch.to(self.inner.weight.dtype))).float().square().sum())


def data(step: int, *sizes: int) -> list[Tensor]:
    return list(torch.randn(sum(sizes), 4, generator=torch.Generator().manual_seed(step)).split(sizes))


def norms_and_weights(engine: Engine, *sizes: int) -> tuple[list[float], dict[str, Tensor]]:
    norms = [engine.update(data(step, *sizes), sum(sizes), 1e-2)[1] for step in range(4)]
    return norms, {name: weight.clone() for name, weight in engine.weights().items()}


def plain_adamw(n: int, training: TrainingGroup) -> tuple[list[float], dict[str, Tensor]]:
    model, norms = Square(), []
    optimizer = build_optimizer(model, training)
    for group in optimizer.param_groups:
        group["lr"] = 1e-2
    for step in range(4):
        optimizer.zero_grad()
        (model(torch.cat(data(step, n))).total / n).backward()
        norms.append(float(nn.utils.clip_grad_norm_(model.parameters(), training.clip)))
        optimizer.step()
    return norms, model.state_dict()


@pytest.mark.parametrize(
    ("kind", "stage", "offload"),
    [
        ("accelerate", 0, "none"),
        *(("deepspeed", stage, "none") for stage in range(4)),
        ("deepspeed", 1, "optimizer"),
        ("deepspeed", 2, "optimizer"),
        ("deepspeed", 3, "optimizer"),
        ("deepspeed", 3, "parameters"),
    ],
)
def test_a_window_is_one_big_batch(kind, stage, offload):
    training = TrainingGroup(engine=kind, zero_stage=stage, offload=offload, accumulation=3)
    engine = Engine(training)
    engine.prepare(Square())
    norms, weights = norms_and_weights(engine, 2, 5, 1)
    engine.close()
    wanted_norms, wanted = plain_adamw(8, training)
    assert norms == pytest.approx(wanted_norms, rel=1e-5)
    for name, weight in wanted.items():
        torch.testing.assert_close(weights[name], weight, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", ["accelerate", "deepspeed"])
def test_bfloat16_keeps_float32_master_weights(kind):
    engine = Engine(TrainingGroup(engine=kind, zero_stage=0, dtype="bfloat16"))
    engine.prepare(Square())
    norms, weights = norms_and_weights(engine, 8)
    engine.close()
    assert norms == pytest.approx(plain_adamw(8, engine.training)[0], rel=5e-2)
    assert all(weight.dtype == torch.float32 for weight in weights.values())
    assert not torch.equal(weights["inner.weight"], weights["inner.weight"].bfloat16().float())
    assert bool(engine.notes) == (kind == "deepspeed")


@pytest.mark.parametrize("kind", ["accelerate", "deepspeed"])
def test_load_undoes_save(kind, tmp_path):
    engine = Engine(TrainingGroup(engine=kind))
    engine.prepare(Square())
    norms_and_weights(engine, 8)
    engine.save(tmp_path / "engine")
    first = norms_and_weights(engine, 8)
    engine.load(tmp_path / "engine")
    again = norms_and_weights(engine, 8)
    engine.close()
    assert first[0] == again[0]
    assert all(torch.equal(first[1][name], again[1][name]) for name in first[1])


def test_only_matrices_decay():
    decayed, free = build_optimizer(Square(), TrainingGroup(weight_decay=0.3)).param_groups
    assert (decayed["weight_decay"], {p.ndim for p in decayed["params"]}) == (0.3, {2})
    assert (free["weight_decay"], {p.ndim for p in free["params"]}) == (0.0, {1})


def test_settings_that_an_engine_cannot_follow_are_refused(monkeypatch):
    for settings, said in {
        ("zero_stage", 4): "must be 0, 1, 2 or 3",
        ("offload", "parameters"): r"training\.offload=parameters needs training\.zero_stage=3 or more",
        ("offload", "disk"): 'has no choice "disk"',
    }.items():
        with pytest.raises(InputError, match=said):
            TrainingGroup(**dict([settings]))
    with pytest.raises(InputError, match=r"training\.zero_stage=3 needs DeepSpeed, but the engine is plain Accelerate"):
        Engine(TrainingGroup(engine="accelerate", zero_stage=3))
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(InputError, match=r"training\.compile=true cannot run here: there is no C\+\+ compiler"):
        Engine(TrainingGroup(engine="accelerate", compile=True))


def test_without_a_compiler_accelerate_takes_over(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    kind, note = choose_engine("auto")
    assert kind == "accelerate"
    assert note == "DeepSpeed cannot run here (there is no C++ compiler): training with plain Accelerate"
    with pytest.raises(InputError, match="engine=deepspeed cannot run here: there is no C"):
        choose_engine("deepspeed")
