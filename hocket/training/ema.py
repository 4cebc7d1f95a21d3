"""A moving average of the weights, which generalises better than the last ones (Polyak and Juditsky, 1992).

    average <- d * average + (1 - d) * weights      after every step, d = min(ema, (1 + step) / (10 + step))

The decay grows with the steps, so that the random start is soon forgotten. The average is kept in float32 on every
process; it is what is validated, sampled and exported: a checkpoint's `model/` holds it, `model-raw/` the weights
themselves. In bfloat16 under DeepSpeed the average is of the weights as the forward pass sees them.

Costs 4 bytes a parameter, and the time of reading and writing them once a step.
"""

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor, nn

from hocket.errors import InputError
from hocket.training.config import TrainingGroup

AVERAGE_FILE = "ema.safetensors"


class WeightAverage:
    """Follows the parameters of a module that train.

    Args:
        file: the average to go on with; a fresh one starts from the parameters as they are.
    """

    def __init__(self, module: nn.Module, decay: float, file: Path | None = None):
        self._decay = decay
        named = {name: p for name, p in module.named_parameters() if p.requires_grad}
        self._parameters = list(named.values())
        self._average = {name: p.detach().clone().float() for name, p in named.items()}
        if file is not None:
            held = safetensors.torch.load_file(file)
            for name, average in self._average.items():
                average.copy_(held[name])

    def update(self, step: int) -> None:
        """Follow the weights after step `step`, counted from 1."""
        decay = min(self._decay, (1 + step) / (10 + step))
        for average, parameter in zip(self._average.values(), self._parameters, strict=True):
            average.lerp_(parameter.detach().float(), 1 - decay)

    def put_into(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """A state dict with the average, copied to the host, in place of what trains."""
        return dict(weights) | {name: average.to("cpu", copy=True) for name, average in self._average.items()}

    @property
    def names(self) -> list[str]:
        """Parameters that are averaged."""
        return list(self._average)

    @contextlib.contextmanager
    def applied(self) -> Iterator[None]:
        """While entered, the module has the average as its weights; afterwards its own again, bit for bit."""
        kept = [p.detach().clone() for p in self._parameters]
        _set(self._parameters, list(self._average.values()))
        try:
            yield
        finally:
            _set(self._parameters, kept)


@torch.no_grad()
def _set(parameters: list[nn.Parameter], values: list[Tensor]) -> None:
    for parameter, value in zip(parameters, values, strict=True):
        parameter.copy_(value)


def check_average(training: TrainingGroup, is_sharded: bool) -> None:
    """InputError where no process has whole weights to average."""
    if training.ema and is_sharded:
        raise InputError(
            "training.ema needs whole weights, which DeepSpeed's ZeRO stage 3 shards: "
            "choose training.zero_stage=2 or less, or training.ema=0"
        )
