"""Nats of every document of a packed batch, by block: exact, or a bound where codes are predicted in place.

    "next-token"   exact, from `Model.distributions`; a depth head sees the rows before
    "levels"       exact: each level is predicted at one go, ln p = sum over levels of ln p(level q | levels below)
    "masked"       a bound: codes of a level may be drawn in any order, and no order has the likelihood of all. For a
                   random order, -ln p(level) is at most the mean of

                       (frames / masked) x sum over the masked frames of -ln p(code | what is shown)

                   over masks of 1 to all frames, each number as likely (Hoogeboom et al., 2022, arXiv:2110.02037)

The mean is estimated from `DRAWS` masks of each level of each document, drawn from the seed and the example alone, so
that neither the batch nor its neighbours matter. Probabilities are over the ids that a cell may legally hold. Memory
beside the model's own: three times the cells of the largest legal set times its ids, in float32. One forward pass a
batch; for "levels" one a level, for "masked" one a level and draw.

Shapes: N steps, M cells, J legal ids of a cell, D documents, 4 columns of a tally.
"""

from collections import defaultdict
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from hocket.data import Batch
from hocket.interleave import PlanBatch
from hocket.model import Model
from hocket.model.heads import LegalSet
from hocket.training.bits import has_choice, structure_nats
from hocket.training.objectives import Masking, Objective, predicted_levels

DRAWS = 8
CODES, STRUCTURE, TOKENS, CELLS = range(4)
Found = dict[str, np.ndarray]  # float64 [D, 4] by block
LayOut = Callable[[int], Batch]
"""The batch with what a draw hides; draws are numbered from 0."""


class LevelHider:
    """Hides one level after another: what a loader takes as `hide`; `now` is the level that is hidden next."""

    def __init__(self, model: Model):
        levels = predicted_levels(model.stage, model.vocabulary)
        schedule = "all" if model.stage.objective == "levels" else "linear"
        maskings = [Masking(schedule=schedule, prompt=0.0, level=i, scaled=True) for i in range(len(levels))]
        self.objectives = [Objective(levels=levels, masking=masking) for masking in maskings]
        self.now = 0

    def __call__(self, batch: Batch, plan: PlanBatch, seeds: Sequence[int]) -> Batch:
        return self.objectives[self.now](batch, plan, seeds)


def count_draws(model: Model) -> int:
    """Masks of each level that are drawn: 1 where one pass is exact, 0 for next-token."""
    return {"next-token": 0, "levels": 1}.get(model.stage.objective, DRAWS)


def measure_next_token(model: Model, batch: Batch) -> Found:
    """Exact nats by block of each document."""
    found = _none(batch)
    for index, step_M, row_M, logp_MJ in model.distributions(batch):
        legal, target_M = model.head.legal_sets[index], batch.ids_NR[step_M, row_M]
        own_M = -logp_MJ.gather(1, legal.position(target_M)[:, None])[:, 0].double()
        chosen_M = torch.zeros_like(own_M)
        if has_choice(legal, model.vocabulary):
            chosen_M = structure_nats(logp_MJ, target_M, legal, model.vocabulary)
        columns = [own_M - chosen_M, chosen_M, _is_code(model, legal, target_M), torch.ones_like(own_M)]
        _add(found[legal.block], batch, step_M, columns)
    return dict(found)


def measure_in_place(model: Model, lay_out: LayOut, hider: LevelHider, n_draws: int) -> tuple[Found, np.ndarray]:
    """Mean nats by block of each document over draws, and the sum over blocks of each draw: float64 `[draws, D]`."""
    total: Found = {}
    drawn = []
    for number in range(n_draws):
        found: Found = {}
        for level in range(len(hider.objectives)):
            hider.now = level
            batch = lay_out(number * len(hider.objectives) + level).to(model.device)
            for block, columns_D4 in _measure_level(model, batch).items():
                found[block] = found.get(block, 0) + columns_D4
        drawn.append(sum(columns_D4[:, CODES] for columns_D4 in found.values()))
        total = {block: total.get(block, 0) + columns_D4 / n_draws for block, columns_D4 in found.items()}
    return total, np.stack(drawn)


def _measure_level(model: Model, batch: Batch) -> Found:
    """Nats of what is hidden, each cell by its weight."""
    assert batch.target_NR is not None
    found, x_ND = _none(batch), model.hidden(batch.ids_NR, batch.cu_seqlens)
    for index in batch.legal_NR.unique().tolist():
        if not index:
            continue
        legal = model.head.legal_sets[index]
        step_M, row_M = (batch.legal_NR == index).nonzero(as_tuple=True)
        position_M1 = legal.position(batch.target_NR[step_M, row_M])[:, None]
        own_M = -model.head.log_probabilities(x_ND[step_M], index).gather(1, position_M1)[:, 0].double()
        weight_M = batch.weight_NR[step_M, row_M].double()
        _add(found[legal.block], batch, step_M, [weight_M * own_M, torch.zeros_like(own_M), weight_M, weight_M])
    return dict(found)


def _none(batch: Batch) -> "defaultdict[str, np.ndarray]":
    n_documents = batch.n_documents
    return defaultdict(lambda: np.zeros((n_documents, 4)))


def _is_code(model: Model, legal: LegalSet, target_M: Tensor) -> Tensor:
    """1 for cells that hold a code of the set's block, 0 for ends and markers."""
    if legal.block.startswith("<"):
        return torch.zeros(len(target_M), dtype=torch.float64, device=target_M.device)
    block = model.vocabulary[legal.block]
    return ((target_M >= block.start) & (target_M < block.stop)).double()


def _add(sums_D4: np.ndarray, batch: Batch, step_M: Tensor, columns: Sequence[Tensor]) -> None:
    """Adds columns of cells to those of the documents that they are in."""
    document_M = torch.searchsorted(batch.cu_seqlens, step_M, right=True) - 1
    np.add.at(sums_D4, document_M.cpu().numpy(), torch.stack(list(columns), dim=1).cpu().numpy())
