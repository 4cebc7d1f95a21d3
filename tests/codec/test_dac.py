"""DAC: codes of `DacModel` itself, exact windows and streams, and the traps of the class."""

from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import DacFeatureExtractor, DacModel

from hocket.codec import load_codec, resample
from hocket.codec.adapters import dac as dac_module
from hocket.codec.adapters.context import changed_by_a_frame, frames_of, seen_by_a_frame
from hocket.codec.adapters.dac import DacCodec
from hocket.errors import InputError
from tests.codec.zoo.dac import BUILDERS


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[str, Path]:
    return {name: build(tmp_path_factory.mktemp(name)) for name, build in BUILDERS.items()}


@pytest.fixture(scope="module", params=["dac-16khz", "dac-44khz"])
def codec(request, folders) -> DacCodec:
    return load(folders, request.param)


def load(folders: dict[str, Path], name: str, levels: int | None = None) -> DacCodec:
    codec = load_codec(folders[name], levels)
    assert isinstance(codec, DacCodec)
    return codec


def at_rate(codec: DacCodec, wav_S: torch.Tensor) -> torch.Tensor:
    return resample(wav_S, 16000, codec.sample_rate)


def direct(codec: DacCodec, wav_S: torch.Tensor) -> torch.Tensor:
    """Codes [T, K] of a plain call of the class."""
    with torch.no_grad():
        return codec.net.encode(wav_S[None, None], n_quantizers=codec.levels).audio_codes[0].T


def test_codes_are_those_of_a_direct_unpadded_call_of_the_class(codec, speech):
    items = [at_rate(codec, wav_S[:20000]) for wav_S in speech[:4]]
    padded = torch.nn.utils.rnn.pad_sequence(items, batch_first=True)
    codes = codec.encode(padded, codec.sample_rate, [len(item) for item in items])
    for row, item_S in enumerate(items):
        assert torch.equal(codes.tokens_BTK[row, : codes.lengths_B[row]], direct(codec, item_S))


def test_trap_zero_padding_changes_the_codes_of_the_raw_class(folders, speech):
    codec, changed = load(folders, "dac-16khz"), 0
    for item_S in speech:
        wav_S = item_S[: 320 * 40]
        padded_S = torch.nn.functional.pad(wav_S, (0, 320 * 20))
        changed += int((direct(codec, padded_S)[:40] != direct(codec, wav_S)).sum())
        assert torch.equal(codec.encode(padded_S, 16000, [len(wav_S)]).tokens_BTK[0], direct(codec, wav_S))
    assert changed


def test_whole_frames_have_the_codes_that_the_feature_extractor_leads_to(folders, speech):
    codec = load(folders, "dac-16khz")
    extractor = DacFeatureExtractor(sampling_rate=16000, hop_length=320)
    wav_S = speech[0][: 320 * 40]
    inputs = extractor(raw_audio=wav_S.numpy(), sampling_rate=16000, return_tensors="pt")
    assert torch.equal(direct(codec, inputs["input_values"][0, 0]), codec.encode(wav_S, 16000).tokens_BTK[0])


def test_trap_training_mode_ignores_the_number_of_levels(folders):
    codec, wav_S = load(folders, "dac-16khz", 2), torch.randn(3200)
    assert not codec.net.training
    assert codec.encode(wav_S, 16000).tokens_BTK.shape[2] == 2
    raw: Any = DacModel.from_pretrained(folders["dac-16khz"]).train()
    with torch.no_grad():
        assert raw.encode(wav_S[None, None], n_quantizers=2).audio_codes.shape[1] == 4


def test_trap_the_class_rounds_the_frame_rate(folders):
    codec = load(folders, "dac-44khz")
    assert codec.frame_rate == Fraction(44100, 512)
    assert codec.net.config.frame_rate == 87


def test_trap_a_config_states_another_hop_than_the_strides_make(folders, tmp_path):
    """The published 24 kHz config says 512 where its strides make 320."""
    net = DacModel.from_pretrained(folders["dac-24khz"])
    net.config.hop_length = 512
    net.save_pretrained(tmp_path)
    codec = load({"saved": tmp_path}, "saved")
    assert codec.net.config.hop_length == 512
    assert (codec.hop, codec.frame_rate) == (320, 75)


def test_trap_decoding_can_be_shorter_than_whole_frames(folders):
    codec = load(folders, "dac-16khz")
    codes = replace(codec.encode(torch.randn(3200), 16000), n_samples_B=None)
    with torch.no_grad():
        raw_BS = codec.net.decode(audio_codes=codes.tokens_BTK.transpose(1, 2)).audio_values
    ours_BS = codec.decode(codes)
    assert raw_BS.shape == (1, 3192)
    assert ours_BS.shape == (1, 3200)
    torch.testing.assert_close(ours_BS[:, :3192], raw_BS)
    assert not ours_BS[:, 3192:].any()


def test_long_recordings_are_encoded_in_pieces_and_equal_the_whole(codec, speech, monkeypatch):
    wav_S = at_rate(codec, torch.cat(speech))[: codec.hop * 80 + 77]
    whole = codec.encode(wav_S, codec.sample_rate)
    decoded = codec.decode(whole)
    longest = []
    run = codec.net.encode
    monkeypatch.setattr(codec.net, "encode", lambda wav, **kwargs: longest.append(wav.shape[2]) or run(wav, **kwargs))
    monkeypatch.setattr(dac_module, "PIECE", 16)
    monkeypatch.setattr("hocket.codec.adapters.context.PIECE", 16)
    pieces = codec.encode(wav_S, codec.sample_rate)
    assert torch.equal(pieces.tokens_BTK, whole.tokens_BTK)
    assert max(longest) < 36 * codec.hop
    torch.testing.assert_close(codec.decode(pieces), decoded, atol=1e-5, rtol=0)


