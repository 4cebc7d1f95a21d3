"""A model that goes step by step over a batch, with what it needs to know of the past kept in preallocated caches.

    feed(ids of the last steps)  ->  passes(legal set of each row)  ->  who samples writes the step's cells  ->  feed …

With a parallel head all rows of a step come in one pass. With a depth head the first predicted row comes from the
trunk, and each later one once the cells of the rows before it are written.

Shapes: B batch, T steps, R rows, P rows of a pass, J legal ids (of the row that has most), D width.
"""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from hocket.model.heads import LegalSet

if TYPE_CHECKING:
    from hocket.model.model import Model

NOTHING = float("-inf")


class Pass(NamedTuple):
    """Rows of a step that are drawn together."""

    rows: tuple[int, ...]  # P
    logits_BPJ: Tensor  # float32, -inf where a row has fewer legal ids than J
    ids_PJ: Tensor  # int64, the id of each logit; `<none>` where there is none


class Stepper:
    """Reads steps of a batch of documents, and predicts the next one.

    Args:
        model: a causal one.
        batch: B, documents that go in lockstep.
        max_steps: T, the most steps that will be read.
    """

    def __init__(self, model: "Model", batch: int, max_steps: int):
        self._model = model
        self._cache = model.decoder.new_cache(batch, max_steps)
        self._hidden_BD = torch.zeros(0)

    @property
    def length(self) -> int:
        """Steps that were read."""
        return self._cache.length

    def feed(self, ids_BTR: Tensor) -> None:
        """Reads the next T steps, on any device."""
        self._hidden_BD = self._model.decoder.step(ids_BTR.to(self._model.device), self._cache)[:, -1]

    def passes(self, legal_R: Sequence[int], ids_BR: Tensor) -> Iterator[Pass]:
        """The distributions of the next step, as far as rows are drawn.

        Args:
            legal_R: the legal set of each row, 0 where nothing is drawn.
            ids_BR: the cells of the step; with a depth head, those of the rows before a pass are read when it is asked
                for.
        """
        drawn = [row for row, legal in enumerate(legal_R) if legal]
        if not drawn:
            return
        head, depth = self._model.head, self._model.depth
        if depth is None:
            yield self._pass(drawn, [head.logits(self._hidden_BD, legal_R[row]) for row in drawn], legal_R)
            return
        first = depth.rows[0]
        if first in drawn:
            yield self._pass([first], [head.logits(self._hidden_BD, legal_R[first])], legal_R)
        if drawn[-1] == first:
            return
        for row, h_BE in depth.in_turn(self._hidden_BD, ids_BR):
            if legal_R[row]:
                yield self._pass([row], [depth.logits(h_BE, legal_R[row])], legal_R)
            if row == drawn[-1]:
                return

    def _pass(self, rows: Sequence[int], logits: Sequence[Tensor], legal_R: Sequence[int]) -> Pass:
        sets: list[LegalSet] = [self._model.head.legal_sets[legal_R[row]] for row in rows]
        most = max(legal.size for legal in sets)
        none = self._model.vocabulary.id("<none>")
        logits_BPJ = torch.full((len(logits[0]), len(rows), most), NOTHING, device=logits[0].device)
        ids_PJ = torch.full((len(rows), most), none, device=logits[0].device)
        for p, (legal, logits_BJ) in enumerate(zip(sets, logits, strict=True)):
            logits_BPJ[:, p, : legal.size] = logits_BJ
            ids_PJ[p, : legal.size] = legal.ids(torch.arange(legal.size, device=ids_PJ.device))
        return Pass(tuple(rows), logits_BPJ, ids_PJ)

    def select(self, indices_B: Tensor) -> None:
        """Goes on with these entries of the batch, in this order; one may occur several times."""
        self._cache = self._cache.select(indices_B)
        self._hidden_BD = self._hidden_BD[indices_B.to(self._hidden_BD.device)]
