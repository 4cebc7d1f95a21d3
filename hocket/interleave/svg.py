"""Drawings of plans as SVG: rows x steps, hue by stream, shade by level, labelled by frame.

Each picture stands alone (no links, styles or ids, so that several can stand in one page) and reads on light and dark
ground. Every cell that is drawn is one `<rect>`; what is never predicted is hatched, copies are dashed, cells that a
prompt forces are outlined. A cell costs about 220 bytes and 8 µs.
"""

import html
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from hocket.interleave.plan import Plan
from hocket.interleave.sheet import GREY, Cell, Colour, Sheet, colour_of

LETTER, CELL_WIDTH, CELL_HEIGHT, EDGE = 6.7, 34, 24, 8  # pixels; LETTER is the width of a character
BAND_GAP, TITLE_HEIGHT, LEGEND_HEIGHT = 10, 26, 30
FAINT, INK, PAPER, OUTLINE = "#888", "#1a1a1a", "#fff", "#b45309"
LEGEND_SHADES = 4


@dataclass(frozen=True)
class Picture:
    """Elements of an SVG and the room that they take, in pixels."""

    parts: list[str]
    width: float
    height: float


def draw_svg(
    plan: Plan,
    n_steps: int | None = None,
    known: Mapping[str, int] | None = None,
    title: str = "",
    *,
    first_step: int = 0,
    codes: Mapping[str, np.ndarray] | None = None,
    columns: int | None = None,
    legend: bool = True,
) -> str:
    """`n_steps` steps from `first_step` on as a self-contained SVG.

    Args:
        plan: what is drawn.
        n_steps: how many steps; all of them unless given.
        known: frames of a prompt by stream; the cells that it forces are outlined.
        title: what the picture shows; the layout's expression unless given.
        first_step: where the drawing begins.
        codes: codes `[T, K]` by stream, to be read instead of frames.
        columns: steps side by side. Low grids go on below; what does not fit is left out of the middle.
        legend: whether to say below which colour is which stream.
    """
    sheet = Sheet(plan, known, codes)
    grid = _grid(sheet, sheet.arrange(n_steps, first_step, columns))
    return _page([grid, _legend([sheet])] if legend else [grid], title or plan.layout.expression)


def draw_stages_svg(stages: Sequence[tuple[str, Plan]], title: str, *, columns: int | None = None) -> str:
    """Several plans, one below the other, each under its heading, as a self-contained SVG."""
    sheets = [Sheet(plan) for _, plan in stages]
    pictures = []
    for (heading, plan), sheet in zip(stages, sheets, strict=True):
        pictures += [_heading(heading), _grid(sheet, sheet.arrange(plan.n_steps, 0, columns))]
    return _page([*pictures, _legend(sheets)], title)


def _page(pictures: Sequence[Picture], title: str) -> str:
    width, height = max(picture.width for picture in pictures), sum(picture.height for picture in pictures)
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" width="{width:g}" '
        f'height="{height:g}" font-family="ui-monospace, monospace" font-size="11" role="img" '
        f'aria-label="{html.escape(title)}">',
        f"<title>{html.escape(title)}</title>",
    ]
    y = 0.0
    for picture in pictures:
        lines += [f'<g transform="translate(0 {y:g})">', *picture.parts, "</g>"]
        y += picture.height
    return "\n".join([*lines, "</svg>"])


def _heading(text: str) -> Picture:
    part = f'<text x="{EDGE}" y="19" font-size="12" font-weight="bold" fill="{FAINT}">{html.escape(text)}</text>'
    return Picture([part], 2 * EDGE + len(text) * 7.4, TITLE_HEIGHT)


def _grid(sheet: Sheet, bands: list[list[int | None]]) -> Picture:
    """The bands, one below the other."""
    n_rows, parts = sheet.plan.n_rows, []
    cells = {(s, row): sheet.cell(s, row) for band in bands for s in band if s is not None for row in range(n_rows)}
    cell_width = max([CELL_WIDTH, *(LETTER * len(cell.label) + 6 for cell in cells.values())])
    margin = EDGE + 8 + LETTER * max(len(name) for name in sheet.names)
    for i, band in enumerate(bands):
        top = i * ((n_rows + 1) * CELL_HEIGHT + BAND_GAP)
        for column, step in enumerate(band):
            middle = margin + (column + 0.5) * cell_width
            parts.append(_words(middle, top + 16, "…" if step is None else str(step)))
        for row, name in enumerate(sheet.names):
            y = top + (row + 1) * CELL_HEIGHT
            parts.append(_words(margin - 8, y + 16, name, anchor="end"))
            for column, step in enumerate(band):
                x = margin + column * cell_width
                if step is None:
                    parts.append(_words(x + cell_width / 2, y + 16, "…"))
                else:
                    parts.append(_cell(cells[step, row], x, y, cell_width))
    width = margin + max(len(band) for band in bands) * cell_width + EDGE
    return Picture(parts, width, len(bands) * ((n_rows + 1) * CELL_HEIGHT + BAND_GAP))


