"""Promises 2, 3, 4 and 8 over every layout, and the files of a model."""

import json
import math

import pytest
import torch

from hocket.errors import InputError
from hocket.model import Model, ModelConfig, load_model
from hocket.model.heads import LegalSet
from tests.conftest import MODEL_LAYOUTS, batch_of, random_document


def cell_log_probabilities(model, ids_TR, legal_TR) -> dict[tuple[int, int], torch.Tensor]:
    """Teacher-forced distribution of every predicted cell (step, row)."""
    hidden_TD = model.hidden(ids_TR, [0, len(ids_TR)])
    cells = {}
    for step, row in (legal_TR > 0).nonzero().tolist():
        cells[step, row] = model.head.log_probabilities(hidden_TD[step - 1 : step], int(legal_TR[step, row]))[0]
    return cells


@pytest.mark.parametrize("expression", MODEL_LAYOUTS)
@torch.no_grad()
def test_no_leak(make_model, expression):
    """Changing one code changes no prediction of its own step's cells or of any earlier step."""
    model = make_model(expression)
    ids_TR, legal_TR = random_document(model, 6)
    before = cell_log_probabilities(model, ids_TR, legal_TR)
    for step, row in (legal_TR > 0).nonzero().tolist()[::3]:
        changed_TR = ids_TR.clone()
        choices = model.head.legal_sets[int(legal_TR[step, row])].ranges[-1]
        changed_TR[step, row] = choices[0] if ids_TR[step, row] != choices[0] else choices[0] + 1
        after = cell_log_probabilities(model, changed_TR, legal_TR)
        for cell in before:
            if cell[0] <= step:
                assert torch.equal(before[cell], after[cell]), f"{cell} sees {(step, row)}"
        later = [c for c in before if c[0] > step]
        assert not later or any(not torch.equal(before[c], after[c]) for c in later)


@pytest.mark.parametrize("expression", MODEL_LAYOUTS)
@torch.no_grad()
def test_train_equals_decode(make_model, expression):
    model = make_model(expression)
    ids_TR, _ = random_document(model, 7)
    packed_TD = model.hidden(ids_TR, [0, len(ids_TR)])
    for chunks in ([1] * len(ids_TR), [5, *[1] * (len(ids_TR) - 5)], [3, 4, len(ids_TR) - 7]):
        cache = model.decoder.new_cache(1, len(ids_TR))
        steps = [model.decoder.step(part[None], cache)[0] for part in ids_TR.split(chunks)]
        torch.testing.assert_close(torch.cat(steps), packed_TD, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("expression", MODEL_LAYOUTS)
@torch.no_grad()
def test_a_packed_document_equals_itself_alone(make_model, expression):
    model = make_model(expression)
    documents = [random_document(model, n, seed=n) for n in (4, 1, 9)]
    batch = batch_of(documents)
    packed_ND = model.hidden(batch.ids_NR, batch.cu_seqlens.tolist())
    alone = [model.hidden(ids, [0, len(ids)]) for ids, _ in documents]
    torch.testing.assert_close(packed_ND, torch.cat(alone), rtol=1e-5, atol=1e-6)
    together, parts = model(batch), [model(batch_of([document])) for document in documents]
    torch.testing.assert_close(together.total, sum(part.total for part in parts), rtol=1e-5, atol=0)
    assert together.weight == sum(part.weight for part in parts)


@pytest.mark.parametrize("expression", MODEL_LAYOUTS)
@torch.no_grad()
def test_a_healthy_start(make_model, expression):
    """The first loss of each kind of cell is ln(size of its legal set) within 5 %."""
    model = make_model(expression, dim=64)
    documents = [random_document(model, 16, seed=s) for s in range(8)]
    ids_NR, legal_NR = (torch.cat([d[i] for d in documents]) for i in (0, 1))
    hidden_ND = torch.cat([model.hidden(ids, [0, len(ids)]) for ids, _ in documents])
    for index, legal in enumerate(model.head.legal_sets):
        step, row = (legal_NR == index).nonzero(as_tuple=True)
        if index and len(step):
            parts = model.head(
                hidden_ND[step - 1], ids_NR[step, row, None], legal_NR[step, row, None], torch.ones(len(step), 1)
            )
            expected = torch.tensor(float(legal.size)).log()
            assert abs(parts.total / len(step) - expected) < 0.05 * expected


def test_filler_embeds_to_zero_and_stays_there(make_model):
    model = make_model("Delay(audio)").train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1, weight_decay=0.1)
    for _ in range(2):
        parts = model(batch_of([random_document(model, 6)]))
        optimizer.zero_grad()
        (parts.total / parts.weight).backward()
        optimizer.step()
    assert not model.decoder.embedding.weight[model.vocabulary.id("<none>")].any()


