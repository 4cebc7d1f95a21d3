"""The encoder of a Whisper model (Radford et al., 2022) as features of speech.

Whisper reads windows of exactly 30 s. A recording is cut into windows of 30 s that do not overlap and the last one is
padded with zeros, since the network hallucinates on shorter ones; attention ends at the windows' borders. Its 1,500
frames a window are 50 Hz; n samples at 16 kHz have ceil(n / 320) of them, those after are of the padding and dropped.
Memory is that of one window. A recording of 2 s costs as much as one of 30 s.

A few of the features have by far the largest variance and tell little: clustered as they are, 500 units of tiny.en
told .43 bits of the words in a reader's held-out speech above chance (MFCC's: .33, scaled .38); each divided by its
standard deviation, 1.25 bits. Units of Whisper are therefore scaled unless one says otherwise.

Layer n is what the n-th layer gives; without a layer, what the whole encoder gives, its last normalisation included:
this is what Whisper's decoder sees.

Shapes: S samples, T frames, D feature width, M mel bands, B windows.
"""

import hashlib
from abc import abstractmethod
from pathlib import Path
from typing import Any

import torch
from transformers import WhisperFeatureExtractor
from transformers.models.whisper.modeling_whisper import WhisperEncoder

from hocket.codec.adapters.transformers_codec import hash_weights, load_network, save_network
from hocket.codec.units.extractor import Extractor, check_layer
from hocket.codec.units.networks import check_preprocessor, read_config, run_to_layer
from hocket.errors import InputError

ENCODER_KEYS = {r"^(model\.)?encoder\.": ""}
"""Published weights are those of the whole model; saved ones are the encoder's alone."""


class WindowedWhisper(Extractor):
    """Windows and frames; how a window's features are computed is the subclasses'."""

    prepare: Any  # WhisperFeatureExtractor
    scaled = True

    def features(self, wav_S: torch.Tensor) -> torch.Tensor:
        if not len(wav_S):
            return torch.zeros(0, self.width, device=wav_S.device)
        features = [self._window(self._mels(window_S)) for window_S in wav_S.split(self.prepare.n_samples)]
        return torch.cat(features)[: -(-len(wav_S) // self.hop)].to(wav_S.device)

    def _mels(self, window_S: torch.Tensor) -> torch.Tensor:
        """Log-mel spectrum [1, M, frames of 10 ms] of a window, padded to its whole length."""
        prepared = self.prepare(window_S.cpu().numpy(), sampling_rate=self.sample_rate, return_tensors="pt")
        return prepared.input_features

    @abstractmethod
    def _window(self, mels_BMT: torch.Tensor) -> torch.Tensor:
        """All features [T, D] of one window."""


class Whisper(WindowedWhisper):
    """transformers' encoder."""

    kind = "whisper"

    def __init__(self, net: Any, prepare: WhisperFeatureExtractor, layer: int | None):
        super().__init__()
        self.layer, self.prepare = layer, prepare
        self.net = net.eval().requires_grad_(False)
        self.sample_rate, self.width = prepare.sampling_rate, net.config.d_model
        self.hop = prepare.hop_length * net.conv1.stride[0] * net.conv2.stride[0]

    def _window(self, mels_BMT: torch.Tensor) -> torch.Tensor:
        device = self.net.conv1.weight.device
        return run_to_layer(self.net, self.net.layers, self.layer, mels_BMT.to(device))

    @property
    def weight_hash(self) -> str:
        fixed = f"{self.kind} {self.layer} {self.hop} {self.prepare.n_samples} {hash_weights(self.net)}"
        return hashlib.sha256(fixed.encode()).hexdigest()

    def save(self, folder: Path) -> None:
        save_network(self.net, folder)
        self.prepare.save_pretrained(folder)


def open_extractor(kind: str, folder: Path, layer: int | None) -> Extractor:
    """From a folder that holds a whole Whisper model, or its encoder, with the settings of its mel spectrum."""
    config = read_config(WhisperEncoder, folder, kind)
    check_layer(kind, layer, config.encoder_layers)
    config.encoder_layers, config.encoder_layerdrop = layer or config.encoder_layers, 0.0
    check_preprocessor(folder, kind)
    net = load_network(WhisperEncoder, folder, config=config, key_mapping=ENCODER_KEYS)
    prepare = WhisperFeatureExtractor.from_pretrained(folder)
    extractor = Whisper(net, prepare, layer)
    if config.max_source_positions * extractor.hop != prepare.n_samples:
        raise InputError(
            f'in folder "{folder}" the network reads {config.max_source_positions * extractor.hop} samples, '
            f"its feature extractor gives {prepare.n_samples}"
        )
    return extractor
