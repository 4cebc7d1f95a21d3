"""Flat models as stock checkpoints: transformers loads them, with equal logits and equal greedy choices."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from hocket.errors import InputError
from hocket.interleave import Stage, load_layout
from hocket.model import Model
from hocket.model.export import export_model
from hocket.model.warm_start import TextModel, open_source
from hocket.vocab import Vocabulary
from tests.conftest import CODES, random_document

FLAT = ["Flatten(audio)", 'Flatten(audio, order="level")', "Concat(Text(text), Flatten(audio))"]
SHAPES = {
    "llama": {"qk_norm": False, "head_dim": 16},
    "llama 3": {"qk_norm": False, "rope_scaling": [4.0, 1.0, 4.0, 16.0], "rope_theta": 500.0},
    "mistral": {"qk_norm": False, "window": 6},
    "qwen2": {"qk_norm": False, "bias": True, "head_dim": 16},
    "qwen2, window": {"qk_norm": False, "bias": True, "window": 6},
    "qwen3": {"n_kv_heads": 1, "norm_eps": 1e-4},
    "qwen3, bias and window": {"bias": True, "window": 6},
    "smollm3": {"qk_norm": False, "no_rope_every": 2},
    "smollm3, bias": {"qk_norm": False, "no_rope_every": 2, "bias": True, "head_dim": 16},
}


@torch.no_grad()
def shake(model: Model) -> Model:
    """Weights that are zero or one at first differ too; filler stays zero."""
    generator = torch.Generator().manual_seed(5)
    for weight in model.parameters():
        weight += 0.2 * torch.randn(weight.shape, generator=generator)
    model.decoder.embedding.weight[model.vocabulary.id("<none>")] = 0
    return model


def load(folder: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(folder)


def one_level(make_model, identity) -> Model:
    plain, units = make_model("Flatten(audio)"), identity.with_levels(1)
    vocabulary = Vocabulary.build(plain.vocabulary.text, {"audio": units.codebook_sizes})
    return Model.build(plain.config, vocabulary, load_layout("Flatten(audio)", levels=1), units).eval()


def logits_of(model: Model, ids_T: torch.Tensor) -> torch.Tensor:
    return model.hidden(ids_T[:, None], [0, len(ids_T)]) @ model.head.weight.T


@pytest.mark.parametrize("shape", SHAPES)
@torch.no_grad()
def test_transformers_gives_equal_logits_over_the_whole_vocabulary(shape, make_model, tmp_path):
    model = shake(make_model("Flatten(audio)", softmax="full", **SHAPES[shape]))
    facts = export_model(model, tmp_path / "hf")
    stock = load(tmp_path / "hf")
    assert type(stock).__name__ == facts.architecture
    assert type(stock).__name__.lower().startswith(shape.split(",")[0].split()[0])
    assert facts.n_parameters >= model.n_parameters
    ids_T = torch.randint(model.vocabulary.size, (40,), generator=torch.Generator().manual_seed(1))
    ids_T[7] = model.vocabulary.id("<none>")
    expected = logits_of(model, ids_T)
    torch.testing.assert_close(stock(ids_T[None]).logits[0], expected, rtol=1e-5, atol=1e-5)
    assert not stock.get_input_embeddings()(torch.tensor([model.vocabulary.id("<none>")])).any()


@pytest.mark.parametrize("expression", FLAT)
@torch.no_grad()
def test_greedy_generation_is_ours(expression, make_model, tmp_path):
    model = shake(make_model(expression, softmax="full"))
    facts = export_model(model, tmp_path / "hf")
    stock = load(tmp_path / "hf")
    ids = random_document(model, 3)[0][:5, 0]
    made = stock.generate(ids[None], do_sample=False, max_new_tokens=30)[0]
    ours, ends = ids, {model.vocabulary.id(name) for name in facts.eos}
    while len(ours) < len(ids) + 30 and int(ours[-1]) not in ends:
        ours = torch.cat([ours, logits_of(model, ours)[-1:].argmax(dim=-1)])
    assert torch.equal(made, ours)
    assert facts.eos == ([] if "level" in expression else ["<end.audio>"])  # level by level the length ends it
    assert facts.n_suppressed == 0


@torch.no_grad()
def test_one_legal_set_is_kept_by_suppression(make_model, identity, tmp_path):
    """Units in one row: a stock generate draws from exactly the legal ids, as we do."""
    model = shake(one_level(make_model, identity))
    facts = export_model(model, tmp_path / "hf")
    assert facts.n_suppressed == model.vocabulary.size - CODES - 1
    assert facts.restricted
    stock = load(tmp_path / "hf")
    start = torch.tensor([[model.vocabulary.id("<bos>")]])
    made = stock.generate(start, do_sample=False, max_new_tokens=40)[0]
    legal = model.head.legal_sets[1]
    ours, end = start[0], model.vocabulary.id("<end.audio>")
    while len(ours) < 41 and int(ours[-1]) != end:
        hidden = model.hidden(ours[:, None], [0, len(ours)])[-1:]
        ours = torch.cat([ours, legal.ids(model.head.logits(hidden, 1).argmax(dim=-1))])
    assert torch.equal(made, ours)


def test_several_legal_sets_need_a_full_softmax(make_model, tmp_path):
    model = make_model("Flatten(audio)")
    with pytest.raises(InputError, match=r"has 3 legal sets, .* train with model.softmax=full, or give --unrestricted"):
        export_model(model, tmp_path / "hf")
    assert not (tmp_path / "hf").exists()
    facts = export_model(model, tmp_path / "hf", unrestricted=True)
    assert not facts.restricted
    assert "mean nothing" in (tmp_path / "hf" / "README.md").read_text()


def test_the_tokenizer_belongs_to_the_checkpoint(make_model, tmp_path):
    model = make_model("Concat(Text(text), Flatten(audio))", softmax="full")
    export_model(model, tmp_path / "hf", dtype="bfloat16")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "hf")
    ids = tokenizer("<bos>abc<end.text><audio.0:3><audio.1:4>")["input_ids"]
    assert [model.vocabulary.name_of(i) for i in ids[-3:]] == ["<end.text>", "audio.0:3", "audio.1:4"]
    assert ids[0] == tokenizer.bos_token_id == model.vocabulary.id("<bos>")
    assert tokenizer.eos_token_id == model.vocabulary.id("<end.audio>")
    assert tokenizer.pad_token_id == model.vocabulary.id("<none>")
    assert load(tmp_path / "hf").dtype == torch.bfloat16
    assert (
        json.loads((tmp_path / "hf" / "generation_config.json").read_text())["eos_token_id"] == tokenizer.eos_token_id
    )


def test_an_export_can_be_started_from(make_model, tmp_path):
    """Its ids stay: the text model that comes back has the codes among its rows."""
    model = shake(make_model("Flatten(audio)", softmax="full", bias=True))
    export_model(model, tmp_path / "hf")
    source = open_source(str(tmp_path / "hf"))
    assert isinstance(source, TextModel)
    assert source.complete({"context": model.config.context}).bias
    assert source.rows == model.vocabulary.size
    assert source.tokenizer().size == model.vocabulary.size


@pytest.mark.parametrize(
    ("expression", "stage", "changes", "sentence"),
    [
        ("Delay(audio)", {}, {}, "has 3 rows a step, .* only flat layouts"),
        (
            "Flatten(audio)",
            {"attention": "bidirectional", "objective": "masked"},
            {},
            "is causal and predicts the next",
        ),
        ("Flatten(audio)", {}, {"no_rope_every": 2}, "both blocks without rotary positions and QK norm"),
    ],
)
def test_what_no_stock_model_is_cannot_be_exported(
    expression, stage, changes, sentence, make_model, identity, tmp_path
):
    plain = make_model("Flatten(audio)", **changes)
    layout = load_layout(expression, levels=identity.levels)
    model = Model(plain.config, plain.vocabulary, Stage(name="", layout=layout, **stage), identity, "fake")
    with pytest.raises(InputError, match=sentence):
        export_model(model, tmp_path / "hf")
    with pytest.raises(InputError, match='no dtype "float31"'):
        export_model(one_level(make_model, identity), tmp_path / "hf", dtype="float31")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").touch()
    with pytest.raises(InputError, match="is not empty"):
        export_model(one_level(make_model, identity), tmp_path / "full")
