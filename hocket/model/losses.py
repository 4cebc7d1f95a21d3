"""Cross-entropy of a linear layer over ranges of ids, without the logits.

The logits of a micro-batch are far larger than the states that they come from: 4,096 steps x 48,384 ids are 793 MB in
float32, and autograd keeps them twice. Here cells with the same legal ids are taken together and cut into chunks:

    cells, sorted by legal set   | set 1    | set 2          | set 3 |
    chunks                       [    ][    ][    ][    ][   ][      ]

For each chunk the logits are made, turned into the loss and at once into the gradients of states and weights, and
overwritten by the next chunk. Backward only scales these gradients. So nothing of the size of the logits outlives a
chunk, no product is computed twice, and the gradient of the weights is one buffer (autograd adds up one of full size
for each slice of the weights).

The z-loss adds `z_loss * log(Z)^2` to each cell (PaLM, Chowdhery et al., 2022): it keeps log(Z) near 0, so that
bfloat16 logits stay precise.

Precision: products in the dtype of the states (of autocast, where it is on); softmax, loss and the sums of gradients
in float32 (float64 for float64). On CUDA the softmax of a chunk is one Triton kernel where `liger-kernel` is installed.

Shapes: N states, R rows, M cells, D width, V rows of the output matrix, S legal sets, J ids of a cell, C cells of a
chunk.
"""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from hocket.model.liger import is_installed, liger_softmax

Ranges = Sequence[tuple[int, int]]
"""Half-open ranges of rows of the output matrix: what a cell may hold, in the order of its logits."""

CHUNK_ELEMENTS = {"cpu": 2**21, "cuda": 2**26}
"""Logits of a chunk by kind of device, unless `MIN_CHUNK_CELLS` cells have more."""
MIN_CHUNK_CELLS = 128
"""Cells of a chunk at least: with fewer, a product is bound by reading the weights."""
PART_ROWS = 8192
"""Rows of the output matrix in one product: what a product makes besides logits is no longer."""


@dataclass
class CellLoss:
    """Sums over the cells of a micro-batch."""

    total: Tensor  # scalar, sum of weight x (cross-entropy in nats + z-loss)
    ce_S: Tensor  # sum of cross-entropy by legal set, detached, unweighted, without z-loss
    count_S: Tensor  # float32, cells by legal set


def cells_cross_entropy(
    x_ND: Tensor,
    weight_VD: Tensor,
    target_NR: Tensor,
    legal_NR: Tensor,
    weight_NR: Tensor,
    ranges_S: Sequence[Ranges],
    *,
    z_loss: float = 0.0,
) -> CellLoss:
    """Cross-entropy of cells, each over the rows of `weight_VD` that its legal set names.

    The host waits for the device once. Both `x_ND` and `weight_VD` get a gradient (of zeros) even without any cell.

    Args:
        x_ND: the states; the R cells of a row of `target_NR` are predicted from the same state.
        target_NR: rows of `weight_VD`, within the legal ranges.
        legal_NR: index into `ranges_S`; cells of a set without ranges (set 0) are left out.
        weight_NR: what each cell counts in the total.
        ranges_S: the ranges of each legal set.
        z_loss: coefficient of log(Z)^2.
    """
    return CellLoss(*_call(x_ND, weight_VD, target_NR, legal_NR, weight_NR, ranges_S, z_loss))


def positions(ranges: Ranges, ids: Tensor) -> Tensor:
    """Where ids stand among the ids of the ranges; -1 for an id in none of them."""
    found, before = torch.full_like(ids, -1), 0
    for a, b in ranges:
        found = torch.where((ids >= a) & (ids < b), ids - a + before, found)
        before += b - a
    return found


def size_of(ranges: Ranges) -> int:
    """Ids in the ranges."""
    return sum(b - a for a, b in ranges)


