"""Batches of waveforms and codes taken apart into items, checked, and grouped by equal length.

A codec computes items that have the same length together and no others: padding then cannot reach any code.

Shapes: B batch, C channels, S samples, T codec frames, K levels.
"""

from collections.abc import Callable

import torch

from hocket.codec.audio import resample
from hocket.errors import InputError


def split_batch(
    wav: torch.Tensor, sample_rate: int, lengths: torch.Tensor | list[int] | None, to_rate: int, channels: int
) -> list[torch.Tensor]:
    """The items of a batch, float32 [C, S] at `to_rate` with `channels` channels; InputError on what is no audio.

    Two or more channels become one by their mean; one channel becomes several by repetition.
    """
    wav_BCS = as_batch(wav)
    if sample_rate <= 0:
        raise InputError(f"sample_rate must be positive, not {sample_rate}")
    n_items, n_samples = wav_BCS.shape[0], wav_BCS.shape[2]
    if not n_items:
        raise InputError("a batch of audio must hold at least one item")
    lengths_B = torch.as_tensor([n_samples] * n_items if lengths is None else lengths)
    check_lengths(lengths_B, n_items, n_samples, "samples")
    items = [item_CS[:, :length].float() for item_CS, length in zip(wav_BCS, lengths_B.tolist(), strict=True)]
    for row, item_CS in enumerate(items):
        if not torch.isfinite(item_CS).all():
            raise InputError(f"audio item {row} holds NaN or infinite samples")
    return [resample(with_channels(item_CS, channels), sample_rate, to_rate) for item_CS in items]


def as_batch(wav: torch.Tensor) -> torch.Tensor:
    """Audio [S], [B, S] or [B, C, S] as [B, C, S]."""
    if not wav.is_floating_point() or not 1 <= wav.ndim <= 3 or (wav.ndim == 3 and not wav.shape[1]):
        shapes = "[samples], [batch, samples] or [batch, channels, samples]"
        raise InputError(f"audio must be floats {shapes}, not {describe_tensor(wav)}")
    if wav.ndim == 3:
        return wav
    return wav[None, None] if wav.ndim == 1 else wav[:, None]


def with_channels(wav_CS: torch.Tensor, channels: int) -> torch.Tensor:
    if len(wav_CS) == channels:
        return wav_CS
    mono_1S = wav_CS.mean(dim=0, keepdim=True)
    return mono_1S.expand(channels, -1)


def by_equal_shape(
    items: list[torch.Tensor], run: Callable[[torch.Tensor], torch.Tensor], most: int
) -> list[torch.Tensor]:
    """`run` on stacks of at most `most` items of one shape; its results in the order of the items."""
    groups: dict[tuple[int, ...], list[int]] = {}
    for index, item in enumerate(items):
        groups.setdefault(tuple(item.shape), []).append(index)
    results: dict[int, torch.Tensor] = {}
    for indices in groups.values():
        for start in range(0, len(indices), most):
            chosen = indices[start : start + most]
            results |= dict(zip(chosen, run(torch.stack([items[index] for index in chosen])), strict=True))
    return [results[index] for index in range(len(items))]


def check_lengths(lengths_B: torch.Tensor, n_items: int, longest: int, unit: str) -> None:
    if lengths_B.shape != (n_items,):
        raise InputError(f"lengths must be one number for each of {n_items} items, not {describe_tensor(lengths_B)}")
    if n_items and not 0 <= int(lengths_B.min()) <= int(lengths_B.max()) <= longest:
        raise InputError(f"lengths must be 0 to {longest} {unit}, not {lengths_B.tolist()}")


def describe_tensor(tensor: torch.Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {list(tensor.shape)}"
