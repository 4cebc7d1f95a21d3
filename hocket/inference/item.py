"""One document in the making: which cells are known, which are to be drawn, and what follows from what was drawn.

An item follows the plan for its limits. When a stream's leader draws `<end>` at frame T, it goes on along the plan for
T; when it draws `<to.STREAM>`, a turn of that stream begins. A stream that reaches its limit is given its end marker,
which is not drawn. Cells are known where a prompt or a given stream says so, wherever they lie.

Shapes: T steps, R rows, U numbers of a draw, K levels.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from hocket.errors import InputError, did_you_mean
from hocket.inference.request import Request
from hocket.interleave import Cursor
from hocket.interleave.plan import NO_STREAM, Plan
from hocket.interleave.spans import Turn
from hocket.model import Model

DRAWS = 2  # U: the second is for draws that are made again
BLOCK = 512  # steps whose numbers are drawn at once


class Numbers:
    """The numbers that decide the draws of each step of a document; those of the past are not kept."""

    def __init__(self, seed: int, n_rows: int):
        self._generator, self._n_rows = torch.Generator().manual_seed(seed), n_rows
        self._block, self._uniform_TRU = -1, torch.zeros(0)

    def at(self, step: int) -> Tensor:
        """In [0, 1), float32 `[R, U]`. No step is asked for after one of a later block of `BLOCK` steps."""
        assert step // BLOCK >= self._block, f"the numbers of step {step} are gone"
        while self._block < step // BLOCK:
            self._uniform_TRU = torch.rand((BLOCK, self._n_rows, DRAWS), generator=self._generator)
            self._block += 1
        return self._uniform_TRU[step % BLOCK]


@dataclass(frozen=True)
class Cells:
    """The grid of a plan, as a sampler reads it."""

    ids_TR: Tensor  # int64; `<none>` in cells that are to be drawn
    open_TR: Tensor  # bool, cells to be drawn
    legal_TR: tuple[tuple[int, ...], ...]  # the legal set of each open cell, 0 elsewhere
    copies: dict[int, list[tuple[int, int, int]]]  # by step: row of a cell that shows again what stands elsewhere
    ends: frozenset[int]  # steps in which a leader may end its stream or hand over


class Item:
    """A document of a batch.

    Args:
        model: a causal one.
        request: what is given and wanted.

    Raises:
        InputError: a stream is neither given nor open, codes have another shape, or what is given does not fit into the
            model's context.
    """

    def __init__(self, model: Model, request: Request):
        self.request, self._model = request, model
        self._layout, self._vocabulary = model.layout, model.vocabulary
        check_request(model, request)
        self._prompts = {name: np.asarray(codes_TK, dtype=np.int64) for name, codes_TK in request.prompts.items()}
        self._given = {name: np.asarray(codes_TK, dtype=np.int64) for name, codes_TK in request.given.items()}
        self._lengths = {name: len(codes_TK) for name, codes_TK in self._given.items()}
        self._limits = {name: n for name, n in request.limits.items() if name not in self._lengths}
        self.ended: set[str] = set()
        """Streams that the model ended itself."""
        self._turns: list[Turn] | None = self._first_turns() if self._layout.has_spans else None
        self._opens = bool(self._turns) and not request.turns and not self._begun()
        self._cursor = self._new_cursor()
        self._looked_at: Plan | None = self.plan
        self._cells = self._look()
        self.numbers = Numbers(request.seed, self._layout.n_rows)
        """What decides the draws; of the seed alone."""

    # --- where it stands --------------------------------------------------------------------------------------------

    @property
    def plan(self) -> Plan:
        """The plan to follow now."""
        return self._cursor.plan

    @property
    def n_steps(self) -> int:
        return self.plan.n_steps

    @property
    def most_steps(self) -> int:
        """More steps than these it will never take."""
        return max(self.n_steps, self._model.config.context) if self._layout.has_spans else self.n_steps

    @property
    def first_open_step(self) -> int:
        """The first step with a cell to be drawn."""
        open_T = self.cells.open_TR.any(dim=1)
        return int(open_T.int().argmax()) if bool(open_T.any()) else self.n_steps

    @property
    def cells(self) -> Cells:
        """What is known and open along the plan."""
        if self._looked_at is not self.plan:
            self._looked_at, self._cells = self.plan, self._look()
        return self._cells

    def banned(self, step: int) -> list[int]:
        """Ids that the model knows as legal here and this document cannot take: turns of streams that are closed, ends
        of streams that must have more frames."""
        if step not in self.cells.ends:
            return []
        return [*self._early_ends(step), *(self._closed_turns() if self._turns is not None else ())]

    def _early_ends(self, step: int) -> list[int]:
        plan, early = self.plan, []
        for name, least in self.request.least.items():
            end = f"<end.{name}>"
            legal_R = self.cells.legal_TR[step]
            frames = [int(plan.frame_TR[step, row]) for row, n in enumerate(legal_R) if end in plan.legal_sets[n]]
            if frames and frames[0] < least:
                early.append(self._vocabulary.id(end))
        return early

    def _closed_turns(self) -> list[int]:
        assert self._turns is not None
        node, now = self._layout.span_nodes()[0], self._turns[-1][0]
        once = {name for name, _, _ in self._turns} if node.spans == "either" else set()
        closed = {name for name in node.part_streams if self._reached(name) >= self._limits.get(name, 0)}
        closed |= (once | {now}) if not self._opens else set()
        return [self._vocabulary.id(f"<to.{name}>") for name in closed]

    # --- what follows -----------------------------------------------------------------------------------------------

    def follow(self, step: int, ids_R: list[int]) -> bool:
        """Looks at what was drawn in a step; whether the plan changed because a stream ended or a turn did.

        With a depth head, rows after the first end or switch saw what is no longer there: these are to be drawn again,
        and looked at then.
        """
        if step >= self.n_steps or step not in self.cells.ends:
            return False
        choices = self._end_ids.keys() | self._switch_ids.keys()
        rows = [row for row, legal in enumerate(self.cells.legal_TR[step]) if legal and ids_R[row] in choices]
        rows = rows[:1] if self._model.depth is not None else rows
        frames = {ids_R[row]: int(self.plan.frame_TR[step, row]) for row in rows}
        ended = {self._end_ids[token]: n for token, n in frames.items() if token in self._end_ids}
        turned = {self._switch_ids[token]: n for token, n in frames.items() if token in self._switch_ids}
        if ended:
            self._close(ended, step)
        for stream, n in turned.items():
            self._turn_to(stream, n)
        if rows:
            self._looked_at = None
        return bool(rows)

    # --- private ----------------------------------------------------------------------------------------------------

    def _close(self, frames: dict[str, int], step: int) -> None:
        """Streams have ended after so many frames."""
        self.ended |= frames.keys()
        self._limits = {name: n for name, n in self._limits.items() if name not in frames}
        self._lengths |= frames
        if self._turns is not None and self._turns[-1][0] in frames:
            name, first, _ = self._turns[-1]
            self._turns = [*self._turns[:-1], (name, first, frames[name])]
        self._cursor.close_all(frames, step)

    def _begun(self) -> bool:
        """Whether a stream that goes by turns is given, or has a prompt."""
        parts = self._layout.span_nodes()[0].part_streams
        return any(name in self._given or len(self._prompts.get(name, ())) for name in parts)

    def _new_cursor(self) -> Cursor:
        """A cursor along the turns so far, whose last one goes on up to its limit or to the end of the context."""
        limits = dict(self._limits)
        while True:
            turns = self._open_last(limits)
            cursor = Cursor(
                self._layout,
                self._lengths,
                limits,
                self.request.start,
                given=self._model.given,
                ended=self.request.ends,
                spans=turns,
            )
            excess = cursor.plan.n_steps - self._model.config.context
            if turns is None or excess <= 0 or turns[-1][0] not in limits:
                return cursor
            name, first, stop = turns[-1]
            per_frame = max(1, round(cursor.plan.n_steps / max(1, sum(b - a for _, a, b in turns))))
            limits[name] = max(first, stop - max(1, excess // per_frame))
            if limits[name] == stop:
                return cursor

    def _open_last(self, limits: dict[str, int]) -> list[Turn] | None:
        if self._turns is None:
            return None
        name, first, stop = self._turns[-1]
        return [*self._turns[:-1], (name, first, limits.get(name, stop))]

    def _first_turns(self) -> list[Turn]:
        parts = self._layout.span_nodes()[0].part_streams
        if self.request.turns:
            return list(self.request.turns)
        turns = [(name, 0, self._lengths[name]) for name in parts if name in self._lengths]
        turns += [(name, 0, len(self._prompts[name])) for name in parts if len(self._prompts.get(name, ()))]
        if not turns or turns[-1][0] in self._lengths:
            turns += [(name, 0, 0) for name in parts if name in self._limits][:1]
        return turns

    def _reached(self, stream: str) -> int:
        assert self._turns is not None
        return max((stop for name, _, stop in self._turns[:-1] if name == stream), default=0)

    def _turn_to(self, stream: str, n_frames: int) -> None:
        """A turn of another stream begins, after so many frames of the one before."""
        assert self._turns is not None
        name, first, _ = self._turns[-1]
        if self._opens:
            self._turns, self._opens = [(stream, 0, 0)], False
        else:
            self._turns[-1] = (name, first, n_frames)
            self._turns.append((stream, max((b for n, _, b in self._turns if n == stream), default=0), 0))
        self._cursor = self._new_cursor()

    @cached_property
    def _end_ids(self) -> dict[int, str]:
        return {self._vocabulary.id(f"<end.{name}>"): name for name in self._layout.streams}

    @cached_property
    def _switch_ids(self) -> dict[int, str]:
        nodes = self._layout.span_nodes()
        return {self._vocabulary.id(f"<to.{name}>"): name for node in nodes for name in node.part_streams}

    def _look(self) -> Cells:
        plan = self.plan
        unknown_TR = self._unknown()
        ids_TR = plan.interleave(self._codes(), self._vocabulary)
        ids_TR = np.where(unknown_TR, self._vocabulary.id("<none>"), ids_TR)
        open_TR = unknown_TR & (plan.legal_TR > 0)
        copies: dict[int, list[tuple[int, int, int]]] = {}
        for cell, primary in plan.copies.T.tolist():
            step, row = divmod(cell, plan.n_rows)
            if unknown_TR[step, row]:
                from_step, from_row = divmod(primary, plan.n_rows)
                copies.setdefault(step, []).append((row, from_step, from_row))
        choices = [
            index
            for index, names in enumerate(plan.legal_sets)
            if any(name.startswith(("<end.", "<to.")) for name in names)
        ]
        ends_T = (open_TR & np.isin(plan.legal_TR, choices)).any(axis=1)
        return Cells(
            torch.from_numpy(ids_TR),
            torch.from_numpy(open_TR),
            tuple(map(tuple, np.where(open_TR, plan.legal_TR, 0).tolist())),
            copies,
            frozenset(np.flatnonzero(ends_T).tolist()),
        )

    def _unknown(self) -> np.ndarray:
        """Cells of codes that nothing says, copies included: bool `[T, R]`. Ends and switches follow from the plan."""
        plan = self.plan
        frames, levels = np.zeros(len(plan.levels) + 1, np.int64), np.zeros(len(plan.levels) + 1, np.int64)
        for number, (name, n_levels) in enumerate(plan.levels.items()):
            frames[number] = len(self._prompts.get(name, ()))
            levels[number] = self._given[name].shape[1] if name in self._given else 0
            if levels[number] == n_levels:
                frames[number] = plan.lengths[name]
        is_code_TR = plan.source_TR >= len(plan.symbols)
        unknown_TR = (plan.frame_TR >= frames[plan.stream_TR]) & (plan.level_TR >= levels[plan.stream_TR])
        unknown_TR &= is_code_TR & (plan.stream_TR != NO_STREAM)
        if self._opens:
            unknown_TR |= plan.legal_TR == self._layout.first_legal[self._layout.span_nodes()[0]]
        return unknown_TR

    def _codes(self) -> dict[str, np.ndarray]:
        """What is known of every stream, 0 elsewhere."""
        streams = {}
        for name, n_levels in self.plan.levels.items():
            codes_TK = np.zeros((self.plan.lengths[name], n_levels), dtype=np.int64)
            for source in (self._given.get(name), self._prompts.get(name)):
                if source is not None:
                    codes_TK[: len(source), : source.shape[1]] = source
            streams[name] = codes_TK
        return streams


def check_request(model: Model, request: Request) -> None:
    """Every stream is given or open, what the model never predicts is given, and codes have the layout's shape.

    Raises:
        InputError: one of these does not hold.
    """
    levels, fixed = model.layout.streams, given_levels(model)
    for name in (*request.given, *request.prompts, *request.limits, *request.least):
        if name not in levels:
            raise InputError(f'{model.layout} has no stream "{name}"' + did_you_mean(name, levels))
    for name, n_levels in levels.items():
        if name not in request.given and (fixed.get(name) or name not in request.limits):
            raise InputError(f'the model needs the stream "{name}": put its codes into Request.given')
        for what, codes in (("given", request.given), ("prompts", request.prompts)):
            wanted = sorted({n_levels, fixed.get(name) or n_levels} if what == "given" else {n_levels})
            shape = np.shape(codes.get(name, np.zeros((0, n_levels))))
            if len(shape) != 2 or shape[1] not in wanted:
                raise InputError(
                    f'Request.{what} holds codes of shape {shape} for "{name}", not [frames, '
                    f"{' or '.join(map(str, wanted))}]"
                )
        if name in request.limits and request.limits[name] < len(request.prompts.get(name, ())):
            raise InputError(
                f'"{name}" may have {request.limits[name]} frames, fewer than the {len(request.prompts[name])} of its '
                "prompt"
            )


def given_levels(model: Model) -> dict[str, int]:
    """How many levels of each stream the model never predicts: 0, some of the first, or all."""
    fixed = model.layout.find_levels(model.given)
    return {name: sum((name, level) in fixed for level in range(k)) for name, k in model.layout.streams.items()}
