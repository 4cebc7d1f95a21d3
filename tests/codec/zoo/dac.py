from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from transformers import DacConfig, DacModel

from hocket.codec.adapters.transformers_codec import save_network

RATIOS = {"dac-16khz": (2, 4, 5, 8), "dac-24khz": (2, 4, 5, 8), "dac-44khz": (2, 4, 8, 8)}
RATES = {"dac-16khz": 16000, "dac-24khz": 24000, "dac-44khz": 44100}


def build(name: str, folder: Path) -> Path:
    config = DacConfig(
        encoder_hidden_size=2,
        decoder_hidden_size=32,
        downsampling_ratios=RATIOS[name],
        n_codebooks=4,
        codebook_size=64,
        codebook_dim=4,
        sampling_rate=RATES[name],
    )
    torch.manual_seed(0)
    net = DacModel(config)
    spread(net)
    save_network(net, folder)
    return folder


@torch.no_grad()
def spread(net: torch.nn.Module) -> None:
    """Weights that keep the size of what they pass on, so that codes and audio vary."""
    for name, module in net.named_modules():
        if isinstance(module, torch.nn.Conv1d | torch.nn.ConvTranspose1d):
            transposed = isinstance(module, torch.nn.ConvTranspose1d)
            fan_in = 2 * module.in_channels if transposed else module.weight[0].numel()
            gain = 0.1 if name.endswith("decoder.conv2") else 0.5 if "res_unit" in name else 1.0
            module.weight.normal_(std=gain * fan_in**-0.5)
            if module.bias is not None:
                module.bias.normal_(std=0.05)
        elif isinstance(module, torch.nn.Embedding):
            module.weight.normal_()


BUILDERS: dict[str, Callable[[Path], Path]] = {name: partial(build, name) for name in RATES}
