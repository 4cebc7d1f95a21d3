"""The weights of a model in the order in which steps read them: a second copy, kept while the model lives.

Making it costs about as much as 10 to 20 steps, so it is kept for the next time; whether the model still has the same
weights is asked of the weights themselves, by their sums: that costs about one step. Models of more than
`MOST_PREPARED` bytes are read as they lie.
"""

from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from hocket.model.products import is_bag
from hocket.model.set_products import SetProducts
from hocket.model.steps import DepthWeights, TrunkWeights

if TYPE_CHECKING:
    from hocket.model.model import Model

MOST_PREPARED = 2**31
"""Bytes of weights that are copied."""
Mark = tuple[object, ...]


class PreparedWeights:
    """All of a model's weights, for steps of B documents.

    Args:
        batch: B; the form is one for a single document and another for several.
    """

    def __init__(self, model: "Model", batch: int):
        self.trunk = TrunkWeights(model.decoder, batch)
        self.depth = None if model.depth is None else DepthWeights(model.depth, batch)
        later = {} if self.depth is None else self.depth.places
        fixed = model.layout.find_levels(model.given)
        cells = zip(model.layout.legal_cells, model.head.legal_sets, strict=True)
        led = [i for i, (cell, legal) in enumerate(cells) if legal.ranges and i not in later and cell not in fixed]
        weight_VD = model.head.weight.detach()
        ranges = [model.head.legal_sets[index].ranges for index in led]
        self._places = {index: s for s, index in enumerate(led)}
        self._products = SetProducts([torch.cat([weight_VD[a:b] for a, b in pairs]) for pairs in ranges], batch)

    def logits(self, hidden_BD: Tensor, sets: tuple[int, ...]) -> Tensor:
        """Logits `[B, P, J]` of legal sets from the trunk's states."""
        return self._products(hidden_BD, tuple([self._places[legal] for legal in sets]))


_kept: "WeakKeyDictionary[Model, tuple[Mark, PreparedWeights]]" = WeakKeyDictionary()


def prepare(model: "Model", batch: int) -> PreparedWeights | None:
    """The prepared weights of a model, made anew when its weights changed; None where it is too large for a copy."""
    if sum(p.nbytes for p in model.parameters()) > MOST_PREPARED:
        return None
    mark = _mark(model, batch)
    if model not in _kept or _kept[model][0] != mark:
        _kept.pop(model, None)  # its memory, before the next takes as much
        _kept[model] = mark, PreparedWeights(model, batch)
    return _kept[model][1]


def _mark(model: "Model", batch: int) -> Mark:
    """Changes when a weight does, whoever changed it."""
    sums = torch.stack([p.detach().float().sum() for p in model.parameters()]).tolist()
    return (
        is_bag(model.head.weight, batch),
        torch.get_num_threads(),
        str(model.device),
        model.head.weight.dtype,
        *sums,
    )
