"""What a drawing of a plan shows, whatever it is drawn with: the name of each row, and what each cell is and reads.

    label     of a cell that holds
    3         frame 3 (`3.1`: of level 1, in a row that holds several levels of the stream)
    (3)       a copy of frame 3: an input, never predicted
    end, to   the end of a stream, a switch to another
    bos, task a start, a marker, both always known
    .         filler

Levels of a stream are shades of its hue, level 0 the strongest. Only the cells that are drawn are looked at: about
4 µs each.

Shapes: T steps, R rows, K levels.
"""

import colorsys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from hocket.interleave.plan import FILLER, NO_STREAM, Plan

Colour = tuple[int, int, int]
HUES = {"audio": 210, "text": 130, "aligned_text": 130, "semantic": 280, "user": 25, "source": 25, "target": 210}
HUES |= {"left": 210, "right": 340}
GREY: Colour = (212, 212, 212)
BANDED_ROWS = 6
"""Rows that a drawing may have in all when it is cut into bands, one below the other."""
SHORT = {"<none>": ".", "<bos>": "bos", "<cont>": "cont", "<wait>": "wait"}
LONGEST_MARKER, SWITCH = 6, "<to."


@dataclass(frozen=True)
class Cell:
    """One cell of the grid, as it is drawn."""

    label: str
    stream: str | None
    """None for starts, markers and filler."""
    level: int
    kind: str
    """`code`, `copy`, `mark` (an end, a switch), `symbol` (a start, a marker) or `filler`."""
    given: bool
    """It belongs to a stream that is never predicted."""
    known: bool
    """A prompt forces it."""
    colour: Colour


