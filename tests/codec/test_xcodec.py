"""X-Codec and the Higgs Audio v2 tokenizer: codes of the classes themselves, bandwidths, streams, and the traps."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import XcodecModel

from hocket.codec import load_codec, resample
from hocket.codec.adapters import dac as dac_module
from hocket.codec.adapters.context import changed_by_a_frame
from hocket.codec.adapters.sinc import sinc_resample
from hocket.codec.adapters.xcodec import HiggsCodec, XcodecCodec, higgs_class
from hocket.errors import InputError
from tests.codec.zoo.xcodec import BUILDERS


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[str, Path]:
    return {name: build(tmp_path_factory.mktemp(name)) for name, build in BUILDERS.items()}


@pytest.fixture(scope="module", params=BUILDERS)
def codec(request, folders) -> XcodecCodec:
    return load(folders[request.param])


def load(folder: Path, levels: int | None = None) -> XcodecCodec:
    codec = load_codec(folder, levels)
    assert isinstance(codec, XcodecCodec)
    return codec


def at_rate(codec: XcodecCodec, wav_S: torch.Tensor) -> torch.Tensor:
    return resample(wav_S[:20000], 16000, codec.sample_rate)


def direct(codec: XcodecCodec, wav_S: torch.Tensor, bandwidth: float | None = None) -> torch.Tensor:
    """Codes [T, K] of a plain call of the class."""
    with torch.no_grad():
        return codec.net.encode(wav_S[None, None], bandwidth=bandwidth).audio_codes[0].T


def test_codes_are_those_of_a_direct_unpadded_call_of_the_class(codec, speech):
    items = [at_rate(codec, wav_S) for wav_S in speech[:4]]
    padded = torch.nn.utils.rnn.pad_sequence(items, batch_first=True)
    codes = codec.encode(padded, codec.sample_rate, [len(item) for item in items])
    for row, item_S in enumerate(items):
        assert torch.equal(codes.tokens_BTK[row, : codes.lengths_B[row]], direct(codec, item_S))


def test_trap_zero_padding_changes_the_codes_of_the_raw_class(codec, speech):
    wav_S = at_rate(codec, speech[0])[: 20 * codec.hop]
    padded_S = torch.nn.functional.pad(wav_S, (0, 20 * codec.hop))
    assert float((direct(codec, padded_S)[:20] != direct(codec, wav_S)).float().mean()) > 0.1
    assert torch.equal(codec.encode(padded_S, codec.sample_rate, [len(wav_S)]).tokens_BTK[0], direct(codec, wav_S))


def test_trap_the_class_takes_its_highest_bandwidth_unless_told(codec):
    wav_S = torch.randn(20 * codec.hop)
    highest = codec.net.config.target_bandwidths[-1]
    assert direct(codec, wav_S).shape[1] == direct(codec, wav_S, highest).shape[1] == codec.levels


def test_any_number_of_levels_is_the_lowest_bandwidth_that_has_them_cut(codec):
    wav_S, rates = torch.randn(20 * codec.hop), codec.net.config.target_bandwidths
    whole_TK = direct(codec, wav_S)
    for levels in range(1, codec.levels + 1):
        fewer = load(codec.folder, levels)
        assert torch.equal(fewer.encode(wav_S, codec.sample_rate).tokens_BTK[0], whole_TK[:, :levels])
        assert direct(codec, wav_S, fewer.bandwidth).shape[1] >= levels
        below = [rate for rate in rates if rate < fewer.bandwidth]
        assert all(direct(codec, wav_S, rate).shape[1] < levels for rate in below)


def test_trap_a_bandwidth_just_below_its_levels_is_no_surprise(folders, tmp_path):
    """0.6 kbit/s of levels of 0.2 is 2 levels to the class: its division rounds down."""
    net = XcodecModel.from_pretrained(folders["xcodec"])
    net.config.target_bandwidths = [0.2, 0.6, 1.0]
    net.save_pretrained(tmp_path)
    codec, wav_S = load(tmp_path, 3), torch.randn(6400)
    assert direct(codec, wav_S, 0.6).shape[1] == 2
    assert codec.bandwidth == 1.0
    assert codec.encode(wav_S, 16000).tokens_BTK.shape[2] == 3


@pytest.mark.parametrize("rates", [[0.2, 0.6], [0.2, 0.4]])
def test_as_many_levels_as_the_highest_bandwidth_reaches(folders, rates):
    config = XcodecModel.from_pretrained(folders["xcodec"]).config
    config.target_bandwidths = rates
    assert len(XcodecCodec.describe(config)["codebook_sizes"]) == 2


def test_frames_of_short_items(codec):
    hop, before = codec.hop, {"xcodec": 79, "higgs_audio_v2_tokenizer": 118}[codec.net.config.model_type]
    for n_samples, n_frames in ((1, 0), (before, 0), (before + 1, 1), (before + hop, 1), (before + hop + 1, 2)):
        codes = codec.encode(torch.randn(n_samples), codec.sample_rate)
        assert codes.lengths_B.tolist() == [n_frames]


def test_encoding_does_not_stream_and_says_why(codec):
    with pytest.raises(InputError, match="cannot stream: HuBERT in its encoder attends over the whole recording"):
        codec.stream_encoder()


def test_decoding_streams_and_goes_in_pieces(codec, monkeypatch):
    generator = torch.Generator().manual_seed(0)
    codes = codec.encode(torch.randn(codec.hop * 60, generator=generator), codec.sample_rate)
    whole = codec.decode(replace(codes, n_samples_B=None))
    stream = codec.stream_decoder()
    first = stream.push(codes.tokens_BTK[0, :20])
    assert len(first) == 20 * codec.hop - codec.identity.output_delay
    pieces = [stream.push(codes_TK) for codes_TK in codes.tokens_BTK[0, 20:].split(7)]
    torch.testing.assert_close(torch.cat([first, *pieces, stream.finish()]), whole[0], atol=1e-5, rtol=0)
    monkeypatch.setattr(dac_module, "PIECE", 16)
    monkeypatch.setattr("hocket.codec.adapters.context.PIECE", 16)
    torch.testing.assert_close(codec.decode(replace(codes, n_samples_B=None)), whole, atol=1e-5, rtol=0)


def test_decoded_audio_is_that_of_the_class(codec):
    codes = codec.encode(torch.randn(codec.hop * 20), codec.sample_rate)
    with torch.no_grad():
        raw_BCS = codec.net.decode(codes.tokens_BTK.transpose(1, 2)).audio_values
    assert raw_BCS.shape == (1, 1, 20 * codec.hop)
    torch.testing.assert_close(codec.decode(codes), raw_BCS[:, 0].clamp(-1, 1))


def test_a_frame_changes_no_more_and_no_fewer_samples_than_its_reach(codec):
    reach = changed_by_a_frame(codec.net.acoustic_decoder)
    latent_BDT = torch.randn(1, codec.net.config.acoustic_model_config.hidden_size, 40, requires_grad=True)
    wav_S = codec.net.acoustic_decoder(latent_BDT)[0, 0]
    first, last = 20 * codec.hop + reach.first, 20 * codec.hop + reach.last
    for sample, changes in ((first - 1, False), (first, True), (last, True), (last + 1, False)):
        (gradient,) = torch.autograd.grad(wav_S[sample], latent_BDT, retain_graph=True)
        assert bool(gradient[..., 20].any()) == changes
    assert codec.identity.output_delay == -reach.first


def test_codebooks_sum_to_what_the_decoder_gets(codec):
    codes = codec.encode(torch.randn(codec.hop * 20), codec.sample_rate)
    assert codec.codebooks is not None
    entries = [book_ED[codes.tokens_BTK[0, :, level]] for level, book_ED in enumerate(codec.codebooks)]
    with torch.no_grad():
        latent_BDT = codec.net.quantizer.decode(codes.tokens_BTK.permute(2, 0, 1))
    torch.testing.assert_close(torch.stack(entries).sum(dim=0), latent_BDT[0].T)


def test_rates_are_exact_and_the_network_evaluates(folders):
    xcodec, higgs = load(folders["xcodec"]), load(folders["higgs-audio-v2"])
    assert (xcodec.sample_rate, xcodec.hop, xcodec.frame_rate) == (16000, 320, 50)
    assert isinstance(higgs, HiggsCodec)
    assert (higgs.sample_rate, higgs.hop, higgs.frame_rate) == (24000, 960, 25)
    assert not any(module.training for codec in (xcodec, higgs) for module in codec.net.modules())


def test_missing_weights_are_refused(folders, tmp_path):
    net: Any = higgs_class().from_pretrained(folders["higgs-audio-v2"])
    weights = {name: tensor for name, tensor in net.state_dict().items() if not name.startswith("fc2")}
    net.save_pretrained(tmp_path, state_dict=weights)
    with pytest.raises(InputError, match=r"2 weights of HiggsAudioV2TokenizerModel are missing.*fc2"):
        load_codec(tmp_path)


@pytest.mark.parametrize(("from_rate", "to_rate"), [(24000, 16000), (16000, 24000), (44100, 16000), (8000, 8000)])
def test_sinc_resampling_keeps_what_both_rates_can_carry(from_rate, to_rate):
    def tone(rate: int) -> torch.Tensor:
        return torch.sin(2 * torch.pi * 440 * torch.arange(rate // 4) / rate)

    wav_BCS = sinc_resample(tone(from_rate)[None, None], from_rate, to_rate)
    assert wav_BCS.shape == (1, 1, to_rate // 4)
    torch.testing.assert_close(wav_BCS[0, 0, 100:-100], tone(to_rate)[100:-100], atol=2e-3, rtol=0)


def test_sinc_resampling_is_that_of_torchaudio():
    functional = pytest.importorskip("torchaudio.functional")
    wav_BCS = torch.randn(2, 1, 5003)
    theirs_BCS = functional.resample(wav_BCS, 24000, 16000)
    torch.testing.assert_close(sinc_resample(wav_BCS, 24000, 16000), theirs_BCS, atol=1e-6, rtol=0)
