"""What of a model trains: freezing by pattern, and low-rank adapters through peft.

    training.freeze=[decoder.embedding, decoder.blocks.[0-5].*]
    training.lora_rank=16     W x  ->  W x + (alpha / rank) B A x     W frozen, A and B train

Adapters sit in the decoder's blocks, of which nothing else trains then; embeddings, output matrices and the last norm
do, unless they are frozen by a pattern: rows for audio that a text model was given have to be learned. What is
exported is merged: `load_model` reads plain weights and needs no peft.
"""

from collections.abc import Mapping
from difflib import get_close_matches
from fnmatch import fnmatchcase

import torch
from torch import Tensor, nn

from hocket.errors import InputError, did_you_mean
from hocket.training.config import TrainingGroup

BASE, DOWN, UP = ".base_layer.", ".lora_A.default.weight", ".lora_B.default.weight"


def choose_what_trains(model: nn.Module, training: TrainingGroup) -> None:
    """Freeze what the recipe names, and put adapters in; once, before the engine is given the model.

    Raises:
        InputError: a pattern or a target names nothing; adapters are wanted and peft is not installed.
    """
    for pattern in training.freeze:
        freeze(model, pattern)
    if training.lora_rank:
        add_adapters(model, training)


def freeze(model: nn.Module, pattern: str) -> None:
    """Freeze the parameters of this name, below it, or that match it as a pattern (`*`, `?`, `[0-5]`)."""
    named = dict(model.named_parameters())
    found = [p for name, p in named.items() if fnmatchcase(name, pattern) or fnmatchcase(name, f"{pattern}.*")]
    if not found:
        modules = [name for name, _ in model.named_modules() if name]
        near = get_close_matches(pattern, [*modules, *named], n=1) or [name for name, _ in model.named_children()]
        raise InputError(f'training.freeze: no parameter is "{pattern}"{did_you_mean(pattern, near)}')
    for parameter in found:
        parameter.requires_grad_(False)


def add_adapters(model: nn.Module, training: TrainingGroup) -> None:
    """Put adapters beside the linear layers of the decoder's blocks that `lora_targets` names."""
    try:
        from peft import LoraConfig, inject_adapter_in_model  # noqa: PLC0415
    except ImportError as error:
        raise InputError('training.lora_rank needs peft: pip install "hocket[lora]"') from error
    blocks = model.get_submodule("decoder.blocks")
    linears = [name for name, module in blocks.named_modules() if isinstance(module, nn.Linear)]
    kinds = sorted({name.rpartition(".")[2] for name in linears})
    if not training.lora_targets:
        raise InputError(f"training.lora_targets is empty{did_you_mean('', kinds)}: name some, or set lora_rank to 0")
    for target in training.lora_targets:
        if target not in kinds:
            raise InputError(f'training.lora_targets: the blocks have no "{target}"{did_you_mean(target, kinds)}')
    chosen = [name for name in linears if name.rpartition(".")[2] in training.lora_targets]
    config = LoraConfig(r=training.lora_rank, lora_alpha=training.lora_alpha, target_modules=chosen)  # type: ignore[arg-type]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(training.seed)
        inject_adapter_in_model(config, blocks)


def merged(weights: Mapping[str, Tensor], training: TrainingGroup) -> dict[str, Tensor]:
    """Weights under the names that they have without adapters, the adapters' products added in float32."""
    plain = {name.replace(BASE, "."): tensor for name, tensor in weights.items() if ".lora_" not in name}
    for name, down in weights.items():
        if name.endswith(DOWN):
            stem = name.removesuffix(DOWN)
            product = weights[stem + UP].float() @ down.float()
            base = plain[f"{stem}.weight"]
            plain[f"{stem}.weight"] = base.float() + training.lora_alpha / training.lora_rank * product
    return plain
