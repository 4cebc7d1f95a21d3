"""Where a long recording is cut: at the quietest 200 ms in the second half of what a segment may hold.

    |----- first half -----|===== second half =====|        one segment's limit
                                     ^ quietest window: cut in its middle, go on from there

Where words' times are known, a cut inside a word is taken only if there is no other place in the whole span. What is
left for the last segment is never less than a quarter of the limit. A pass from left to right, 10 ms frames.

Shapes: F frames.
"""

from collections.abc import Iterable

import numpy as np

from hocket.data.words import Word

WINDOW_SECONDS = 0.2


def find_cuts(
    energy_F: np.ndarray, frame: int, n_samples: int, sample_rate: int, limit: float, words: Iterable[Word] = ()
) -> list[tuple[int, int]]:
    """The segments, as first and last sample (exclusive), of at most `limit` seconds; they follow one another.

    `frame`: samples of a frame. `words`: with times in seconds from sample 0.
    """
    most = int(limit * sample_rate)
    inside_F = _inside_words(words, len(energy_F), frame / sample_rate)
    window_F = _windows(energy_F, max(1, round(WINDOW_SECONDS * sample_rate / frame)))
    starts = [0]
    while n_samples - starts[-1] > most:
        start = starts[-1]
        stop = min(start + most, n_samples - most // 4)
        starts.append(
            frame * _quietest(window_F, inside_F, start // frame, (start + most // 2) // frame, stop // frame)
        )
    return list(zip(starts, [*starts[1:], n_samples], strict=True))


def _quietest(window_F: np.ndarray, inside_F: np.ndarray, start: int, half: int, stop: int) -> int:
    """The frame to cut before, in (half, stop], or before that if there alone no word is said; ties: the last."""
    quarter = (start + half) // 2
    for first, last in ((half, stop), (quarter, half), (start, quarter)):
        levels = np.where(inside_F[first + 1 : last + 1], np.inf, window_F[first + 1 : last + 1])
        if np.isfinite(levels).any():
            return last - int(levels[::-1].argmin())
    return stop - int(window_F[half + 1 : stop + 1][::-1].argmin())


def _windows(energy_F: np.ndarray, size: int) -> np.ndarray:
    """Energy around the start of each frame, and around the end: of `size` frames, half of them before it."""
    padded = np.concatenate([np.zeros(size // 2), energy_F, np.zeros(size - size // 2)])
    return np.convolve(padded, np.ones(size), mode="valid")


def _inside_words(words: Iterable[Word], n_frames: int, frame_seconds: float) -> np.ndarray:
    """Whether a word is being said at the start of each frame."""
    inside_F = np.zeros(n_frames + 1, bool)
    for word in words:
        first = int(np.floor(word.start / frame_seconds)) + 1
        inside_F[first : int(np.ceil(word.end / frame_seconds))] = True
    return inside_F
