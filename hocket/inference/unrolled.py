"""A layout as it goes on for ever: what stands in each cell of any step.

    Stack(aligned_text, Delay(audio, [0, 1]), Delay(user, [0, 1])): one step a frame from step 2 on

    step        0      1      2      3      4
    text        <bos>  t0     t1     t2     t3         begins: steps 0 and 1
    audio.0     .      a0     a1     a2     a3         goes round: step 2, then each frame one later
    audio.1     .      .      a0     a1     a2
    user.0      .      u0     u1     u2     u3
    user.1      .      .      u0     u1     u2

Read off plans: one of many frames, of which the steps count that a longer one has as well. The beginning lasts until
all later steps repeat with the layout's period.

Shapes: T steps, R rows.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from hocket.errors import InputError
from hocket.interleave import Layout
from hocket.interleave.plan import NO_STREAM, Plan

MOST_FRAMES = 4096  # in which a layout must have come round


class CodeCell(NamedTuple):
    """A cell that holds a code."""

    row: int
    stream: str
    level: int
    frame: int
    legal: int  # its legal set where it is drawn, 0 elsewhere


@dataclass(frozen=True)
class Step:
    """What stands in a step's cells."""

    codes: tuple[CodeCell, ...]
    symbols: tuple[tuple[int, str], ...]  # row and token of cells that are always known


class Unrolled:
    """The steps of a layout that has no end.

    Args:
        layout: one whose streams share a clock.
        given: streams that are never predicted.

    Raises:
        InputError: the layout does not go frame by frame, or not all of its streams do.
    """

    def __init__(self, layout: Layout, given: Iterable[str] = ()):
        if layout.has_spans or not layout.is_online:
            raise InputError(f"{layout} does not go frame by frame, as a session must; moshi does")
        self._layout, self._given = layout, tuple(given)
        self.period_frames, n_frames = layout.period, 16 * layout.period
        found = None
        while found is None:
            if n_frames > MOST_FRAMES:
                raise InputError(
                    f"the streams of {layout} do not share a clock, as those of a session must; those of moshi do"
                )
            plan, stable = self._plan(n_frames), self._stable(n_frames)
            self.period_steps = self._count_steps(n_frames + self.period_frames) - self._count_steps(n_frames)
            found = self._find_start(plan, stable)
            n_frames *= 2
        self.start = found
        """The first step of those that go round."""
        self._steps = [self._read(plan, step) for step in range(found + self.period_steps)]

    @property
    def most_lag(self) -> int:
        """Frames after which nothing shows a frame any more."""
        return self.period_frames * (2 + self.start // self.period_steps)

    def step(self, number: int) -> Step:
        """What stands in a step."""
        if number < len(self._steps):
            return self._steps[number]
        rounds, place = divmod(number - self.start, self.period_steps)
        model, later = self._steps[self.start + place], rounds * self.period_frames
        return Step(tuple([cell._replace(frame=cell.frame + later) for cell in model.codes]), model.symbols)

    # --- private ----------------------------------------------------------------------------------------------------

    def _plan(self, n_frames: int) -> Plan:
        return self._layout.plan(dict.fromkeys(self._layout.streams, n_frames), ended=(), given=self._given)

    def _count_steps(self, n_frames: int) -> int:
        return int(self._layout.count_steps(dict.fromkeys(self._layout.streams, n_frames), ended=False))

    def _stable(self, n_frames: int) -> int:
        """Steps that a longer document has as well."""
        one, two = (_facts(self._plan(n)) for n in (n_frames, n_frames + self.period_frames))
        differs_T = (one != two[: len(one)]).any(axis=(1, 2))
        return int(differs_T.argmax()) if differs_T.any() else len(one)

    def _find_start(self, plan: Plan, stable: int) -> int | None:
        """The first step from which on all repeat, at least twice; None where the plan is too short to tell."""
        facts, steps = _facts(plan)[:stable], self.period_steps
        if len(facts) < 4 * steps:
            return None
        now, next_ = facts[:-steps].copy(), facts[steps:]
        now[..., 0] += np.where(now[..., 1] != NO_STREAM, self.period_frames, 0)
        repeats_T = (now == next_).all(axis=(1, 2))
        wrong = (~repeats_T).nonzero()[0]
        start = int(wrong[-1]) + 1 if len(wrong) else 0
        held = {(int(stream), int(level)) for stream, level in facts[start : start + steps, :, 1:3].reshape(-1, 2)}
        is_all = all((i, level) in held for i, k in enumerate(plan.levels.values()) for level in range(k))
        return start if is_all and len(facts) - start >= 3 * steps else None

    def _read(self, plan: Plan, step: int) -> Step:
        names, codes, symbols = list(plan.levels), [], []
        for row in range(plan.n_rows):
            source = int(plan.source_TR[step, row])
            if source < len(plan.symbols):
                symbols.append((row, plan.symbols[source]))
                continue
            name, level = names[plan.stream_TR[step, row]], int(plan.level_TR[step, row])
            legal = 0 if name in self._given else int(plan.legal_TR[step, row])
            codes.append(CodeCell(row, name, level, int(plan.frame_TR[step, row]), legal))
        return Step(tuple(codes), tuple(symbols))


def _facts(plan: Plan) -> np.ndarray:
    """Frame, stream, level, legal set and symbol of every cell: int64 `[T, R, 5]`."""
    is_code_TR = plan.source_TR >= len(plan.symbols)
    symbol_TR = np.where(is_code_TR, -1, plan.source_TR)
    stream_TR = np.where(is_code_TR, plan.stream_TR, NO_STREAM)
    frame_TR = np.where(is_code_TR, plan.frame_TR, 0)
    return np.stack([frame_TR, stream_TR, plan.level_TR, plan.legal_TR, symbol_TR], axis=-1).astype(np.int64)
