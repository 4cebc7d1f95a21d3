"""A model that is certain of the rule of `oracles.py`, and reads it from the cells that it was fed.

Shapes: B batch, T steps, R rows, P rows of a pass, J legal ids.
"""

from collections.abc import Iterator, Sequence

import torch

from hocket.model import Model
from hocket.model.stepping import NOTHING, Pass, Stepper
from tests.inference.oracles import Truth, decide, mix


class OracleStepper(Stepper):
    """Stands in for the model's own: certain of what the rule makes of the cells that it was fed.

    Where a document does not draw a cell that others of the batch do, or draws one in vain beside an end, the answer is
    noise.
    """

    def __init__(self, model: Model, truths: Sequence[Truth], batch: int, max_steps: int):
        assert batch == len(truths)
        self._model, self._most, self.truths = model, max_steps, list(truths)
        self._fast = None
        self.fed_BTR = torch.zeros(batch, 0, model.layout.n_rows, dtype=torch.int64)
        self._offsets = {name: model.vocabulary.offsets(name) for name in model.layout.streams}
        self._noise = torch.Generator().manual_seed(0)

    @property
    def length(self) -> int:
        return self.fed_BTR.shape[1]

    @property
    def max_steps(self) -> int:
        return self._most

    def feed(self, ids_BTR: torch.Tensor) -> None:
        assert self.length + ids_BTR.shape[1] <= self.max_steps
        self.fed_BTR = torch.cat([self.fed_BTR, ids_BTR.cpu()], dim=1)
        for truth, fed_TR in zip(self.truths, self.fed_BTR, strict=True):
            copies, primary = truth.sight.plan.copies
            flat, is_there = fed_TR.flatten(), copies < fed_TR.numel()
            assert torch.equal(flat[copies[is_there]], flat[primary[is_there]]), "a copy shows something else"

    def select(self, indices_B: torch.Tensor) -> None:
        self.fed_BTR = self.fed_BTR[indices_B]
        self.truths = [self.truths[i] for i in indices_B.tolist()]

    def passes(self, legal_R: Sequence[int], ids_BR: torch.Tensor) -> Iterator[Pass]:
        drawn = [row for row, legal in enumerate(legal_R) if legal]
        for rows in [drawn] if self._model.depth is None else [[row] for row in drawn]:
            sets = [self._model.head.legal_sets[legal_R[row]] for row in rows]
            most = max(legal.size for legal in sets)
            logits_BPJ = torch.full((len(self.truths), len(rows), most), NOTHING)
            ids_PJ = torch.full((len(rows), most), self._model.vocabulary.id("<none>"))
            for p, (row, legal) in enumerate(zip(rows, sets, strict=True)):
                ids_PJ[p, : legal.size] = legal.ids(torch.arange(legal.size))
                logits_BPJ[:, p, : legal.size] = torch.rand(len(self.truths), legal.size, generator=self._noise)
                for b in range(len(self.truths)):
                    wanted = self._wanted(b, ids_BR[b].cpu(), row, legal_R[row])
                    logits_BPJ[b, p] += 50 * (ids_PJ[p] == wanted)
            yield Pass(tuple(rows), logits_BPJ, ids_PJ)

    def _wanted(self, b: int, ids_R: torch.Tensor, row: int, legal: int) -> int:
        """The id that the rule puts into a cell, from what was fed; -1 where the document draws no such cell."""
        sight, vocabulary, step = self.truths[b].sight, self._model.vocabulary, self.length
        plan = sight.plan
        if step >= plan.n_steps or plan.legal_TR[step, row] != legal:
            return -1
        cell, flat = step * plan.n_rows + row, torch.cat([self.fed_BTR[b].flatten(), ids_R]).numpy()
        ended = [name for name in sight.seen_ends(cell) if flat[sight.ends[name]] == vocabulary.id(f"<end.{name}>")]
        frame, place = int(plan.frame_TR[step, row]), plan.layout.legal_cells[legal]
        stream, level = place or ("", 0)
        seen = [(n, t, k, int(flat[c]) - self._offsets[n][k]) for c, n, t, k in sight.around(cell, frame)]
        number = mix(list(plan.levels), stream, frame, level, seen, ended)
        may_end, switches = self.truths[b].options.get(cell, ("", ()))
        if cell in self.truths[b].options and (token := decide(number, may_end, switches)):
            return vocabulary.id(token)
        return self._offsets[stream][level] + number % vocabulary.sizes(stream)[level] if stream else -1
