import pytest
import torch
import torch.nn.functional as F
from torch.profiler import ProfilerActivity, profile

from hocket.model import losses
from hocket.model.heads import LegalSet, ParallelHead
from hocket.model.liger import liger_softmax
from hocket.model.losses import cells_cross_entropy, torch_softmax

STEPS, ROWS, WIDTH, IDS = 48, 3, 16, 100
TABLES = {
    "one range": [(), ((10, 50),)],
    "an end and a block": [(), ((3, 4), (10, 50))],
    "out of order": [(), ((90, 100), (0, 5), (40, 41))],
    "sets share ids": [(), ((3, 4), (10, 50)), ((3, 4), (50, 100)), ((10, 50),)],
    "neighbours alike": [(), ((0, 100),), ((0, 100),), ((7, 9),)],
    "one id": [(), ((5, 6),), ((0, 100),)],
    "a set without cells": [(), ((0, 30),), (), ((30, 100),), ()],
}


def ids_of(ranges) -> torch.Tensor:
    return torch.tensor([i for a, b in ranges for i in range(a, b)])


def make_cells(ranges_S, *, steps=STEPS, rows=ROWS, width=WIDTH, ids=IDS, dtype=torch.float32) -> list[torch.Tensor]:
    """States, output matrix, targets, legal sets and weights."""
    generator = torch.Generator().manual_seed(0)
    x_ND = torch.randn(steps, width, generator=generator).to(dtype).requires_grad_()
    weight_VD = torch.randn(ids, width, generator=generator).to(dtype).requires_grad_()
    legal_NR = torch.randint(0, len(ranges_S), (steps, rows), generator=generator)
    choices_S = [ids_of(ranges) if ranges else torch.zeros(1, dtype=torch.long) for ranges in ranges_S]
    draws_NR = torch.randint(0, 10**6, (steps, rows), generator=generator)
    target_NR = torch.stack([choices[draws_NR % len(choices)] for choices in choices_S]).gather(0, legal_NR[None])[0]
    return [x_ND, weight_VD, target_NR, legal_NR, torch.rand(steps, rows, generator=generator)]


def naive(x_ND, weight_VD, target_NR, legal_NR, weight_NR, ranges_S, z_loss=0.0):
    """Total and sums by legal set from the full logits, in float64."""
    logits_NV = x_ND.double() @ weight_VD.double().T
    total, ce_S = x_ND.new_zeros((), dtype=torch.float64), torch.zeros(len(ranges_S), dtype=torch.float64)
    for index, ranges in enumerate(ranges_S):
        step, row = (legal_NR == index).nonzero(as_tuple=True)
        if not ranges:
            continue
        legal = torch.full((logits_NV.shape[1],), -torch.inf, dtype=torch.float64)
        legal[ids_of(ranges)] = 0
        logits_MV = logits_NV[step] + legal
        ce_M = F.cross_entropy(logits_MV, target_NR[step, row], reduction="none")
        ce_S[index] = ce_M.detach().sum()
        total = total + (weight_NR[step, row] * (ce_M + z_loss * logits_MV.logsumexp(1).square())).sum()
    return total, ce_S


def gradients(total, *tensors):
    return torch.autograd.grad(total / 7, tensors)


def assert_near(found: torch.Tensor, wanted: torch.Tensor, tolerance: float):
    """Relative to the largest value."""
    assert found.dtype.is_floating_point
    assert (found.double() - wanted.double()).abs().max() <= tolerance * wanted.double().abs().max()


@pytest.fixture
def small_chunks(monkeypatch):
    monkeypatch.setattr(losses, "CHUNK_ELEMENTS", {"cpu": 300, "cuda": 300})
    monkeypatch.setattr(losses, "MIN_CHUNK_CELLS", 3)
    monkeypatch.setattr(losses, "PART_ROWS", 7)


@pytest.mark.parametrize("z_loss", [0.0, 1e-2])
@pytest.mark.parametrize("ranges_S", TABLES.values(), ids=TABLES)
@pytest.mark.usefixtures("small_chunks")
def test_values_and_gradients_are_those_of_full_logits(ranges_S, z_loss):
    cells = make_cells(ranges_S)
    loss = cells_cross_entropy(*cells, ranges_S=ranges_S, z_loss=z_loss)
    total, ce_S = naive(*cells, ranges_S=ranges_S, z_loss=z_loss)
    assert_near(loss.total, total, 1e-6)
    assert_near(loss.ce_S, ce_S, 1e-6)
    assert loss.count_S.tolist() == [int((cells[3] == index).sum()) for index in range(len(ranges_S))]
    for found, wanted in zip(gradients(loss.total, *cells[:2]), gradients(total, *cells[:2]), strict=True):
        assert_near(found, wanted, 1e-6)


