"""Exact windows and streams of networks that see a finite context: stacks of convolutions such as DAC's.

A frame's codes depend on the samples around it and on no others. A long recording is therefore encoded piece by piece,
each piece with as much audio before and after it as its frames can see, and the codes are those of the whole; decoding
goes the same way from codes to samples. How far a frame sees is computed from the kernels, strides and dilations of
the layers, and tests change single samples to show that it is neither more nor less.

    held:  | context that is computed again | frames that are given out | context that waits for later samples |

Memory holds one piece of `PIECE` frames. A push computes its context again: DAC sees 8 frames back and 8 ahead, so a
stream pushed frame by frame costs about 17 times the whole, one pushed in seconds about 1.3 times.

Shapes: B batch, C channels, S samples, T codec frames, K levels.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from hocket.codec.identity import CodecIdentity
from hocket.codec.streaming import StreamDecoder, StreamEncoder

PIECE = 512  # frames computed at a time


@dataclass(frozen=True)
class Reach:
    """The samples that belong to frame 0: those that it sees, or those that it changes; frame t's lie t * hop later."""

    first: int  # at most 0: so many samples before the frame's own
    last: int


def seen_by_a_frame(encoder: nn.Module) -> Reach:
    """The input samples that one frame of a stack of strided convolutions depends on."""
    first = last = 0
    for layer in reversed(convolutions(encoder)):
        stride, padding, span = sizes_of(layer)
        first, last = first * stride - padding, last * stride - padding + span
    return Reach(first, last)


def changed_by_a_frame(decoder: nn.Module) -> Reach:
    """The output samples that one frame changes in a stack of convolutions and transposed convolutions."""
    first = last = 0
    for layer in convolutions(decoder):
        stride, padding, span = sizes_of(layer)
        if isinstance(layer, nn.ConvTranspose1d):
            first, last = first * stride - padding, last * stride - padding + span
        else:
            first, last = first + padding - span, last + padding
    return Reach(first, last)


def frames_of(encoder: nn.Module, n_samples: int) -> int:
    """How many frames a stack of strided convolutions makes of so many samples; 0 where it takes none so short."""
    length = n_samples
    for layer in convolutions(encoder):
        stride, padding, span = sizes_of(layer)
        length = (length + 2 * padding - span - 1) // stride + 1
        if length <= 0:
            return 0
    return length


def convolutions(net: nn.Module) -> list[Any]:
    """The layers that move information along time, in the order in which DAC's classes define and run them."""
    return [module for module in net.modules() if isinstance(module, nn.Conv1d | nn.ConvTranspose1d)]


def sizes_of(layer: Any) -> tuple[int, int, int]:
    """Stride, padding, and the distance from a kernel's first tap to its last."""
    return layer.stride[0], layer.padding[0], layer.dilation[0] * (layer.kernel_size[0] - 1)