@pytest.mark.parametrize("piece", [300, 7777])
def test_a_stream_of_many_frames_equals_the_whole(codec, speech, piece):
    wav_S = at_rate(codec, torch.cat(speech))[: codec.hop * 60 + 123]
    stream = codec.stream_encoder()
    codes = [stream.push(piece_S) for piece_S in wav_S.split(piece)]
    whole = codec.encode(wav_S, codec.sample_rate)
    assert torch.equal(torch.cat([*codes, stream.finish()]), whole.tokens_BTK[0])
    backwards = codec.stream_decoder()
    pieces = [backwards.push(codes_TK) for codes_TK in whole.tokens_BTK[0].split(piece // 100)]
    decoded = codec.decode(replace(whole, n_samples_B=None))[0]
    torch.testing.assert_close(torch.cat([*pieces, backwards.finish()]), decoded, atol=1e-5, rtol=0)


def test_a_stream_gives_a_frame_once_its_delay_has_passed_and_not_before(codec):
    wav_S, stream = torch.randn(codec.hop * 30), codec.stream_encoder()
    end = codec.hop * 10 + codec.identity.delay
    assert len(stream.push(wav_S[: end - 1])) == 9
    assert len(stream.push(wav_S[end - 1 : end])) == 1
    backwards = codec.stream_decoder()
    codes_TK = codec.encode(wav_S, codec.sample_rate).tokens_BTK[0]
    assert len(backwards.push(codes_TK[:20])) == 20 * codec.hop - codec.identity.output_delay


def test_streams_of_nothing_give_nothing(codec):
    assert codec.stream_encoder().finish().shape == (0, codec.levels)
    assert codec.stream_decoder().finish().shape == (0,)


def test_a_frame_sees_no_more_and_no_less_than_its_reach(codec):
    frame, reach = 20, seen_by_a_frame(codec.net.encoder)
    wav_BCS = torch.randn(1, 1, codec.hop * 40, requires_grad=True)
    codec.net.encoder(wav_BCS)[0, :, frame].sum().backward()
    assert wav_BCS.grad is not None
    changing = wav_BCS.grad[0, 0].nonzero()[:, 0]
    assert int(changing[0]) == frame * codec.hop + reach.first
    assert int(changing[-1]) == frame * codec.hop + reach.last
    assert codec.identity.delay == reach.last + 1 - codec.hop


def test_a_frame_changes_no_more_and_no_fewer_samples_than_its_reach(codec):
    frame, reach = 20, changed_by_a_frame(codec.net.decoder)
    latent_BDT = torch.randn(1, codec.net.config.hidden_size, 40, requires_grad=True)
    wav_S = codec.net.decoder(latent_BDT)[0, 0]
    first, last = frame * codec.hop + reach.first, frame * codec.hop + reach.last
    for sample, changes in ((first - 1, False), (first, True), (last, True), (last + 1, False)):
        (gradient,) = torch.autograd.grad(wav_S[sample], latent_BDT, retain_graph=True)
        assert bool(gradient[..., frame].any()) == changes
    assert codec.identity.output_delay == -reach.first


@pytest.mark.parametrize(
    ("n_samples", "n_frames"), [(1, 0), (160, 0), (311, 0), (312, 1), (320, 1), (631, 1), (632, 2), (1000, 3)]
)
def test_short_items_have_the_frames_that_the_class_makes(folders, n_samples, n_frames):
    codec = load(folders, "dac-16khz")
    codes = codec.encode(torch.randn(n_samples), 16000)
    assert codes.lengths_B.tolist() == [n_frames] == [frames_of(codec.net.encoder, n_samples)]
    assert codec.decode(codes).shape[1] == min(n_samples, 320 * n_frames)
    if n_frames:
        assert len(direct(codec, torch.randn(n_samples))) == n_frames


def test_codebooks_sum_to_what_the_decoder_gets(codec):
    codes = codec.encode(torch.randn(codec.hop * 20), codec.sample_rate)
    assert codec.codebooks is not None
    entries = [book_ED[codes.tokens_BTK[0, :, level]] for level, book_ED in enumerate(codec.codebooks)]
    with torch.no_grad():
        latent_BDT = codec.net.quantizer.from_codes(codes.tokens_BTK.transpose(1, 2))[0]
    torch.testing.assert_close(torch.stack(entries).sum(dim=0), latent_BDT[0].T)


def test_more_levels_than_the_weights_have_are_refused(folders):
    with pytest.raises(InputError, match="levels 1 to 4"):
        load_codec(folders["dac-16khz"], levels=5)


def test_missing_weights_are_refused(folders, tmp_path):
    net = DacModel.from_pretrained(folders["dac-16khz"])
    weights = {name: tensor for name, tensor in net.state_dict().items() if "decoder.conv1" not in name}
    net.save_pretrained(tmp_path, state_dict=weights)
    with pytest.raises(InputError, match=r"2 weights of DacModel are missing.*decoder\.conv1"):
        load_codec(tmp_path)
