"""EnCodec (Défossez et al., "High Fidelity Neural Audio Compression", 2022) in transformers' three published shapes.

    encodec_24khz   causal                                         75 Hz, 32 levels: lanes and streams (`seanet_codec`)
    encodec_32khz   looks ahead, whole recordings                  50 Hz, 4 levels (MusicGen's)
    encodec_48khz   stereo, windows of 1 s that overlap by 1 %,    150 frames every .99 s, 16 levels
                    each divided by its loudness, its scale

`EncodecModel.encode` takes its lowest bandwidth unless told otherwise and only bandwidths of a list; here the number of
levels says how many codebooks are used.

A window that adds nothing to the overlap with the one before is left out: transformers encodes such a rest of at most
480 samples again, as a window of one or two frames, and refuses it when there are three windows or more.

Shapes: B batch, C channels, S samples, T codec frames, K levels, W windows.
"""

from math import prod
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.utils.rnn import pad_sequence
from transformers import EncodecModel, PreTrainedModel

from hocket.codec.adapters.seanet import remove_weight_norms
from hocket.codec.adapters.seanet_codec import SeanetCodec
from hocket.codec.adapters.transformers_codec import FolderCodec, TransformersCodec
from hocket.codec.base import Codec, Codes
from hocket.codec.batching import by_equal_shape
from hocket.codec.identity import CodecIdentity
from hocket.errors import InputError

WINDOWS = 8  # computed at once


class CausalEncodec(SeanetCodec):
    """EnCodec whose convolutions look to the left only. The first frames also depend on the next few, mirrored."""

    net_class = EncodecModel

    @classmethod
    def describe(cls, config: Any) -> dict[str, Any]:
        return describe(config)

    def encoder_layers(self) -> list[nn.Module]:
        return list(self.net.encoder.layers)

    def decoder_layers(self) -> list[nn.Module]:
        return list(self.net.decoder.layers)

    def quantize(self, latent_BCT: torch.Tensor) -> torch.Tensor:
        return residual_codes(self.net, latent_BCT, self.levels)

    def dequantize(self, codes_BKT: torch.Tensor) -> torch.Tensor:
        return self.net.quantizer.decode(codes_BKT.transpose(0, 1))


class WholeEncodec(TransformersCodec):
    """EnCodec that looks ahead: recordings of one length are computed together, from their start to their end."""

    net_class = EncodecModel
    no_stream = "its convolutions look ahead and mirror the end of the recording"

    def __init__(self, net: PreTrainedModel, identity: CodecIdentity, folder: Path):
        super().__init__(net, identity, folder)
        remove_weight_norms(net)

    @classmethod
    def describe(cls, config: Any) -> dict[str, Any]:
        delay, output_delay = look_ahead(config)
        return describe(config) | {"delay": delay, "output_delay": output_delay}

    def _encode_equal(self, wav_BCS: torch.Tensor) -> torch.Tensor:
        return residual_codes(self.net, self.net.encoder(wav_BCS), self.levels).transpose(1, 2)

    def _decode_equal(self, codes_BTK: torch.Tensor) -> torch.Tensor:
        return self.net.decoder(self.net.quantizer.decode(codes_BTK.permute(2, 0, 1)))


