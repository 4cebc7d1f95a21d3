"""Stream transforms: what is done to the codes of a stream before a layout places them, and undone after.

`align_text` puts words onto the audio clock, as the text stream of Moshi (Défossez et al., 2024, arXiv:2410.00037):
a word's tokens stand from the frame in which it starts, one a frame; `_` is pad, `|` end-of-pad, the frame before a
word that follows pad.

    words     "hello" (tokens 5 6 7) at 0.2 s, "you" (8) at 0.3 s, "there" (9 4) at 0.64 s; 12.5 frames a second
    frame     0  1  2  3  4  5  6  7  8  9  10
    code      _  |  5  6  7  8  _  |  9  4  _

"you" starts in frame 3, but waits until the tokens of "hello" are out: no token is ever dropped. `deduplicate` makes
runs of equal frames one frame with a duration (Lakhotia et al., 2021, arXiv:2102.01192), `reduplicate` undoes it.

Cost on one CPU thread: 5 µs a word to align, 5 ns a code to deduplicate.

Shapes: T frames, K levels, N tokens or runs, W words.
"""

import math
from collections.abc import Sequence
from decimal import Decimal
from fractions import Fraction
from itertools import chain
from typing import Any

import numpy as np
import torch

from hocket.errors import InputError
from hocket.interleave.checks import LARGEST, is_whole

Array = Any  # numpy array or torch tensor; the same kind comes out as went in
Seconds = int | float | np.floating | Decimal | Fraction
Word = tuple[Sequence[int], Seconds] | tuple[Sequence[int], Seconds, Seconds]
"""Tokens, start and perhaps stop. Where a word stops changes nothing: its tokens need a frame each, said or not."""

NOT_SELECTABLE = (torch.uint16, torch.uint32, torch.uint64)  # torch has no indexing for these on the CPU


def pad_code(text_rows: int) -> int:
    """The code of aligned text that says nothing: the first after the `text_rows` codes of text tokens."""
    return text_rows


def end_of_pad_code(text_rows: int) -> int:
    """The code of aligned text in the frame before a word that follows pad."""
    return text_rows + 1


def align_text(words: Sequence[Word], frame_rate: Seconds, n_frames: int, text_rows: int) -> np.ndarray:
    """Words on the audio clock: int64 codes `[T, 1]`, text tokens, `pad_code` and `end_of_pad_code`.

    A word whose predecessor still has tokens to place starts after it; a word without tokens places nothing. A delay
    of text against audio is the layout's business.

    Args:
        words: tokens and times in seconds, in the order of their starts. A start is taken as the decimal number that
            it is written as, so that 0.24 s at 12.5 Hz is frame 3, which the nearest binary number would miss.
        frame_rate: frames a second; a Fraction such as `Fraction(25, 2)` where it is no whole number.
        n_frames: T, the frames of the audio.
        text_rows: number of text tokens, the rows of the text block.

    Raises:
        InputError: words out of order, a token outside the text block, a time that is none, or a word whose tokens
            reach beyond the last frame (`words_within` leaves those out and counts them).
    """
    if not is_whole(n_frames) or not is_whole(text_rows):
        raise InputError(f"frames and text rows are whole numbers from 0 on, not {n_frames!r} and {text_rows!r}")
    tokens_N = _tokens(words, text_rows)
    begin_W, size_W = _place(words, frame_rate)
    beyond_W = _beyond(begin_W, size_W, n_frames)
    if beyond_W.any():
        first = int(beyond_W.argmax())
        raise InputError(
            f"word {first} starts at {words[first][1]} s and its last token would stand in frame "
            f"{begin_W[first] + size_W[first] - 1}, but the audio has {n_frames} frames"
        )
    codes_T = np.full(n_frames, pad_code(text_rows), dtype=np.int64)
    first_N = np.repeat(np.cumsum(size_W) - size_W, size_W)
    codes_T[np.repeat(begin_W, size_W) + np.arange(len(tokens_N)) - first_N] = tokens_N
    before_W = begin_W[(size_W > 0) & (begin_W > 0)] - 1
    codes_T[before_W[codes_T[before_W] == pad_code(text_rows)]] = end_of_pad_code(text_rows)
    return codes_T[:, None]


