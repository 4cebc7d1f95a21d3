"""X-Codec (Ye et al. 2024) and the Higgs Audio v2 tokenizer (Boson AI 2025): DAC's convolutions beside HuBERT.

    xcodec                     16 kHz, 50 Hz, 8 levels       acoustic and semantic latents joined, then residual levels
    higgs_audio_v2_tokenizer   24 kHz, 25 Hz, 8 levels       the same; HuBERT hears 16 kHz and every second frame counts

HuBERT (or WavLM) attends over the whole recording, so it is encoded whole: memory grows with its length, nothing
streams in, and zeros after a recording change its codes (they changed 77 % of the codes of a shorter item). Items of
different lengths are never computed together. The decoder is DAC's: it streams.

Both classes take a bandwidth of a list and their highest when none is given. Here the lowest one that has the levels
asked for is passed, and its codes are cut: residual levels do not depend on those after them.

`transformers` runs the tokenizer of Higgs with torchaudio's resampling. Where torchaudio is not installed, `sinc`
stands in for that one function.

Shapes: B batch, C channels, S samples, T codec frames, K levels, E entries, D width.
"""

import importlib
import importlib.util
import math
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel, XcodecModel

from hocket.codec.adapters.context import frames_of
from hocket.codec.adapters.dac import DacDecoding, decoder_delay
from hocket.codec.adapters.sinc import sinc_resample
from hocket.codec.base import Codec

HIGGS = "transformers.models.higgs_audio_v2_tokenizer.modeling_higgs_audio_v2_tokenizer"
SEMANTIC_PAD = 160  # zeros that both classes put before and after what HuBERT hears


class XcodecCodec(DacDecoding):
    """`XcodecModel` with all its levels, or a prefix of them."""

    net_class = XcodecModel
    no_stream = "HuBERT in its encoder attends over the whole recording"

    @classmethod
    def describe(cls, config: Any) -> dict[str, Any]:
        per_level = math.log2(config.codebook_size) * config.frame_rate / 1000
        most = max(1, math.floor(config.target_bandwidths[-1] / per_level))
        return {
            "sample_rate": config.sample_rate,
            "hop": math.prod(config.acoustic_model_config.downsampling_ratios),
            "codebook_sizes": (config.codebook_size,) * min(most, config.num_quantizers),
            "output_delay": decoder_delay(config.acoustic_model_config),
        }

    @property
    def codebooks(self) -> list[torch.Tensor]:
        """The entries as they are summed for the decoder."""
        entries_1E = torch.arange(self.codebook_sizes[0], device=self.device)[None]
        with torch.no_grad():
            return [level.decode(entries_1E)[0].T for level in self.net.quantizer.quantizers[: self.levels]]

    @property
    def bandwidth(self) -> float:
        """The lowest of the class's bandwidths (kbit/s) that has all the levels of this codec."""
        levels_at = self.net.quantizer.get_num_quantizers_for_bandwidth
        return min(rate for rate in self.net.config.target_bandwidths if levels_at(rate) >= self.levels)

    def semantic_samples(self, n_samples: int) -> int:
        """How many samples HuBERT hears of so many at the codec's rate."""
        return n_samples + 2 * SEMANTIC_PAD

    def _encode_equal(self, wav_BCS: torch.Tensor) -> torch.Tensor:
        heard = self.semantic_samples(wav_BCS.shape[2])
        if not frames_of(self.net.semantic_model.feature_extractor, heard):
            return torch.zeros(len(wav_BCS), 0, self.levels, dtype=torch.int64, device=self.device)
        codes_BKT = self.net.encode(wav_BCS, bandwidth=self.bandwidth, return_dict=True).audio_codes
        return codes_BKT[:, : self.levels].transpose(1, 2)

    @property
    def _decoder(self) -> nn.Module:
        return self.net.acoustic_decoder

    def _decode_latents(self, codes_BTK: torch.Tensor) -> torch.Tensor:
        return self.net.decode(codes_BTK.transpose(1, 2), return_dict=True).audio_values


def higgs_class() -> type[PreTrainedModel]:
    """transformers' class of the tokenizer, with `sinc_resample` where torchaudio is not installed."""
    if HIGGS in sys.modules or importlib.util.find_spec("torchaudio"):
        return importlib.import_module(HIGGS).HiggsAudioV2TokenizerModel
    stand_in: Any = ModuleType("torchaudio")
    stand_in.functional = SimpleNamespace(resample=sinc_resample)
    sys.modules["torchaudio"] = stand_in
    try:
        return importlib.import_module(HIGGS).HiggsAudioV2TokenizerModel
    finally:
        del sys.modules["torchaudio"]


class HiggsCodec(XcodecCodec):
    """`HiggsAudioV2TokenizerModel`; HuBERT hears the recording at 16 kHz."""

    net_class = higgs_class()

    def semantic_samples(self, n_samples: int) -> int:
        config = self.net.config
        return -(-n_samples * config.semantic_sample_rate // config.sample_rate) + 2 * SEMANTIC_PAD


CLASSES = {"xcodec": XcodecCodec, "higgs_audio_v2_tokenizer": HiggsCodec}


def open_folder(folder: Path, settings: dict[str, Any], levels: int | None) -> Codec:
    return CLASSES[settings["kind"]].open(folder, levels)
