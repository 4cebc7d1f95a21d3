from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from transformers import HiggsAudioV2TokenizerConfig, XcodecConfig, XcodecModel

from hocket.codec.adapters.transformers_codec import save_network
from hocket.codec.adapters.xcodec import higgs_class
from tests.codec.zoo.dac import spread

HUBERT = {
    "model_type": "hubert",
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "conv_dim": (8,) * 7,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 2,
}


def acoustic(ratios: list[int]) -> dict[str, Any]:
    return {
        "model_type": "dac",
        "encoder_hidden_size": 2,
        "decoder_hidden_size": 32,
        "hidden_size": 16,
        "downsampling_ratios": ratios,
        "upsampling_ratios": ratios,
    }


def build_xcodec(folder: Path) -> Path:
    config = XcodecConfig(
        acoustic_model_config=acoustic([8, 5, 4, 2]),
        semantic_model_config=HUBERT,
        codebook_size=16,
        target_bandwidths=[0.2, 0.4, 1.0],
    )
    return save(XcodecModel, config, folder)


def build_higgs(folder: Path) -> Path:
    config = HiggsAudioV2TokenizerConfig(
        acoustic_model_config=acoustic([8, 5, 4, 2, 3]),
        semantic_model_config=HUBERT,
        codebook_size=16,
        codebook_dim=8,
        target_bandwidths=[0.1, 0.2, 0.4],
    )
    return save(higgs_class(), config, folder)


@torch.no_grad()
def save(net_class: Any, config: Any, folder: Path) -> Path:
    torch.manual_seed(0)
    net = net_class(config)
    for part in (net.acoustic_encoder, net.acoustic_decoder, net.encoder_semantic, net.decoder_semantic):
        spread(part)
    for layer in (net.fc, net.fc2):
        layer.weight.normal_(std=0.3)
    for level in net.quantizer.quantizers:
        level.codebook.embed.normal_(std=0.3)
    save_network(net, folder)
    return folder


BUILDERS: dict[str, Callable[[Path], Path]] = {"xcodec": build_xcodec, "higgs-audio-v2": partial(build_higgs)}
