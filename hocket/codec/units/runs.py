"""Runs of equal units made one, with their durations, and back.

    units      5 5 5 2 2 5        units_N      5 2 5
                           ->     durations_N  3 2 1    (frames)

Shapes: T frames, N runs.
"""

import torch

from hocket.codec.batching import describe_tensor
from hocket.errors import InputError


def deduplicate(units_T: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Each run's unit and its duration in frames, int64; neighbours differ. InputError unless [T] integers."""
    if units_T.ndim != 1 or units_T.is_floating_point():
        raise InputError(f"units must be integers [frames], not {describe_tensor(units_T)}")
    units_N, durations_N = torch.unique_consecutive(units_T, return_counts=True)
    return units_N, durations_N


def repeat(units_N: torch.Tensor, durations_N: torch.Tensor) -> torch.Tensor:
    """Each unit as often as its duration says: the inverse of `deduplicate`.

    InputError unless both are integers of one length and no duration is negative.
    """
    if units_N.ndim != 1 or units_N.shape != durations_N.shape or durations_N.is_floating_point():
        raise InputError(
            f"units and durations must be integers of one length, not {describe_tensor(units_N)} and "
            f"{describe_tensor(durations_N)}"
        )
    if durations_N.numel() and int(durations_N.min()) < 0:
        raise InputError(f"durations are frames, 0 or more, not {int(durations_N.min())}")
    return units_N.repeat_interleave(durations_N)
