"""Every attention backend against one masked softmax written out; what a backend cannot do is refused in words."""

import pytest
import torch

from hocket.errors import InputError
from hocket.model import Decoder, ModelConfig
from hocket.model.attention import AUTO, BACKENDS, find_backend
from hocket.model.documents import Documents
from tests.conftest import MODEL_LAYOUTS, batch_of, random_document

CPU = torch.device("cpu")
BOUNDS = [0, 5, 5, 6, 15, 15, 15]
UNCOMPILED = pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
MASKS = [(True, 0), (True, 1), (True, 4), (False, 0), (False, 3)]


def heads(device="cpu", dtype=torch.float32, n_heads=4, n_kv_heads=2, width=16, n_steps=15):
    generator = torch.Generator().manual_seed(0)
    shapes = [(n_steps, n_heads, width), (n_steps, n_kv_heads, width), (n_steps, n_kv_heads, width)]
    q, k, v = (torch.randn(shape, generator=generator).to(device, dtype).requires_grad_() for shape in shapes)
    return q, k, v


def written_out(q_NHC, k_NGC, v_NGC, documents: Documents) -> torch.Tensor:
    """Softmax over what each step sees, of all scores of the pack."""
    steps = torch.arange(len(q_NHC), device=q_NHC.device)
    seen_NN = documents.sees(steps[:, None], steps[None])
    k_NHC, v_NHC = (x.repeat_interleave(q_NHC.shape[1] // x.shape[1], dim=1) for x in (k_NGC, v_NGC))
    scores_HNN = torch.einsum("nhc,mhc->hnm", q_NHC, k_NHC) / q_NHC.shape[-1] ** 0.5
    weights_HNN = scores_HNN.masked_fill(~seen_NN, -torch.inf).softmax(-1)
    return torch.einsum("hnm,mhc->nhc", weights_HNN, v_NHC)


def documents_of(causal: bool, window: int, device=CPU) -> Documents:
    return Documents(torch.tensor(BOUNDS, device=device), BOUNDS[-1], device, causal=causal, window=window, longest=9)


def test_positions_and_documents_of_a_pack():
    documents = documents_of(True, 0)
    assert documents.document_N.tolist() == [0] * 5 + [2] + [3] * 9
    assert documents.positions_N.tolist() == [*range(5), 0, *range(9)]
    assert (documents.bounds, documents.lengths, documents.longest) == ([0, 5, 6, 15], [5, 1, 9], 9)


@pytest.mark.parametrize(("causal", "window"), MASKS)
@pytest.mark.parametrize("grouped", [True, False])
def test_sdpa_equals_the_softmax_written_out(causal, window, grouped):
    ours, theirs = heads(n_kv_heads=2 if grouped else 4), heads(n_kv_heads=2 if grouped else 4)
    documents = documents_of(causal, window)
    mixed, expected = BACKENDS["sdpa"].attend(*ours, documents), written_out(*theirs, documents)
    torch.testing.assert_close(mixed, expected, rtol=1e-5, atol=1e-6)
    mixed.square().sum().backward()
    expected.square().sum().backward()
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one.grad, other.grad, rtol=1e-4, atol=1e-5)


@UNCOMPILED
@pytest.mark.parametrize(("causal", "window"), MASKS)
@torch.no_grad()
def test_flex_equals_sdpa(causal, window):
    documents, (q, k, v) = documents_of(causal, window), heads()
    torch.testing.assert_close(
        BACKENDS["flex"].attend(q.detach(), k.detach(), v.detach(), documents),
        BACKENDS["sdpa"].attend(q, k, v, documents),
        rtol=1e-5,
        atol=1e-6,
    )


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
@pytest.mark.parametrize(("causal", "window"), MASKS)
@pytest.mark.parametrize("name", ["sdpa", "varlen", "flash_attn", "flex"])
def test_every_backend_on_cuda_equals_the_softmax_written_out(name, causal, window):
    device, dtype = torch.device("cuda"), torch.bfloat16
    reason = BACKENDS[name].refusal(device, dtype, True)
    if reason is not None:
        pytest.skip(reason)
    ours, exact = heads("cuda", dtype, width=64), heads("cuda", torch.float32, width=64)
    documents = documents_of(causal, window, device)
    mixed, expected = BACKENDS[name].attend(*ours, documents), written_out(*exact, documents)
    torch.testing.assert_close(mixed.float(), expected, rtol=2e-2, atol=2e-2)
    mixed.float().square().sum().backward()
    expected.square().sum().backward()
    for one, other in zip(ours, exact, strict=True):
        assert one.grad is not None
        torch.testing.assert_close(one.grad.float(), other.grad, rtol=5e-2, atol=1e-1)


@pytest.mark.parametrize("name", ["varlen", "flash_attn", "flex"])
def test_a_backend_that_cannot_train_on_cpu_is_refused_in_words(name):
    with pytest.raises(InputError, match=f"model.attention={name} cannot run here: .*; model.attention=auto or sdpa"):
        find_backend(name, CPU, torch.float32, gradients=True)


def test_auto_takes_sdpa_on_cpu():
    assert find_backend(AUTO, CPU, torch.bfloat16, True) is BACKENDS["sdpa"]


@UNCOMPILED
@pytest.mark.parametrize("expression", MODEL_LAYOUTS)
@torch.no_grad()
def test_a_model_gives_the_same_on_flex_and_sdpa(make_model, expression):
    models = [make_model(expression, attention=name) for name in ("sdpa", "flex")]
    batch = batch_of([random_document(models[0], n, seed=n) for n in (4, 1, 9)])
    one, other = (model.hidden(batch.ids_NR, batch.cu_seqlens) for model in models)
    torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_a_window_decodes_as_it_trains(make_model):
    model = make_model("Delay(audio)", window=4)
    ids_TR, _ = random_document(model, 9)
    packed_TD = model.hidden(ids_TR, [0, len(ids_TR)])
    for chunks in ([1] * len(ids_TR), [5, *[1] * (len(ids_TR) - 5)], [3, 4, len(ids_TR) - 7]):
        cache = model.decoder.new_cache(1, len(ids_TR))
        steps = [model.decoder.step(part[None], cache)[0] for part in ids_TR.split(chunks)]
        torch.testing.assert_close(torch.cat(steps), packed_TD, rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_a_window_forgets_what_is_further_away(make_model):
    """Two layers with a window of 4 see 6 steps back."""
    model = make_model("Flatten(audio)", window=4)
    ids_TR, _ = random_document(model, 8)
    before_TD, changed_TR = model.hidden(ids_TR, [0, len(ids_TR)]), ids_TR.clone()
    changed_TR[1] = changed_TR[4]
    after_TD = model.hidden(changed_TR, [0, len(ids_TR)])
    assert torch.equal(before_TD[8:], after_TD[8:])
    assert not torch.equal(before_TD[7], after_TD[7])


def test_a_bidirectional_decoder_sees_what_comes_and_no_other_document():
    decoder = Decoder(ModelConfig(dim=32, n_heads=2, n_kv_heads=2, ffn_dim=32, n_layers=2), 20, 0, causal=False)
    decoder.initialise(torch.Generator().manual_seed(0))
    ids_NR = torch.arange(1, 11)[:, None]
    changed_NR = ids_NR.clone()
    changed_NR[5] = 19
    before_ND, after_ND = decoder(ids_NR, [0, 4, 10]), decoder(changed_NR, [0, 4, 10])
    assert torch.equal(before_ND[:4], after_ND[:4])
    assert not torch.isclose(before_ND[4:], after_ND[4:]).all(dim=1).any()


def test_checkpointing_changes_no_gradient(make_model):
    gradients = []
    for checkpointing in (False, True):
        model = make_model("Delay(audio)", checkpointing=checkpointing).train()
        parts = model(batch_of([random_document(model, n, seed=n) for n in (4, 9)]))
        parts.total.backward()
        gradients.append([p.grad for p in model.parameters()])
    for one, other in zip(*gradients, strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"attention": "varlenn"}, 'model.attention has no choice "varlenn" .did you mean "varlen"'),
        ({"softmax": "all"}, 'model.softmax has no choice "all"'),
        ({"window": -1}, "model.window is -1, but must be at least 0"),
        ({"head_dim": 7}, "model.head_dim is 7, but rotary needs an even width"),
        ({"rope_scaling": [8.0]}, "model.rope_scaling has 1 numbers, but must have 4 or none"),
    ],
)
def test_what_a_configuration_refuses(changes, message):
    with pytest.raises(InputError, match=message):
        ModelConfig(**changes)
