"""EnCodec's three shapes and Mimi, tiny, with codebooks spread over the latents of real-sized noise."""

from pathlib import Path
from typing import Any

import torch
from transformers import EncodecConfig, EncodecModel, MimiConfig, MimiModel

ENCODEC = {
    "num_filters": 4,
    "upsampling_ratios": [8, 5, 4],
    "hidden_size": 8,
    "codebook_size": 16,
    "target_bandwidths": [0.9, 2.4],
}
LOOKING_AHEAD = {"use_causal_conv": False, "use_conv_shortcut": False, "sampling_rate": 32000}
IN_WINDOWS = {
    "use_causal_conv": False,
    "norm_type": "time_group_norm",
    "normalize": True,
    "audio_channels": 2,
    "sampling_rate": 48000,
    "chunk_length_s": 0.02,  # 6 frames
    "overlap": 0.1,
    "target_bandwidths": [1.2, 3.6],
}
MIMI = {
    "num_filters": 4,
    "upsampling_ratios": [8, 5, 4],
    "hidden_size": 16,
    "codebook_size": 16,
    "codebook_dim": 8,
    "vector_quantization_hidden_dimension": 8,
    "num_quantizers": 5,
    "upsample_groups": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "intermediate_size": 32,
    "sliding_window": 5,
    "layer_scale_initial_scale": 0.5,
}


def build_encodec(folder: Path, **changes: Any) -> Path:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = EncodecModel(EncodecConfig(**ENCODEC | changes)).eval()
        spread_encodec(net)
    net.save_pretrained(folder)
    return folder


def build_mimi(folder: Path, **changes: Any) -> Path:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net: Any = MimiModel(MimiConfig(**MIMI | changes)).eval()
        spread_mimi(net)
        net.decoder.decoder_seanet.layers[-1].conv.weight.data *= 0.01  # audio well inside [-1, 1]
    net.save_pretrained(folder)
    return folder


@torch.no_grad()
def spread_encodec(net: Any, seconds: float = 1.0) -> None:
    """Centres the latents and makes each level's entries of the residuals that noise of changing loudness leaves."""
    noise_BCS = loud_and_soft(net.config.audio_channels, int(seconds * net.config.sampling_rate))
    last = net.encoder.layers[-1]
    (last.norm if hasattr(last, "norm") else last.conv).bias.data -= net.encoder(noise_BCS)[0].mean(dim=1)
    residual_BTC = net.encoder(noise_BCS).transpose(1, 2)
    for layer in net.quantizer.layers:
        spread(layer.codebook.embed, residual_BTC[0])
        residual_BTC = residual_BTC - layer.codebook.decode(layer.codebook.encode(residual_BTC))


@torch.no_grad()
def spread_mimi(net: Any, seconds: float = 1.0) -> None:
    latent_BCT = net.encoder(loud_and_soft(1, int(seconds * net.config.sampling_rate))).latents
    for part in (net.quantizer.semantic_residual_vector_quantizer, net.quantizer.acoustic_residual_vector_quantizer):
        residual_BTC = part.input_proj(latent_BCT).transpose(1, 2)
        for layer in part.layers:
            spread(layer.codebook.embed_sum, residual_BTC[0])
            layer.codebook._embed = None
            residual_BTC = residual_BTC - layer.codebook.decode(layer.codebook.encode(residual_BTC))


def spread(codebook_ED: torch.Tensor, residual_TD: torch.Tensor) -> None:
    """Some of the residuals, moved a little, so that no entry is met exactly and no two are equal."""
    chosen_ED = residual_TD[torch.randint(len(residual_TD), (len(codebook_ED),))]
    codebook_ED.copy_(chosen_ED + 0.3 * residual_TD.std(dim=0) * torch.randn(codebook_ED.shape))


def loud_and_soft(channels: int, n_samples: int) -> torch.Tensor:
    loudness_S = torch.exp(torch.randn(-(-n_samples // 480)) * 1.5 - 4).repeat_interleave(480)[:n_samples]
    return torch.randn(1, channels, n_samples) * loudness_S


BUILDERS = {
    "encodec-causal": build_encodec,
    "encodec-looking-ahead": lambda folder: build_encodec(folder, **LOOKING_AHEAD),
    "encodec-in-windows": lambda folder: build_encodec(folder, **IN_WINDOWS),
    "mimi": build_mimi,
}
