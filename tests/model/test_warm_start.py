"""Warm starts from transformers' text models: equal logits on text, and refusals in words."""

import json

import pytest
import torch

from hocket.errors import InputError
from hocket.interleave import load_layout
from hocket.model import Model, ModelConfig
from hocket.model.config import SHAPE_KEYS
from hocket.model.warm_start import TextModel, open_source
from hocket.training.config import TrainingGroup
from hocket.training.optimizers import build_optimizer
from hocket.vocab import Vocabulary
from tests.conftest import batch_of, random_document
from tests.model.stock_models import N_TEXT, ROWS, VARIANTS, make_stock

SETTINGS = {"context": 64}
TEXT_AND_AUDIO = "Concat(Text(text), Flatten(audio))"


def warm(folder, identity, expression=TEXT_AND_AUDIO, codebooks=None, **settings) -> Model:
    """What a recipe with model.warm_start builds."""
    source = open_source(str(folder))
    assert isinstance(source, TextModel)
    config = source.complete(SETTINGS | settings)
    layout = load_layout(expression, levels=identity.levels)
    text = source.tokenizer() if "text" in layout.streams else None
    vocabulary = Vocabulary.build(text, {"audio": identity.codebook_sizes}, text_rows=source.rows if text else None)
    model = Model.build(config, vocabulary, layout, identity, codebooks=codebooks).eval()
    source.start(model)
    return model


def text_logits(model, ids_T) -> torch.Tensor:
    return model.hidden(ids_T[:, None], [0, len(ids_T)]) @ model.head.weight[:ROWS].T


def assert_close(found, expected):
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("variant", VARIANTS)
@torch.no_grad()
def test_logits_on_text_equal_those_of_transformers(variant, tmp_path, identity):
    family, changes = VARIANTS[variant]
    stock = make_stock(tmp_path, family, **changes)
    ids_T = torch.randint(N_TEXT, (40,), generator=torch.Generator().manual_seed(1))
    expected = stock(ids_T[None]).logits[0]
    assert expected.std() > 0.5
    model = warm(tmp_path, identity)
    assert_close(text_logits(model, ids_T), expected)
    cache = model.decoder.new_cache(1, 40)
    steps = [model.decoder.step(part[None, :, None], cache)[0] for part in ids_T.split([9, 1, 30])]
    assert_close(torch.cat(steps) @ model.head.weight[:ROWS].T, expected)


@torch.no_grad()
def test_the_first_step_and_the_end_of_text_are_those_of_the_source(tmp_path, identity):
    stock = make_stock(tmp_path, "llama")
    ids_T = torch.randint(N_TEXT, (12,), generator=torch.Generator().manual_seed(1))
    model = warm(tmp_path, identity)
    begin, end = (torch.tensor([model.vocabulary.id(name)]) for name in ("<bos>", "<end.text>"))
    with_ours = torch.cat([begin, ids_T, end])
    with_theirs = torch.cat([torch.tensor([260]), ids_T, torch.tensor([261])])
    assert_close(text_logits(model, with_ours), stock(with_theirs[None]).logits[0])
    assert torch.equal(model.head.weight[end], stock.lm_head.weight[[261]])


@torch.no_grad()
def test_shards_in_bfloat16(tmp_path, identity):
    stock = make_stock(tmp_path, "qwen3", dtype=torch.bfloat16)
    whole = warm(tmp_path, identity)
    (tmp_path / "model.safetensors").unlink()
    stock.save_pretrained(tmp_path, max_shard_size="20KB")
    assert len(list(tmp_path.glob("model-*.safetensors"))) > 2
    sharded = warm(tmp_path, identity)
    for name, weight in whole.state_dict().items():
        assert torch.equal(weight, sharded.state_dict()[name]), name
    ids_T = torch.arange(20)
    read_again = type(stock).from_pretrained(tmp_path, dtype=torch.float32)
    assert_close(text_logits(sharded, ids_T), read_again(ids_T[None]).logits[0])
    config = tmp_path / "config.json"
    (tmp_path / "model.safetensors.index.json").rename(tmp_path / "other.safetensors.index.json")
    named = json.loads(config.read_text()) | {"transformers_weights": "other.safetensors.index.json"}
    config.write_text(json.dumps(named))
    assert torch.equal(warm(tmp_path, identity).head.weight, sharded.head.weight)
    shard = sorted(tmp_path.glob("model-*.safetensors"))[1]
    shard.write_bytes(shard.read_bytes()[:100])
    with pytest.raises(InputError, match=f"{shard.name} cannot be read"):
        warm(tmp_path, identity)
    shard.unlink()
    with pytest.raises(InputError, match=f"{shard.name} cannot be read"):
        warm(tmp_path, identity)