class WindowedEncodec(WholeEncodec):
    """EnCodec in overlapping windows: frames of one window after those of the other, and one scale for each window.

    `Codes.scales_BW` has the scales; codes that come without (of a language model) decode at scale 1, at which speech
    is far too loud: give each window about the scale of the prompt's.
    """

    no_stream = "it divides each window by the loudness of the whole window"

    @classmethod
    def describe(cls, config: Any) -> dict[str, Any]:
        window, stride = config.chunk_length, config.chunk_stride or config.chunk_length
        return describe(config) | {"window": window, "window_stride": stride, "delay": window, "output_delay": window}

    def samples_of(self, n_frames: int) -> int:
        """The windows overlap: the last one starts after all the strides before it."""
        if not n_frames:
            return 0
        n_before = (n_frames - 1) // self.window_frames
        return n_before * self.identity.window_stride + (n_frames - n_before * self.window_frames) * self.hop

    @property
    def window_frames(self) -> int:
        return self.identity.window // self.hop

    def _encode_batch(self, items: list[torch.Tensor]) -> tuple[list[torch.Tensor], torch.Tensor | None]:
        windows = [self._windows(wav_CS) for wav_CS in items]
        flat = [window_CS for item in windows for window_CS in item]
        scales = [self._scale(window_CS) for window_CS in flat]
        scaled = [window_CS / scale for window_CS, scale in zip(flat, scales, strict=True)]
        codes = iter(by_equal_shape(scaled, self._encode_equal, WINDOWS))
        empty_TK = torch.zeros(0, self.levels, dtype=torch.int64, device=self.device)
        tokens = [torch.cat([empty_TK, *(next(codes) for _ in item)]) for item in windows]
        each = iter(scales)
        rows = [torch.stack([next(each) for _ in item]) if item else torch.ones(0) for item in windows]
        return tokens, pad_sequence([row.to(self.device) for row in rows], batch_first=True, padding_value=1.0)

    def _encode_items(self, items: list[torch.Tensor]) -> list[torch.Tensor]:
        return self._encode_batch(items)[0]

    def _windows(self, wav_CS: torch.Tensor) -> list[torch.Tensor]:
        """Windows of which each but the first has samples that no other has."""
        window, stride, n_samples = self.identity.window, self.identity.window_stride, wav_CS.shape[1]
        starts = [start for start in range(0, n_samples, stride) if not start or start + window - stride < n_samples]
        return [wav_CS[:, start : start + window] for start in starts]

    def _scale(self, window_CS: torch.Tensor) -> torch.Tensor:
        """Root mean square of the channels' mean; 1 for a codec that does not normalise."""
        if not self.net.config.normalize:
            return window_CS.new_ones(())
        mono_S = window_CS.sum(dim=0) / len(window_CS)
        return mono_S.pow(2).mean(dim=-1).sqrt() + 1e-8

    def _decode_items(self, items: list[torch.Tensor]) -> list[torch.Tensor]:
        return self._decode_windows(items, None)

    def _decode_batch(self, codes: Codes, items: list[torch.Tensor]) -> list[torch.Tensor]:
        return self._decode_windows([item_TK.to(self.device) for item_TK in items], codes.scales_BW)

    def _decode_windows(self, items: list[torch.Tensor], scales_BW: torch.Tensor | None) -> list[torch.Tensor]:
        windows = [item_TK.split(self.window_frames) if len(item_TK) else () for item_TK in items]
        flat = [codes_TK for item in windows for codes_TK in item]
        decoded = iter(by_equal_shape(flat, self._decode_equal, WINDOWS))
        waveforms = []
        for row, item in enumerate(windows):
            pieces = [next(decoded)[:, : len(codes_TK) * self.hop] for codes_TK in item]
            if scales_BW is not None:
                scales_W = scales_BW[row].to(self.device)
                pieces = [piece_CS * scale for piece_CS, scale in zip(pieces, scales_W, strict=False)]
            waveforms.append(self._joined(pieces))
        return waveforms

    def _joined(self, pieces: list[torch.Tensor]) -> torch.Tensor:
        """Windows faded into one another: each counts by its distance from its nearer end."""
        n_samples = self.samples_of(sum(piece_CS.shape[1] // self.hop for piece_CS in pieces))
        wav_CS = torch.zeros(self.identity.channels, n_samples, device=self.device)
        total_S = torch.zeros(n_samples, device=self.device)
        for row, piece_CS in enumerate(pieces):
            weight_S = triangle(pieces[0].shape[1], self.device)[: piece_CS.shape[1]]
            where = slice(row * self.identity.window_stride, row * self.identity.window_stride + piece_CS.shape[1])
            wav_CS[:, where] += weight_S * piece_CS
            total_S[where] += weight_S
        return wav_CS / total_S


def triangle(n: int, device: torch.device) -> torch.Tensor:
    return 0.5 - (torch.linspace(0, 1, n + 2, device=device)[1:-1] - 0.5).abs()


def describe(config: Any) -> dict[str, Any]:
    return {
        "sample_rate": config.sampling_rate,
        "hop": prod(config.upsampling_ratios),
        "codebook_sizes": (config.codebook_size,) * config.num_quantizers,
        "channels": config.audio_channels,
    }


def residual_codes(net: Any, latent_BCT: torch.Tensor, levels: int) -> torch.Tensor:
    """Codes [B, K, T] of latents: each level's nearest entry to what the levels before left.

    The squared distance without the residual's own length, which is the same for all entries.
    """
    residual_ND, codes = latent_BCT.transpose(1, 2).flatten(0, 1), []
    for layer in net.quantizer.layers[:levels]:
        entries_ED = layer.codebook.embed
        codes.append(torch.addmm(entries_ED.square().sum(dim=1), residual_ND, entries_ED.T, alpha=-2).argmin(dim=1))
        residual_ND = residual_ND - entries_ED[codes[-1]]
    return torch.stack(codes).unflatten(1, (len(latent_BCT), -1)).transpose(0, 1)


def look_ahead(config: Any) -> tuple[int, int]:
    """Samples to the right that a frame's codes, and a sample's waveform, depend on where convolutions look ahead."""
    dilated = sum(
        config.dilation_growth_rate**j * (config.residual_kernel_size - 1) // 2
        for j in range(config.num_residual_layers)
    )
    first, last = (config.kernel_size - 1) // 2, (config.last_kernel_size - 1) // 2
    hop, step, blocks, strides = prod(config.upsampling_ratios), 1, 0, 0
    for ratio in reversed(config.upsampling_ratios):
        blocks, strides, step = blocks + dilated * step, strides + ratio // 2 * step, step * ratio
    upward = strides_up(config.upsampling_ratios)
    return first + blocks + strides + last * hop, first * hop + upward + blocks + last


def strides_up(ratios: Any) -> int:
    """Samples that transposed convolutions look ahead: what they cut off on the left, at their outputs' rates."""
    step, total = prod(ratios), 0
    for ratio in ratios:
        step //= ratio
        total += (ratio - ratio // 2) * step
    return total


def open_folder(folder: Path, settings: dict[str, Any], levels: int | None) -> Codec:
    """The shape that the folder's config describes."""
    if settings.get("chunk_length_s"):
        return WindowedEncodec.open(folder, levels)
    if settings.get("normalize"):
        raise InputError(
            f'the EnCodec in folder "{folder}" normalises loudness without windows, which hocket cannot run'
        )
    causal = settings.get("use_causal_conv", True) and settings.get("norm_type", "weight_norm") == "weight_norm"
    one_sided = causal and settings.get("trim_right_ratio", 1.0) == 1.0
    kind: type[FolderCodec] = CausalEncodec if one_sided else WholeEncodec
    return kind.open(folder, levels)
