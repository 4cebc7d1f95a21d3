from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from transformers import NeuCodecConfig, NeuCodecModel, Xcodec2Config, Xcodec2Model

from hocket.codec.adapters.transformers_codec import save_network
from tests.codec.zoo.dac import spread

CLASSES = {"xcodec2": (Xcodec2Config, Xcodec2Model), "neucodec": (NeuCodecConfig, NeuCodecModel)}
W2V_BERT = {
    "model_type": "wav2vec2-bert",
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "feature_projection_input_dim": 160,
    "conv_depthwise_kernel_size": 5,
}


@torch.no_grad()
def make(name: str) -> Any:
    """The class's network with random weights."""
    config_class, net_class = CLASSES[name]
    config = config_class(
        hidden_size=64,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=2,
        head_dim=32,
        encoder_hidden_size=2,
        semantic_model_config=W2V_BERT,
        quantization_dim=80,
        quantization_levels=[4, 4, 4],
    )
    torch.manual_seed(0)
    net: Any = net_class(config)
    for part in (net.acoustic_encoder, net.semantic_adapter):
        spread(part)
    for layer in (net.fc_encoder, net.quantizer.project_in, net.quantizer.project_out, net.acoustic_decoder.fc):
        layer.weight.normal_(std=layer.in_features**-0.5)
    net.acoustic_decoder.head.linear.weight.normal_(std=0.3)
    net.acoustic_decoder.head.linear.bias.fill_(-3)
    return net.eval()


def build(name: str, folder: Path) -> Path:
    save_network(make(name), folder)
    return folder


BUILDERS: dict[str, Callable[[Path], Path]] = {name: partial(build, name) for name in CLASSES}
