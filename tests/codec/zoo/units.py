"""Units over every kind of extractor, with tiny random networks; centroids are drawn from the features of noise."""

from pathlib import Path
from typing import Any

import torch
from transformers import (
    HubertConfig,
    HubertModel,
    SeamlessM4TConfig,
    SeamlessM4TFeatureExtractor,
    SeamlessM4Tv2Config,
    Wav2Vec2BertConfig,
    Wav2Vec2BertModel,
    Wav2Vec2Config,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2Model,
    WavLMConfig,
    WavLMModel,
    WhisperConfig,
    WhisperFeatureExtractor,
    WhisperModel,
)
from transformers.models.seamless_m4t.modeling_seamless_m4t import SeamlessM4TCodeHifiGan
from transformers.models.seamless_m4t_v2.modeling_seamless_m4t_v2 import SeamlessM4Tv2CodeHifiGan

from hocket.codec.units import Extractor, UnitCodec, UnitVocoder, open_extractor

CLUSTERS = 12
LAYERS = 3
TRANSFORMER = {
    "hidden_size": 16,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 2,
    "intermediate_size": 24,
}
CONVOLUTIONS = TRANSFORMER | {
    "conv_dim": (8,) * 7,
    "num_conv_pos_embeddings": 8,
    "num_conv_pos_embedding_groups": 2,
    "num_feat_extract_layers": 7,
}
NETWORKS: dict[str, tuple[Any, Any, dict[str, Any]]] = {
    "hubert": (HubertModel, HubertConfig, CONVOLUTIONS),
    "wavlm": (WavLMModel, WavLMConfig, CONVOLUTIONS | {"num_buckets": 8, "max_bucket_distance": 16}),
    "wav2vec2": (
        Wav2Vec2Model,
        Wav2Vec2Config,
        CONVOLUTIONS | {"do_stable_layer_norm": True, "feat_extract_norm": "layer", "conv_bias": True},
    ),
    "wav2vec2-bert": (
        Wav2Vec2BertModel,
        Wav2Vec2BertConfig,
        TRANSFORMER | {"feature_projection_input_dim": 160, "conv_depthwise_kernel_size": 5},
    ),
    "whisper": (
        WhisperModel,
        WhisperConfig,
        {
            "d_model": 16,
            "encoder_layers": LAYERS,
            "encoder_attention_heads": 2,
            "encoder_ffn_dim": 24,
            "decoder_layers": 1,
            "decoder_attention_heads": 2,
            "decoder_ffn_dim": 8,
            "vocab_size": 20,
            "max_source_positions": 50,
            "max_target_positions": 8,
            "pad_token_id": 0,
            "bos_token_id": 1,
            "eos_token_id": 2,
            "decoder_start_token_id": 1,
        },
    ),
}
NORMALISED = {"hubert": True, "wavlm": False, "wav2vec2": True}
VOCODERS: dict[str, tuple[Any, Any]] = {
    "seamless_m4t": (SeamlessM4TCodeHifiGan, SeamlessM4TConfig),
    "seamless_m4t_v2": (SeamlessM4Tv2CodeHifiGan, SeamlessM4Tv2Config),
}


def build_network(kind: str, folder: Path) -> Path:
    """The folder of a tiny network as transformers saves it, its feature extractor's settings beside it."""
    net_class, config_class, sizes = NETWORKS[kind]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net_class(config_class(**sizes)).save_pretrained(folder)
    if kind == "whisper":
        prepare: Any = WhisperFeatureExtractor(chunk_length=1)
    elif kind == "wav2vec2-bert":
        prepare = SeamlessM4TFeatureExtractor()
    else:
        prepare = Wav2Vec2FeatureExtractor(do_normalize=NORMALISED[kind])
    prepare.save_pretrained(folder)
    return folder


def build_vocoder(kind: str, folder: Path, **changes: Any) -> Path:
    net_class, config_class = VOCODERS[kind]
    sizes = {
        "unit_hifi_gan_vocab_size": CLUSTERS,
        "unit_embed_dim": 8,
        "lang_embed_dim": 4,
        "spkr_embed_dim": 4,
        "vocoder_num_langs": 3,
        "vocoder_num_spkrs": 4,
        "upsample_initial_channel": 32,
        "resblock_kernel_sizes": [3],
        "resblock_dilation_sizes": [[1, 3]],
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = net_class(config_class(**sizes | changes))
        for weights in net.parameters():
            weights.data.normal_(std=0.15)
    net.save_pretrained(folder)
    return folder


def units_over(extractor: Extractor, name: str) -> UnitCodec:
    """Centroids are frames of noise that grows and fades, so that speech falls into several of them."""
    generator = torch.Generator().manual_seed(0)
    loudness_S = torch.linspace(-6, 0, 24000).exp()
    noise_S = torch.randn(24000, generator=generator) * loudness_S
    features_TD = extractor.features(noise_S)
    chosen_E = torch.randperm(len(features_TD), generator=generator)[:CLUSTERS]
    return UnitCodec(extractor, features_TD[chosen_E], name)


def build_mfcc(folder: Path) -> Path:
    units_over(open_extractor("mfcc", None), "mfcc-units").save(folder)
    return folder


def build_units(kind: str, layer: int | None, folder: Path) -> Path:
    network = build_network(kind, folder / "source")
    units_over(open_extractor(kind, network, layer), f"{kind}-units").save(folder / "units")
    return folder / "units"


def build_spoken(folder: Path) -> Path:
    vocoder = UnitVocoder.open(build_vocoder("seamless_m4t", folder / "source"), speaker=1, language=2)
    units_over(open_extractor("mfcc", None), "spoken-units").with_vocoder(vocoder).save(folder / "units")
    return folder / "units"


BUILDERS = {
    "mfcc-units": build_mfcc,
    "hubert-units": lambda folder: build_units("hubert", 2, folder),
    "wavlm-units": lambda folder: build_units("wavlm", 2, folder),
    "wav2vec2-units": lambda folder: build_units("wav2vec2", 2, folder),
    "w2v-bert-units": lambda folder: build_units("wav2vec2-bert", 2, folder),
    "whisper-units": lambda folder: build_units("whisper", None, folder),
    "spoken-units": build_spoken,
}