def chunk_cells(n_cells: int, n_ids: int, device: str) -> int:
    """Cells of a chunk: as many as the bound allows, all chunks about equal."""
    most = max((CHUNK_ELEMENTS["cpu"] if device == "cpu" else CHUNK_ELEMENTS["cuda"]) // n_ids, MIN_CHUNK_CELLS)
    n_chunks = -(-n_cells // most)
    return -(-n_cells // n_chunks)


@dataclass(frozen=True)
class _Group:
    """Neighbouring cells, `start` to `stop`, with the same legal ids."""

    start: int
    stop: int
    ranges: tuple[tuple[int, int], ...]


def _sort(legal_M: Tensor, n_sets: int) -> tuple[Tensor, Tensor]:
    """Cells in the order of their legal set, and how many each set has, by operations of fixed shapes."""
    sorted_M, order_M = legal_M.sort(stable=True)
    bounds = torch.searchsorted(sorted_M, torch.arange(n_sets + 1, device=legal_M.device, dtype=legal_M.dtype))
    return order_M, bounds.diff()


def _unflatten(edges: Sequence[int], n_ranges_S: Sequence[int]) -> list[Ranges]:
    pairs = iter(zip(edges[::2], edges[1::2], strict=True))
    return [tuple(itertools.islice(pairs, n)) for n in n_ranges_S]


def _merge(ranges_S: Sequence[Ranges], counts: Sequence[int]) -> list[_Group]:
    """A group for each set that has cells; neighbouring sets with the same ranges are one."""
    groups: list[_Group] = []
    stops = list(itertools.accumulate(counts))
    for ranges, count, stop in zip(ranges_S, counts, stops, strict=True):
        start, legal = stop - count, tuple(ranges)
        if not (count and legal):
            continue
        if groups and groups[-1].ranges == legal and groups[-1].stop == start:
            groups[-1] = _Group(groups[-1].start, stop, legal)
        else:
            groups.append(_Group(start, stop, legal))
    return groups


def _call(
    x_ND: Tensor,
    weight_VD: Tensor,
    target_NR: Tensor,
    legal_NR: Tensor,
    weight_NR: Tensor,
    ranges_S: Sequence[Ranges],
    z_loss: float,
) -> tuple[Tensor, Tensor, Tensor]:
    kind = x_ND.device.type
    total, ce_S, count_S, _, _ = _operator(
        x_ND,
        weight_VD,
        target_NR,
        legal_NR,
        weight_NR,
        [number for ranges in ranges_S for a, b in ranges for number in (a, b)],
        [len(ranges) for ranges in ranges_S],
        z_loss,
        torch.get_autocast_dtype(kind)
        if torch.is_autocast_enabled(kind)
        else torch.promote_types(x_ND.dtype, weight_VD.dtype),
        torch.is_grad_enabled() and x_ND.requires_grad,
        torch.is_grad_enabled() and weight_VD.requires_grad,
    )
    return total, ce_S, count_S


@torch.library.custom_op("hocket::linear_cross_entropy", mutates_args=())
def _operator(
    x_ND: Tensor,
    weight_VD: Tensor,
    target_NR: Tensor,
    legal_NR: Tensor,
    weight_NR: Tensor,
    edges: Sequence[int],
    n_ranges_S: Sequence[int],
    z_loss: float,
    dtype: torch.dtype,
    wants_x: bool,
    wants_weight: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Total, sums by legal set, cells by legal set, and the gradients of the total: an operator of its own, so that a
    compiled model contains it as it is, though its chunks depend on the data."""
    ranges_S = _unflatten(edges, n_ranges_S)
    order_M, count_S = _sort(legal_NR.reshape(-1), len(ranges_S))
    counts = count_S.tolist()
    cells = _Cells(
        torch.div(order_M, target_NR.shape[1], rounding_mode="floor"),
        target_NR.reshape(-1)[order_M],
        weight_NR.reshape(-1)[order_M],
    )
    with torch.amp.autocast(x_ND.device.type, enabled=False):
        work = _Work(x_ND, weight_VD, dtype, z_loss, wants_x, wants_weight)
        total, ce_M = work.run(cells, _merge(ranges_S, counts))
    ce_S = torch.stack([ce.sum() for ce in ce_M.split(counts)])
    return total, ce_S, count_S.float(), work.grad_x_ND, work.grad_weight_VD


@_operator.register_fake
def _(x_ND, weight_VD, target_NR, legal_NR, weight_NR, edges, n_ranges_S, z_loss, dtype, wants_x, wants_weight):
    precise, n_sets = torch.promote_types(dtype, torch.float32), len(n_ranges_S)
    return (
        x_ND.new_empty((), dtype=precise),
        x_ND.new_empty(n_sets, dtype=precise),
        x_ND.new_empty(n_sets, dtype=torch.float32),
        x_ND.new_empty(x_ND.shape if wants_x else 0, dtype=precise),
        x_ND.new_empty(weight_VD.shape if wants_weight else 0, dtype=weight_VD.dtype),
    )


def _keep(ctx, inputs, output) -> None:
    ctx.mark_non_differentiable(*output[1:])
    ctx.save_for_backward(*output[3:])
    ctx.dtypes = inputs[0].dtype, inputs[1].dtype
    ctx.set_materialize_grads(False)


def _scale(ctx, grad_total, *_):
    needed = zip(ctx.needs_input_grad, ctx.saved_tensors, ctx.dtypes, strict=False)
    grads = [_scaled(grad, grad_total, dtype) if needs else None for needs, grad, dtype in needed]
    return *grads, *[None] * 9


def _scaled(grad: Tensor, by: Tensor, dtype: torch.dtype) -> Tensor:
    if torch.compiler.is_compiling():
        return (grad * by).to(dtype)
    return grad.mul_(by).to(dtype)  # no second buffer of the size of the weights


_operator.register_autograd(_scale, setup_context=_keep)


@dataclass(frozen=True)
class _Cells:
    """Cells in the order of their legal set."""

    step_M: Tensor  # index of the state that predicts the cell
    target_M: Tensor
    weight_M: Tensor


@dataclass(frozen=True)
class _Part:
    """Some rows of the output matrix."""

    start: int
    stop: int
    weight_JD: Tensor  # in the dtype of the products
    grad_JD: Tensor

    @property
    def size(self) -> int:
        return self.stop - self.start


class _Work:
    """One pass over all chunks, and the gradients that it adds up."""

    def __init__(
        self, x_ND: Tensor, weight_VD: Tensor, dtype: torch.dtype, z_loss: float, wants_x: bool, wants_weight: bool
    ):
        self.x_ND, self.weight_VD, self.dtype, self.z_loss = x_ND, weight_VD, dtype, z_loss
        self.wants_x, self.wants_weight = wants_x, wants_weight
        self.precise = torch.promote_types(dtype, torch.float32)
        fused = x_ND.device.type == "cuda" and self.precise == torch.float32 and is_installed()
        self.softmax = liger_softmax if fused else torch_softmax
        self.grad_x_ND = x_ND.new_zeros(x_ND.shape if wants_x else 0, dtype=self.precise)
        self.grad_weight_VD = x_ND.new_zeros(weight_VD.shape if wants_weight else 0, dtype=weight_VD.dtype)

    def run(self, cells: _Cells, groups: Sequence[_Group]) -> tuple[Tensor, Tensor]:
        """The weighted total and the cross-entropy of each cell."""
        weight_M = cells.weight_M.to(self.precise)
        ce_M = torch.zeros_like(weight_M)
        total = ce_M.new_zeros(())
        for group in groups:
            parts = [self._part(a, b) for a, b in _split(group.ranges)]
            for chunk in _chunks(group, self.x_ND.device.type):
                position_C = positions(group.ranges, cells.target_M[chunk])
                loss_C, ce_M[chunk] = self._chunk(cells.step_M[chunk], position_C, weight_M[chunk], parts)
                total += torch.dot(loss_C, weight_M[chunk])
            if self.wants_weight and self.weight_VD.dtype != self.precise:
                for part in parts:
                    self.grad_weight_VD[part.start : part.stop] += part.grad_JD
        return total, ce_M

    def _part(self, start: int, stop: int) -> _Part:
        """Some rows; their gradient is added up in float32, in place where the weights are float32."""
        grad_JD = self.grad_weight_VD[start:stop]
        if self.wants_weight and self.weight_VD.dtype != self.precise:
            grad_JD = torch.zeros_like(grad_JD, dtype=self.precise)
        return _Part(start, stop, self.weight_VD[start:stop].to(self.dtype), grad_JD)

    def _chunk(
        self, step_C: Tensor, position_C: Tensor, weight_C: Tensor, parts: Sequence[_Part]
    ) -> tuple[Tensor, Tensor]:
        x_CD = self.x_ND.index_select(0, step_C).to(self.dtype)
        logits_CJ = x_CD.new_empty(len(x_CD), sum(part.size for part in parts))
        for part, columns_CJ in _columns(logits_CJ, parts):
            torch.mm(x_CD, part.weight_JD.T, out=columns_CJ)
        wants = self.wants_x or self.wants_weight
        loss_C, ce_C = self.softmax(logits_CJ, position_C, self.z_loss, wants)
        if wants:
            self._add_gradients(x_CD, step_C, weight_C, logits_CJ, parts)
        return loss_C, ce_C

    def _add_gradients(
        self,
        x_CD: Tensor,
        step_C: Tensor,
        weight_C: Tensor,
        grad_CJ: Tensor,
        parts: Sequence[_Part],
    ) -> None:
        """From the gradients of the logits, unweighted: the cells' weights are multiplied into the narrower side."""
        if self.wants_x:
            grad_CD = torch.zeros_like(x_CD, dtype=self.precise)
            for part, columns_CJ in _columns(grad_CJ, parts):
                self._add_product(grad_CD, columns_CJ, part.weight_JD)
            self.grad_x_ND.index_add_(0, step_C, grad_CD.mul_(weight_C[:, None]))
        if self.wants_weight:
            weighted_CD = x_CD.mul_(weight_C[:, None].to(self.dtype))
            for part, columns_CJ in _columns(grad_CJ, parts):
                self._add_product(part.grad_JD, columns_CJ.T, weighted_CD)

    def _add_product(self, total: Tensor, a: Tensor, b: Tensor) -> None:
        """Adds a @ b in float32, whatever the dtype of the factors."""
        if self.dtype == self.precise:
            total.addmm_(a, b)
        else:
            total.add_(a @ b)


def _split(ranges: Ranges) -> Iterator[tuple[int, int]]:
    """The ranges, cut to `PART_ROWS` at most."""
    for start, stop in ranges:
        for a in range(start, stop, PART_ROWS):
            yield a, min(a + PART_ROWS, stop)


def _chunks(group: _Group, device: str) -> Iterator[slice]:
    size = chunk_cells(group.stop - group.start, size_of(group.ranges), device)
    for start in range(group.start, group.stop, size):
        yield slice(start, min(start + size, group.stop))


def _columns(logits_CJ: Tensor, parts: Sequence[_Part]) -> Iterator[tuple[_Part, Tensor]]:
    """Each part with its logits."""
    return zip(parts, logits_CJ.split([part.size for part in parts], dim=1), strict=True)


def torch_softmax(logits_CJ: Tensor, position_C: Tensor, z_loss: float, wants_gradient: bool) -> tuple[Tensor, Tensor]:
    """Cross-entropy with and without z-loss `[C]` of each cell; the logits become their gradients.

    d(ce) / d(logits) is p - onehot, and with the z-loss (1 + 2 z log(Z)) p - onehot.
    """
    position_C1 = position_C[:, None]
    target_C1 = logits_CJ.gather(1, position_C1)
    precise = torch.promote_types(logits_CJ.dtype, torch.float32)
    logp_CJ = F.log_softmax(logits_CJ, dim=1, dtype=precise)
    ce_C1 = -logp_CJ.gather(1, position_C1)
    z_C1 = z_loss * (target_C1 + ce_C1)
    if wants_gradient:
        torch.exp(logp_CJ, out=logits_CJ)
        at_target_C1 = torch.expm1(-ce_C1)
        if z_loss:
            logits_CJ.mul_(1 + 2 * z_C1)
            at_target_C1 += 2 * z_C1 * torch.exp(-ce_C1)
        logits_CJ.scatter_(1, position_C1, at_target_C1.to(logits_CJ.dtype))
    loss_C1 = ce_C1 + z_C1 * (target_C1 + ce_C1) if z_loss else ce_C1
    return loss_C1[:, 0], ce_C1[:, 0]