@pytest.mark.parametrize("how", ["normal", "mean", "copy", "codebooks"])
@pytest.mark.parametrize("expression", [TEXT_AND_AUDIO, "Delay(audio)"])
@torch.no_grad()
def test_new_rows_start_as_chosen(how, expression, tmp_path, identity):
    stock = make_stock(tmp_path, "llama")
    vectors = [torch.randn(size, 5) * 2.0**-k for k, size in enumerate(identity.codebook_sizes)]
    model = warm(tmp_path, identity, expression, codebooks={"audio": vectors}, embeddings=how)
    table, vocabulary = model.decoder.embedding.weight, model.vocabulary
    used = stock.model.embed_tokens.weight[: N_TEXT if vocabulary.text else ROWS]
    rows = [table[vocabulary[f"audio.{k}"].start : vocabulary[f"audio.{k}"].stop] for k in range(identity.levels)]
    audio = torch.cat(rows)
    if how == "mean":
        assert_close(audio, used.mean(dim=0).expand_as(audio))
    elif how == "normal":
        assert abs(audio.std() / used.std() - 1) < 0.1
        assert (audio.mean(dim=0) - used.mean(dim=0)).abs().max() < 0.5 * used.std()
    elif how == "copy":
        assert all((used == row).all(dim=1).any() for row in audio)
        assert len(audio.unique(dim=0)) == len(audio)
    else:
        frames = torch.stack(rows).sum(dim=0)
        assert 0.5 < frames.std() / used.std() < 2
        assert rows[0].std() > rows[1].std() > rows[2].std()
    assert not table[vocabulary.id("<none>")].any()


@torch.no_grad()
def test_a_warm_start_is_healthy(tmp_path, identity):
    """Codes are as likely as each other at first, whatever the scale of the source's last norm."""
    make_stock(tmp_path, "qwen3")
    model = warm(tmp_path, identity)
    hidden = model.hidden(torch.arange(60)[:, None], [0, 60])
    block = model.vocabulary["audio.0"]
    logits = hidden @ model.head.weight[block.start : block.stop].T
    assert 0.15 < logits.std(dim=1).mean() < 0.35


def test_dimensions_come_from_the_source_and_may_not_be_contradicted(tmp_path, identity):
    make_stock(tmp_path, "qwen3", head_dim=16)
    source = open_source(str(tmp_path))
    config = source.complete({"dim": None, "n_layers": 4, "context": 48, "dropout": 0.1})
    assert (config.dim, config.head_dim, config.n_layers, config.qk_norm) == (32, 16, 4, True)
    assert (config.context, config.dropout) == (48, 0.1)
    with pytest.raises(InputError, match=r"model.dim is 256, but model.warm_start=.* has 32"):
        source.complete({"dim": 256})
    assert set(SHAPE_KEYS) <= set(config.__dataclass_fields__)


@pytest.mark.parametrize(
    ("family", "changes", "sentence"),
    [
        ("llama", {"mlp_bias": True}, "mlp_bias"),
        ("llama", {"hidden_act": "gelu"}, 'the activation "gelu"'),
        ("llama", {"rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 1e4}}, 'of type "linear"'),
        ("llama", {"attention_bias": True}, "has a weight .*o_proj.bias, which a llama here lacks"),
        ("smollm3", {"no_rope_layers": [1, 0, 0, 1]}, "irregular choice"),
        ("qwen3", {"use_sliding_window": True, "sliding_window": 4, "max_window_layers": 2}, "exceeds"),
        ("qwen2", {"hidden_size": 36, "num_attention_heads": 6, "tie_word_embeddings": True}, None),
    ],
)
def test_what_is_not_computed_is_refused_by_name(family, changes, sentence, tmp_path, identity):
    make_stock(tmp_path, family, **changes)
    if sentence is None:
        warm(tmp_path, identity)
    else:
        with pytest.raises(InputError, match=sentence):
            warm(tmp_path, identity)


def test_other_families_and_places_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"cannot be fetched"):
        open_source(str(tmp_path / "nowhere"))
    with pytest.raises(InputError, match=r"has no config\.json"):
        open_source(str(tmp_path))
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "gemma2"}))
    with pytest.raises(InputError, match='type "gemma2"; a warm start is possible from llama, mistral, qwen2'):
        open_source(str(tmp_path))
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama", "hidden_size": "wide"}))
    with pytest.raises(InputError, match="cannot be used"):
        open_source(str(tmp_path))


def test_incomplete_weights_are_refused(tmp_path, identity):
    stock = make_stock(tmp_path, "llama")
    stock.save_pretrained(tmp_path, state_dict={k: v for k, v in stock.state_dict().items() if "layers.2.mlp" not in k})
    with pytest.raises(InputError, match=r"incomplete: layers.2.mlp.down_proj.weight is missing"):
        warm(tmp_path, identity)
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(InputError, match=r"holds no model\.safetensors"):
        warm(tmp_path, identity)


@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_frozen_text_rows_stay_and_the_others_learn(decay, tmp_path, identity):
    make_stock(tmp_path, "llama")
    model = warm(tmp_path, identity, text_rows="frozen").train()
    before = {name: weight.detach().clone() for name, weight in model.named_parameters()}
    optimizer = build_optimizer(model, TrainingGroup(lr=0.1, weight_decay=decay))
    for seed in range(2):
        parts = model(batch_of([random_document(model, 6, seed)]))
        optimizer.zero_grad()
        (parts.total / parts.weight).backward()
        optimizer.step()
    for name in ("decoder.embedding.weight", "head.weight"):
        after = dict(model.named_parameters())[name]
        assert torch.equal(after[:ROWS], before[name][:ROWS])
        assert not torch.equal(after[ROWS:], before[name][ROWS:])
    with pytest.raises(InputError, match=r"model.text_rows=frozen needs model.warm_start"):
        ModelConfig(text_rows="frozen")
