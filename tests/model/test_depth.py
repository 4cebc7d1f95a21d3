"""Promises 2, 3, 4 and 8 of depth heads over every layout that has more than one predicted row, and how they train."""

import math

import numpy as np
import pytest
import torch

from hocket.data.loading import Batch
from hocket.errors import InputError
from hocket.evaluation.inspect import inspect
from hocket.inference import Request, Sampling
from hocket.inference.autoregressive import Autoregressive
from hocket.interleave import Stage, find_rows, load_layout
from hocket.model import DepthHead, Model, ModelConfig, load_model
from hocket.vocab import Vocabulary, train_bpe
from tests.conftest import CODES, LEVELS, MODEL_LAYOUTS, TINY, batch_of, random_document

SMALL = {"depth_dim": 16, "depth_layers": 2, "depth_heads": 2, "depth_kv_heads": 1, "depth_ffn_dim": 24}
DIALOGUE = "Stack(aligned_text, Delay(audio, [0, 1, ...]), Delay(user, [0, 1, ...]))"
ONE_ROW = ["Flatten(audio)", 'Concat(Marker("<cont>"), Flatten(audio))', "Concat(Flatten(audio), Text(text))"]
LAYOUTS = [e for e in MODEL_LAYOUTS if len(find_rows(load_layout(e, LEVELS)).rows) > 1]
Cells = dict[tuple[int, int], torch.Tensor]


@pytest.fixture
def make_depth(identity):
    """make_depth(expression, **changes to the configuration) -> a tiny model with a depth head."""

    def make(expression: str, *, given: tuple[str, ...] = (), head: str = "depth", seed: int = 0, **changes) -> Model:
        layout = load_layout(expression, levels=LEVELS)
        sizes = {"audio": identity.codebook_sizes, "user": identity.codebook_sizes}
        vocabulary = Vocabulary.build(train_bpe(["abc"], 256), sizes, dict.fromkeys(sizes, identity.fingerprint))
        config = ModelConfig(**{**TINY.__dict__, **SMALL, **changes})
        stage = Stage(name="", layout=layout, head=head, given=given)
        return Model.build(config, vocabulary, stage, identity, seed=seed).eval()

    return make


class LeakingHead(DepthHead):
    """Reads the row that it predicts, as the documented training of transformers' Moshi does (labels = inputs)."""

    def states(self, x_MD, ids_MR):
        return super().states(x_MD, ids_MR.roll(-1, dims=1))


def cells_of(model: Model, document: tuple[torch.Tensor, torch.Tensor]) -> Cells:
    """Teacher-forced distribution of every predicted cell (step, row)."""
    found = {}
    for _, step_M, row_M, logp_MJ in model.distributions(batch_of([document])):
        found |= {(s, r): p for s, r, p in zip(step_M.tolist(), row_M.tolist(), logp_MJ, strict=True)}
    return found


@torch.no_grad()
def check_no_leak(model: Model, n_frames: int = 5, every: int = 4) -> None:
    """Changing one code changes no prediction of it or of anything earlier in generation order (step, row), but all
    of later rows of its step."""
    ids_TR, legal_TR = random_document(model, n_frames)
    before = cells_of(model, (ids_TR, legal_TR))
    unseen: list[tuple[int, int]] = []
    for step, row in list(before)[::every]:
        start, stop = model.head.legal_sets[int(legal_TR[step, row])].ranges[-1]
        changed_TR = ids_TR.clone()
        changed_TR[step, row] = start if ids_TR[step, row] != start else stop - 1
        after = cells_of(model, (changed_TR, legal_TR))
        moved = {cell for cell in before if not torch.equal(before[cell], after[cell])}
        assert all(cell > (step, row) for cell in moved), f"{min(moved)} sees {(step, row)}"
        unseen += [cell for cell in before if cell[0] == step and cell[1] > row and cell not in moved]
    assert not unseen


