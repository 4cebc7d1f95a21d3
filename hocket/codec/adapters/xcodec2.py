"""X-Codec 2 (Ye et al. 2025) and NeuCodec (Neuphonic 2025): one level of 65,536 entries at 50 Hz.

    xcodec2    16 kHz in, 16 kHz out                 n // 320 + 1 frames of n samples
    neucodec   16 kHz in, 24 kHz out                 n // 320 frames of n samples at 16 kHz

w2v-BERT and a convolutional encoder are joined and quantized by finite scalars, a transformer decodes. Both sides
attend over the whole recording, so nothing streams, memory grows with the length of a recording, and items of different
lengths are never computed together.

An item's codes are those of the class on what its own feature extractor makes of the item alone: one sample of silence
and then silence up to a whole frame, and a standardised log-mel spectrogram, computed here by `fbank`.

Shapes: B batch, C channels, S samples, T codec frames, K levels, J frames of 10 ms, M bands, E entries, D width.
"""

import math
from pathlib import Path
from typing import Any

import torch
from transformers import NeuCodecModel, Xcodec2Model

from hocket.codec.adapters.fbank import log_mel, standardised
from hocket.codec.adapters.transformers_codec import TransformersCodec
from hocket.codec.base import Codec

STRIDE = 2  # frames of 10 ms that w2v-BERT takes as one


class Xcodec2Codec(TransformersCodec):
    """`Xcodec2Model`."""

    net_class = Xcodec2Model
    no_stream = "its encoder and its decoder attend over the whole recording"

    @classmethod
    def describe(cls, config: Any) -> dict[str, Any]:
        return {
            "sample_rate": config.sampling_rate,
            "hop": math.prod(config.downsampling_ratios),
            "codebook_sizes": (math.prod(config.quantization_levels),),
        }

    @property
    def codebooks(self) -> list[torch.Tensor]:
        """The finite scalars of each entry, between -1 and 1."""
        return [self.net.quantizer.quantizer.codebook.float()]

    @property
    def input_hop(self) -> int:
        """Samples of a frame at `input_rate`."""
        return math.prod(self.net.config.downsampling_ratios)

    def heard(self, padded_BS: torch.Tensor) -> torch.Tensor:
        """What w2v-BERT's spectrogram is computed of: half a frame of silence more on both sides."""
        return torch.nn.functional.pad(padded_BS, (self.input_hop // 2, self.input_hop // 2))

    def _encode_equal(self, wav_BCS: torch.Tensor) -> torch.Tensor:
        n_samples = wav_BCS.shape[2]
        n_silent = self.input_hop - n_samples % self.input_hop
        padded_BCS = torch.nn.functional.pad(wav_BCS, (0, n_silent))
        features_BJM = log_mel(self.heard(padded_BCS[:, 0]))
        if not features_BJM.shape[1]:
            return torch.zeros(len(wav_BCS), 0, 1, dtype=torch.int64, device=self.device)
        features_BTM = standardised(features_BJM).unflatten(1, (-1, STRIDE)).flatten(2)
        mask_BT = torch.ones(features_BTM.shape[:2], dtype=torch.int64, device=self.device)
        encoded = self.net.encode(padded_BCS, features_BTM, input_features_mask=mask_BT, return_dict=True)
        return encoded.audio_codes.transpose(1, 2).long()

    def _decode_equal(self, codes_BTK: torch.Tensor) -> torch.Tensor:
        return self.net.decode(audio_codes=codes_BTK.transpose(1, 2), return_dict=True).audio_values


class NeuCodec(Xcodec2Codec):
    """`NeuCodecModel`: hears 16 kHz, decodes to 24 kHz."""

    net_class = NeuCodecModel

    @classmethod
    def describe(cls, config: Any) -> dict[str, Any]:
        hop = math.prod(config.downsampling_ratios) * config.output_sampling_rate // config.input_sampling_rate
        return {
            "sample_rate": config.output_sampling_rate,
            "hop": hop,
            "codebook_sizes": (math.prod(config.quantization_levels),),
        }

    @property
    def input_rate(self) -> int:
        return self.net.config.input_sampling_rate

    def heard(self, padded_BS: torch.Tensor) -> torch.Tensor:
        """The padded recording itself: its spectrogram is one frame shorter, which cuts the codes."""
        return padded_BS


CLASSES = {"xcodec2": Xcodec2Codec, "neucodec": NeuCodec}


def open_folder(folder: Path, settings: dict[str, Any], levels: int | None) -> Codec:
    return CLASSES[settings["kind"]].open(folder, levels)
