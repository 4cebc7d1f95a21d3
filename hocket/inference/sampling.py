"""How ids are drawn, for all rows or for some of them: settings, and settings bound to a model.

    Sampling(top_k=250, rows={"text": {"temperature": 0.7}, "audio.0": {"top_p": 0.9}, "audio[1:]": {"top_k": 50}})

`Sampler.choose` for 4 rows of 2,049 logits, batch 1, one thread of a CPU, log-probabilities included: 34 microseconds,
with top-k 72, with top-p 83, with both and min-p 87, looking at repetition 108, greedy 15. `drawing.py` has the method.

Shapes: B batch, P rows of a pass, R rows, J legal ids, U numbers of a draw, W last tokens.
"""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np
from torch import Tensor

from hocket.errors import InputError, did_you_mean
from hocket.inference.drawing import NUMBERS, Rules
from hocket.interleave import Layout
from hocket.interleave.checks import is_whole
from hocket.interleave.plan import NO_STREAM, Plan
from hocket.interleave.stream import StreamRef
from hocket.model import Model
from hocket.model.stepping import Pass

_LEVEL = re.compile(r"([A-Za-z_]\w*)\.(\d+)")


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """Temperature, then top-k, top-p of what that leaves, and min-p; then perhaps a draw once more.

    Raises:
        InputError: says which setting is wrong, and what would be right.
    """

    temperature: float = 1.0
    """Divides the logits; 0 takes the most probable id, the first of several."""
    top_k: int = 0
    """Keep this many most probable ids, and those as probable as the last of them; 0 keeps all."""
    top_p: float = 1.0
    """Keep the most probable ids until their probabilities sum to this (Holtzman et al., 2020); 1 keeps all."""
    min_p: float = 0.0
    """Keep ids at least this share as probable as the most probable one (Nguyen et al., 2024); 0 keeps all."""
    repetition_window: int = 0
    """Look at so many last tokens of the same stream and level (VALL-E 2: Chen et al., 2024, which takes 10); 0 is
    off."""
    repetition_ratio: float = 0.1
    """If the drawn id makes up more than this share of the window, draw again, without truncation. Places before the
    first token count as others."""
    rows: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Other values of these settings for a stream (`text`), a level (`audio.0`) or some levels (`audio[1:]`). Where
    several fit, later ones win."""

    def __post_init__(self) -> None:
        for key, (is_right, right) in _CHECKS.items():
            value = getattr(self, key)
            if not is_right(value):
                raise InputError(f"{key} must be {right}, not {value!r}")
        if not isinstance(self.rows, Mapping):
            raise InputError(f'rows must be settings by stream, such as {{"text": {{"top_k": 50}}}}, not {self.rows!r}')
        for name, changes in self.rows.items():
            _parse(name)
            self._check_changes(name, changes)
        object.__setattr__(self, "rows", {name: dict(changes) for name, changes in self.rows.items()})

    def _check_changes(self, name: str, changes: Any) -> None:
        if not isinstance(changes, Mapping):
            raise InputError(f'rows: settings of "{name}" are such as {{"top_k": 50}}, not {changes!r}')
        for key in changes:
            if key not in _CHECKS:
                raise InputError(f'rows: "{name}" has no setting "{key}"{did_you_mean(str(key), _CHECKS)}')
        try:
            replace(self, rows={}, **changes)
        except InputError as error:
            raise InputError(f'rows: "{name}": {error}') from None

    def bind(self, model: Model) -> "Sampler":
        """The settings of each legal set of a model.

        Raises:
            InputError: `rows` names a stream or a level that the model's layout lacks.
        """
        return Sampler(self, model.layout)


def _is_number(value: object, least: float, most: float = math.inf) -> bool:
    known = isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)
    return known and math.isfinite(value) and least <= value <= most  # type: ignore[arg-type, operator]


_CHECKS = {
    "temperature": (lambda v: _is_number(v, 0), "0 (the most probable id) or more"),
    "top_k": (is_whole, "0 (off) or a whole number of ids"),
    "top_p": (lambda v: _is_number(v, 0, 1) and v > 0, "above 0 and at most 1 (off)"),
    "min_p": (lambda v: _is_number(v, 0, 1), "0 (off) up to 1"),
    "repetition_window": (is_whole, "0 (off) or a whole number of tokens"),
    "repetition_ratio": (lambda v: _is_number(v, 0, 1), "0 up to 1"),
}
assert set(_CHECKS) == {f.name for f in fields(Sampling)} - {"rows"}


class Sampler:
    """Draws ids for the rows of a model.

    Args:
        sampling: the settings.
        layout: says which stream and level a legal set belongs to.
    """

    def __init__(self, sampling: Sampling, layout: Layout):
        self.sampling = sampling
        chosen: dict[tuple[str, int], dict[str, Any]] = {}
        for name, changes in sampling.rows.items():
            for cell in _cells(name, layout):
                chosen[cell] = {**chosen.get(cell, {}), **changes}
        plain = replace(sampling, rows={})
        self._by_legal = [replace(plain, **chosen[cell]) if cell in chosen else plain for cell in layout.legal_cells]
        self.window = max(row.repetition_window for row in self._by_legal)
        """W, how many last tokens `choose` must be given: 0 for none."""
        self._rules: dict[tuple, Rules] = {}

    n_numbers = NUMBERS
    """U, how many uniform numbers a cell takes."""

    def choose(
        self, pass_: Pass, legal_R: Sequence[int], uniform_BPU: Tensor, recent_BPW: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Draws a position for each row of a pass.

        What a cell draws depends on its own logits, numbers and last tokens alone. Nothing waits for the device, and a
        CUDA graph may capture it once it ran for these rows.

        Args:
            legal_R: the legal set of each row of the step.
            uniform_BPU: in [0, 1), float32 or float64, on the device of the logits.
            recent_BPW: ids of the last tokens of each row's stream and level, the latest last, -1 where there is none;
                needed where `window` is not 0.

        Returns:
            Positions `[B, P]` along J, and the log-probabilities `[B, P]` of these ids under the model's own
            distribution: at temperature 1, over all legal ids, before any truncation. They are nan where logits are.
        """
        rules = self._find(tuple([legal_R[row] for row in pass_.rows]), pass_.logits_BPJ)
        return rules.draw(pass_.logits_BPJ, uniform_BPU, pass_.ids_PJ, recent_BPW)

    def of(self, legal: int) -> Sampling:
        """The settings of a legal set."""
        return self._by_legal[legal]

    def _find(self, legal_P: tuple[int, ...], logits_BPJ: Tensor) -> Rules:
        key = (legal_P, logits_BPJ.shape[-1], logits_BPJ.device)
        if key not in self._rules:
            self._rules[key] = Rules([self._by_legal[i] for i in legal_P], key[1], self.window, key[2])
        return self._rules[key]


