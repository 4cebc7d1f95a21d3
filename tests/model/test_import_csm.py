"""CSM of transformers as a model of ours: equal logits of trunk and depth head at every position."""

import json
from typing import Any

import pytest
import torch
from transformers import CsmConfig, CsmForConditionalGeneration

from hocket.codec import load_codec
from hocket.errors import InputError
from hocket.interleave import find_rows
from hocket.model import Model, load_model
from hocket.model.import_csm import import_csm
from hocket.model.warm_start import HocketModel, open_source
from hocket.vocab import train_bpe
from tests.codec.zoo.seanet import MIMI
from tests.conftest import batch_of

K, CODES, ROWS, ENTRIES = 5, 16, 270, 19
BEGIN, END = 256, 257
ROPE = {"rope_type": "llama3", "rope_theta": 500.0, "factor": 4.0, "low_freq_factor": 0.5, "high_freq_factor": 2.0}


@pytest.fixture(scope="module")
def csm(tmp_path_factory):
    """A tiny random CSM, and the folder it lies in."""
    folder = tmp_path_factory.mktemp("csm") / "csm"
    return make_csm(folder), folder


def make_csm(folder, **changes) -> CsmForConditionalGeneration:
    shape: dict[str, Any] = {
        "num_codebooks": K, "vocab_size": ENTRIES, "intermediate_size": 40, "num_hidden_layers": 2,
        "num_key_value_heads": 2,
    }  # fmt: skip
    depth = shape | {
        "hidden_size": 24, "num_attention_heads": 2, "backbone_hidden_size": 32, "head_dim": 16,
        "max_position_embeddings": K + 1, "rope_parameters": ROPE | {"original_max_position_embeddings": 4},
    }  # fmt: skip
    settings: Any = shape | {
        "hidden_size": 32, "num_attention_heads": 4, "text_vocab_size": ROWS, "max_position_embeddings": 96,
        "bos_token_id": BEGIN, "audio_token_id": 258, "audio_eos_token_id": 259, "pad_token_id": 258,
        "codebook_pad_token_id": 18, "rope_parameters": ROPE | {"original_max_position_embeddings": 16},
        "codec_config": {"model_type": "mimi", **MIMI, "num_quantizers": 6}, "depth_decoder_config": depth,
    }  # fmt: skip
    torch.manual_seed(0)
    model = CsmForConditionalGeneration(CsmConfig(**settings | changes)).eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "codec" not in name:
                weight.add_(torch.randn_like(weight) * (0.3 if weight.ndim == 1 else 0.1))
    model.save_pretrained(folder)
    tokenizer = json.loads(train_bpe(["abc"], 256).serialized())
    special = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    tokenizer["added_tokens"] = [{"id": i, "content": c} | special for i, c in ((BEGIN, "<|begin|>"), (END, "<|end|>"))]
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    (folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": "<|end|>"}))
    return model


def close(found, expected):
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


@pytest.fixture(scope="module")
def imported(csm, tmp_path_factory):
    folder = tmp_path_factory.mktemp("imported") / "model"
    import_csm(str(csm[1]), folder)
    return load_model(folder)


@pytest.mark.parametrize("tied", [True, False])
@torch.no_grad()
def test_logits_are_equal_at_every_position(tied, tmp_path):
    theirs = make_csm(tmp_path / "csm", tie_codebooks_embeddings=tied)
    ours = import_csm(str(tmp_path / "csm"), tmp_path / "model")
    draw = torch.Generator().manual_seed(1)
    text_T, codes_TK = torch.randint(256, (7,), generator=draw), torch.randint(CODES, (9, K), generator=draw)
    codes_TK = torch.cat([codes_TK, torch.zeros(1, K, dtype=torch.long)])  # their end

    text = torch.cat([torch.tensor([BEGIN]), text_T, torch.tensor([END])])
    embedded = torch.cat([theirs.embed_text_tokens(text)[None], theirs.backbone_model.embed_tokens(codes_TK[None])], 1)
    out = theirs(inputs_embeds=embedded, output_hidden_states=True)
    expected, states = out.logits[0], out.hidden_states[-1][0]

    plan = ours.layout.plan({"text": len(text_T), "audio": len(codes_TK) - 1}, given=ours.given)
    streams = {"text": text_T[:, None].numpy(), "audio": codes_TK[:-1].numpy()}
    ids_TR = torch.from_numpy(plan.interleave(streams, ours.vocabulary))
    hidden_TD = ours.hidden(ids_TR, [0, len(ids_TR)])
    close(hidden_TD, states)
    first = ours.vocabulary["audio.0"]
    close(hidden_TD @ ours.head.weight[first.start : first.stop].T, expected[:, :CODES])
    close(hidden_TD @ ours.head.weight[ours.vocabulary.id("<end.audio>")], expected[:, 0])

    frames = torch.arange(len(text), len(text) + 9)
    input_ids = torch.nn.functional.pad(codes_TK[:-1, : K - 1], (1, 0))
    deep = theirs.depth_decoder(input_ids=input_ids, backbone_last_hidden_state=states[frames - 1]).logits
    assert ours.depth is not None
    rows = find_rows(ours.layout, ours.given)
    h_MPE = ours.depth.states(hidden_TD[frames - 1], ids_TR[frames])
    for k in range(1, K):
        (index,) = rows.legal[k]
        close(ours.depth.logits(h_MPE[:, k], index), deep[:, k - 1, :CODES])


def test_the_files_are_whole(csm, imported):
    """The codec comes along; its fingerprint is that of the same weights found elsewhere."""
    assert imported.layout.n_rows == K
    assert imported.given == ("text",)
    assert imported.config.context == 96
    assert imported.codec.levels == K
    csm[0].codec_model.save_pretrained(csm[1] / "mimi")
    assert load_codec(str(csm[1] / "mimi"), levels=K).identity.fingerprint == imported.codec_identity.fingerprint


def test_an_import_can_be_trained_and_gone_on_from(imported, tmp_path):
    imported.save(tmp_path)
    source = open_source(str(tmp_path))
    assert isinstance(source, HocketModel)
    config = source.complete({"context": 64, "depth_dim": None})
    with pytest.raises(InputError, match=r"model\.depth_dim is 128, but model\.warm_start=.* has 24"):
        source.complete({"depth_dim": 128})
    vocabulary = source.vocabulary({"audio": imported.codec_identity.fingerprint})
    model = Model.build(config, vocabulary, imported.stage, imported.codec_identity)
    source.start(model)
    plan = model.layout.plan({"text": 4, "audio": 6}, given=model.given)
    codes = {"text": torch.arange(4)[:, None].numpy(), "audio": torch.ones(6, K, dtype=torch.long).numpy()}
    ids, legal = torch.from_numpy(plan.interleave(codes, vocabulary)), torch.from_numpy(plan.legal_TR.astype("int64"))
    parts, expected = model.train()(batch_of([(ids, legal)])), imported(batch_of([(ids, legal)]))
    close(parts.total, expected.total)
    parts.total.backward()
    assert all(weight.grad is not None for weight in model.parameters())


def test_an_import_is_refused_in_words(csm, tmp_path):
    with pytest.raises(InputError, match="is not empty"):
        import_csm(str(csm[1]), csm[1])
    folder = tmp_path / "llama"
    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "llama"}')
    with pytest.raises(
        InputError, match=r'of type "llama", not a CSM; text models are started from with model\.warm_start'
    ):
        import_csm(str(folder), tmp_path / "out")
