"""One pass over a stretch of audio for all that is to be known before it is cut: levels, peak, loudness.

A source is a channel, or the mean of all (None). Energy is kept in frames of 10 ms, 8 MB for three hours, and loudness
in hops of 100 ms, so that memory does not grow with the samples. Loudness is that of ITU-R BS.1770-4 as `pyloudnorm`
computes it (its K-weighting; 400 ms blocks that overlap by three quarters, gates at -70 LUFS and 10 LU below the
mean), and tests hold the two together; filtered in blocks with the filter's state carried over.

Shapes: C channels, S samples, F frames of 10 ms, H hops of 100 ms.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from hocket.data.decoding import Stretch
from hocket.errors import InputError

FRAMES_PER_SECOND = 100
"""A frame is this part of a second, rounded to whole samples."""

HOPS_PER_BLOCK = 4
HOPS_PER_SECOND = 10
ABSOLUTE_GATE = -70.0
RELATIVE_GATE = -10.0

Source = int | None


def take(wav_CS: np.ndarray, source: Source) -> np.ndarray:
    """`wav_S` of one channel, or the mean of all."""
    return wav_CS.mean(axis=0) if source is None else wav_CS[source]


@dataclass(frozen=True)
class Levels:
    """What one pass found."""

    frame: int  # samples of a frame
    energy_F: np.ndarray  # float64, of all sources together, the last frame may be shorter
    peaks: dict[Source, float]
    loudness: dict[Source, float]  # LUFS, -inf where all is below the gate; empty unless asked for

    @property
    def silent(self) -> bool:
        return not any(self.peaks.values())


def measure(stretch: Stretch, sources: Sequence[Source], first: int, last: int, with_loudness: bool) -> Levels:
    """Levels between two samples. Raises BadAudio where the samples cannot be read to the end."""
    frame = max(1, round(stretch.sample_rate / FRAMES_PER_SECOND))
    energy = _Sums(frame)
    peaks: dict[Source, float] = dict.fromkeys(sources, 0.0)
    meters = {source: _Meter(stretch.sample_rate) for source in sources} if with_loudness else {}
    for wav_CS in stretch.blocks(first, last):
        waves = {source: take(wav_CS, source) for source in sources}
        energy.add(np.sum([wav_S.astype(np.float64) ** 2 for wav_S in waves.values()], axis=0))
        for source, wav_S in waves.items():
            peaks[source] = max(peaks[source], float(np.abs(wav_S).max()))
        for source, meter in meters.items():
            meter.add(waves[source])
    return Levels(frame, energy.all(), peaks, {source: meter.loudness() for source, meter in meters.items()})


class _Sums:
    """Sums of each `size` values in a row, fed piece by piece."""

    def __init__(self, size: int):
        self._size, self._done, self._rest = size, [], np.zeros(0)

    def add(self, values: np.ndarray) -> None:
        values = np.concatenate([self._rest, values]) if len(self._rest) else values
        whole = len(values) // self._size * self._size
        self._done.append(values[:whole].reshape(-1, self._size).sum(axis=1))
        self._rest = values[whole:].copy()

    def all(self) -> np.ndarray:
        """Every sum, that of the rest too."""
        rest = [np.array([self._rest.sum()])] if len(self._rest) else []
        return np.concatenate([*self._done, *rest, np.zeros(0)])


class _Meter:
    """Integrated loudness of one channel, fed piece by piece."""

    def __init__(self, sample_rate: int):
        self._hop = max(1, round(sample_rate / HOPS_PER_SECOND))
        self._sums, self._n_samples = _Sums(self._hop), 0
        self._sections = _k_weighting(sample_rate)
        self._state = np.zeros((len(self._sections), 2))

    def add(self, wav_S: np.ndarray) -> None:
        from scipy.signal import sosfilt  # noqa: PLC0415

        weighted_S, self._state = sosfilt(self._sections, wav_S.astype(np.float64), zi=self._state)
        self._sums.add(np.square(weighted_S))
        self._n_samples += len(wav_S)

    def loudness(self) -> float:
        """In LUFS."""
        return gated_loudness(self._blocks())

    def _blocks(self) -> np.ndarray:
        """Mean square of each block; audio shorter than one is a block by itself."""
        sums_H = self._sums.all()
        size = HOPS_PER_BLOCK * self._hop
        if self._n_samples < size:
            return np.array([sums_H.sum() / max(self._n_samples, 1)])
        n_blocks = round((self._n_samples - size) / self._hop) + 1
        padded_H = np.concatenate([sums_H, np.zeros(HOPS_PER_BLOCK)])
        return np.sum([padded_H[hop : hop + n_blocks] for hop in range(HOPS_PER_BLOCK)], axis=0) / size


def gated_loudness(squares: np.ndarray) -> float:
    """LUFS of blocks given by their mean squares: those that pass both gates."""
    loud = squares[_lufs(squares) >= ABSOLUTE_GATE]
    if not len(loud):
        return -math.inf
    return float(_lufs(loud[_lufs(loud) > _lufs(loud.mean()) + RELATIVE_GATE].mean()))


def _lufs(square: np.ndarray) -> np.ndarray:
    return -0.691 + 10 * np.log10(np.maximum(square, 1e-30))


def _k_weighting(sample_rate: int) -> np.ndarray:
    """The two filters before the meter, as second-order sections."""
    try:
        from pyloudnorm import IIRfilter  # noqa: PLC0415
    except ImportError as error:
        raise InputError('loudness normalisation needs pyloudnorm: pip install "hocket[prepare]"') from error
    shelf = IIRfilter(4.0, 1 / math.sqrt(2), 1500.0, sample_rate, "high_shelf")
    high_pass = IIRfilter(0.0, 0.5, 38.0, sample_rate, "high_pass")
    return np.array([np.concatenate([part.b, part.a]) for part in (shelf, high_pass)])


def gains(levels: Levels, sources: Iterable[Source], target: float) -> dict[Source, float]:
    """By what each source is multiplied to have `target` LUFS, or less where its peak would exceed 1; 1 for silence."""
    found: dict[Source, float] = {}
    for source in sources:
        loudness, peak = levels.loudness[source], levels.peaks[source]
        wanted = 10 ** ((target - loudness) / 20) if math.isfinite(loudness) else 1.0
        found[source] = min(wanted, 1 / peak) if peak else 1.0
    return found