def last_cells(plan: Plan, step: int, rows: Sequence[int], window: int) -> np.ndarray:
    """Where the last tokens stand that precede some cells in their stream and level: numbers of the flat grid, int64
    `[P, W]`, the latest last, -1 where there is none. What stands there is the `recent_BPW` of `Sampler.choose`."""
    cells_PW = np.full((len(rows), window), -1, dtype=np.int64)
    names = list(plan.levels)
    for cells_W, row in zip(cells_PW, rows, strict=True):
        number, frame = plan.stream_TR[step, row], int(plan.frame_TR[step, row])
        if number != NO_STREAM and frame:
            found = plan.where[names[number]][max(0, frame - window) : frame, plan.level_TR[step, row]]
            cells_W[window - len(found) :] = found
    return cells_PW


def _parse(name: Any) -> StreamRef:
    """`text`, `audio.0` or `audio[1:]`.

    Raises:
        InputError: it is none of these.
    """
    level = _LEVEL.fullmatch(name) if isinstance(name, str) else None
    try:
        return StreamRef(level[1], int(level[2]), int(level[2]) + 1) if level else StreamRef.parse(name)
    except InputError:
        raise InputError(
            f"rows: {name!r} is no stream; write a name such as audio, a level such as audio.0, or levels such as "
            "audio[1:]"
        ) from None


def _cells(name: str, layout: Layout) -> Iterator[tuple[str, int]]:
    """Streams and levels that a key of `rows` means."""
    ref = _parse(name)
    if ref.name not in layout.streams:
        raise InputError(f'rows: {layout} has no stream "{ref.name}"{did_you_mean(ref.name, layout.streams)}')
    n_levels = layout.streams[ref.name]
    stop = n_levels if ref.stop is None else ref.stop
    if stop > n_levels or ref.start >= stop:
        raise InputError(f'rows: "{name}" names no levels of "{ref.name}", which has levels 0 to {n_levels - 1}')
    return ((ref.name, level) for level in range(ref.start, stop))
