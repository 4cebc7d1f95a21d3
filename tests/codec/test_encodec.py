"""EnCodec beside direct, unpadded calls of transformers' class, and its traps."""

from dataclasses import replace
from fractions import Fraction
from typing import Any

import pytest
import torch
from transformers import EncodecConfig, EncodecModel

from hocket.codec import load_codec, resample
from hocket.codec.adapters import seanet_codec
from hocket.codec.adapters.encodec import CausalEncodec, WholeEncodec, WindowedEncodec
from hocket.errors import InputError
from tests.codec.zoo import seanet as zoo

SHAPES = {"causal": {}, "looking-ahead": zoo.LOOKING_AHEAD, "in-windows": zoo.IN_WINDOWS}
CLASSES = {"causal": CausalEncodec, "looking-ahead": WholeEncodec, "in-windows": WindowedEncodec}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    return {name: zoo.build_encodec(tmp_path_factory.mktemp(name), **changes) for name, changes in SHAPES.items()}


@pytest.fixture(scope="module")
def causal(folders):
    return load_codec(folders["causal"])


@torch.no_grad()
def direct(net: Any, wav_S: torch.Tensor) -> torch.Tensor:
    """Codes [T, K] of transformers' own call, at its highest bandwidth."""
    wav_BCS = wav_S.expand(1, net.config.audio_channels, -1)
    out = net.encode(wav_BCS, bandwidth=net.config.target_bandwidths[-1])
    codes_TK = out.audio_codes[:, 0].transpose(1, 2).flatten(0, 1)
    return codes_TK[: len(codes_TK) - out.last_frame_pad_length]


@pytest.mark.parametrize("shape", SHAPES)
def test_codes_equal_those_of_a_direct_call_item_by_item(folders, speech, shape):
    codec, net = load_codec(folders[shape]), EncodecModel.from_pretrained(folders[shape]).eval()
    assert type(codec) is CLASSES[shape]
    assert codec.levels == net.config.num_quantizers
    items = [
        resample(wav_S[8000:], 16000, codec.sample_rate)[:n]
        for wav_S, n in zip(speech, (9000, 8001, 1700, 641), strict=False)
    ]
    padded = torch.nn.utils.rnn.pad_sequence(items, batch_first=True, padding_value=0.3)
    codes = codec.encode(padded, codec.sample_rate, [len(item_S) for item_S in items])
    for row, item_S in enumerate(items):
        n_frames = int(codes.lengths_B[row])
        assert torch.equal(codes.tokens_BTK[row, :n_frames], direct(net, item_S))


