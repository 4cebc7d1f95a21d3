"""Bits of models that predict in place: what a level costs once all levels below it are known.

    "levels"   exact: each level is predicted at one go, ln p = sum over levels of ln p(level q | levels below)
    "masked"   a bound: codes of a level may be drawn in any order, and no order has the likelihood of all. For a random
               order, -ln p(level) is at most the mean of

                   (frames / masked) x sum over the masked frames of -ln p(code | what is shown)

               over masks of 1 to all frames, each number as likely (Hoogeboom et al., 2022, arXiv:2110.02037)

The mean is estimated from `DRAWS` masks of each level of each document; what it bounds lies below, up to the interval
given (95 %, Student's t over draws). One forward pass of the held-out set a level and draw.

Shapes: N steps, R rows, M cells, J legal ids of a cell.
"""

import math
from typing import Any

from hocket.data import Batch, Corpus, Mixture, one_pass
from hocket.model import Model
from hocket.training.bits import Nats, bits_per_second
from hocket.training.objectives import Masking, Objective, loading_options, predicted_levels

DRAWS = 8
STUDENT_95 = 2.365  # for 8 draws


def sum_nats_in_place(
    model: Model, valid: Corpus | Mixture, stream: str, seconds: float, **options: Any
) -> tuple[Nats, float | None]:
    """Nats of all levels that are predicted, and half of the interval in bits a second; None where they are exact.

    Args:
        stream: whose codes count as audio.
        seconds: of audio.
        options: of a single pass: batch_steps, context, missing.
    """
    is_exact = model.stage.objective == "levels"
    drawn = [_draw(model, valid, number, is_exact, options) for number in range(1 if is_exact else DRAWS)]
    mean = Nats()
    for nats in drawn:
        for block, value in nats.total.items():
            mean.total[block] += value / len(drawn)
            mean.cells[block] = nats.cells[block]
    if is_exact:
        return mean, None
    totals = [bits_per_second(n, stream, model.layout.streams[stream], seconds)["total"] for n in drawn]
    centre = sum(totals) / DRAWS
    deviation = math.sqrt(sum((total - centre) ** 2 for total in totals) / (DRAWS - 1))
    return mean, STUDENT_95 * deviation / math.sqrt(DRAWS)


def _draw(model: Model, valid: Corpus | Mixture, number: int, is_exact: bool, options: dict[str, Any]) -> Nats:
    """Nats of every level with one mask a document; their mean over draws is the bound."""
    levels, nats = predicted_levels(model.stage, model.vocabulary), Nats()
    for index in range(len(levels)):
        masking = Masking(schedule="all" if is_exact else "linear", prompt=0.0, level=index, scaled=True)
        hide = loading_options(model.stage, Objective(levels=levels, masking=masking))
        seed = number * len(levels) + index
        for batch in one_pass(valid, model.layout, model.vocabulary, seed=seed, **hide, **options):
            _add(nats, model, batch.to(model.device))
    return nats


def _add(nats: Nats, model: Model, batch: Batch) -> None:
    assert batch.target_NR is not None
    x_ND = model.hidden(batch.ids_NR, batch.cu_seqlens)
    for index, legal in enumerate(model.head.legal_sets):
        step, row = (batch.legal_NR == index).nonzero(as_tuple=True)
        if index == 0 or not len(step):
            continue
        position_M1 = legal.position(batch.target_NR[step, row])[:, None]
        logp_M = model.head.log_probabilities(x_ND[step], index).gather(1, position_M1)[:, 0].double()
        weight_M = batch.weight_NR[step, row].double()
        nats.total[legal.block] -= float((weight_M * logp_M).sum())
        nats.cells[legal.block] += round(float(weight_M.sum()))