class Sheet:
    """The cells of a plan, ready to be drawn.

    Args:
        plan: what is drawn.
        known: frames of a prompt by stream; their cells are marked.
        codes: codes `[T, K]` by stream, which the cells then read instead of their frames.
    """

    def __init__(
        self, plan: Plan, known: Mapping[str, int] | None = None, codes: Mapping[str, np.ndarray] | None = None
    ):
        self.plan = plan
        self._grid_TR = plan.interleave(codes) if codes is not None else None
        self._known_TR = plan.known(known) if known else np.zeros(plan.source_TR.shape, dtype=bool)
        self._known_TR &= plan.stream_TR != NO_STREAM
        self._code_TR = plan.source_TR >= len(plan.symbols)
        self._copy_TR = np.zeros(plan.source_TR.shape, dtype=bool)
        self._copy_TR.reshape(-1)[plan.copies[0]] = True
        given_TR = (plan.stream_TR != NO_STREAM) & (plan.legal_TR == 0)
        given_TR.reshape(-1)[plan.copies[0]] = given_TR.reshape(-1)[plan.copies[1]]
        self._given_TR = given_TR
        self._streams = list(plan.levels)

    def cell(self, step: int, row: int) -> Cell:
        """What stands at a step, in a row."""
        plan, at = self.plan, (step, row)
        stream = self._stream(at)
        number = self._streams.index(stream) if stream else NO_STREAM
        level = int(plan.level_TR[at])
        if plan.source_TR[at] == FILLER:
            kind, colour = "filler", GREY
        elif stream is None:
            kind, colour = "symbol", GREY
        elif not self._code_TR[at]:
            kind, colour = "mark", colour_of(stream, number, 0, 1, mark=True)
        else:
            kind = "copy" if self._copy_TR[at] else "code"
            colour = colour_of(stream, number, level, plan.levels[stream], pale=kind == "copy")
        given, known = bool(self._given_TR[at]), bool(self._known_TR[at])
        return Cell(self._label(at, kind, stream), stream, level, kind, given, known, colour)

    def _stream(self, at: tuple[int, int]) -> str | None:
        """The stream that a cell belongs to; of a switch, the one that goes on."""
        number = int(self.plan.stream_TR[at])
        if number == NO_STREAM:
            return None
        symbol = self.plan.symbols[self.plan.source_TR[at]] if not self._code_TR[at] else ""
        return symbol[len(SWITCH) : -1] if symbol.startswith(SWITCH) else self._streams[number]

    @cached_property
    def names(self) -> list[str]:
        """What each row holds: `audio.0`, `text, audio.0`, `audio.0-3`; `audio` for all levels."""
        return [self._row_name(row) for row in range(self.plan.n_rows)]

    @cached_property
    def given_rows(self) -> list[bool]:
        """Rows of which no code is predicted."""
        codes_TR = self._code_TR
        return [bool(codes_TR[:, r].any() and self._given_TR[codes_TR[:, r], r].all()) for r in range(self.plan.n_rows)]

    @cached_property
    def given_streams(self) -> list[str]:
        """Streams with cells that are never predicted."""
        found = np.unique(self.plan.stream_TR[self._given_TR & self._code_TR])
        return [self._streams[number] for number in found]

    @cached_property
    def has_copies(self) -> bool:
        return bool(self._copy_TR.any())

    @cached_property
    def has_known(self) -> bool:
        return bool(self._known_TR.any())

    @cached_property
    def mixed_rows(self) -> list[bool]:
        """Rows that hold several streams."""
        return [len(held) > 1 for held in self._held]

    def arrange(self, n_steps: int | None, first_step: int, columns: int | None) -> list[list[int | None]]:
        """The steps to draw, in bands of at most `columns` steps, one below the other; None stands for a gap.

        Low grids get several bands; what does not fit is left out of the middle.
        """
        last = min(self.plan.n_steps, first_step + (n_steps or self.plan.n_steps))
        steps: list[int | None] = [*range(first_step, last)]
        if columns is None:
            return [steps]
        room = columns * max(1, BANDED_ROWS // self.plan.n_rows)
        if len(steps) > room:
            tail = (room - 1) * 2 // 5
            steps = [*steps[: room - 1 - tail], None, *(steps[-tail:] if tail else ())]
        return [steps[i : i + columns] for i in range(0, len(steps), columns)] or [[]]

    @cached_property
    def _held(self) -> list[dict[str, list[int]]]:
        """By row, the levels that it holds of each stream, in the order in which they first appear."""
        found = []
        for row in range(self.plan.n_rows):
            stream_T, is_code_T = self.plan.stream_TR[:, row], self._code_TR[:, row]
            held: dict[str, set[int]] = {
                self._streams[i]: set() for i in dict.fromkeys(stream_T[stream_T >= 0].tolist())
            }
            pairs = np.stack([stream_T[is_code_T], self.plan.level_TR[is_code_T, row]], axis=1)
            for number, level in np.unique(pairs, axis=0).tolist():
                held[self._streams[number]].add(level)
            found.append({name: sorted(levels) or [0] for name, levels in held.items()})
        return found

    def _row_name(self, row: int) -> str:
        parts = []
        for name, levels in self._held[row].items():
            if len(levels) == self.plan.levels[name]:
                parts.append(name)
            else:
                parts.append(f"{name}.{levels[0]}" + (f"-{levels[-1]}" if len(levels) > 1 else ""))
        return ", ".join(parts) or f"row {row}"

    def _label(self, at: tuple[int, int], kind: str, stream: str | None) -> str:
        if kind in ("filler", "symbol", "mark"):
            return _short(self.plan.symbols[self.plan.source_TR[at]])
        if self._grid_TR is not None:
            label = str(self._grid_TR[at])
        elif len(self._held[at[1]][stream or ""]) > 1:
            label = f"{self.plan.frame_TR[at]}.{self.plan.level_TR[at]}"
        else:
            label = str(self.plan.frame_TR[at])
        return f"({label})" if kind == "copy" else label


def colour_of(stream: str, number: int, level: int, n_levels: int, *, mark: bool = False, pale: bool = False) -> Colour:
    """The shade of a level; marks are darker than any code, copies paler."""
    hue = HUES.get(stream, (97 * number + 340) % 360)
    depth = level / max(n_levels - 1, 1)
    if mark:
        return _rgb(hue, 0.34, 0.5)
    return _rgb(hue, 0.9, 0.5) if pale else _rgb(hue, 0.64 + 0.23 * depth, 0.65 - 0.2 * depth)


def _rgb(hue: float, lightness: float, saturation: float) -> Colour:
    red, green, blue = colorsys.hls_to_rgb(hue / 360, lightness, saturation)
    return round(255 * red), round(255 * green), round(255 * blue)


def _short(symbol: str) -> str:
    """A special token in a few letters: the kind of an end or a switch, the last part of a marker's name."""
    if symbol in SHORT:
        return SHORT[symbol]
    kind, _, rest = symbol.strip("<>").partition(".")
    if kind in ("end", "to"):
        return kind
    name = (rest or kind).rpartition(".")[2]
    return name if len(name) <= LONGEST_MARKER else name[: LONGEST_MARKER - 1] + "…"