@pytest.mark.parametrize("how", ["weights", "autocast"])
@pytest.mark.parametrize("z_loss", [0.0, 1e-2])
@pytest.mark.usefixtures("small_chunks")
def test_bfloat16(how, z_loss):
    ranges_S = TABLES["sets share ids"]
    cells = make_cells(ranges_S, dtype=torch.bfloat16 if how == "weights" else torch.float32)
    with torch.autocast("cpu", torch.bfloat16, enabled=how == "autocast"):
        loss = cells_cross_entropy(*cells, ranges_S=ranges_S, z_loss=z_loss)
    total, _ = naive(*cells, ranges_S=ranges_S, z_loss=z_loss)
    assert loss.total.dtype == loss.ce_S.dtype == torch.float32
    assert_near(loss.total, total, 2e-2)
    for found, wanted, leaf in zip(
        gradients(loss.total, *cells[:2]), gradients(total, *cells[:2]), cells, strict=False
    ):
        assert found.dtype == leaf.dtype
        assert_near(found, wanted, 2e-2)


@pytest.mark.parametrize("ranges", [((10, 50),), ((3, 4), (10, 50))])
def test_cells_of_one_kind(ranges):
    x, weight, target, legal, weights = make_cells([ranges], rows=1)
    loss = cells_cross_entropy(x, weight, target, legal, weights, [ranges], z_loss=1e-3)
    wanted, ce_S = naive(x, weight, target, legal, weights, [ranges], 1e-3)
    assert_near(loss.total, wanted, 1e-6)
    assert_near(loss.ce_S, ce_S, 1e-6)
    assert not loss.ce_S.requires_grad
    for found, grad in zip(gradients(loss.total, x, weight), gradients(wanted, x, weight), strict=True):
        assert_near(found, grad, 1e-6)


def test_no_cells_give_zeros():
    x, weight, target, legal, weights = make_cells(TABLES["one range"])
    table = TABLES["one range"]
    alone = cells_cross_entropy(x[:0], weight, target[:0], legal[:0], weights[:0], table)
    loss = cells_cross_entropy(x, weight, target, torch.zeros_like(legal), weights, table)
    for total in (alone.total, loss.total):
        assert total == 0
        assert not any(grad.any() for grad in gradients(total, x, weight))
    assert not alone.ce_S.any()
    assert not loss.ce_S.any()


def test_only_the_gradients_that_are_wanted_are_made():
    ranges_S = TABLES["sets share ids"]
    x, weight, *cells = make_cells(ranges_S)
    wanted = gradients(cells_cross_entropy(x, weight, *cells, ranges_S=ranges_S).total, x, weight)
    (grad_x,) = gradients(cells_cross_entropy(x, weight.detach(), *cells, ranges_S=ranges_S).total, x)
    (grad_weight,) = gradients(cells_cross_entropy(x.detach(), weight, *cells, ranges_S=ranges_S).total, weight)
    assert torch.equal(grad_x, wanted[0])
    assert torch.equal(grad_weight, wanted[1])
    with torch.no_grad():
        assert not cells_cross_entropy(x, weight, *cells, ranges_S=ranges_S).total.requires_grad


def test_a_second_backward_is_refused():
    ranges_S = TABLES["one range"]
    cells = make_cells(ranges_S)
    total = cells_cross_entropy(*cells, ranges_S=ranges_S).total
    total.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        total.backward()


def test_a_compiled_model_contains_it_whole():
    ranges_S = TABLES["sets share ids"]
    cells = make_cells(ranges_S)

    def loss(x_ND, weight_VD, *rest):
        return 3 * cells_cross_entropy(x_ND * 2, weight_VD, *rest, ranges_S=ranges_S, z_loss=1e-3).total

    compiled = torch.compile(loss, backend="aot_eager", fullgraph=True)
    assert_near(compiled(*cells), loss(*cells), 1e-6)
    for found, wanted in zip(gradients(compiled(*cells), *cells[:2]), gradients(loss(*cells), *cells[:2]), strict=True):
        assert_near(found, wanted, 1e-6)


