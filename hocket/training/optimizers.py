"""Optimizers and what each does with which parameter.

    adamw    every matrix decays, gains and biases do not
    muon     matrices inside blocks by Muon (Jordan et al., 2024), embeddings, output matrices, adapters, gains and
             biases by AdamW: one optimizer object with one state, so that it is saved and resumed like any other

Muon takes the mean of a matrix' gradients and replaces it by the nearest matrix whose directions all count the same
(five Newton-Schulz steps in bfloat16). Its step is scaled by 0.2 * sqrt(longer side), which gives it the size of
AdamW's, so that one learning rate and one weight decay serve both (Liu et al., 2025).

Fused matrices are taken apart: queries, keys and values, gate and up are matrices of their own to Muon, as in Jordan's
runs. Matrices of one shape go through the iteration together, at most `TOGETHER` numbers at a time.

Measured on one CPU thread, validation loss: the demo cut to 80 steps AdamW 6.523, Muon 6.559, Muon on whole fused
matrices 6.558; random walks (60 steps, mean of three seeds) at lr .003 AdamW .758, Muon .779, whole .779, at .01 AdamW
.729, Muon .833, whole .844, with training losses .489, .352, .345. It fits faster, which minutes of data do not reward;
taking matrices apart made no difference at these sizes.
"""

import re
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.adamw import adamw

from hocket.errors import InputError
from hocket.model.decoder import TransformerBlock
from hocket.training.config import TrainingGroup

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
NEWTON_SCHULZ_STEPS = 5
RMS_OF_ADAMW = 0.2
TOGETHER = 2**26
_IN_BLOCKS = re.compile(r"(^|\.)blocks\.\d+\.")


