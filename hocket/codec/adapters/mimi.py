"""Mimi (Défossez et al., "Moshi", 2024; kyutai/mimi): 24 kHz, 12.5 Hz, level 0 semantic, causal.

    24 kHz wav -> SEANet, stride 960 -> transformer, 250 steps back -> stride 2 -> 1 + 31 codes of 2,048

transformers' `MimiModel.encode` ignores its padding mask, and `decode` with its cache keeps the transformer's past but
not the convolutions'; `seanet` computes both exactly. The attention window is kept by transformers' own cache.

Shapes: B batch, C channels of any layer, T codec frames, K levels.
"""

from math import prod
from pathlib import Path
from typing import Any, Self

import torch
from torch import nn
from transformers import MimiModel

from hocket.codec.adapters.seanet import can_stream
from hocket.codec.adapters.seanet_codec import SeanetCodec
from hocket.errors import InputError


class MimiCodec(SeanetCodec):
    """transformers' `MimiModel`; all its levels unless fewer are asked for."""

    net_class = MimiModel

    @classmethod
    def describe(cls, config: Any) -> dict[str, Any]:
        return {
            "sample_rate": config.sampling_rate,
            "hop": prod(config.upsampling_ratios) * config.latent_stride,
            "codebook_sizes": (config.codebook_size,) * config.num_quantizers,
            "channels": config.audio_channels,
            "semantic_level": 0,
        }

    def encoder_layers(self) -> list[nn.Module]:
        encoder = self.net.encoder
        return [*encoder.encoder_seanet.layers, encoder.encoder_transformer, encoder.downsample]

    def decoder_layers(self) -> list[nn.Module]:
        decoder = self.net.decoder
        return [decoder.upsample, decoder.decoder_transformer, *decoder.decoder_seanet.layers]

    def quantize(self, latent_BCT: torch.Tensor) -> torch.Tensor:
        n_semantic = self.net.config.num_semantic_quantizers
        codes_KBT = self.net.quantizer.encode(latent_BCT, num_quantizers=max(self.levels, n_semantic))
        return codes_KBT[: self.levels].transpose(0, 1)

    def dequantize(self, codes_BKT: torch.Tensor) -> torch.Tensor:
        return self.net.quantizer.decode(codes_BKT)

    def to(self, device: str | torch.device) -> Self:
        """Codebooks that the class computed once and put aside are computed again on the new device."""
        super().to(device)
        for module in self.net.modules():
            if hasattr(module, "_embed"):
                module._embed = None
        return self


def open_folder(folder: Path, settings: dict[str, Any], levels: int | None) -> MimiCodec:
    codec = MimiCodec.open(folder, levels)
    if not can_stream([*codec.encoder_layers(), *codec.decoder_layers()]):
        raise InputError(
            f'the codec in folder "{folder}" is a Mimi without causal convolutions, which hocket cannot run'
        )
    return codec
