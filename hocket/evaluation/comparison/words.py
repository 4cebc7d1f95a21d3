"""Numbers in words: as many digits as they deserve, and units that people read."""

from fractions import Fraction

from hocket.evaluation.results import Measure

MINUS = "−"
SI = ((1e18, "E"), (1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"), (1, ""))


def number(value: float) -> str:
    """Three significant digits, all of them before the point: 1,742 / 85.3 / 6.28 / 0.0412."""
    size = abs(value)
    if size >= 100 or not value:
        text = f"{value:,.0f}"
    elif size >= 10:
        text = f"{value:.1f}"
    elif size >= 1:
        text = f"{value:.2f}"
    else:
        text = f"{value:.3f}" if size >= 0.01 else f"{value:.2g}"
    return text.replace("-", MINUS, 1)


def bits(value: float) -> str:
    """Bits per second of audio, one digit after the point up to ten thousand."""
    return f"{value:,.1f}" if abs(value) < 10_000 else f"{value:,.0f}"


def interval(measure: Measure, say=number) -> str:
    """ "1,730 to 1,755", or nothing where there is no interval, or items that are all alike make it a point."""
    if measure.low is None or measure.high is None or measure.low == measure.high:
        return ""
    return f"{say(measure.low)} to {say(measure.high)}"


def percent(share: float) -> str:
    """A signed difference: +2.1 %, −0.04 %."""
    size = abs(100 * share)
    text = f"{size:.1f}" if size >= 0.95 else f"{size:.2f}"
    if float(text) == 0:
        return "0 %"
    return f"{'+' if share > 0 else MINUS}{text} %"


def signed_bits(value: float) -> str:
    """A difference of bits with its sign: +24.3, −1.2."""
    return f"{'+' if value > 0 else MINUS}{abs(value):,.1f}"


def count(value: float) -> str:
    """7.7M, 350M, 1.24B parameters."""
    for size, unit in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.3g}{unit}"
    return f"{value:.0f}"


def flops(value: float) -> str:
    """Floating-point operations with an SI prefix: 312 TFLOP."""
    size, prefix = next(((s, p) for s, p in SI if value >= s), (1, ""))
    return f"{value / size:.3g} {prefix}FLOP"


def duration(seconds: float) -> str:
    """Audio or time: 12.4 h, 38 min, 4.2 s."""
    if seconds >= 7200:
        return f"{seconds / 3600:,.1f} h"
    return f"{seconds / 60:,.0f} min" if seconds >= 120 else f"{seconds:.3g} s"


def steps(value: float) -> str:
    return f"{value:,.0f}"


def rate(value: Fraction | float) -> str:
    return f"{float(value):.4g}"


def listing(names: list[str] | tuple[str, ...], last: str = "and") -> str:
    """a, b and c."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} {last} {names[-1]}" if names else ""
