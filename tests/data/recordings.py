"""Recordings made up on the spot.

Shapes: T samples, C channels.
"""

from pathlib import Path

import numpy as np
import soundfile


def write_noise(path: Path, seconds: float, seed: int = 0, rate: int = 8000, channels: int = 1) -> Path:
    """A recording of noise whose loudness drifts."""
    rng = np.random.default_rng(seed)
    n = round(seconds * rate)
    wav_TC = 0.1 * rng.standard_normal((n, channels)) * np.linspace(0.2, 2.0, n)[:, None]
    soundfile.write(path, wav_TC, rate, subtype="FLOAT" if path.suffix == ".wav" else None)
    return path
