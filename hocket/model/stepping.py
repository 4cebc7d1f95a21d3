"""A model that goes step by step over a batch, with what it needs to know of the past kept in preallocated caches.

    feed(ids of the last steps)  ->  passes(legal set of each row)  ->  who samples writes the step's cells  ->  feed …

With a parallel head all rows of a step come in one pass. With a depth head the first predicted row comes from the
trunk, and each later one once the cells of the rows before it are written.

Prompts are read by `Decoder.step`, single steps by prepared weights (`prepared.py`, `step_blocks.py`, `products.py`): a
second copy of them in an order that is read faster.

Shapes: B batch, T steps, R rows, P rows of a pass, J legal ids (of the row that has most), D width, U numbers of a
draw, W last tokens.
"""

from collections.abc import Hashable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple, Protocol

import torch
from torch import Tensor

from hocket.model.graphs import StaticFunction, bucket
from hocket.model.prepared import PreparedWeights, prepare
from hocket.model.set_products import NOTHING, stack_rows
from hocket.model.steps import StepDepth, StepTrunk

if TYPE_CHECKING:
    from hocket.model.model import Model


__all__ = ["NOTHING", "Chooser", "Pass", "Stepper"]


class Pass(NamedTuple):
    """Rows of a step that are drawn together."""

    rows: tuple[int, ...]  # P
    logits_BPJ: Tensor  # float32, -inf where a row has fewer legal ids than J
    ids_PJ: Tensor  # int64, the id of each logit; `<none>` where there is none


class Chooser(Protocol):
    """Draws a position for each row of a pass, and says how probable it was.

    Where nothing but the arguments of `choose` decides what it draws, and nothing in it waits for the device, it may
    have a hashable `graph_key`: on a GPU a step is then captured, once for each key.
    """

    def choose(
        self, pass_: Pass, legal_R: Sequence[int], uniform_BPU: Tensor, recent_BPW: Tensor | None = None
    ) -> tuple[Tensor, Tensor]: ...