def build_optimizer(module: nn.Module, training: TrainingGroup) -> torch.optim.Optimizer:
    """The recipe's optimizer over the parameters that train.

    The rate of a group is the schedule's times the group's `rate_scale`.

    Raises:
        InputError: nothing is left to train.
    """
    named = {name: p for name, p in module.named_parameters() if p.requires_grad}
    if not named:
        raise InputError(f"training.freeze={training.freeze} leaves nothing to train")
    by_muon = {name for name, p in named.items() if training.optimizer == "muon" and is_hidden_matrix(name, p)}
    rest = [name for name in named if name not in by_muon]
    groups: list[dict[str, Any]] = [
        {"params": [named[name] for name in rest if decays(name, named[name])], "weight_decay": training.weight_decay},
        {"params": [named[name] for name in rest if not decays(name, named[name])], "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    betas = (training.beta1, training.beta2)
    if training.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=training.lr, betas=betas)
    return MuonAdamW([*_muon_groups(module, named, by_muon, training), *groups], lr=training.lr, betas=betas)


def is_matrix(name: str, parameter: Tensor) -> bool:
    """A matrix, or several on top of each other; no biases, though they may come on top of each other too."""
    return parameter.ndim >= 2 and not name.endswith(".bias")


def decays(name: str, parameter: Tensor) -> bool:
    """Whether weight decay is meant for it: a matrix, and no table of which rows are frozen."""
    return is_matrix(name, parameter) and not getattr(parameter, "frozen_rows", 0)


def is_hidden_matrix(name: str, parameter: Tensor) -> bool:
    """A matrix inside a block: what maps hidden states to hidden states, adapters aside."""
    return is_matrix(name, parameter) and bool(_IN_BLOCKS.search(name)) and ".lora_" not in name


def engine_for(training: TrainingGroup) -> tuple[str, str | None]:
    """`training.engine` as the optimizer allows it, and a line to show.

    Muon would meet flat partitions instead of matrices under DeepSpeed's ZeRO. DeepSpeed has a Muon of its own for
    these, which clips after the iteration instead of before: at `clip` 1 the norm of its steps is 1 over all weights.

    Raises:
        InputError: DeepSpeed is demanded where Muon cannot run, or stage 3 or offload, which only DeepSpeed has.
    """
    stage = training.zero_stage or int(training.dtype == "bfloat16")
    if training.optimizer != "muon" or training.engine == "accelerate" or not stage:
        return training.engine, None
    why = f"training.optimizer=muon needs whole matrices, which DeepSpeed's ZeRO stage {stage} cuts up"
    if training.engine == "deepspeed":
        raise InputError(
            f"{why}: choose training.engine=accelerate, or training.zero_stage=0 with training.dtype=float32"
        )
    if stage == 3 or training.offload != "none":
        key = "zero_stage=3" if stage == 3 else f"offload={training.offload}"
        raise InputError(f"{why}: training.{key} needs training.optimizer=adamw")
    return "accelerate", f"{why}: training with plain Accelerate"


def fused_parts(module: nn.Module) -> dict[int, tuple[int, ...]]:
    """Rows of the parts of each fused matrix in the blocks, by the parameter's id."""
    parts = {}
    for block in module.modules():
        if isinstance(block, TransformerBlock):
            c = block.config
            grouped = c.n_kv_heads * c.head_width
            parts[id(block.qkv.weight)] = (c.n_heads * c.head_width, grouped, grouped)
            parts[id(block.gate_up.weight)] = (c.ffn_dim, c.ffn_dim)
    return parts


def _muon_groups(
    module: nn.Module, named: dict[str, nn.Parameter], chosen: set[str], training: TrainingGroup
) -> list[dict[str, Any]]:
    """One group, or none where no matrix in a block trains."""
    parts, parameters = fused_parts(module), [named[name] for name in named if name in chosen]
    rate = training.lr if training.muon_lr is None else training.muon_lr
    group = {
        "params": parameters,
        "weight_decay": training.weight_decay,
        "rate_scale": rate / training.lr if training.lr else 1.0,
        "momentum": training.muon_momentum,
        "parts": [parts.get(id(p), (p.shape[-2],)) for p in parameters],
    }
    return [group] if parameters else []


class MuonAdamW(torch.optim.Optimizer):
    """Muon for groups with `parts` (rows of the parts of each of its matrices), AdamW for the others."""

    def __init__(self, groups: list[dict[str, Any]], lr: float, betas: tuple[float, float], eps: float = 1e-8):
        super().__init__(groups, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": 0.0})

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """One step; a closure is called first and its loss returned."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            (self._muon if "parts" in group else self._adamw)(group)
        return loss

    def _muon(self, group: dict[str, Any]) -> None:
        momentum, rate = group["momentum"], group["lr"]
        there = [(p, rows) for p, rows in zip(group["params"], group["parts"], strict=True) if p.grad is not None]
        pieces: list[Tensor] = []
        for p, rows in there:
            mean = self.state[p].setdefault("momentum_buffer", torch.zeros_like(p))
            mean.lerp_(p.grad, 1 - momentum)
            pieces += p.grad.lerp(mean, momentum).split(rows, dim=-2)
        steps = iter(orthogonalise(pieces))
        for p, rows in there:
            p.mul_(1 - rate * group["weight_decay"])
            for part in p.split(rows, dim=-2):
                part.add_(next(steps), alpha=-rate * RMS_OF_ADAMW * max(part.shape[-2:]) ** 0.5)

    def _adamw(self, group: dict[str, Any]) -> None:
        parameters = [p for p in group["params"] if p.grad is not None]
        states = [self.state[p] for p in parameters]
        for p, state in zip(parameters, states, strict=True):
            if not state:
                state["step"] = torch.zeros(())
                state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(p), torch.zeros_like(p)
        adamw(
            parameters,
            [p.grad for p in parameters],
            [state["exp_avg"] for state in states],
            [state["exp_avg_sq"] for state in states],
            [],
            [state["step"] for state in states],
            amsgrad=False,
            beta1=group["betas"][0],
            beta2=group["betas"][1],
            lr=group["lr"],
            weight_decay=group["weight_decay"],
            eps=group["eps"],
            maximize=False,
        )


def orthogonalise(matrices: Sequence[Tensor]) -> list[Tensor]:
    """For each `[…, m, n]` a matrix with the same directions and singular values near 1 (0.5 to 1.3), in its dtype."""
    done: list[Tensor | None] = [None] * len(matrices)
    for indices in _same_shapes(matrices):
        stacked = torch.stack([matrices[i] for i in indices])
        for i, result in zip(indices, _newton_schulz(stacked).to(stacked.dtype), strict=True):
            done[i] = result
    return [result for result in done if result is not None]


def _same_shapes(matrices: Sequence[Tensor]) -> Iterator[list[int]]:
    """Indices of matrices that go through the iteration together."""
    by_shape: dict[tuple[int, ...], list[int]] = {}
    for index, matrix in enumerate(matrices):
        by_shape.setdefault(tuple(matrix.shape), []).append(index)
    for indices in by_shape.values():
        size = max(1, TOGETHER // max(1, matrices[indices[0]].numel()))
        yield from (indices[i : i + size] for i in range(0, len(indices), size))


def _newton_schulz(x: Tensor) -> Tensor:
    """The iteration x <- a x + (b s + c s s) x with s = x x^T, on the shorter side, in bfloat16."""
    a, b, c = COEFFICIENTS
    tall = x.shape[-2] > x.shape[-1]
    x = (x.mT if tall else x).bfloat16()
    x = x / x.norm(dim=(-2, -1), keepdim=True).clamp(min=1e-7)
    for _ in range(NEWTON_SCHULZ_STEPS):
        square = x @ x.mT
        x = a * x + (b * square + c * square @ square) @ x
    return x.mT if tall else x