def _cell(cell: Cell, x: float, y: float, width: float) -> str:
    left, top, wide, high = x + 1.5, y + 1.5, width - 3, CELL_HEIGHT - 3
    fill = "#8881" if cell.kind == "filler" else _hex(cell.colour)
    box = f'<rect x="{left:g}" y="{top:g}" width="{wide:g}" height="{high}" rx="4" fill="{fill}"{_border(cell)}/>'
    hatching = _hatch(left, top, wide, high) if cell.given else ""
    if cell.kind == "filler":
        return box
    ink = PAPER if cell.kind == "mark" else INK
    return box + hatching + _words(x + width / 2, y + 16, cell.label, ink)


def _border(cell: Cell) -> str:
    if cell.known:
        return f' stroke="{OUTLINE}" stroke-width="1.5"'
    if cell.kind == "copy":
        return f' stroke="{FAINT}" stroke-dasharray="3 2"'
    return ""


def _hatch(left: float, top: float, wide: float, high: float) -> str:
    """Three strokes from the lower left to the upper right."""
    strokes = (f"M{left + wide * at:g} {top + high:g}l{high / 2:g} {-high:g}" for at in (0.08, 0.35, 0.62))
    return f'<path d="{"".join(strokes)}" stroke="{INK}" stroke-opacity="0.2" stroke-width="2.5" fill="none"/>'


def _legend(sheets: Iterable[Sheet]) -> Picture:
    """A swatch of some shades for each stream, then what the patterns mean."""
    sheets = list(sheets)
    parts, x = [], float(EDGE)
    streams = {name: (number, k) for sheet in sheets for number, (name, k) in enumerate(sheet.plan.levels.items())}
    for name, (number, n_levels) in streams.items():
        shades = sorted({round(i * (n_levels - 1) / (LEGEND_SHADES - 1)) for i in range(LEGEND_SHADES)})
        for level in shades:
            parts.append(_swatch(x, f'fill="{_hex(colour_of(name, number, level, n_levels))}"'))
            x += 14
        words = f"{name}, levels 0 to {n_levels - 1}" if n_levels > 1 else name
        parts.append(_words(x + 4, 18, words, anchor="start"))
        x += 24 + LETTER * len(words)
    for words, look in _patterns(sheets):
        parts += [look.format(x=x), _words(x + 18, 18, words, anchor="start")]
        x += 38 + LETTER * len(words)
    return Picture(parts, x, LEGEND_HEIGHT)


def _patterns(sheets: list[Sheet]) -> list[tuple[str, str]]:
    """What a legend says of hatching, dashes and outlines, where they occur; `{x}` is the place."""
    found = []
    if any(sheet.given_streams for sheet in sheets):
        strokes = f'<path d="M1 20l6 -12M6 20l6 -12" stroke="{INK}" stroke-opacity="0.4" stroke-width="2" fill="none"/>'
        hatched = _swatch(0, f'fill="{_hex(GREY)}"') + strokes
        found.append(("given, never predicted", f'<g transform="translate({{x:g}} 0)">{hatched}</g>'))
    if any(sheet.has_copies for sheet in sheets):
        dashed = _swatch(0.5, f'fill="#8882" stroke="{FAINT}" stroke-dasharray="3 2"')
        found.append(("a copy", f'<g transform="translate({{x:g}} 0)">{dashed}</g>'))
    if any(sheet.has_known for sheet in sheets):
        outlined = _swatch(0.5, f'fill="none" stroke="{OUTLINE}" stroke-width="1.5"')
        found.append(("forced by the prompt", f'<g transform="translate({{x:g}} 0)">{outlined}</g>'))
    return found


def _swatch(x: float, look: str) -> str:
    return f'<path d="M{x:g} 8h12v12h-12z" {look}/>'


def _words(x: float, y: float, words: str, fill: str = FAINT, anchor: str = "middle") -> str:
    return f'<text x="{x:g}" y="{y:g}" text-anchor="{anchor}" fill="{fill}">{html.escape(words)}</text>'


def _hex(colour: Colour) -> str:
    return "#{:02x}{:02x}{:02x}".format(*colour)
