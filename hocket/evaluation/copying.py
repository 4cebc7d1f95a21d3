"""Which training clip a generated passage is nearest to, so that a model that recites is found out.

Every window of the passage is compared with every window of the same length inside every training clip, at all offsets:

    training frames  . . . . 4 4 4 5 5 5 5 5 . .      clips 4 and 5; a window never spans two
    passage              a b c d e                    window 3: abc, bcd, cde
                               |---|        |---|     each against all

Two measures, each with its own use. **Codes** count equal codes of the first levels: an exact copy, sampled code by
code, shares nearly all. **Spectra** compare log-mel frames of what is heard, so that the same sound under other codes
(a neural codec gives another frame phase other codes) is found as well. Neither means much by itself: speech of one
person repeats itself, and so does silence. What says something is the same number for held-out recordings beside it.
Frames without sound are left out: a window counts where enough of it is heard.

All windows of a length follow from one running sum along the diagonals of the table of frame against frame, of which a
window's rows are kept. On one busy core 100 frames of 2 levels against 128,000 take .2 s.

Shapes: T frames of the passage, N training frames in all, K levels, M mel bands.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

ROWS_AT_ONCE = 16


@dataclass(frozen=True, kw_only=True)
class Nearest:
    """The training window that a passage's windows come nearest to."""

    score: float
    """Share of equal codes, or the mean distance of frames with its sign turned (0 is equal); more is nearer."""
    clip: int
    """Which training clip."""
    clip_frame: int
    """Where in that clip the window begins."""
    frame: int
    """Where in the passage it begins."""
    window: int
    """Frames compared."""


class TrainingFrames:
    """Frames of all training clips, one after another, and where each clip begins."""

    def __init__(self, clips: Sequence[np.ndarray]):
        """`clips`: arrays `[frames, features]` of one kind; empty ones are never found."""
        self.frames_NF = np.concatenate(list(clips))
        self.lengths = np.array([len(clip) for clip in clips])
        self.clip_N = np.repeat(np.arange(len(clips)), self.lengths)
        self.starts = np.cumsum(self.lengths) - self.lengths
        self._inside_N = np.arange(len(self.clip_N)) - self.starts[self.clip_N]

    def ends(self, window: int) -> np.ndarray:
        """Frames, bool [N], at which a window inside one clip can end."""
        return self._inside_N >= window - 1

    def place(self, n: int, window: int) -> tuple[int, int]:
        """Clip, and frame in it, of the window that ends at frame n."""
        clip = int(self.clip_N[n])
        return clip, int(n - window + 1 - self.starts[clip])


def nearest_by_codes(
    codes_TK: np.ndarray, training: TrainingFrames, window: int, heard_T: np.ndarray | None = None, least: float = 0.8
) -> Nearest | None:
    """The window with most equal codes. `training` has codes of at least K levels.

    Args:
        window: frames; a passage that is shorter, or has no such window that is heard, gives None.
        heard_T: frames in which there is sound; all unless given.
        least: share of a window's frames that must be heard.
    """
    levels = codes_TK.shape[1]
    columns = np.ascontiguousarray(training.frames_NF[:, :levels].T)

    def equal() -> Iterator[np.ndarray]:
        for codes_K in codes_TK:
            same = [column_N == code for column_N, code in zip(columns, codes_K, strict=True)]
            yield np.stack(same).sum(axis=0, dtype=np.float32)

    return _nearest(equal(), len(codes_TK), levels, training, window, heard_T, least)


def nearest_by_spectrum(
    mel_TM: np.ndarray, training: TrainingFrames, window: int, heard_T: np.ndarray | None = None, least: float = 0.8
) -> Nearest | None:
    """The window with the least mean Euclidean distance of log-mel frames, per band; the score is minus this."""
    n_bands = mel_TM.shape[1]
    squares_N = (training.frames_NF**2).sum(axis=1)

    def minus_distance() -> Iterator[np.ndarray]:
        for first in range(0, len(mel_TM), ROWS_AT_ONCE):
            some_TM = mel_TM[first : first + ROWS_AT_ONCE]
            square_TN = squares_N - 2 * (some_TM @ training.frames_NF.T) + (some_TM**2).sum(axis=1)[:, None]
            yield from -np.sqrt(np.maximum(square_TN, 0) / n_bands)

    return _nearest(minus_distance(), len(mel_TM), 1, training, window, heard_T, least)


def _nearest(
    scores: Iterator[np.ndarray],
    n_frames: int,
    scale: int,
    training: TrainingFrames,
    window: int,
    heard_T: np.ndarray | None,
    least: float,
) -> Nearest | None:
    """The best diagonal of `window` cells in the table whose rows are `scores`, each float [N]."""
    assert window > 0
    loud_T = np.ones(n_frames, bool) if heard_T is None else heard_T[:n_frames]
    n_heard = np.convolve(loud_T, np.ones(window, int))[:n_frames]
    ends_N = training.ends(window)
    if n_frames < window or not ends_N.any():
        return None
    kept: deque[np.ndarray] = deque(maxlen=window)
    sum_N, best = np.zeros(len(ends_N), np.float64), None
    for t, row_N in enumerate(scores):
        sum_N = _along(sum_N) + row_N
        if t >= window:
            sum_N[window:] -= kept[0][:-window]
        kept.append(row_N)
        if t < window - 1 or n_heard[t] < least * window:
            continue
        n = int(np.where(ends_N, sum_N, -np.inf).argmax())
        if best is None or sum_N[n] > best[0]:
            best = (float(sum_N[n]), t, n)
    if best is None:
        return None
    total, t, n = best
    clip, clip_frame = training.place(n, window)
    score = total / (window * scale)
    return Nearest(score=score, clip=clip, clip_frame=clip_frame, frame=t - window + 1, window=window)


def _along(sum_N: np.ndarray) -> np.ndarray:
    """Sums of the row before, moved on along the diagonal."""
    moved_N = np.empty_like(sum_N)
    moved_N[0], moved_N[1:] = 0.0, sum_N[:-1]
    return moved_N