@pytest.mark.parametrize("n_samples", [1, 7, 160, 161, 479, 480, 481, 900, 1121, 1279, 1280])
def test_a_short_item_is_mirrored_as_it_is_alone(causal, folders, speech, n_samples):
    net, wav_S = EncodecModel.from_pretrained(folders["causal"]).eval(), speech[1][9000:]
    batch = torch.stack([wav_S[:4000], wav_S[2000:6000]])
    codes = causal.encode(batch, causal.sample_rate, [4000, n_samples])
    n_frames = int(codes.lengths_B[1])
    assert n_frames == -(-n_samples // causal.hop)
    assert torch.equal(codes.tokens_BTK[1, :n_frames], direct(net, wav_S[2000 : 2000 + n_samples]))


@pytest.mark.parametrize("shape", SHAPES)
def test_decoding_equals_a_direct_call(folders, speech, shape):
    codec, net = load_codec(folders[shape]), EncodecModel.from_pretrained(folders[shape]).eval()
    wav_S = resample(speech[0][8000:], 16000, codec.sample_rate)[:3100]
    codes = codec.encode(wav_S, codec.sample_rate)
    with torch.no_grad():
        wav_BCS = wav_S.expand(1, net.config.audio_channels, -1)
        out = net(wav_BCS, bandwidth=net.config.target_bandwidths[-1])
    theirs = out.audio_values[0].clamp(-1, 1)
    torch.testing.assert_close(codec.decode(codes).reshape(theirs.shape), theirs, atol=1e-5, rtol=0)


def test_a_long_recording_has_the_codes_that_it_has_in_one_piece(causal, speech, monkeypatch):
    wav_S = torch.cat(speech)[:30000]
    pieces = causal.encode(wav_S, causal.sample_rate), causal.decode(causal.encode(wav_S, causal.sample_rate))
    monkeypatch.setattr(seanet_codec, "PIECE_SECONDS", 60.0)
    whole = causal.encode(wav_S, causal.sample_rate)
    assert torch.equal(pieces[0].tokens_BTK, whole.tokens_BTK)
    torch.testing.assert_close(pieces[1], causal.decode(whole), atol=1e-5, rtol=0)


def test_several_threads_give_the_codes_of_one(causal, speech):
    padded = torch.nn.utils.rnn.pad_sequence([wav_S[:9000] for wav_S in speech], batch_first=True)
    lengths, before = [9000 - 700 * row for row in range(len(speech))], torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = causal.encode(padded, causal.sample_rate, lengths)
        torch.set_num_threads(2)
        two = causal.encode(padded, causal.sample_rate, lengths)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert torch.equal(one.tokens_BTK, two.tokens_BTK)


def test_weight_norms_are_gone_and_the_weights_are_the_same(causal, folders):
    net = EncodecModel.from_pretrained(folders["causal"]).eval()
    own = {name: module for name, module in causal.net.named_modules() if hasattr(module, "weight")}
    assert not any(torch.nn.utils.parametrize.is_parametrized(module) for module in own.values())
    for name, module in net.named_modules():
        if isinstance(module, torch.nn.Conv1d | torch.nn.ConvTranspose1d):
            assert torch.equal(module.weight, own[name].weight)


def test_scales_are_kept_and_a_prompt_without_them_is_decoded_at_scale_1(folders, speech):
    codec = load_codec(folders["in-windows"])
    wav_S = resample(speech[0][8000:], 16000, 48000)[:3100]
    codes = codec.encode(wav_S, 48000)
    assert codes.scales_BW is not None
    assert codes.scales_BW.shape == (1, 4)
    torch.testing.assert_close(codes.scales_BW[0, 0], wav_S[:960].square().mean().sqrt() + 1e-8)
    ones = replace(codes, scales_BW=torch.ones(1, 4))
    assert torch.equal(codec.decode(replace(codes, scales_BW=None)), codec.decode(ones))
    assert float(codec.decode(codes).abs().mean()) < float(codec.decode(ones).abs().mean())


def test_frames_of_windows_are_counted_exactly(folders, speech):
    codec = load_codec(folders["in-windows"])
    assert codec.frame_rate == Fraction(48000 * 6, 864)
    assert [codec.samples_of(n) for n in (0, 1, 6, 7, 12, 13)] == [0, 160, 960, 1024, 1824, 1888]
    for n_samples in (864, 960, 961, 1824, 1825, 2000):
        codes = codec.encode(speech[0][:n_samples], 48000)
        assert codec.decode(codes).shape[-1] == n_samples


def test_the_published_rates_follow_from_the_configs():
    published = {"sampling_rate": 48000, "audio_channels": 2, "chunk_length_s": 1.0, "overlap": 0.01}
    rates = WindowedEncodec.describe(EncodecConfig(**published, target_bandwidths=[3.0, 24.0]))
    assert (rates["hop"], rates["window"], rates["window_stride"], len(rates["codebook_sizes"])) == (
        320,
        48000,
        47520,
        16,
    )
    assert len(CausalEncodec.describe(EncodecConfig())["codebook_sizes"]) == 32
    music = {
        "sampling_rate": 32000,
        "upsampling_ratios": [8, 5, 4, 4],
        "codebook_size": 2048,
        "target_bandwidths": [2.2],
    }
    assert WholeEncodec.describe(EncodecConfig(**music))["codebook_sizes"] == (2048,) * 4


def test_loudness_without_windows_is_refused(tmp_path):
    with pytest.raises(InputError, match="normalises loudness without windows"):
        load_codec(zoo.build_encodec(tmp_path, normalize=True))
