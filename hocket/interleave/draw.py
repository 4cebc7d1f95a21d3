"""Drawings of a plan as lines of text: rows x steps, labelled by frame; in colour for terminals.

    step       0    1    2    3    4
    audio.0  bos    0    1    2  end
    audio.1    .    .    0    1    2

A row that holds several streams names each code's by its first letters (`t0`, `a0`); rows that are never predicted
have a star. `hocket.interleave.sheet` says what the labels mean.
"""

from collections.abc import Mapping

import numpy as np

from hocket.interleave.plan import Plan
from hocket.interleave.sheet import GREY, Cell, Colour, Sheet

INK: Colour = (26, 26, 26)
PAPER: Colour = (255, 255, 255)
CELL = 5
"""Fewest characters of a cell."""


def draw_text(
    plan: Plan,
    n_steps: int | None = None,
    *,
    first_step: int = 0,
    known: Mapping[str, int] | None = None,
    codes: Mapping[str, np.ndarray] | None = None,
    width: int | None = None,
    colour: bool = False,
) -> str:
    """`n_steps` steps from `first_step` on, as lines of text.

    Args:
        plan: what is drawn.
        n_steps: how many steps; all of them unless given.
        first_step: where the drawing begins.
        known: frames of a prompt by stream; in colour, their cells are underlined.
        codes: codes `[T, K]` by stream, to be read instead of frames.
        width: characters of a line. Low grids go on below; what does not fit is left out of the middle, shown as `…`.
        colour: with ANSI colours: hue by stream, shade by level; given streams are dimmed.
    """
    sheet = Sheet(plan, known, codes)
    names = [name + ("*" if given else "") for name, given in zip(sheet.names, sheet.given_rows, strict=True)]
    margin = max(len(name) for name in [*names, "step"])
    (whole,) = sheet.arrange(n_steps, first_step, None)
    cells = {(step, row): sheet.cell(step, row) for step in whole if step is not None for row in range(plan.n_rows)}
    labels = {at: _label(sheet, at[1], cell) for at, cell in cells.items()}
    size = max([CELL, *(len(label) + 1 for label in labels.values())])
    columns = None if width is None else max(2, (width - margin) // size)
    lines = []
    for band in sheet.arrange(n_steps, first_step, columns):
        lines.append("step".ljust(margin) + "".join(f"{'…' if step is None else step:>{size}}" for step in band))
        for row, name in enumerate(names):
            line = [_gap(size) if s is None else _text(cells[s, row], labels[s, row], size, colour) for s in band]
            lines.append(name.ljust(margin) + "".join(line))
    more = plan.n_steps - first_step - len(whole)
    return "\n".join(lines) + (f"\n… {more} more steps" if more else "")


def _label(sheet: Sheet, row: int, cell: Cell) -> str:
    """The cell's label, with the first letters of its stream where the row holds several."""
    if cell.stream is None or not sheet.mixed_rows[row]:
        return cell.label
    letters = _initials(cell.stream, list(sheet.plan.levels))
    if cell.kind == "mark":
        return f"to.{letters}" if cell.label == "to" else cell.label
    return f"({letters}{cell.label[1:]}" if cell.kind == "copy" else letters + cell.label


def _initials(stream: str, streams: list[str]) -> str:
    """The fewest first letters that tell a stream from the others."""
    others = [name for name in streams if name != stream]
    lengths = (n for n in range(1, len(stream)) if not any(name.startswith(stream[:n]) for name in others))
    return stream[: next(lengths, len(stream))]


def _gap(size: int) -> str:
    return "…".rjust(size)


def _text(cell: Cell, label: str, size: int, colour: bool) -> str:
    if not colour:
        return label.rjust(size)
    if cell.kind == "filler":
        return f"\x1b[2m{label.rjust(size)}\x1b[0m"
    ink = PAPER if cell.kind == "mark" else INK
    paper = _mix(cell.colour, GREY) if cell.given else cell.colour
    codes = ["38;2;{};{};{}".format(*ink), "48;2;{};{};{}".format(*paper)]
    codes += ["3"] if cell.given else []
    codes += ["4"] if cell.known else []
    return f" \x1b[{';'.join(codes)}m{label.rjust(size - 1)}\x1b[0m"


def _mix(one: Colour, other: Colour) -> Colour:
    red, green, blue = ((a + b) // 2 for a, b in zip(one, other, strict=True))
    return red, green, blue