class WindowEncoder:
    """Codes of waveforms [B, C, S] that come in pieces, the same as of the whole."""

    def __init__(self, run: Callable[[torch.Tensor], torch.Tensor], encoder: nn.Module, hop: int):
        """`run` makes codes [B, T, K] of waveforms [B, C, S]; `encoder` holds the convolutions that it runs."""
        self.run, self.encoder, self.hop = run, encoder, hop
        self.reach = seen_by_a_frame(encoder)
        self.held_BCS: torch.Tensor | None = None
        self.start = self.n_given = self.n_samples = 0  # first frame held, frames given out, samples that came

    def push(self, wav_BCS: torch.Tensor) -> torch.Tensor:
        """The frames that no later sample can change any more."""
        pieces = wav_BCS.split(PIECE * self.hop, dim=2)
        return torch.cat([self._take(piece_BCS) for piece_BCS in pieces], dim=1)

    def finish(self) -> torch.Tensor:
        """The frames at the end, which see what the class puts after it."""
        if self.held_BCS is None:
            raise AssertionError("a stream is finished after its first push")
        return self._frames(self.held_BCS, frames_of(self.encoder, self.n_samples))

    def _take(self, piece_BCS: torch.Tensor) -> torch.Tensor:
        held_BCS = piece_BCS if self.held_BCS is None else torch.cat([self.held_BCS, piece_BCS], dim=2)
        self.n_samples += piece_BCS.shape[2]
        return self._frames(held_BCS, max(0, (self.n_samples - 1 - self.reach.last) // self.hop + 1))

    def _frames(self, held_BCS: torch.Tensor, end: int) -> torch.Tensor:
        self.held_BCS = held_BCS
        if end <= self.n_given:
            return self.run(held_BCS[..., :0])
        codes_BTK = self.run(held_BCS)[:, self.n_given - self.start : end - self.start]
        kept = max(0, end + self.reach.first // self.hop)
        self.held_BCS = held_BCS[..., (kept - self.start) * self.hop :]
        self.start, self.n_given = kept, end
        return codes_BTK


class WindowDecoder:
    """Waveforms of codes [B, T, K] that come in pieces, the same as of the whole."""

    def __init__(self, run: Callable[[torch.Tensor], torch.Tensor], decoder: nn.Module, hop: int):
        """`run` makes waveforms [B, C, T * hop] of codes [B, T, K]; `decoder` holds the convolutions that it runs."""
        self.run, self.hop = run, hop
        self.reach = changed_by_a_frame(decoder)
        self.held_BTK: torch.Tensor | None = None
        self.start = self.n_given = self.n_frames = 0  # first frame held, samples given out, frames that came

    def push(self, codes_BTK: torch.Tensor) -> torch.Tensor:
        """The samples that no later frame can change any more."""
        return torch.cat([self._take(piece_BTK) for piece_BTK in codes_BTK.split(PIECE, dim=1)], dim=2)

    def finish(self) -> torch.Tensor:
        """The samples at the end."""
        if self.held_BTK is None:
            raise AssertionError("a stream is finished after its first push")
        return self._samples(self.held_BTK, self.n_frames * self.hop)

    def _take(self, piece_BTK: torch.Tensor) -> torch.Tensor:
        held_BTK = piece_BTK if self.held_BTK is None else torch.cat([self.held_BTK, piece_BTK], dim=1)
        self.n_frames += piece_BTK.shape[1]
        return self._samples(held_BTK, max(0, self.n_frames * self.hop + self.reach.first))

    def _samples(self, held_BTK: torch.Tensor, end: int) -> torch.Tensor:
        self.held_BTK = held_BTK
        if end <= self.n_given:
            return self.run(held_BTK[:, :0])
        offset = self.start * self.hop
        wav_BCS = self.run(held_BTK)[..., self.n_given - offset : end - offset]
        kept = max(0, -((self.reach.last - end) // self.hop))
        self.held_BTK = held_BTK[:, kept - self.start :]
        self.start, self.n_given = kept, end
        return wav_BCS


class ContextStreamEncoder(StreamEncoder):
    """Frame t comes out once the `identity.delay` samples after its end are in."""

    def __init__(self, identity: CodecIdentity, windows: WindowEncoder, device: torch.device):
        super().__init__(identity)
        self.windows, self.device = windows, device
        windows.push(torch.zeros(1, identity.channels, 0, device=device))

    def _push(self, wav_CS: torch.Tensor) -> torch.Tensor:
        return self.windows.push(wav_CS[None].to(self.device))[0]

    def _finish(self) -> torch.Tensor:
        return self.windows.finish()[0]


class ContextStreamDecoder(StreamDecoder):
    """A sample comes out once the codes of the `identity.output_delay` samples after it are in."""

    def __init__(self, identity: CodecIdentity, windows: WindowDecoder, device: torch.device):
        super().__init__(identity)
        self.windows, self.device = windows, device

    def _push(self, codes_TK: torch.Tensor) -> torch.Tensor:
        return self.windows.push(codes_TK[None].to(self.device))[0].clamp(-1, 1)

    def _finish(self) -> torch.Tensor:
        if self.windows.held_BTK is None:
            return torch.zeros(self.identity.channels, 0, device=self.device)
        return self.windows.finish()[0].clamp(-1, 1)