def words_within(words: Sequence[Word], frame_rate: Seconds, n_frames: int) -> tuple[list[Word], int]:
    """The words whose tokens all fit into `n_frames` frames, and how many were left out, all of them at the end."""
    begin_W, size_W = _place(words, frame_rate)
    beyond_W = _beyond(begin_W, size_W, n_frames)
    n_kept = int(beyond_W.argmax()) if beyond_W.any() else len(words)
    return list(words[:n_kept]), len(words) - n_kept


def unalign_text(codes: Array, text_rows: int) -> tuple[Array, Array]:
    """The text tokens `[N]` of aligned text `[T, 1]` or `[T]`, and the frame in which each stands.

    A token's time in seconds is its frame divided by the frame rate.

    Raises:
        InputError: the codes have more than one level, are no integers, or lie outside text, pad and end-of-pad.
    """
    _check_integers(codes, "aligned text", "[frames, 1] or [frames]")
    if codes.ndim == 2 and codes.shape[1] != 1:
        raise InputError(f"aligned text has one level, not {codes.shape[1]}")
    codes_T = codes.reshape(-1)
    outside_T = (codes_T < 0) | (codes_T > end_of_pad_code(text_rows))
    if outside_T.any():
        raise InputError(
            f"aligned text over {text_rows} text tokens holds the code {int(codes_T[outside_T][0])}; "
            f"pad is {pad_code(text_rows)} and end-of-pad, the greatest, {end_of_pad_code(text_rows)}"
        )
    is_token_T = codes_T < text_rows
    frames_N = torch.where(is_token_T)[0] if isinstance(codes_T, torch.Tensor) else np.flatnonzero(is_token_T)
    return codes_T[is_token_T], frames_N


def deduplicate(codes: Array) -> tuple[Array, Array]:
    """Each run of equal frames once, with its duration in frames (int64 `[N]`): neighbours differ in some level.

    Args:
        codes: integers `[T, K]`, or `[T]` for one level; numpy or torch, on any device.

    Raises:
        InputError: the codes are no integers or have another shape.
    """
    _check_integers(codes, "codes", "[frames, levels] or [frames]")
    codes_TK = codes if codes.ndim == 2 else codes[:, None]
    changes = (codes_TK[1:] != codes_TK[:-1]).any(1)
    if isinstance(codes, torch.Tensor):
        starts_N = torch.where(torch.cat([changes.new_ones(min(len(codes), 1)), changes]))[0]
        return codes[starts_N], torch.diff(starts_N, append=starts_N.new_tensor([len(codes)]))
    starts_N = np.flatnonzero(np.concatenate([np.ones(min(len(codes), 1), dtype=bool), changes]))
    return codes[starts_N], np.diff(starts_N, append=len(codes))


def reduplicate(codes: Array, durations: Array) -> Array:
    """Each frame as often as its duration says: the inverse of `deduplicate`.

    Raises:
        InputError: codes or durations are no integers, their numbers differ, or a duration is negative.
    """
    _check_integers(codes, "codes", "[runs, levels] or [runs]")
    if not hasattr(durations, "dtype"):
        raise InputError(f"durations must be integers as an array of numpy or torch, not a {type(durations).__name__}")
    if durations.ndim != 1 or len(durations) != len(codes) or not _holds_integers(durations):
        raise InputError(f"durations must be integers [{len(codes)}], one a run, not {_describe(durations)}")
    if len(durations) and int(durations.min()) < 0:
        raise InputError(f"durations are frames, 0 or more, not {int(durations.min())}")
    if isinstance(codes, torch.Tensor):
        return codes.repeat_interleave(durations, dim=0)
    return np.repeat(codes, durations, axis=0)