@torch.no_grad()
def test_the_loss_is_a_weighted_sum_of_cross_entropies(make_model):
    model = make_model("Delay(audio)")
    ids_TR, legal_TR = random_document(model, 5)
    batch = batch_of([(ids_TR, legal_TR)])
    batch.weight_NR = batch.weight_NR * torch.rand(batch.weight_NR.shape)
    cells = cell_log_probabilities(model, ids_TR, legal_TR)
    expected = 0.0
    for (step, row), log_p in cells.items():
        legal = model.head.legal_sets[int(legal_TR[step, row])]
        position = int(legal.position(ids_TR[step, row]))
        expected -= float(batch.weight_NR[step, row] * log_p[position])
    parts = model(batch)
    torch.testing.assert_close(parts.total.item(), expected, rtol=1e-5, atol=0)
    torch.testing.assert_close(parts.weight, batch.weight_NR.sum())
    assert sum(int(count) for _, count in parts.by_block.values()) == len(cells)
    assert set(parts.by_block) == {"audio.0", "audio.1", "audio.2"}


def test_a_batch_without_targets_still_has_gradients(make_model):
    model = make_model("Parallel(audio)")
    ids_TR, legal_TR = random_document(model, 4)
    parts = model(batch_of([(ids_TR, torch.zeros_like(legal_TR))]))
    parts.total.backward()
    assert parts.total == 0
    assert all(p.grad is not None for p in model.parameters())


def test_legal_positions_invert():
    legal = LegalSet("audio.0", [(3, 4), (10, 15)])
    positions = torch.arange(legal.size)
    assert legal.ids(positions).tolist() == [3, 10, 11, 12, 13, 14]
    assert torch.equal(legal.position(legal.ids(positions)), positions)
    assert legal.position(torch.tensor([5])).item() == -1


@pytest.mark.parametrize("changes", [{"n_kv_heads": 1}, {"n_kv_heads": 4}, {"bias": True}, {"qk_norm": False}])
def test_save_and_load_give_the_same_model(make_model, tmp_path, changes):
    model = make_model("Delay(audio)", seed=3, **changes)
    model.save(tmp_path)
    loaded = load_model(tmp_path)
    assert loaded.config == model.config
    assert loaded.layout == model.layout
    assert loaded.codec_identity == model.codec_identity
    batch = batch_of([random_document(model, 5)])
    assert torch.equal(loaded(batch).total, model(batch).total)


def test_the_same_seed_gives_the_same_weights(make_model):
    one, two, other = (make_model("Delay(audio)", seed=s).state_dict() for s in (1, 1, 2))
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert not torch.equal(one["head.weight"], other["head.weight"])


def test_a_run_leads_to_its_latest_checkpoint(make_model, tmp_path):
    make_model("Delay(audio)").save(tmp_path / "checkpoints" / "20" / "model")
    (tmp_path / "latest").write_text("20\n")
    assert load_model(tmp_path).layout.expression.startswith("Delay")


