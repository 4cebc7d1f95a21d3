"""Drawings of a plan: rows x steps, coloured by stream and level, labelled by frame.

    step       0    1    2    3    4
    audio.0  bos    0    1    2  end
    audio.1    .    .    0    1    2

A cell reads `0` for frame 0, `bos`, `end` or `wait` for symbols, and `.` for filler.
"""

import html
from collections.abc import Mapping

import numpy as np

from hocket.interleave.plan import FILLER, NO_STREAM, Plan

HUES = {"audio": 210, "text": 130, "semantic": 280, "user": 25}
CELL_WIDTH, CELL_HEIGHT, MARGIN = 34, 24, 76
SHORT = {"<none>": ".", "<bos>": "bos", "<cont>": "cont", "<wait>": "wait"}


def draw_text(plan: Plan, n_steps: int | None = None) -> str:
    """The first `n_steps` steps as lines of text."""
    steps = range(min(plan.n_steps, n_steps or plan.n_steps))
    names = _row_names(plan)
    width = max(len(name) for name in [*names, "step"])
    lines = ["step".ljust(width) + "".join(f"{step:>5}" for step in steps)]
    for row, name in enumerate(names):
        lines.append(name.ljust(width) + "".join(f"{_label(plan, step, row):>5}" for step in steps))
    more = plan.n_steps - len(steps)
    return "\n".join(lines) + (f"\n… {more} more steps" if more else "")


def draw_svg(
    plan: Plan,
    n_steps: int | None = None,
    known: Mapping[str, int] | None = None,
    title: str = "",
    *,
    first_step: int = 0,
    codes: Mapping[str, np.ndarray] | None = None,
) -> str:
    """`n_steps` steps from `first_step` on as a self-contained SVG; cells that a prompt of `known` frames forces are
    outlined. With `codes` ([T, K] by stream) a cell reads its code instead of its frame."""
    last = min(plan.n_steps, first_step + (n_steps or plan.n_steps))
    steps = max(last - first_step, 0)
    grid_TR = plan.interleave(codes) if codes is not None else None
    forced_TR = plan.known(known) if known else np.zeros(plan.source_TR.shape, dtype=bool)
    width, height = MARGIN + steps * CELL_WIDTH + 8, (plan.n_rows + 1) * CELL_HEIGHT + 8
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        f'font-family="ui-monospace, monospace" font-size="11" role="img" '
        f'aria-label="{html.escape(title or "layout")}">'
    ]
    for column, step in enumerate(range(first_step, last)):
        x = MARGIN + column * CELL_WIDTH + CELL_WIDTH / 2
        parts.append(f'<text x="{x}" y="16" text-anchor="middle" fill="#888">{step}</text>')
    for row, name in enumerate(_row_names(plan)):
        y = (row + 1) * CELL_HEIGHT
        parts.append(f'<text x="{MARGIN - 8}" y="{y + 16}" text-anchor="end" fill="#888">{html.escape(name)}</text>')
        for column, step in enumerate(range(first_step, last)):
            label = _label(plan, step, row) if grid_TR is None else _code_label(plan, grid_TR, step, row)
            parts.append(_svg_cell(plan, (step, row), column, label, bool(forced_TR[step, row])))
    return "\n".join([*parts, "</svg>"])


def _svg_cell(plan: Plan, cell: tuple[int, int], column: int, label: str, forced: bool) -> str:
    step, row = cell
    x, y = MARGIN + column * CELL_WIDTH, (row + 1) * CELL_HEIGHT
    fill = _fill(plan, step, row)
    outline = ' stroke="#b45309" stroke-width="1.5"' if forced and plan.stream_TR[step, row] != NO_STREAM else ""
    box = f'<rect x="{x + 1.5}" y="{y + 1.5}" width="{CELL_WIDTH - 3}" height="{CELL_HEIGHT - 3}" rx="4"'
    text = f'<text x="{x + CELL_WIDTH / 2}" y="{y + 16}" text-anchor="middle" fill="#1a1a1a">{label}</text>'
    return f'{box} fill="{fill}"{outline}/>' + ("" if label == "." else text)


def _fill(plan: Plan, step: int, row: int) -> str:
    if plan.source_TR[step, row] == FILLER:
        return "#8881"
    stream = plan.stream_TR[step, row]
    if stream == NO_STREAM:
        return "#d4d4d4"
    name = list(plan.levels)[stream]
    hue = HUES.get(name, (97 * int(stream) + 340) % 360)
    if plan.source_TR[step, row] < len(plan.symbols):
        return f"hsl({hue} 70% 45%)"
    level = _level(plan, step, row)
    return f"hsl({hue} {75 - 30 * level / max(plan.levels[name], 1):.0f}% {66 + 22 * level / plan.levels[name]:.0f}%)"


def _level(plan: Plan, step: int, row: int) -> int:
    """The level of a cell that holds a code, from its place in the pool."""
    base = len(plan.symbols)
    for name, n_levels in plan.levels.items():
        size = plan.lengths[name] * n_levels
        if plan.source_TR[step, row] < base + size:
            return int(plan.source_TR[step, row] - base) % n_levels
        base += size
    raise AssertionError("the cell holds no code")


def _label(plan: Plan, step: int, row: int) -> str:
    source = plan.source_TR[step, row]
    if source < len(plan.symbols):
        return SHORT.get(plan.symbols[source], "end")
    return str(plan.frame_TR[step, row])


def _code_label(plan: Plan, grid_TR: np.ndarray, step: int, row: int) -> str:
    is_code = plan.source_TR[step, row] >= len(plan.symbols)
    return str(grid_TR[step, row]) if is_code else _label(plan, step, row)


def _row_names(plan: Plan) -> list[str]:
    """The stream or block that a row holds, where it holds only one; else its number."""
    names = []
    for row in range(plan.n_rows):
        blocks = {plan.legal_sets[legal][0] for legal in np.unique(plan.legal_TR[:, row]) if legal}
        streams = {block.partition(".")[0] for block in blocks}
        own = blocks if len(blocks) == 1 else streams
        names.append(own.pop() if len(own) == 1 else f"row {row}")
    return names