class Stepper:
    """Reads steps of a batch of documents, and predicts the next one.

    Args:
        model: a causal one; its weights are to stay as they are while it is stepped.
        batch: B, documents that go in lockstep.
        max_steps: T, the most steps that will be read.
        static: single steps are read, and whole steps drawn, by functions of tensors of fixed shapes, captured as CUDA
            graphs; on a GPU unless told otherwise. Elsewhere it only costs, and is for tests.
    """

    def __init__(self, model: "Model", batch: int, max_steps: int, static: bool | None = None):
        self._model = model
        self._none = model.vocabulary.id("<none>")
        self._ids_PJ: dict[tuple[int, ...], Tensor] = {}
        self._static = model.device.type == "cuda" if static is None else static
        with _lasting():
            self._cache = model.decoder.new_cache(batch, max_steps)
            self._hidden_BD = model.head.weight.new_zeros(batch, model.config.dim)
            self._start_anew(batch)

    @property
    def length(self) -> int:
        """Steps that were read."""
        return self._cache.length

    @property
    def max_steps(self) -> int:
        """The most steps that can be read."""
        return self._cache.max_steps

    @torch.no_grad()
    def feed(self, ids_BTR: Tensor) -> None:
        """Reads the next T steps, on any device."""
        ids_BTR = ids_BTR.to(self._model.device)
        if not self._fast or ids_BTR.shape[1] > 1:
            self._hidden_BD.copy_(self._model.decoder.step(ids_BTR, self._cache)[:, -1])
        elif self._static:
            assert self.length < self.max_steps, f"the cache holds {self.max_steps} steps, not one more"
            at_1 = torch.full((1,), self.length, device=ids_BTR.device)
            self._read(bucket(self.length + 1, self.max_steps), ids_BTR[:, 0], at_1)
            self._cache.advance(1)
        else:
            self._fast.trunk(ids_BTR[:, 0], self._cache, self._hidden_BD)

    def passes(self, legal_R: Sequence[int], ids_BR: Tensor) -> Iterator[Pass]:
        """The distributions of the next step, as far as rows are drawn.

        Args:
            legal_R: the legal set of each row, 0 where nothing is drawn.
            ids_BR: the cells of the step; with a depth head, those of the rows before a pass are read when it is asked
                for.
        """
        drawn = tuple([row for row, legal in enumerate(legal_R) if legal])
        if not drawn:
            return
        depth = self._model.depth
        if depth is None:
            yield self._pass(drawn, legal_R, self._led(tuple([legal_R[row] for row in drawn])))
            return
        first = depth.rows[0]
        if first in drawn:
            yield self._pass((first,), legal_R, self._led((legal_R[first],)))
        if drawn[-1] > first:
            in_turn = self._fast_depth if self._fast else self._plain_depth
            yield from in_turn(drawn, legal_R, ids_BR)

    @torch.no_grad()
    def step(
        self,
        ids_BR: Tensor,
        open_BR: Tensor,
        legal_R: Sequence[int],
        uniform_BRU: Tensor,
        sampler: Chooser,
        recent_BRW: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Draws the open cells of the next step; the others stay as they are, and a depth head sees them.

        Args:
            ids_BR: what is known of the step, on any device; not changed.
            open_BR: which cells are drawn.
            legal_R: the legal set of each row, 0 where nothing is drawn.
            uniform_BRU: numbers in [0, 1) of each cell.
            recent_BRW: last tokens of each row's stream and level, where the sampler looks at them.

        Returns:
            The step's ids `[B, R]`, and log-probabilities `[B, R]` of those that were drawn, nan elsewhere; on the
            model's device. Nothing waits for it.
        """
        device = self._model.device
        ids_BR, open_BR, uniform_BRU = ids_BR.to(device, copy=True), open_BR.to(device), uniform_BRU.to(device)
        given = [ids_BR, open_BR, uniform_BRU] + ([] if recent_BRW is None else [recent_BRW.to(device)])
        graph_key = getattr(sampler, "graph_key", None)
        if not self._fast or not self._static or graph_key is None:
            return self._draw((legal_R, sampler), *given)
        key = (tuple(legal_R), graph_key, recent_BRW is None)
        self._samplers[key] = sampler
        ids_BR, log_p_BR = self._drawn(key, *given)
        return ids_BR.clone(), log_p_BR.clone()

    def _draw(
        self,
        how: tuple[Sequence[int], Chooser],
        ids_BR: Tensor,
        open_BR: Tensor,
        uniform_BRU: Tensor,
        recent_BRW: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Does what `step` does, on the device; `ids_BR` changes."""
        legal_R, sampler = how
        log_p_BR = torch.full(ids_BR.shape, torch.nan, device=ids_BR.device)
        for pass_ in self.passes(legal_R, ids_BR):
            rows = span(pass_.rows)
            recent_BPW = None if recent_BRW is None else recent_BRW[:, rows]
            position_BP, drawn_BP = sampler.choose(pass_, legal_R, uniform_BRU[:, rows], recent_BPW)
            chosen_BP = pass_.ids_PJ.gather(1, position_BP.T).T
            ids_BR[:, rows] = torch.where(open_BR[:, rows], chosen_BP, ids_BR[:, rows])
            log_p_BR[:, rows] = drawn_BP.to(log_p_BR.dtype)
        return ids_BR, log_p_BR.masked_fill_(~open_BR, torch.nan)

    @torch.no_grad()
    def select(self, indices_B: Tensor) -> None:
        """Goes on with these entries of the batch, in this order; one may occur several times."""
        before, batch = len(self._hidden_BD), len(indices_B)
        with _lasting():
            self._cache = self._cache.select(indices_B)
            hidden_BD = self._hidden_BD[indices_B.to(self._hidden_BD.device)]
            if batch == before:
                self._hidden_BD.copy_(hidden_BD)
                return
            self._hidden_BD = hidden_BD
            self._start_anew(batch)

    def _start_anew(self, batch: int) -> None:
        """Buffers and captured graphs for this many documents."""
        weights = prepare(self._model, batch)
        self._fast = None if weights is None else Fast(weights, batch, self._cache.max_steps)
        self._samplers: dict[Hashable, Chooser] = {}
        self._read = StaticFunction(self._read_at)
        self._drawn = StaticFunction(self._draw_again)

    def _read_at(self, size: int, ids_BR: Tensor, at_1: Tensor) -> tuple[Tensor, ...]:
        """Reads a step whose position is a tensor, below `size`."""
        assert self._fast is not None
        self._fast.trunk.at(ids_BR, at_1, self._cache, size, self._hidden_BD)
        return ()

    def _draw_again(
        self, key: tuple[tuple[int, ...], Hashable, bool], ids_BR: Tensor, *others: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Draws a step, as often as wanted from the same tensors."""
        return self._draw((key[0], self._samplers[key]), ids_BR.clone(), *others)

    @torch.no_grad()
    def _led(self, sets: tuple[int, ...]) -> Tensor:
        """Logits `[B, P, J]` of rows that are predicted from the trunk's state."""
        if self._fast:
            return self._fast.logits(self._hidden_BD, sets)
        return stack_rows([self._model.head.logits(self._hidden_BD, legal) for legal in sets])

    def _fast_depth(self, drawn: Sequence[int], legal_R: Sequence[int], ids_BR: Tensor) -> Iterator[Pass]:
        assert self._fast is not None
        assert self._fast.depth is not None
        depth, device = self._fast.depth, self._model.device
        rows = depth.rows
        with torch.no_grad():
            depth.start(self._hidden_BD)
        for position, row in enumerate(rows[1:], start=1):
            with torch.no_grad():
                depth(ids_BR[:, rows[position - 1]].to(device), position)
                logits_B1J = depth.logits(legal_R[row]) if legal_R[row] else None
            if logits_B1J is not None:
                yield self._pass((row,), legal_R, logits_B1J)
            if row == drawn[-1]:
                return

    def _plain_depth(self, drawn: Sequence[int], legal_R: Sequence[int], ids_BR: Tensor) -> Iterator[Pass]:
        depth = self._model.depth
        assert depth is not None
        in_turn = depth.in_turn(self._hidden_BD, ids_BR)
        for _ in depth.rows[1:]:
            with torch.no_grad():
                row, h_BE = next(in_turn)
                logits_B1J = depth.logits(h_BE, legal_R[row])[:, None] if legal_R[row] else None
            if logits_B1J is not None:
                yield self._pass((row,), legal_R, logits_B1J)
            if row == drawn[-1]:
                return

    def _pass(self, rows: tuple[int, ...], legal_R: Sequence[int], logits_BPJ: Tensor) -> Pass:
        sets = tuple([legal_R[row] for row in rows])
        if sets not in self._ids_PJ:
            with _lasting():
                self._ids_PJ[sets] = self._legal_ids(sets).to(self._model.device)
        return Pass(rows, logits_BPJ, self._ids_PJ[sets])

    def _legal_ids(self, sets: Sequence[int]) -> Tensor:
        legal = [self._model.head.legal_sets[index] for index in sets]
        ids_PJ = torch.full((len(sets), max(one.size for one in legal)), self._none)
        for ids_J, one in zip(ids_PJ, legal, strict=True):
            ids_J[: one.size] = one.ids(torch.arange(one.size))
        return ids_PJ


class Fast:
    """What steps with prepared weights."""

    def __init__(self, weights: PreparedWeights, batch: int, max_steps: int):
        self.logits = weights.logits
        self.trunk = StepTrunk(weights.trunk, batch, max_steps)
        self.depth = None if weights.depth is None else StepDepth(weights.depth, batch)


def span(rows: tuple[int, ...]) -> slice | list[int]:
    """Rows as a slice, where they lie side by side."""
    return slice(rows[0], rows[-1] + 1) if rows[-1] - rows[0] == len(rows) - 1 else list(rows)


@contextmanager
def _lasting() -> Iterator[None]:
    """Makes tensors that can be written to in inference mode and outside of it."""
    with torch.inference_mode(mode=False), torch.no_grad():
        yield