@pytest.mark.parametrize("weights", ["shared", "rows"])
@pytest.mark.parametrize("expression", LAYOUTS)
def test_no_leak(make_depth, expression, weights):
    check_no_leak(make_depth(expression, depth_weights=weights))


@pytest.mark.parametrize("expression", ["Parallel(audio)", "Delay(audio)", "Stack(aligned_text, Delay(audio))"])
def test_a_leaking_head_is_caught(make_depth, expression):
    model = make_depth(expression)
    model.depth.__class__ = LeakingHead
    with pytest.raises(AssertionError, match="sees"):
        check_no_leak(model, every=1)


@torch.no_grad()
def test_what_is_heard_enters_at_the_next_step(make_depth):
    """Rows that are never predicted have no position in the depth head."""
    model = make_depth(DIALOGUE, given=("user",))
    assert model.depth.rows == (0, 1, 2, 3)
    ids_TR, legal_TR = random_document(model, 6)
    legal_TR[:, 4:] = 0
    changed_TR, block = ids_TR.clone(), model.vocabulary["user.0"]
    changed_TR[3, 4] = block.start if ids_TR[3, 4] != block.start else block.start + 1
    before, after = cells_of(model, (ids_TR, legal_TR)), cells_of(model, (changed_TR, legal_TR))
    assert all(torch.equal(before[cell], after[cell]) == (cell[0] <= 3) for cell in before)


