"""Matrix products of one step: few states times large weights, which cost what reading the weights costs.

    states   form        how                                                        of 0.79 MB    of 6.6 MB
    1        bag         a sum of weight rows, weighted by the state, by FBGEMM     24 us         205 us
    2 to …   prepacked   oneDNN, weights reordered once                             38 us (2)     650 us (8)
    any      plain       `F.linear` (MKL)                                           66, 69, 103   453, 1,720 (8)

(One thread of an AMD EPYC Turin, float32, weights that are in no cache; `sum` over the same bytes, which is how fast
memory is read at all, takes 24 and 193 us.) `F.linear` reads memory at a third of its speed for one state. A bag sees
the product as an embedding: y = sum of x[i] W[:, i], rows of the transposed weights with the state as weights of the
sum, and FBGEMM's embedding kernels prefetch.

Both fast forms hold a copy of the weights in their own order. Other devices take the plain form.

Shapes: B states, I width of a state, O width of a product.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

Product = Callable[[Tensor], Tensor]
"""States `[B, I]` to `[B, O]`."""
BAG_DTYPES = (torch.float32, torch.bfloat16, torch.float16)
SUM = 0  # torch.embedding_bag's mode


def product(weight_OI: Tensor, batch: int) -> Product:
    """States times these weights, transposed, in the form that is fastest for B states on the weights' device."""
    if is_bag(weight_OI, batch):
        return BagProduct(weight_OI)
    if weight_OI.device.type == "cpu" and weight_OI.dtype in (torch.float32, torch.bfloat16) and _has_prepacking():
        return PrepackedProduct(weight_OI, batch)
    return PlainProduct(weight_OI)


def is_bag(weight_OI: Tensor, batch: int) -> bool:
    """A single state on the CPU takes a bag."""
    return batch == 1 and weight_OI.device.type == "cpu" and weight_OI.dtype in BAG_DTYPES


class PlainProduct:
    """`F.linear`."""

    def __init__(self, weight_OI: Tensor):
        self._weight_OI = weight_OI

    def __call__(self, x_BI: Tensor) -> Tensor:
        return F.linear(x_BI, self._weight_OI)


class PrepackedProduct:
    """oneDNN with weights that are reordered once, as `torch.compile` does."""

    def __init__(self, weight_OI: Tensor, batch: int):
        self._packed = torch.ops.mkldnn._reorder_linear_weight(weight_OI.contiguous(), batch)

    def __call__(self, x_BI: Tensor) -> Tensor:
        return torch.ops.mkldnn._linear_pointwise(x_BI, self._packed, None, "none", [], "")


class BagProduct:
    """A sum of weight rows, weighted by the one state; with several threads each sums a part of the columns."""

    def __init__(self, weight_OI: Tensor):
        n_out, n_in = weight_OI.shape
        self._parts = max(n for n in range(1, torch.get_num_threads() + 1) if n_out % n == 0)
        self._rows = weight_OI.unflatten(0, (self._parts, -1)).transpose(1, 2).flatten(0, 1).contiguous()
        self._indices = torch.arange(self._parts * n_in)
        self._offsets = torch.arange(self._parts) * n_in

    def __call__(self, x_1I: Tensor) -> Tensor:
        x = x_1I.view(-1) if self._parts == 1 else x_1I.repeat(1, self._parts).view(-1)
        y = torch.embedding_bag(self._rows, self._indices, self._offsets, False, SUM, False, x)[0]
        return y.view(1, -1)


def _has_prepacking() -> bool:
    return torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_reorder_linear_weight")
