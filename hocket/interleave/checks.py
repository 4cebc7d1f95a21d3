"""Numbers as users give them: whole numbers and frame rates, or one sentence on what is wrong with them."""

from collections.abc import Mapping
from fractions import Fraction
from typing import Any

import numpy as np

from hocket.errors import InputError

LARGEST = 2**31 - 1  # frames, steps and cells of a plan: `Plan.frame_TR` holds 32 bits
MOST_LEVELS = 128  # `Plan.level_TR` holds 8 bits
MOST_STREAMS = 127  # and so does `Plan.stream_TR`


def is_whole(value: object, least: int = 0, most: int = LARGEST) -> bool:
    """Whether a value is a whole number within limits; True and 2.0 are none."""
    return isinstance(value, int | np.integer) and not isinstance(value, bool) and least <= int(value) <= most


def as_tuple(values: Any, what: str) -> tuple:
    """The values of a list, numpy's whole numbers as Python's.

    Raises:
        InputError: it is no list.
    """
    if isinstance(values, str) or not hasattr(values, "__iter__"):
        raise InputError(f"{what} are a list such as [0, 1, ...], not {values!r}")
    return tuple(int(value) if isinstance(value, np.integer) else value for value in values)


def to_fraction(value: Any, what: str) -> Fraction:
    """The number as it is written: 12.1 is 121/10, not the binary number next to it.

    Raises:
        InputError: it is no number, or its parts are beyond all use.
    """
    try:
        exact = Fraction(str(value)) if isinstance(value, float | np.floating) else Fraction(value)
    except (TypeError, ValueError, OverflowError, ZeroDivisionError):
        exact = None
    if exact is None or isinstance(value, bool):
        raise InputError(f"{what} is a number, not {value!r}")
    if max(abs(exact.numerator), exact.denominator) > LARGEST:
        raise InputError(f"{what} of {exact} cannot be counted in; its two numbers go up to {LARGEST}")
    return exact


def frame_rates_of(rates: Mapping[str, Any]) -> dict[str, Fraction]:
    """Frame rates in Hz by stream, exact.

    Raises:
        InputError: they are no numbers above 0 by stream.
    """
    if not isinstance(rates, Mapping):
        raise InputError(f'frame rates are Hz by stream, such as {{"audio": 25}}, not {rates!r}')
    exact = {name: to_fraction(rate, f'the frame rate of "{name}"') for name, rate in rates.items()}
    for name, rate in exact.items():
        if rate <= 0:
            raise InputError(f'the frame rate of "{name}" is a number of Hz above 0, not {rate}')
    return exact
