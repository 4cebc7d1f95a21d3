"""What the extractors on transformers' networks share: reading their files, and running up to a layer.

Shapes: B batch, T frames, D feature width.
"""

from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel

from hocket.errors import InputError

PREPROCESSOR = "preprocessor_config.json"


def read_config(net_class: type[PreTrainedModel], folder: Path, kind: str) -> Any:
    """The network's config; InputError where the folder holds another network."""
    config_class: Any = net_class.config_class
    file = folder / "config.json"
    if not file.is_file():
        raise InputError(f'folder "{folder}" holds no "{kind}" network: it has no config.json')
    values, _ = config_class.get_config_dict(folder)
    if values.get("model_type") != config_class.model_type:
        raise InputError(f'"{file}" describes a network of type "{values.get("model_type")}", not "{kind}"')
    return config_class.from_dict(values)


def run_to_layer(net: Any, layers: torch.nn.ModuleList, layer: int | None, inputs: torch.Tensor) -> torch.Tensor:
    """Features [T, D]: what the last of `layers` gives, or, where `layer` is None, what the whole network gives."""
    if layer is None:
        return net(inputs).last_hidden_state[0]
    given: list[Any] = []
    hook = layers[-1].register_forward_hook(lambda module, args, output: given.append(output))
    try:
        net(inputs)
    finally:
        hook.remove()
    output_BTD = given[0][0] if isinstance(given[0], tuple) else given[0]
    return output_BTD[0]


def check_preprocessor(folder: Path, kind: str) -> None:
    """The same class may or may not normalise its audio; only this file says."""
    if not (folder / PREPROCESSOR).is_file():
        raise InputError(f'folder "{folder}" lacks {PREPROCESSOR}, which says how audio is prepared for "{kind}"')
