"""Promise 3 through `Stepper`: step by step gives the teacher-forced distributions, over layouts, heads and shapes."""

import pytest
import torch

from hocket.inference import Sampling
from hocket.interleave import Stage, find_rows
from hocket.model import Model, prepared, stepping
from hocket.model.graphs import bucket
from hocket.model.stepping import Stepper
from tests.conftest import MODEL_LAYOUTS, batch_of, random_document

SHAPES = [
    {"window": 4},
    {"no_rope_every": 2},
    {"rope_scaling": [4.0, 1.0, 4.0, 8.0]},
    {"qk_norm": False},
    {"n_kv_heads": 1, "bias": True},
    {"n_kv_heads": 4, "head_dim": 6, "norm_eps": 0.1},
]


@pytest.fixture
def make(make_model):
    """make(expression, head, **changes) -> a model with gains and biases that do something; skips what has no rows."""

    def build(expression: str, head: str = "parallel", **changes) -> Model:
        model = make_model(expression, **changes)
        if head != "parallel":
            if len(find_rows(model.layout).rows) < 2:
                pytest.skip("one predicted row: nothing for a depth head")
            shape = {"depth_dim": 16, "depth_layers": 2, "depth_ffn_dim": 24, "depth_kv_heads": 2}
            config = type(model.config)(**{**model.config.__dict__, **shape, "depth_weights": head})
            stage = Stage(name="", layout=model.layout, head="depth")
            model = Model.build(config, model.vocabulary, stage, model.codec_identity).eval()
        generator = torch.Generator().manual_seed(1)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if "norm" in name or "bias" in name:
                    parameter.add_(torch.rand(parameter.shape, generator=generator) - 0.5)
        return model

    return build


def taught(model: Model, ids_TR: torch.Tensor, legal_TR: torch.Tensor) -> dict[tuple[int, int], torch.Tensor]:
    """Teacher-forced log-probabilities of every predicted cell (step, row)."""
    found = {}
    for _, step_M, row_M, log_p_MJ in model.distributions(batch_of([(ids_TR, legal_TR)])):
        for step, row, log_p in zip(step_M.tolist(), row_M.tolist(), log_p_MJ, strict=True):
            found[step, row] = log_p
    return found


def stepped(stepper: Stepper, ids_BTR: torch.Tensor, legal_TR: torch.Tensor, start: int) -> list[dict]:
    """The same, of each document of a batch: the first steps in one go, then one by one."""
    found = [{} for _ in ids_BTR]
    stepper.feed(ids_BTR[:, :start])
    for step in range(start, ids_BTR.shape[1]):
        for pass_ in stepper.passes(legal_TR[step].tolist(), ids_BTR[:, step]):
            for b, logits_PJ in enumerate(pass_.logits_BPJ):
                for row, logits_J, ids_J in zip(pass_.rows, logits_PJ, pass_.ids_PJ, strict=True):
                    is_id_J = logits_J > -torch.inf
                    assert torch.equal(ids_J[is_id_J], legal_ids(stepper, int(legal_TR[step, row])))
                    found[b][step, row] = logits_J[is_id_J].log_softmax(-1)
        stepper.feed(ids_BTR[:, step : step + 1])
    assert stepper.length == ids_BTR.shape[1]
    return found


def legal_ids(stepper: Stepper, index: int) -> torch.Tensor:
    legal = stepper._model.head.legal_sets[index]
    return legal.ids(torch.arange(legal.size))


