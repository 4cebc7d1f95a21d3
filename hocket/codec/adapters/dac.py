"""Descript's audio codec (Kumar et al. 2023) as transformers' `DacModel`: 16, 24 and 44.1 kHz.

Convolutions and 9 to 32 residual levels of factorised codes. An item's codes are those of `DacModel.encode` on its
samples alone, without the zeros that the class's feature extractor adds; samples after the last whole frame have no
code. Long recordings and streams go through the exact windows of `context`.

Shapes: B batch, C channels, S samples, T codec frames, K levels, E entries, D width.
"""

import math
from abc import abstractmethod
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import nn
from transformers import DacConfig, DacModel, PreTrainedModel
from transformers.models.dac.modeling_dac import DacDecoder, DacEncoder

from hocket.codec.adapters.context import (
    PIECE,
    ContextStreamDecoder,
    ContextStreamEncoder,
    WindowDecoder,
    WindowEncoder,
    changed_by_a_frame,
    frames_of,
    seen_by_a_frame,
)
from hocket.codec.adapters.transformers_codec import TransformersCodec
from hocket.codec.base import Codec
from hocket.codec.streaming import StreamDecoder, StreamEncoder


class DacDecoding(TransformersCodec):
    """A codec whose decoder is DAC's: it sees a finite context, so any length decodes piece by piece and streams."""

    streams_decoding = True

    @property
    @abstractmethod
    def _decoder(self) -> nn.Module:
        """The convolutions from latents to audio."""

    @abstractmethod
    def _decode_latents(self, codes_BTK: torch.Tensor) -> torch.Tensor:
        """The class's waveforms [B, C, S] of codes of one length T >= 1; S may differ a little from T * hop."""

    def stream_decoder(self) -> StreamDecoder:
        return ContextStreamDecoder(self.identity, self._window_decoder(), self.device)

    def _decode_equal(self, codes_BTK: torch.Tensor) -> torch.Tensor:
        if codes_BTK.shape[1] <= PIECE:
            return self._decode_window(codes_BTK)
        windows = self._window_decoder()
        return torch.cat([windows.push(codes_BTK), windows.finish()], dim=2)

    def _window_decoder(self) -> WindowDecoder:
        return WindowDecoder(self._decode_window, self._decoder, self.hop)

    def _decode_window(self, codes_BTK: torch.Tensor) -> torch.Tensor:
        """Strides that are odd may leave a few samples less than T * hop; the last ones are then silence."""
        n_samples = codes_BTK.shape[1] * self.hop
        if not n_samples:
            return torch.zeros(len(codes_BTK), 1, 0, device=self.device)
        wav_BCS = self._decode_latents(codes_BTK)[..., :n_samples]
        return torch.nn.functional.pad(wav_BCS, (0, n_samples - wav_BCS.shape[2]))


class DacCodec(DacDecoding):
    """`DacModel` with all its levels, or a prefix of them."""

    net_class: ClassVar[type[PreTrainedModel]] = DacModel
    streams_encoding = True

    @classmethod
    def describe(cls, config: DacConfig) -> dict[str, Any]:
        hop = math.prod(config.downsampling_ratios)
        with torch.device("meta"):
            seen = seen_by_a_frame(DacEncoder(config))
        return {
            "sample_rate": config.sampling_rate,
            "hop": hop,
            "codebook_sizes": (config.codebook_size,) * config.n_codebooks,
            "delay": max(0, seen.last + 1 - hop),
            "output_delay": decoder_delay(config),
        }

    @property
    def codebooks(self) -> list[torch.Tensor]:
        """The entries as they are summed for the decoder: each factorised code projected to the latent width."""
        with torch.no_grad():
            return [self._entries(quantizer) for quantizer in self.net.quantizer.quantizers[: self.levels]]

    def _entries(self, quantizer: Any) -> torch.Tensor:
        return quantizer.out_proj(quantizer.codebook.weight.T[None])[0].T.float()

    def stream_encoder(self) -> StreamEncoder:
        return ContextStreamEncoder(self.identity, self._window_encoder(), self.device)

    def _encode_equal(self, wav_BCS: torch.Tensor) -> torch.Tensor:
        if wav_BCS.shape[2] <= PIECE * self.hop:
            return self._encode_window(wav_BCS)
        windows = self._window_encoder()
        return torch.cat([windows.push(wav_BCS), windows.finish()], dim=1)

    def _window_encoder(self) -> WindowEncoder:
        return WindowEncoder(self._encode_window, self.net.encoder, self.hop)

    def _encode_window(self, wav_BCS: torch.Tensor) -> torch.Tensor:
        if not frames_of(self.net.encoder, wav_BCS.shape[2]):
            return torch.zeros(len(wav_BCS), 0, self.levels, dtype=torch.int64, device=self.device)
        return self.net.encode(wav_BCS, n_quantizers=self.levels).audio_codes.transpose(1, 2)

    @property
    def _decoder(self) -> nn.Module:
        return self.net.decoder

    def _decode_latents(self, codes_BTK: torch.Tensor) -> torch.Tensor:
        return self.net.decode(audio_codes=codes_BTK.transpose(1, 2)).audio_values[:, None]


def decoder_delay(config: DacConfig) -> int:
    """Samples of audio after a sample whose codes are needed before that sample is final."""
    with torch.device("meta"):
        return -changed_by_a_frame(DacDecoder(config)).first


def open_folder(folder: Path, settings: dict[str, Any], levels: int | None) -> Codec:
    return DacCodec.open(folder, levels)