def test_broken_checkpoints_are_refused_by_name(make_model, tmp_path):
    with pytest.raises(InputError, match="is no hocket checkpoint: there is no such folder"):
        load_model(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="is no hocket checkpoint"):
        load_model(tmp_path / "empty")
    make_model("Delay(audio)").save(tmp_path / "m")
    config = tmp_path / "m" / "config.json"
    whole = config.read_text()
    config.write_text(json.dumps({"architectures": ["LlamaForCausalLM"]}))
    with pytest.raises(InputError, match="not one of hocket's"):
        load_model(tmp_path / "m")
    config.write_text(whole.replace('"dim": 32', '"dim": 64'))
    with pytest.raises(InputError, match="cannot be used"):
        load_model(tmp_path / "m")
    config.write_text(whole)
    (tmp_path / "m" / "model.safetensors").write_bytes(b"nonsense")
    with pytest.raises(InputError, match="cannot be used"):
        load_model(tmp_path / "m")


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"dim": 0}, "model.dim is 0, but must be at least 1"),
        ({"dim": 2**40}, "model.dim is 1,099,511,627,776, but can be at most 1,048,576"),
        ({"head_dim": 0}, "model.head_dim is 0, but must be at least 1"),
        ({"context": 2**30}, "model.context is 1073741824, but can be at most 16,777,216"),
        ({"z_loss": math.nan}, "model.z_loss is nan, but must be at least 0 and finite"),
        ({"norm_eps": -1.0}, "model.norm_eps is -1.0, but must be at least 0 and finite"),
        ({"rope_theta": 0.0}, "model.rope_theta is 0.0, but must be above 0 and finite"),
        ({"depth_rope_theta": math.inf}, "model.depth_rope_theta is inf, but must be above 0 and finite"),
        ({"rope_scaling": [-1, 1, 4, 16]}, "but its numbers must be above 0"),
        ({"rope_scaling": [4, 4, 4, 16]}, "but the second number must be below the third"),
        ({"dim": 30}, "a multiple of model.n_heads, 4"),
        ({"n_kv_heads": 3}, "multiple of model.n_kv_heads"),
        ({"attention": "magic"}, "attention"),
        ({"embeddings": "codebook"}, 'did you mean "codebooks"'),
        ({"dropout": 1.0}, "model.dropout is 1.0, but"),
    ],
)
def test_impossible_dimensions_are_refused(changes, sentence):
    with pytest.raises(InputError, match=sentence):
        ModelConfig(**changes)


def test_embeddings_start_from_codebooks(make_model, identity):
    """Equal vectors start nearly equal, other blocks and filler are left alone."""
    plain = make_model("Delay(audio)")
    config = ModelConfig(**{**plain.config.__dict__, "embeddings": "codebooks"})
    vectors = [torch.randn(size, 5) * 2.0**-k for k, size in enumerate(identity.codebook_sizes)]
    vectors[0][1] = vectors[0][0]
    model = Model.build(config, plain.vocabulary, plain.layout, identity, codebooks={"audio": vectors})
    rows, before = model.decoder.embedding.weight, plain.decoder.embedding.weight
    first = model.vocabulary["audio.0"].start
    assert (rows[first] - rows[first + 1]).norm() < 0.2 * (before[first] - before[first + 1]).norm()
    assert torch.equal(rows[: model.vocabulary["audio.0"].start], before[: model.vocabulary["audio.0"].start])
    scale = [rows[model.vocabulary[f"audio.{k}"].start :][: len(vectors[k])].std() for k in range(3)]
    assert scale[0] > scale[1] > scale[2]
    with pytest.raises(InputError, match="shows no codebooks"):
        Model.build(config, plain.vocabulary, plain.layout, identity)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("expression", MODEL_LAYOUTS)
@torch.no_grad()
def test_cuda_gives_what_the_cpu_gives(make_model, expression):
    model = make_model(expression)
    batch = batch_of([random_document(model, n, seed=n) for n in (5, 9)])
    on_cpu = model(batch)
    on_cuda = model.to("cuda")(batch.to("cuda"))
    torch.testing.assert_close(on_cuda.total.cpu(), on_cpu.total, rtol=1e-5, atol=1e-5)
    assert on_cuda.by_block.keys() == on_cpu.by_block.keys()