def _place(words: Sequence[Word], frame_rate: Seconds) -> tuple[np.ndarray, np.ndarray]:
    """The frame `[W]` in which each word's tokens begin, and how many tokens it has.

    Without overlaps that is the frame of its start. A word begins no earlier than the end of the one before, so that
    what all words before it have used is taken off, the latest start so far is kept, and the use is put back.
    """
    rate = _fraction(frame_rate, "the frame rate")
    if rate <= 0:
        raise InputError(f"the frame rate must be above 0 Hz, not {frame_rate}")
    start_W = [_start(word, index) for index, word in enumerate(words)]
    for index, (before, start) in enumerate(zip(start_W, start_W[1:], strict=False)):
        if start < before:
            raise InputError(
                f"word {index + 1} starts at {words[index + 1][1]} s, before word {index} at {words[index][1]} s; "
                "words must be in the order of their starts"
            )
    size_W = np.array([len(word[0]) for word in words], dtype=np.int64)
    used_W = np.cumsum(size_W) - size_W
    frame_W = np.array([math.floor(start * rate) for start in start_W], dtype=np.int64)
    return np.maximum.accumulate(frame_W - used_W) + used_W, size_W


def _beyond(begin_W: np.ndarray, size_W: np.ndarray, n_frames: int) -> np.ndarray:
    """Which words have a token after the last frame."""
    return (size_W > 0) & (begin_W + size_W > n_frames)


def _start(word: Word, index: int) -> Fraction:
    start = _fraction(word[1], f"the start of word {index}")
    if start < 0:
        raise InputError(f"word {index} starts at {word[1]} s; times count from 0 s")
    if len(word) == 3 and _fraction(word[2], f"the stop of word {index}") < start:
        raise InputError(f"word {index} stops at {word[2]} s, before its start at {word[1]} s")
    return start


def _fraction(value: Seconds, what: str) -> Fraction:
    """The number as it is written: 0.24 is 6/25, not the binary number next to it."""
    if isinstance(value, int | Fraction):
        return Fraction(value)
    if isinstance(value, str) or not math.isfinite(value):
        raise InputError(f"{what} must be a number, not {value}")
    return Fraction(str(value))


def _tokens(words: Sequence[Word], text_rows: int) -> np.ndarray:
    """The tokens of all words one after the other, int64 `[N]`."""
    tokens = list(chain.from_iterable(word[0] for word in words))
    if not all(is_whole(token, -LARGEST) for token in tokens):
        raise InputError("the tokens of words are whole numbers; encode each word with a text tokenizer first")
    tokens_N = np.array(tokens, dtype=np.int64)
    outside_N = (tokens_N < 0) | (tokens_N >= text_rows)
    if outside_N.any():
        raise InputError(f"the words hold token {tokens_N[outside_N][0]}; the text block ends at {text_rows - 1}")
    return tokens_N


def _check_integers(codes: Array, what: str, shape: str) -> None:
    if not hasattr(codes, "dtype"):
        raise InputError(
            f"{what} must be integers {shape}, as an array of numpy or torch, not a {type(codes).__name__}"
        )
    if codes.ndim not in (1, 2) or not _holds_integers(codes):
        raise InputError(f"{what} must be integers {shape}, not {_describe(codes)}")
    if isinstance(codes, torch.Tensor) and codes.dtype in NOT_SELECTABLE:
        raise InputError(f"torch selects no elements of {_describe(codes)}; give {what} as int64")


def _holds_integers(array: Array) -> bool:
    if isinstance(array, torch.Tensor):
        return not array.is_floating_point() and not array.is_complex()
    return np.issubdtype(array.dtype, np.integer)


def _describe(array: Array) -> str:
    return f"{str(array.dtype).removeprefix('torch.')} {list(array.shape)}"
