"""Mimi beside direct, unpadded calls of transformers' class, and its traps."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import MimiModel

from hocket.codec import load_codec, resample
from hocket.errors import InputError
from tests.codec.zoo import seanet as zoo


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return zoo.build_mimi(tmp_path_factory.mktemp("mimi"))


@pytest.fixture(scope="module")
def codec(folder):
    return load_codec(folder)


@pytest.fixture(scope="module")
def net(folder):
    return MimiModel.from_pretrained(folder).eval()


@pytest.fixture(scope="module")
def items(speech):
    return [resample(wav_S[8000:], 16000, 24000)[:n] for wav_S, n in zip(speech, (9000, 8001, 1701, 300), strict=False)]


@torch.no_grad()
def direct(net: Any, wav_S: torch.Tensor) -> torch.Tensor:
    return net.encode(wav_S[None, None], num_quantizers=net.config.num_quantizers).audio_codes[0].T


def test_codes_equal_those_of_a_direct_call_item_by_item(codec, net, items):
    padded = torch.nn.utils.rnn.pad_sequence(items, batch_first=True, padding_value=0.3)
    codes = codec.encode(padded, 24000, [len(item_S) for item_S in items])
    assert codec.levels == net.config.num_quantizers
    assert codec.identity.semantic_level == 0
    for row, item_S in enumerate(items):
        assert torch.equal(codes.tokens_BTK[row, : int(codes.lengths_B[row])], direct(net, item_S))


@pytest.mark.parametrize("levels", [1, 3])
def test_fewer_levels_are_asked_for_by_number(folder, net, items, levels):
    codes = load_codec(folder, levels).encode(items[0], 24000)
    assert torch.equal(codes.tokens_BTK[0], direct(net, items[0])[:, :levels])


def test_a_streamed_decode_equals_the_whole_where_the_class_with_its_cache_does_not(codec, net, items):
    codes = codec.encode(items[0], 24000)
    whole_S, codes_BKT = codec.decode(replace(codes, n_samples_B=None))[0], codes.tokens_BTK.transpose(1, 2)
    stream = codec.stream_decoder()
    streamed = [stream.push(codes_TK) for codes_TK in codes.tokens_BTK[0].split(3)]
    torch.testing.assert_close(torch.cat([*streamed, stream.finish()]), whole_S, atol=1e-5, rtol=0)
    cache, pieces = None, []
    with torch.no_grad():
        torch.testing.assert_close(net.decode(codes_BKT).audio_values[0, 0].clamp(-1, 1), whole_S, atol=1e-5, rtol=0)
        for piece_BKT in codes_BKT.split(3, dim=2):
            out = net.decode(piece_BKT, decoder_past_key_values=cache, use_cache=True)
            pieces.append(out.audio_values[0, 0])
            cache = out.decoder_past_key_values
    assert float((torch.cat(pieces) - whole_S).abs().max()) > 1e-3


def test_the_attention_window_is_kept_over_many_pieces(codec, net, speech):
    wav_S = torch.cat(speech)[8000:20000]
    stream = codec.stream_encoder()
    streamed = [stream.push(piece_S) for piece_S in wav_S.split(1000)]
    assert torch.equal(torch.cat([*streamed, stream.finish()]), direct(net, wav_S))


def test_the_published_names_of_the_weights_are_found(folder, codec, tmp_path):
    published = load_file(folder / "model.safetensors")
    assert "encoder.layers.0.conv.weight" in published
    assert "downsample.conv.weight" in published
    del published["downsample.conv.weight"]
    (tmp_path / "config.json").write_bytes((folder / "config.json").read_bytes())
    save_file(published, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(InputError, match="1 weights of MimiModel are missing"):
        load_codec(tmp_path)


def test_more_levels_than_there_are(folder):
    with pytest.raises(InputError, match="levels 1 to 5"):
        load_codec(folder, levels=6)
