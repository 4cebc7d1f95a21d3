"""HuBERT, WavLM, wav2vec 2.0 and w2v-BERT: a layer of a self-supervised transformer.

HuBERT: Hsu et al., 2021; WavLM: Chen et al., 2022; wav2vec 2.0: Baevski et al., 2020; w2v-BERT 2.0: Seamless, 2023.

The first three convolve the waveform: with the published strides n samples have (n - 400) // 320 + 1 frames, none below
400. w2v-BERT reads pairs of mel frames of 10 ms: n samples have ((n - 400) // 160 + 1) // 2 frames; its feature
extractor can add half a frame of padding at the end, which its attention mask hides again, and which is dropped here.
Whether the waveform is normalised to mean 0 and variance 1 is said by the feature extractor's `do_normalize`, which
may differ among checkpoints of one class, so that its file is required.

Layer n is what the n-th transformer layer gives, before the encoder's last normalisation, as
`hidden_states[n]` of the class; the layers above it are neither loaded nor run nor saved. Every layer attends to the
whole recording: memory grows with its length (WavLM's position bias with its square), so cut recordings of more than a
few minutes beforehand.

Shapes: S samples, T frames, D feature width.
"""

import hashlib
import math
from pathlib import Path
from typing import Any

import torch
from transformers import (
    HubertModel,
    PreTrainedModel,
    SeamlessM4TFeatureExtractor,
    Wav2Vec2BertModel,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2Model,
    WavLMModel,
)

from hocket.codec.adapters.transformers_codec import hash_weights, load_network, save_network
from hocket.codec.units.extractor import Extractor, check_layer
from hocket.codec.units.networks import check_preprocessor, read_config, run_to_layer

NETWORKS: dict[str, type[PreTrainedModel]] = {
    "hubert": HubertModel,
    "wavlm": WavLMModel,
    "wav2vec2": Wav2Vec2Model,
    "wav2vec2-bert": Wav2Vec2BertModel,
}
UNUSED = {"mask_time_prob": 0.0, "mask_feature_prob": 0.0, "add_adapter": False, "layerdrop": 0.0}
"""Parts of the configs that only training or other uses need; without them their weights are not asked for."""


class SelfSupervised(Extractor):
    """A network up to one of its layers, with the feature extractor that prepares its audio."""

    def __init__(self, kind: str, net: PreTrainedModel, prepare: Any, layer: int | None):
        super().__init__()
        self.kind, self.layer, self.prepare = kind, layer, prepare
        self.net: Any = net.eval().requires_grad_(False)
        self.sample_rate, self.width = prepare.sampling_rate, net.config.hidden_size

    def features(self, wav_S: torch.Tensor) -> torch.Tensor:
        if self.n_frames(len(wav_S)) < 1:
            return torch.zeros(0, self.width, device=wav_S.device)
        return run_to_layer(self.net, self.net.encoder.layers, self.layer, self.inputs(wav_S))

    def n_frames(self, n_samples: int) -> int:
        raise NotImplementedError

    def inputs(self, wav_S: torch.Tensor) -> torch.Tensor:
        raise NotImplementedError

    @property
    def weight_hash(self) -> str:
        fixed = f"{self.kind} {self.layer} {self.hop} {hash_weights(self.net)} {self.preparation}"
        return hashlib.sha256(fixed.encode()).hexdigest()

    @property
    def preparation(self) -> str:
        """What of the feature extractor's settings changes the features."""
        raise NotImplementedError

    def save(self, folder: Path) -> None:
        save_network(self.net, folder)
        self.prepare.save_pretrained(folder)


class ConvolvedWaveform(SelfSupervised):
    """HuBERT, WavLM and wav2vec 2.0."""

    def __init__(self, kind: str, net: PreTrainedModel, prepare: Any, layer: int | None):
        super().__init__(kind, net, prepare, layer)
        self.hop = math.prod(net.config.conv_stride)

    def n_frames(self, n_samples: int) -> int:
        for kernel, stride in zip(self.net.config.conv_kernel, self.net.config.conv_stride, strict=True):
            n_samples = (n_samples - kernel) // stride + 1
        return n_samples

    def inputs(self, wav_S: torch.Tensor) -> torch.Tensor:
        prepared = self.prepare(wav_S.cpu().numpy(), sampling_rate=self.sample_rate, return_tensors="pt")
        return prepared.input_values.to(wav_S.device)

    @property
    def preparation(self) -> str:
        return f"normalize={bool(self.prepare.do_normalize)}"


class StackedMels(SelfSupervised):
    """w2v-BERT."""

    mel_window, mel_hop = 400, 160  # samples, fixed in its feature extractor

    def __init__(self, kind: str, net: PreTrainedModel, prepare: Any, layer: int | None):
        super().__init__(kind, net, prepare, layer)
        self.hop = self.mel_hop * prepare.stride

    def n_frames(self, n_samples: int) -> int:
        return ((n_samples - self.mel_window) // self.mel_hop + 1) // self.prepare.stride

    def inputs(self, wav_S: torch.Tensor) -> torch.Tensor:
        prepared = self.prepare(
            wav_S.cpu().numpy(), sampling_rate=self.sample_rate, pad_to_multiple_of=None, return_tensors="pt"
        )
        return prepared.input_features.float().to(wav_S.device)

    @property
    def preparation(self) -> str:
        return f"stride={self.prepare.stride} bands={self.prepare.num_mel_bins}"


def open_extractor(kind: str, folder: Path, layer: int | None) -> Extractor:
    """From a folder with the network's weights and its feature extractor's settings."""
    net_class = NETWORKS[kind]
    config = read_config(net_class, folder, kind)
    check_layer(kind, layer, config.num_hidden_layers)
    for field, value in UNUSED.items():
        if hasattr(config, field):
            setattr(config, field, value)
    if hasattr(config, "use_intermediate_ffn_before_adapter"):
        config.use_intermediate_ffn_before_adapter = False
    config.num_hidden_layers = layer or config.num_hidden_layers
    check_preprocessor(folder, kind)
    net = load_network(net_class, folder, config=config)
    if kind == "wav2vec2-bert":
        return StackedMels(kind, net, SeamlessM4TFeatureExtractor.from_pretrained(folder), layer)
    return ConvolvedWaveform(kind, net, Wav2Vec2FeatureExtractor.from_pretrained(folder), layer)