def largest_allocation(run) -> int:
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        run()
    return max(event.self_cpu_memory_usage for event in profiler.events() or ())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_logits_are_never_held(monkeypatch, dtype):
    monkeypatch.setattr(losses, "CHUNK_ELEMENTS", {"cpu": 16_000})
    monkeypatch.setattr(losses, "MIN_CHUNK_CELLS", 8)
    ranges_S = [(), ((0, 1),), ((0, 1), (2, 2000))]
    cells = make_cells(ranges_S, steps=2000, rows=1, width=4, ids=2000, dtype=dtype)
    bound = 4 * max(8 * 2000, 16_000, 2000 * 4)
    saved = []

    def ours():
        with torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(t.nbytes) or t, lambda t: t):
            cells_cross_entropy(*cells, ranges_S=ranges_S, z_loss=1e-3).total.backward()

    assert largest_allocation(ours) <= bound
    assert 0 < max(saved) <= bound
    assert largest_allocation(lambda: naive(*cells, ranges_S=ranges_S)[0].backward()) > 100 * bound


@pytest.fixture
def make_head():
    def make(**options) -> ParallelHead:
        sets = [LegalSet("", ()), *(LegalSet(block, ranges) for block, ranges in BLOCKS)]
        head = ParallelHead(WIDTH, IDS, sets, **options)
        head.initialise(torch.Generator().manual_seed(0))
        return head

    return make


BLOCKS = [("audio.0", ((3, 4), (10, 50))), ("audio.1", ((50, 100),)), ("audio.0", ((10, 50),))]
RANGES_S = [(), *(ranges for _, ranges in BLOCKS)]


@pytest.mark.parametrize("softmax", ["legal", "full"])
def test_the_head_adds_up_by_block_without_weights_and_z_loss(make_head, softmax):
    head = make_head(softmax=softmax, z_loss=1e-2)
    x_ND, _, *cells = make_cells(RANGES_S)
    parts = head(x_ND, *cells)
    ranges_S = RANGES_S if softmax == "legal" else [(), *[((0, IDS),)] * 3]
    total, ce_S = naive(x_ND, head.weight, *cells, ranges_S=ranges_S, z_loss=1e-2)
    assert_near(parts.total, total, 1e-6)
    assert_near(parts.weight, cells[2].sum(), 1e-6)
    assert set(parts.by_block) == {"audio.0", "audio.1"}
    assert_near(parts.by_block["audio.0"][0], ce_S[1] + ce_S[3], 1e-6)
    assert parts.by_block["audio.1"][1] == (cells[1] == 2).sum()
    assert not any(tensor.requires_grad for pair in parts.by_block.values() for tensor in pair)


@pytest.mark.parametrize("softmax", ["legal", "full"])
@torch.no_grad()
def test_only_legal_ids_have_probabilities(make_head, softmax):
    head = make_head(softmax=softmax)
    logp_MJ = head.log_probabilities(torch.randn(5, WIDTH), 1)
    assert logp_MJ.shape == (5, head.legal_sets[1].size)
    torch.testing.assert_close(logp_MJ.exp().sum(1), torch.ones(5))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_on_cuda_with_one_wait(recwarn, dtype):
    ranges_S = TABLES["sets share ids"]
    cells = make_cells(ranges_S, dtype=dtype)
    on_device = [tensor.detach().cuda().requires_grad_(tensor.requires_grad) for tensor in cells]
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("warn")
    try:
        loss = cells_cross_entropy(*on_device, ranges_S=ranges_S, z_loss=1e-3)
        found = gradients(loss.total, *on_device[:2])
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert sum("synchroniz" in str(warning.message) for warning in recwarn) <= 1
    total, _ = naive(*cells, ranges_S=ranges_S, z_loss=1e-3)
    assert_near(loss.total.cpu(), total, 2e-2 if dtype == torch.bfloat16 else 1e-5)
    for grad, wanted in zip(found, gradients(total, *cells[:2]), strict=True):
        assert_near(grad.cpu(), wanted, 2e-2 if dtype == torch.bfloat16 else 1e-5)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("z_loss", [0.0, 1e-2])
def test_the_kernel_of_liger_equals_torch(z_loss):
    pytest.importorskip("liger_kernel")
    logits_CJ = 3 * torch.randn(6, 2049, device="cuda")
    position_C = torch.randint(2049, (6,), device="cuda")
    grad_CJ, wanted_CJ = logits_CJ.clone(), logits_CJ.clone()
    found = liger_softmax(grad_CJ, position_C, z_loss, wants_gradient=True)
    wanted = torch_softmax(wanted_CJ, position_C, z_loss, wants_gradient=True)
    torch.testing.assert_close((*found, grad_CJ), (*wanted, wanted_CJ))
