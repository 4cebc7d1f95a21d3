"""Pictures: for a page without outside files spectrograms as PNG and curves as SVG, both stretched by the page's CSS;
a file of its own for the durations of a corpus.

Labels are not drawn into the page's pictures: the page sets them as text at the positions given here in percent, so
they stay readable from a phone to a wide screen and follow its light or dark colours.

Shapes: S samples, T frames of the spectrogram, F bins, M mel bands.
"""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.image import imsave
from matplotlib.ticker import MaxNLocator
from PIL import Image

from hocket.errors import InputError

WINDOW, BANDS, RANGE_DB = 1024, 96, 70.0
FRAMES_PER_SECOND = 100
TICK_STEPS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300)

matplotlib.use("Agg")


def spectrogram(wav_S: np.ndarray, sample_rate: int) -> np.ndarray:
    """Log power in mel bands, scaled to 0 … 1 over the loudest 70 dB: float32 [M, T], low bands first."""
    hop = sample_rate // FRAMES_PER_SECOND
    padded = np.pad(np.asarray(wav_S, np.float32), WINDOW // 2)
    frames_TW = np.lib.stride_tricks.sliding_window_view(padded, WINDOW)[::hop] * np.hanning(WINDOW).astype(np.float32)
    power_TF = np.abs(np.fft.rfft(frames_TW, axis=1)) ** 2
    level_TM = 10 * np.log10(power_TF @ mel_bands(sample_rate).T + 1e-9)
    top = level_TM.max()
    return np.clip((level_TM - top + RANGE_DB) / RANGE_DB, 0, 1).T.astype(np.float32)


def mel_bands(sample_rate: int) -> np.ndarray:
    """Triangles evenly spaced in mel from 0 Hz to the Nyquist frequency, [M, F]; each weighs its bins to a mean."""
    bins_F = np.fft.rfftfreq(WINDOW, 1 / sample_rate)
    edges = to_hertz(np.linspace(0, to_mel(sample_rate / 2), BANDS + 2))
    low, mid, high = (edges[i : i + BANDS, None] for i in range(3))
    rise_MF, fall_MF = (bins_F - low) / (mid - low), (high - bins_F) / (high - mid)
    weights_MF = np.maximum(np.minimum(rise_MF, fall_MF), 0)
    nearest = np.abs(bins_F - mid).argmin(axis=1)
    weights_MF[np.arange(BANDS), nearest] = np.maximum(weights_MF[np.arange(BANDS), nearest], 1e-3)
    return weights_MF / weights_MF.sum(axis=1, keepdims=True)


def to_mel(hertz: float | np.ndarray) -> float | np.ndarray:
    return 1127.0 * np.log1p(np.asarray(hertz) / 700.0)


def to_hertz(mel: float | np.ndarray) -> np.ndarray:
    return 700.0 * np.expm1(np.asarray(mel) / 1127.0)


def spectrogram_png(wav_S: np.ndarray, sample_rate: int, shades: int = 0) -> bytes:
    """The spectrogram as a PNG, 100 pixels a second wide and 96 high; in `shades` colours a fraction of the size."""
    target, picture = io.BytesIO(), spectrogram(wav_S, sample_rate)
    if not shades:
        imsave(target, picture, cmap="magma", origin="lower", vmin=0, vmax=1, format="png")
        return target.getvalue()
    image = Image.fromarray((picture[::-1] * (shades - 1)).round().astype(np.uint8), "P")
    image.putpalette(matplotlib.colormaps["magma"](np.linspace(0, 1, shades), bytes=True)[:, :3].tobytes())
    image.save(target, format="png", optimize=True)
    return target.getvalue()


@dataclass(frozen=True, kw_only=True)
class Tick:
    """A label of an axis."""

    at: float
    """Percent from the left, or from the bottom."""
    text: str


def time_ticks(duration: float, most: int = 7) -> list[Tick]:
    """Round seconds along an axis of `duration` seconds."""
    step = next((s for s in TICK_STEPS if duration / s <= most), TICK_STEPS[-1])
    return [Tick(at=100 * t / duration, text=f"{t:g}") for t in np.arange(0, duration * 0.985, step).round(3).tolist()]


def frequency_ticks(sample_rate: int) -> list[Tick]:
    """Round kilohertz along the mel axis."""
    top = to_mel(sample_rate / 2)
    wanted = [hz for hz in (500, 1000, 2000, 4000, 8000, 16000) if hz < 0.9 * sample_rate / 2]
    return [Tick(at=float(100 * to_mel(hz) / top), text=f"{hz / 1000:g}") for hz in wanted]


@dataclass(frozen=True, kw_only=True)
class Curve:
    """Points of one line as an SVG `points` attribute in a box of 100 x 100."""

    kind: str
    """CSS class: train, valid, unigram or bigram."""
    points: str


@dataclass(frozen=True, kw_only=True)
class Panel:
    """One small chart."""

    title: str
    curves: list[Curve]
    y_ticks: list[Tick]
    x_ticks: list[Tick]
    facts: list[tuple[str, str]] = field(default_factory=list)
    """(kind, value) to print beside the chart."""


Line = Sequence[tuple[float, float]]


def panels(charts: dict[str, dict[str, Line]]) -> list[Panel]:
    """Small charts over the same axes: title -> kind -> points (step, nats). Facts are the last values."""
    points = [point for lines in charts.values() for line in lines.values() for point in line]
    last = max(max(step for step, _ in points), 1.0)
    low, high = _range([value for _, value in points])
    ticks = np.arange(np.ceil(low), np.floor(high) + 1)
    ticks = ticks if len(ticks) > 1 else np.linspace(low, high, 3)
    y_ticks = [Tick(at=100 * (y - low) / (high - low), text=f"{y:.3g}") for y in ticks.tolist()]
    x_ticks = [Tick(at=0, text="0"), Tick(at=100, text=f"{last:,.0f}")]
    return [
        Panel(
            title=title,
            curves=[Curve(kind=kind, points=_points(line, last, low, high)) for kind, line in lines.items() if line],
            y_ticks=y_ticks,
            x_ticks=x_ticks,
            facts=[(kind, f"{line[-1][1]:.2f}") for kind, line in lines.items() if line],
        )
        for title, lines in charts.items()
    ]


def nice_ticks(low: float, high: float, most: int = 5) -> list[float]:
    """Round values inside a range."""
    found = MaxNLocator(nbins=most, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high)
    return [float(f"{value:.10g}") for value in found if low <= value <= high]


def _range(values: list[float]) -> tuple[float, float]:
    """Lowest and highest value with a little air; a first untrained spike above the rest is cut off."""
    low, high = min(values), float(np.quantile(values, 0.98))
    high = max(high, min(max(values), high + 0.3))
    air = max(0.06 * (high - low), 0.02)
    return low - air, high + air


def _points(line: Line, last: float, low: float, high: float) -> str:
    return " ".join(f"{100 * x / last:.2f},{100 - 100 * (min(y, high) - low) / (high - low):.2f}" for x, y in line)


def smooth(line: Line, most: int = 60) -> list[tuple[float, float]]:
    """Means over runs of neighbouring points, so that at most `most` remain."""
    width = max(1, len(line) // most)
    groups = [line[i : i + width] for i in range(0, len(line), width)]
    return [(float(np.mean([x for x, _ in g])), float(np.mean([y for _, y in g]))) for g in groups]


SPLIT_COLORS = {"train": "#3b6ea5", "valid": "#e08a3c", "test": "#7a9a4b"}
MOST_BARS = 60
FEWEST_BARS = 10


def draw_durations(seconds: Mapping[str, np.ndarray], path: Path) -> None:
    """A histogram of durations, stacked by split, as SVG, or in the format of the file's suffix.

    Args:
        seconds: of the examples of each split; at least one in all.
        path: the file; the same durations give the same bytes.
    """
    everything = np.concatenate(list(seconds.values()))
    step = _bar_width(float(np.quantile(everything, 0.995)), len(everything))
    last = float(np.quantile(everything, 0.995)) // step * step + step
    edges = np.arange(0, last + step / 2, step).tolist()
    figure = Figure(figsize=(8, 3.6), layout="constrained")
    axes = figure.subplots()
    shown = {name: np.minimum(values, last - step / 2) for name, values in seconds.items() if len(values)}
    labels = [f"{name}: {len(values):,}, {_amount(seconds[name])}" for name, values in shown.items()]
    colors = [SPLIT_COLORS[name] for name in shown]
    axes.hist(list(shown.values()), edges, stacked=True, color=colors, label=labels, edgecolor="white", linewidth=0.4)
    middle = float(np.median(everything))
    axes.axvline(middle, color="#444444", linewidth=1, linestyle=(0, (4, 3)), label=f"median {middle:.3g} s")
    beyond = int((everything > last).sum())
    more = f"; the last bar holds {beyond:,} that are longer, up to {everything.max():,.1f} s" if beyond else ""
    axes.set_xlabel(f"seconds, in bars of {step:g} s{more}")
    axes.set_ylabel("examples")
    axes.set_xlim(0, last)
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    _save(figure, path)


def _bar_width(most: float, n_examples: int) -> float:
    """A round number of seconds such that at most `MOST_BARS` bars reach `most`, and fewer where examples are few."""
    n_bars = min(MOST_BARS, max(FEWEST_BARS, round(2 * n_examples**0.5)))
    widths = [digit * 10.0**power for power in range(-3, 5) for digit in (1, 2, 5)]
    return next(width for width in widths if most / width <= n_bars)


def _amount(seconds: np.ndarray) -> str:
    total = float(seconds.sum())
    return f"{total / 3600:,.1f} h" if total >= 3600 else f"{total / 60:.1f} min"


def _save(figure: Figure, path: Path) -> None:
    kind = path.suffix.lower().removeprefix(".") or "svg"
    if kind not in figure.canvas.get_supported_filetypes():
        raise InputError(f'"{path}" cannot be drawn: pictures are .svg, .png or .pdf')
    path.parent.mkdir(parents=True, exist_ok=True)
    with matplotlib.rc_context({"svg.hashsalt": "hocket", "svg.fonttype": "none"}):
        figure.savefig(path, format=kind, dpi=150, metadata={"Date": None} if kind == "svg" else None)
