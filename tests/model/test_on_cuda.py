"""Promises 2 and 4 over layouts x heads x attention backends on a GPU, in bfloat16, and its loss against the CPU's."""

import pytest
import torch

from hocket.interleave import Stage, find_rows
from hocket.model import Model
from hocket.model.attention import BACKENDS
from tests.conftest import MODEL_LAYOUTS, batch_of, random_document

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA"),
    pytest.mark.parametrize("backend", ["sdpa", "varlen", "flash_attn", "flex"]),
    pytest.mark.parametrize("head", ["parallel", "depth"]),
    pytest.mark.parametrize("expression", MODEL_LAYOUTS),
]


def assert_alike(one: torch.Tensor, other: torch.Tensor) -> None:
    """Within what bfloat16 promises."""
    torch.testing.assert_close(one, other, rtol=2e-2, atol=2e-2)


@pytest.fixture
def pair(make_model, expression, head, backend) -> tuple[Model, Model]:
    """The same weights: float32 and sdpa on the CPU, bfloat16 and the backend on the GPU."""
    reason = BACKENDS[backend].refusal(torch.device("cuda"), torch.bfloat16, True)
    if reason is not None:
        pytest.skip(reason)
    models = []
    for name in ("sdpa", backend):
        plain = make_model(expression, attention=name)
        if head == "depth" and len(find_rows(plain.layout).rows) < 2:
            pytest.skip("one predicted row: nothing for a depth head")
        stage = Stage(name="", layout=plain.layout, head=head)
        models.append(Model.build(plain.config, plain.vocabulary, stage, plain.codec_identity).eval())
    return models[0], models[1].to("cuda", torch.bfloat16)


@torch.no_grad()
def test_the_loss_is_that_of_the_cpu(pair):
    reference, model = pair
    batch = batch_of([random_document(reference, n, seed=n) for n in (4, 1, 9)])
    expected, found = reference(batch), model(batch.to("cuda"))
    torch.testing.assert_close(found.total.cpu().float(), expected.total, rtol=2e-2, atol=0)


@torch.no_grad()
def test_a_packed_document_equals_itself_alone(pair):
    _, model = pair
    documents = [random_document(model, n, seed=n) for n in (4, 1, 9)]
    batch = batch_of(documents).to("cuda")
    packed_ND = model.hidden(batch.ids_NR, batch.cu_seqlens)
    alone = [model.hidden(ids.cuda(), [0, len(ids)]) for ids, _ in documents]
    assert_alike(packed_ND, torch.cat(alone))


@torch.no_grad()
def test_no_leak(pair):
    """What comes later moves no state of an earlier step, nor of another document."""
    _, model = pair
    documents = [random_document(model, n, seed=n) for n in (6, 5)]
    batch = batch_of(documents).to("cuda")
    before_ND = model.hidden(batch.ids_NR, batch.cu_seqlens)
    step = len(documents[0][0]) // 2
    batch.ids_NR[step] = batch.ids_NR[step - 1]
    after_ND = model.hidden(batch.ids_NR, batch.cu_seqlens)
    untouched_N = torch.ones(len(before_ND), dtype=torch.bool)
    untouched_N[step : len(documents[0][0])] = False
    assert_alike(before_ND[untouched_N], after_ND[untouched_N])


def test_gradients_are_finite_and_as_large_as_on_the_cpu(pair):
    reference, model = pair
    batch = batch_of([random_document(reference, n, seed=n) for n in (4, 9)])
    reference(batch).total.backward()
    model(batch.to("cuda")).total.backward()
    for (name, one), two in zip(reference.named_parameters(), model.parameters(), strict=True):
        assert one.grad is not None, name
        assert two.grad is not None, name
        assert two.grad.isfinite().all(), name
        torch.testing.assert_close(two.grad.norm().cpu().float(), one.grad.norm(), rtol=0.1, atol=0.1)
