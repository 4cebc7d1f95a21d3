"""Runs the causal modules of a SEANet (EnCodec, Mimi) piece by piece, items of different lengths side by side.

transformers' classes take whole recordings: each convolution pads its input on the left at the recording's start and,
where its stride leaves a rest, on the right at its end. `SeanetState` keeps what each module needs of the past (the
last inputs of convolutions, LSTM states, keys and values of the attention window), so that a recording can come in
pieces, and writes at each item's own end the padding that the item alone would get there:

    items of a piece    aaaaaaaa    the next piece goes on with a (and not with b)
                        bbbbbp..    p: padding of b, written anew before every strided convolution; . is never read

Nothing looks to the right of an item's end, so an item computed beside others has the values that it has alone, up to
the rounding of matrix products of another shape. Memory is that of one piece.

Shapes: B batch, C channels of any layer, N steps of any layer (samples to frames), P padding of a convolution.
"""

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import nn
from transformers import DynamicCache

Ends = list[int]
"""How many steps of a piece each item has; the piece is its last where that is fewer than all."""


class SeanetState:
    """The modules of an encoder or a decoder, with all they remember of the items so far."""

    def __init__(self, layers: Iterable[nn.Module]):
        self.layers = list(layers)
        self.past: dict[nn.Module, Any] = {}

    def push(self, x_BCN: torch.Tensor, ends: Ends) -> torch.Tensor:
        """What the modules make of the next piece; N is a multiple of the product of their strides.

        The first piece must have `lead_frames` frames or be the last of all its items.
        """
        for layer in self.layers:
            x_BCN, ends = self._run(layer, x_BCN, ends)
        return x_BCN

    def keep(self, n_items: int) -> None:
        """Forgets all but the first `n_items` items, since the others have ended."""
        for layer, past in self.past.items():
            if isinstance(past, DynamicCache):
                past.batch_select_indices(torch.arange(n_items))
            elif isinstance(past, tuple):
                self.past[layer] = tuple(part_LBD[:, :n_items].contiguous() for part_LBD in past)
            else:
                self.past[layer] = past[:n_items]

    def _run(self, layer: Any, x_BCN: torch.Tensor, ends: Ends) -> tuple[torch.Tensor, Ends]:
        conv = getattr(layer, "conv", None)
        if isinstance(conv, nn.Conv1d):
            return self._convolve(layer, x_BCN, ends), [-(-n // conv.stride[0]) for n in ends]
        if isinstance(conv, nn.ConvTranspose1d):
            return self._upsample(layer, x_BCN), [n * conv.stride[0] for n in ends]
        if hasattr(layer, "block"):
            return self._add_block(layer, x_BCN, ends), ends
        if hasattr(layer, "lstm"):
            return self._recur(layer, x_BCN), ends
        if hasattr(layer, "rotary_emb"):
            return self._attend(layer, x_BCN), ends
        return layer(x_BCN), ends

    def _convolve(self, layer: Any, x_BCN: torch.Tensor, ends: Ends) -> torch.Tensor:
        padding = padding_of(layer)
        if not padding:
            return layer.conv(x_BCN)
        left_BCP, first = self.past.get(layer), layer not in self.past
        if left_BCP is None:
            left_BCP = left_padding(x_BCN, ends, padding, layer.pad_mode)
        x_BCN = torch.cat([left_BCP, x_BCN], dim=2)
        if layer.conv.stride[0] > 1:
            pad_ends(x_BCN, ends, padding, layer.conv.stride[0], layer.pad_mode, first)
        self.past[layer] = x_BCN[:, :, -padding:].clone()
        return layer.conv(x_BCN)

    def _upsample(self, layer: Any, x_BCN: torch.Tensor) -> torch.Tensor:
        """A step of the past adds nothing but its share of the steps that the piece's first ones reach."""
        stride, n_new = layer.conv.stride[0], x_BCN.shape[2]
        n_left = -(-(layer.conv.kernel_size[0] - stride) // stride)
        left_BCN = self.past.get(layer)
        if left_BCN is None:
            left_BCN = x_BCN.new_zeros(*x_BCN.shape[:2], n_left)
        x_BCN = torch.cat([left_BCN, x_BCN], dim=2)
        self.past[layer] = x_BCN[:, :, n_new:].clone()
        return layer.conv(x_BCN)[:, :, n_left * stride : (n_left + n_new) * stride]

    def _add_block(self, layer: Any, x_BCN: torch.Tensor, ends: Ends) -> torch.Tensor:
        y_BCN = x_BCN
        for part in layer.block:
            y_BCN, _ = self._run(part, y_BCN, ends)
        shortcut_BCN, _ = self._run(layer.shortcut, x_BCN, ends)
        return shortcut_BCN + y_BCN

    def _recur(self, layer: Any, x_BCN: torch.Tensor) -> torch.Tensor:
        x_NBC = x_BCN.permute(2, 0, 1)
        y_NBC, self.past[layer] = layer.lstm(x_NBC, self.past.get(layer))
        return (y_NBC + x_NBC).permute(1, 2, 0)

    def _attend(self, layer: Any, x_BCN: torch.Tensor) -> torch.Tensor:
        cache = self.past.setdefault(layer, DynamicCache(config=layer.config))
        x_BNC = x_BCN.transpose(1, 2)
        return layer(x_BNC, past_key_values=cache, use_cache=True).last_hidden_state.transpose(1, 2)


def padding_of(layer: Any) -> int:
    """Steps of padding before the first step of a causal convolution."""
    conv = layer.conv
    return (conv.kernel_size[0] - 1) * conv.dilation[0] + 1 - conv.stride[0]


def left_padding(x_BCN: torch.Tensor, ends: Ends, padding: int, mode: str) -> torch.Tensor:
    """What lies before the first step. An item too short to be mirrored is first prolonged with zeros."""
    if mode == "constant":
        return x_BCN.new_zeros(*x_BCN.shape[:2], padding)
    if mode == "replicate":
        return x_BCN[:, :, :1].expand(-1, -1, padding)
    right_BCP = nn.functional.pad(x_BCN[:, :, 1 : padding + 1], (0, max(padding + 1 - x_BCN.shape[2], 0)))
    if min(ends) <= padding:
        right_BCP = right_BCP.clone()
        for right_CP, n in zip(right_BCP, ends, strict=True):
            right_CP[:, n - 1 :] = 0
    return right_BCP.flip(2)


def pad_ends(x_BCN: torch.Tensor, ends: Ends, padding: int, stride: int, mode: str, first: bool) -> None:
    """Writes, in place, the steps that fill up the last stride of each item; the piece starts at step `padding`."""
    for x_CN, n in zip(x_BCN, ends, strict=True):
        n_missing, end = -n % stride, padding + n
        if not n_missing:
            continue
        if mode == "constant" or (mode == "reflect" and first and n <= padding):
            x_CN[:, end : end + n_missing] = 0
        elif mode == "replicate":
            x_CN[:, end : end + n_missing] = x_CN[:, end - 1 : end]
        else:
            x_CN[:, end : end + n_missing] = x_CN[:, end - 1 - n_missing : end - 1].flip(1)


def convolutions(layers: Iterable[nn.Module]) -> Iterator[Any]:
    """The padded convolutions, transposed ones too, in the order in which they are run."""
    for layer in layers:
        for module in layer.modules():
            if isinstance(getattr(module, "conv", None), nn.Conv1d | nn.ConvTranspose1d):
                yield module


def lead_frames(layers: Iterable[nn.Module], steps_per_frame: int) -> int:
    """Frames that the first piece must have, so that each mirrored left padding finds what it mirrors.

    `steps_per_frame` is that of the first module's input: the hop of an encoder, 1 of a decoder.
    """
    lead = 1
    for module in convolutions(layers):
        if isinstance(module.conv, nn.ConvTranspose1d):
            steps_per_frame *= module.conv.stride[0]
            continue
        if module.pad_mode == "reflect":
            lead = max(lead, padding_of(module) // steps_per_frame + 1)
        steps_per_frame = max(steps_per_frame // module.conv.stride[0], 1)
    return lead


def can_stream(layers: Iterable[nn.Module]) -> bool:
    """Whether every convolution looks to the left only and is normalised, if at all, by its weights."""
    modules = list(convolutions(layers))
    one_sided = all(module.causal and getattr(module, "trim_right_ratio", 1.0) == 1.0 for module in modules)
    return one_sided and not any(hasattr(module, "norm") for module in modules)


def remove_weight_norms(net: nn.Module) -> None:
    """Computes each normalised weight once instead of at every call: the same values to the last bit."""
    for module in net.modules():
        if nn.utils.parametrize.is_parametrized(module, "weight"):
            nn.utils.parametrize.remove_parametrizations(module, "weight", leave_parametrized=True)