def check(model: Model, batch: int, start: int = 1, tolerance: float = 1e-5, static: bool = False) -> None:
    """Every cell of random documents, read one by one, is distributed as with teacher forcing."""
    documents = [random_document(model, 7, seed=s) for s in range(batch)]
    ids_BTR, legal_TR = torch.stack([ids for ids, _ in documents]), documents[0][1]
    with torch.no_grad():
        expected = [taught(model, ids_TR, legal_TR) for ids_TR in ids_BTR]
    found = stepped(Stepper(model, batch, ids_BTR.shape[1], static), ids_BTR, legal_TR, start)
    for one, other in zip(found, expected, strict=True):
        assert one
        assert set(one) == {cell for cell in other if cell[0] >= start}
        for cell in one:
            torch.testing.assert_close(one[cell], other[cell], rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("head", ["parallel", "shared", "rows"])
@pytest.mark.parametrize("expression", MODEL_LAYOUTS)
def test_steps_are_distributed_as_with_teacher_forcing(make, expression, head):
    model = make(expression, head)
    check(model, batch=1)
    check(model, batch=2, start=4)


@pytest.mark.parametrize("head", ["parallel", "shared"])
@pytest.mark.parametrize("changes", SHAPES, ids=lambda changes: next(iter(changes)))
def test_every_shape_of_a_block(make, changes, head):
    model = make("Delay(audio)", head, **changes)
    check(model, batch=1)
    check(model, batch=3)


@pytest.mark.parametrize("head", ["parallel", "rows"])
def test_large_models_are_read_as_they_lie(make, monkeypatch, head):
    monkeypatch.setattr(prepared, "MOST_PREPARED", 0)
    check(make("Delay(audio)", head), batch=2)


@pytest.mark.parametrize("head", ["parallel", "shared", "rows"])
@pytest.mark.parametrize("batch", [1, 2])
def test_bfloat16(make, head, batch):
    check(make("Delay(audio)", head).bfloat16(), batch, tolerance=5e-2)


@pytest.mark.parametrize("head", ["parallel", "shared", "rows"])
@pytest.mark.parametrize("changes", [{}, *SHAPES], ids=lambda changes: next(iter(changes), "plain"))
def test_steps_of_fixed_shapes_give_the_same(make, monkeypatch, changes, head):
    monkeypatch.setattr(stepping, "bucket", lambda length, most: min(most, length + 3))
    check(make("Delay(audio)", head, **changes), batch=2, static=True)


@pytest.mark.parametrize("head", ["parallel", "shared"])
def test_whole_steps_of_fixed_shapes_draw_the_same(make, head):
    model = make("Delay(audio)", head)
    ids_TR, legal_TR = random_document(model, 9)
    sampler = Sampling(temperature=0.8, top_k=5).bind(model)
    sampler.graph_key = "sampler"  # type: ignore[attr-defined]
    generator, grids = torch.Generator(), []
    for static in (False, True):
        stepper, steps = Stepper(model, 2, 8, static), [ids_TR[:1].expand(2, -1)]
        generator.manual_seed(0)
        for step in range(1, 8):
            stepper.feed(steps[-1][:, None])
            open_BR = (legal_TR[step] > 0) & (torch.rand(2, 3, generator=generator) < 0.8)
            uniform_BRU = torch.rand(2, 3, sampler.n_numbers, generator=generator)
            known_BR = ids_TR[step].expand(2, -1)
            steps.append(stepper.step(known_BR, open_BR, legal_TR[step].tolist(), uniform_BRU, sampler)[0])
        grids.append(torch.stack(steps))
    assert torch.equal(*grids)


def test_buckets_are_few():
    assert {bucket(length, 1000) for length in range(1, 1001)} == {64, 128, 256, 512, 1000}


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
@pytest.mark.parametrize("head", ["parallel", "shared", "rows"])
def test_captured_steps_draw_what_steps_without_graphs_draw(make, head):
    model = make("Delay(audio)", head).cuda()
    ids_TR, legal_TR = random_document(model, 80)
    sampler = Sampling(temperature=0).bind(model)
    sampler.graph_key = "sampler"  # type: ignore[attr-defined]
    grids = []
    for static in (False, True):
        stepper, steps = Stepper(model, 2, 80, static), [ids_TR[:1].expand(2, -1).cuda()]
        for step in range(1, 80):
            stepper.feed(steps[-1][:, None])
            open_BR, uniform_BRU = legal_TR[step].expand(2, -1) > 0, torch.zeros(2, 3, sampler.n_numbers)
            legal_R = legal_TR[step].tolist()
            steps.append(stepper.step(ids_TR[step].expand(2, -1), open_BR, legal_R, uniform_BRU, sampler)[0])
        grids.append(torch.stack(steps))
    assert torch.equal(*grids)


def test_prepared_weights_are_kept_until_the_weights_change(make):
    model = make("Delay(audio)", "shared")
    first = prepared.prepare(model, 1)
    assert prepared.prepare(model, 1) is first
    assert prepared.prepare(model, 2) is not prepared.prepare(model, 1)
    for parameter in model.parameters():
        parameter.data.mul_(0.9)  # as engines do: no version counts it
    check(model, batch=1)


def test_several_threads_share_a_product(make):
    torch.set_num_threads(2)
    try:
        check(make("Delay(audio)", "rows"), batch=1)
    finally:
        torch.set_num_threads(1)


@pytest.mark.parametrize("head", ["parallel", "shared"])
@pytest.mark.parametrize("indices", [[1], [2, 0], [0, 0, 1, 2]])
def test_selected_entries_go_on_as_they_would_alone(make, head, indices):
    model = make("Delay(audio)", head)
    documents = [random_document(model, 7, seed=s) for s in range(3)]
    ids_BTR, legal_TR = torch.stack([ids for ids, _ in documents]), documents[0][1]
    stepper = Stepper(model, 3, ids_BTR.shape[1])
    stepper.feed(ids_BTR[:, :3])
    stepper.feed(ids_BTR[:, 3:4])
    stepper.select(torch.tensor(indices))
    with torch.no_grad():
        for b, index in enumerate(indices):
            expected = taught(model, ids_BTR[index], legal_TR)
            for pass_ in stepper.passes(legal_TR[4].tolist(), ids_BTR[indices, 4]):
                log_p_PJ = pass_.logits_BPJ[b].log_softmax(-1)
                for row, log_p_J in zip(pass_.rows, log_p_PJ, strict=True):
                    is_id_J = log_p_J > -torch.inf
                    torch.testing.assert_close(log_p_J[is_id_J], expected[4, row], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("head", ["parallel", "shared"])
def test_a_step_draws_what_is_open_and_keeps_the_rest(make, head):
    model = make("Parallel(audio)", head)
    ids_TR, legal_TR = random_document(model, 5)
    ids_BR, open_BR = ids_TR[3:4].expand(2, -1), torch.tensor([[False, True, True], [True, False, True]])
    sampler, stepper = Sampling(temperature=0).bind(model), Stepper(model, 2, 5)
    stepper.feed(ids_TR[None, :3].expand(2, -1, -1))
    uniform_BRU = torch.zeros(2, 3, sampler.n_numbers)
    found_BR, log_p_BR = stepper.step(ids_BR, open_BR, legal_TR[3].tolist(), uniform_BRU, sampler)
    assert torch.equal(found_BR[~open_BR], ids_BR[~open_BR])
    assert torch.equal(log_p_BR.isnan(), ~open_BR)
    for pass_ in stepper.passes(legal_TR[3].tolist(), found_BR):
        for p, row in enumerate(pass_.rows):
            likeliest_B = pass_.ids_PJ[p][pass_.logits_BPJ[:, p].argmax(-1)]
            assert torch.equal(found_BR[open_BR[:, row], row], likeliest_B[open_BR[:, row]])


def test_what_is_made_in_inference_mode_steps_outside_of_it(make):
    model = make("Delay(audio)")
    ids_TR, legal_TR = random_document(model, 5)
    with torch.inference_mode():
        stepper = Stepper(model, 1, 8)
        stepper.feed(ids_TR[None, :2])
        next(stepper.passes(legal_TR[2].tolist(), ids_TR[2:3]))
    stepper.feed(ids_TR[None, 2:3])
    next(stepper.passes(legal_TR[3].tolist(), ids_TR[3:4]))
