"""Timestamp tokens on a fixed grid of seconds (Whisper: Radford et al., 2022, 1501 tokens of 0.02 s).

    timestamps(30.0, 0.02)              ("0.00", "0.02", …, "30.00")
    timestamp_code(names, 1.237)        62, the nearest
    timestamp_seconds(names, 62)        1.24

The names carry the grid, so a loaded vocabulary needs nothing else: pass `vocabulary.tokens["timestamp"]`.
"""

from collections.abc import Sequence
from decimal import Decimal
from typing import overload

import numpy as np

from hocket.errors import InputError


def timestamps(seconds: float, step: float) -> tuple[str, ...]:
    """Names of the times 0, step, … seconds, with as many decimals as the step has.

    Args:
        seconds: the last time.
        step: distance of two times in seconds.

    Raises:
        InputError: a number is not above 0, or `seconds` is no whole number of steps.
    """
    last, distance = Decimal(str(seconds)), Decimal(str(step))
    if not last.is_finite() or not distance.is_finite() or last <= 0 or distance <= 0:
        raise InputError(f"timestamps need times above 0, not {seconds} seconds in steps of {step}")
    if last % distance:
        raise InputError(f"{seconds} seconds are no whole number of steps of {step}")
    decimals = max(-int(distance.normalize().as_tuple().exponent), 0)
    return tuple(f"{distance * i:.{decimals}f}" for i in range(int(last / distance) + 1))


@overload
def timestamp_code(names: Sequence[str], seconds: float) -> int: ...
@overload
def timestamp_code(names: Sequence[str], seconds: np.ndarray | Sequence[float]) -> np.ndarray: ...
def timestamp_code(names: Sequence[str], seconds: float | np.ndarray | Sequence[float]) -> int | np.ndarray:
    """The code of the nearest timestamp; a number for a number, int64 of the same shape for an array.

    Raises:
        InputError: a time lies more than half a step outside the grid.
    """
    times = np.asarray(seconds, dtype=np.float64)
    codes = np.rint(times / _step(names)).astype(np.int64)
    outside = (codes < 0) | (codes >= len(names))
    if outside.any():
        found = float(times[outside][0])
        raise InputError(f"{found:g} seconds lie outside the timestamps, which go from 0 to {names[-1]}")
    return codes if codes.ndim else int(codes)


@overload
def timestamp_seconds(names: Sequence[str], code: int) -> float: ...
@overload
def timestamp_seconds(names: Sequence[str], code: np.ndarray | Sequence[int]) -> np.ndarray: ...
def timestamp_seconds(names: Sequence[str], code: int | np.ndarray | Sequence[int]) -> float | np.ndarray:
    """The time in seconds of a code, or of an array of codes (float64 of the same shape).

    Raises:
        InputError: there is no such code.
    """
    codes = np.asarray(code)
    if ((codes < 0) | (codes >= len(names))).any():
        raise InputError(f"there are {len(names)} timestamps; {code} is none of their codes")
    times = _times(names)[codes]
    return times if codes.ndim else float(times)


def _times(names: Sequence[str]) -> np.ndarray:
    try:
        return np.array([float(name) for name in names])
    except ValueError as error:
        raise InputError(f'"{names[0]}", … are no timestamps; make them with timestamps(30.0, 0.02)') from error


def _step(names: Sequence[str]) -> float:
    times = _times(names)
    return float(times[-1] / (len(times) - 1)) if len(times) > 1 else 1.0