@pytest.mark.parametrize("weights", ["shared", "rows"])
@pytest.mark.parametrize("expression", LAYOUTS)
@torch.no_grad()
def test_train_equals_decode(make_depth, expression, weights):
    """Step by step and row by row, with both caches."""
    model = make_depth(expression, depth_weights=weights)
    ids_TR, legal_TR = random_document(model, 5)
    taught, cache = cells_of(model, (ids_TR, legal_TR)), model.decoder.new_cache(1, len(ids_TR))
    for step in range(1, len(ids_TR)):
        x_1D = model.decoder.step(ids_TR[None, step - 1 : step], cache)[:, 0]
        first, legal_R = model.depth.rows[0], legal_TR[step].tolist()
        logits = {first: model.head.logits(x_1D, legal_R[first])} if legal_R[first] else {}
        for row, h_1E in model.depth.in_turn(x_1D, ids_TR[step : step + 1]):
            if legal_R[row]:
                logits[row] = model.depth.logits(h_1E, legal_R[row])
        assert set(logits) == {r for s, r in taught if s == step}
        for row, logits_1J in logits.items():
            torch.testing.assert_close(logits_1J[0].log_softmax(-1), taught[step, row], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("weights", ["shared", "rows"])
@pytest.mark.parametrize("expression", LAYOUTS)
@torch.no_grad()
def test_a_packed_document_equals_itself_alone(make_depth, expression, weights):
    model = make_depth(expression, depth_weights=weights)
    documents = [random_document(model, n, seed=n) for n in (4, 1, 9)]
    together, parts = model(batch_of(documents)), [model(batch_of([document])) for document in documents]
    torch.testing.assert_close(together.total, sum(part.total for part in parts), rtol=1e-5, atol=0)
    assert together.weight == sum(part.weight for part in parts)
    nats = torch.zeros(())
    for document in documents:
        for (step, row), logp_J in cells_of(model, document).items():
            legal = model.head.legal_sets[int(document[1][step, row])]
            nats = nats - logp_J[legal.position(document[0][step, row])]
    torch.testing.assert_close(together.total, nats, rtol=1e-5, atol=0)


@pytest.mark.parametrize("weights", ["shared", "rows"])
@pytest.mark.parametrize("expression", LAYOUTS)
@torch.no_grad()
def test_a_healthy_start(make_depth, expression, weights):
    """The first loss of each block is ln(size of its legal set) within 5 %."""
    model = make_depth(expression, depth_weights=weights, dim=64, depth_dim=64)
    parts = model(batch_of([random_document(model, 16, seed=s) for s in range(8)]))
    for legal in model.head.legal_sets[1:]:
        nats, count = parts.by_block[legal.block]
        if count:
            assert abs(nats / count - math.log(legal.size)) < 0.05 * math.log(legal.size)


# --- a fraction of the steps -------------------------------------------------------------------------------------


def with_seed(batch: Batch, seed: int) -> Batch:
    batch.seed = seed
    return batch


@torch.no_grad()
def test_a_fraction_of_the_steps_estimates_all(make_depth):
    """Loss, means by block and numbers of tokens are those of all steps in the mean over draws."""
    model = make_depth("Delay(audio)", depth_fraction=0.25).train()
    batch = batch_of([random_document(model, 9, seed=s) for s in range(2)])
    drawn = [model(with_seed(batch, seed)) for seed in range(300)]
    whole = model.eval()(batch)
    assert all(parts.weight == whole.weight for parts in drawn)
    assert len({float(parts.total) for parts in drawn}) > 100
    mean = torch.stack([parts.total for parts in drawn]).mean()
    torch.testing.assert_close(mean, whole.total, rtol=0.01, atol=0)
    for block, (nats, count) in whole.by_block.items():
        sums = torch.stack([torch.stack(parts.by_block[block]) for parts in drawn]).mean(dim=0)
        torch.testing.assert_close(sums, torch.stack([nats, count]), rtol=0.03, atol=0)
    assert all(torch.equal(parts.by_block["audio.0"][0], whole.by_block["audio.0"][0]) for parts in drawn)


def test_the_draw_is_fixed_by_the_batch_alone(make_depth):
    model = make_depth("Parallel(audio)", depth_fraction=0.2).train()
    batch = with_seed(batch_of([random_document(model, 20)]), 7)
    before = torch.get_rng_state()
    first = model(batch).total
    torch.manual_seed(123)
    assert torch.equal(first, model(batch).total)
    torch.set_rng_state(before)
    model(with_seed(batch, 8))
    assert torch.equal(torch.get_rng_state(), before)
    assert not torch.equal(first, model(batch).total)


def test_a_batch_without_targets_still_has_gradients(make_depth):
    for weights in ("shared", "rows"):
        model = make_depth("Concat(Text(text), Delay(audio))", depth_weights=weights, depth_fraction=0.5).train()
        ids_TR, legal_TR = random_document(model, 4)
        parts = model(batch_of([(ids_TR, torch.zeros_like(legal_TR))]))
        parts.total.backward()
        assert parts.total == 0
        assert all(p.grad is not None for p in model.parameters())


@pytest.mark.parametrize("weights", ["shared", "rows"])
def test_checkpointing_changes_no_gradient(make_depth, weights):
    kept, again = (make_depth("Delay(audio)", depth_weights=weights, checkpointing=c).train() for c in (False, True))
    for model in (kept, again):
        model(batch_of([random_document(model, 6)])).total.backward()
    for one, other in zip(kept.parameters(), again.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("head", ["parallel", "depth"])
def test_a_rule_from_row_to_row_is_learned_by_depth_alone(make_depth, head):
    """Row 0 is drawn at random, row k is row k - 1 times 5 plus k: 0 nats to who sees the row before, ln(12) else."""
    model = make_depth("Parallel(audio)", head=head).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0.0)
    rng = np.random.default_rng(0)
    for _ in range(60):
        codes_T1 = rng.integers(0, CODES, (24, 1))
        codes_TK = np.concatenate([codes_T1, codes_T1 * 5 + 1, codes_T1 * 25 + 7], axis=1) % CODES
        plan = model.layout.plan({"audio": 24})
        ids_TR = torch.from_numpy(plan.interleave({"audio": codes_TK}, model.vocabulary))
        parts = model(batch_of([(ids_TR, torch.from_numpy(plan.legal_TR.astype(np.int64)))]))
        (parts.total / parts.weight).backward()
        optimizer.step()
        optimizer.zero_grad()
    loss = {block: float(nats / count) for block, (nats, count) in parts.by_block.items() if count}
    assert loss["audio.0"] > 2.2
    for block in ("audio.1", "audio.2"):
        assert loss[block] < 0.3 if head == "depth" else loss[block] > 2.2


# --- sampling, files, mistakes -------------------------------------------------------------------------------------


@pytest.mark.parametrize("weights", ["shared", "rows"])
@pytest.mark.parametrize("expression", ["Parallel(audio)", "Delay(audio)", "CoarseFirst(audio)", "Repeat(audio, 3/2)"])
@torch.no_grad()
def test_greedy_samples_are_what_teacher_forcing_finds_likeliest(make_depth, expression, weights):
    """Also in a batch, after prompts of two lengths, some of whose cells stand beside open ones."""
    model = make_depth(expression, depth_weights=weights)
    rng = np.random.default_rng(1)
    prompts = [rng.integers(0, CODES, (n, LEVELS)) for n in (0, 4)]
    requests = [Request(prompts={"audio": codes_TK}, limits={"audio": 9}) for codes_TK in prompts]
    loop = Autoregressive(model.eval(), requests, Sampling(temperature=0))
    assert list(loop.run())
    for b, item in enumerate(loop.items):
        ids_TR, legal_TR = torch.from_numpy(loop.grid(b)), torch.from_numpy(item.plan.legal_TR.astype(np.int64))
        open_TR = item.cells.open_TR
        cells = {cell: logp for cell, logp in cells_of(model, (ids_TR, legal_TR)).items() if open_TR[cell]}
        assert cells
        for cell, logp_J in cells.items():
            legal = model.head.legal_sets[int(legal_TR[cell])]
            assert logp_J[legal.position(ids_TR[cell])] > logp_J.max() - 1e-4


@pytest.mark.parametrize("weights", ["shared", "rows"])
def test_save_and_load_give_the_same_model(make_depth, tmp_path, weights):
    model = make_depth("Delay(audio)", depth_weights=weights, bias=True, seed=3)
    model.save(tmp_path)
    loaded = load_model(tmp_path)
    batch = batch_of([random_document(model, 5)])
    assert torch.equal(loaded(batch).total, model(batch).total)
    assert inspect(tmp_path)["config"]["depth_weights"] == weights


def test_embeddings_start_as_the_trunk_s(make_depth):
    model = make_depth("Delay(audio)")
    block = model.vocabulary["audio.1"]
    own_V = model.depth.input_V[block.start : block.stop]
    assert torch.equal(model.depth.embedding.weight[own_V], model.decoder.embedding.weight[block.start : block.stop])
    assert model.depth.input_V[model.vocabulary["audio.2"].start] == 0  # the last row is read by nobody
    assert not model.depth.embedding.weight[0].any()


@pytest.mark.parametrize("expression", ONE_ROW)
def test_one_row_has_no_use_for_a_depth_head(make_depth, expression):
    with pytest.raises(InputError, match=r"one predicted row.*set interleave.head=parallel"):
        make_depth(expression)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"depth_dim": 0}, "model.depth_dim is 0, but must be at least 1"),
        ({"depth_heads": 3}, "model.depth_dim is 16, but must be a multiple of model.depth_heads, 3"),
        ({"depth_kv_heads": 3}, "multiple of model.depth_kv_heads"),
        ({"depth_fraction": 0.0}, "model.depth_fraction is 0.0, but must be above 0 and at most 1"),
        ({"depth_weights": "row"}, 'did you mean "rows"'),
        ({"depth_rope_scaling": [1.0]}, "model.depth_rope_scaling has 1 numbers"),
    ],
)
def test_impossible_shapes_are_refused(changes, sentence):
    with pytest.raises(InputError, match=sentence):
        ModelConfig(**SMALL | changes)
