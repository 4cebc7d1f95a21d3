"""X-Codec 2 and NeuCodec: codes of the classes on their feature extractors' inputs, lengths, rates, and the traps."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import NeuCodecFeatureExtractor, SeamlessM4TFeatureExtractor, Xcodec2FeatureExtractor

from hocket.codec import load_codec, resample
from hocket.codec.adapters.fbank import log_mel, standardised
from hocket.codec.adapters.xcodec2 import Xcodec2Codec
from hocket.errors import InputError
from tests.codec.zoo.xcodec2 import BUILDERS, make

EXTRACTORS: dict[str, Any] = {"xcodec2": Xcodec2FeatureExtractor, "neucodec": NeuCodecFeatureExtractor}


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[str, Path]:
    return {name: build(tmp_path_factory.mktemp(name)) for name, build in BUILDERS.items()}


@pytest.fixture(scope="module", params=BUILDERS)
def codec(request, folders) -> Xcodec2Codec:
    return load(folders[request.param])


def load(folder: Path) -> Xcodec2Codec:
    codec = load_codec(folder)
    assert isinstance(codec, Xcodec2Codec)
    return codec


def seamless(wav_S: torch.Tensor) -> torch.Tensor:
    """The standardised log-mel pairs [T, 160] of transformers' own extractor of w2v-BERT, computed in numpy."""
    extractor: Any = SeamlessM4TFeatureExtractor()
    return extractor(wav_S.numpy(), sampling_rate=16000, return_tensors="pt")["input_features"][0].float()


def direct(codec: Xcodec2Codec, wav_S: torch.Tensor) -> torch.Tensor:
    """Codes [T, 1] of a plain call of the class on what its feature extractor makes, put together from its parts."""
    padded_S = torch.nn.functional.pad(wav_S, (0, 320 - len(wav_S) % 320))
    heard_S = padded_S if codec.net.config.model_type == "neucodec" else torch.nn.functional.pad(padded_S, (160, 160))
    with torch.no_grad():
        return codec.net.encode(padded_S[None, None], seamless(heard_S)[None]).audio_codes[0].T.long()


def test_codes_are_those_of_a_direct_call_of_the_class_on_the_item_alone(codec, speech):
    items = [wav_S[:20000] for wav_S in speech[:4]]
    padded_BS = torch.nn.utils.rnn.pad_sequence([*items, speech[0][:31000]], batch_first=True)
    codes = codec.encode(padded_BS, 16000, [*(len(item) for item in items), 31000])
    for row, item_S in enumerate([*items, speech[0][:31000]]):
        assert torch.equal(codes.tokens_BTK[row, : codes.lengths_B[row]], direct(codec, item_S))


def test_codes_are_those_of_the_class_with_its_own_extractor(codec, speech):
    pytest.importorskip("torchaudio")
    extractor = EXTRACTORS[codec.net.config.model_type]()
    for n_samples in (20000, 16000, 16001, 15999, 700):
        wav_S = speech[0][4000 : 4000 + n_samples]
        inputs = extractor(audio=wav_S.numpy(), sampling_rate=16000, return_tensors="pt")
        with torch.no_grad():
            codes_TK = codec.net.encode(**inputs).audio_codes[0].T
        assert torch.equal(codec.encode(wav_S, 16000).tokens_BTK[0], codes_TK.long())


def test_log_mel_is_that_of_the_extractor_of_w2v_bert(speech):
    wav_S = speech[0][:32000]
    pairs_TM = standardised(log_mel(wav_S[None]))[0].unflatten(0, (-1, 2)).flatten(1)
    torch.testing.assert_close(pairs_TM, seamless(wav_S), atol=2e-3, rtol=0)
    assert log_mel(torch.zeros(2, 399)).shape == (2, 0, 80)
    assert log_mel(torch.zeros(2, 560)).shape == (2, 2, 80)


def test_trap_padding_changes_the_codes_of_the_raw_class(codec, speech):
    wav_S = speech[0][: 40 * 320]
    longer_S = torch.nn.functional.pad(wav_S, (0, 40 * 320))
    assert float((direct(codec, longer_S)[:40] != direct(codec, wav_S)[:40]).float().mean()) > 0.1
    assert torch.equal(codec.encode(longer_S, 16000, [len(wav_S)]).tokens_BTK[0], direct(codec, wav_S))


def test_trap_buffers_that_are_not_saved_are_made_again(codec):
    """Windows, filters and scalars are no part of the file; a loaded network has them as the class makes them."""
    made, loaded = make(codec.net.config.model_type), codec.net
    buffers = dict(loaded.named_buffers())
    for name, buffer in made.named_buffers():
        assert torch.equal(buffer, buffers[name]), name
    codes_BKT = torch.arange(20)[None, None]
    with torch.no_grad():
        expected = made.decode(audio_codes=codes_BKT).audio_values
        torch.testing.assert_close(loaded.decode(audio_codes=codes_BKT).audio_values, expected)


@pytest.mark.parametrize("n_samples", [1, 319, 320, 321, 639, 640, 3200])
def test_frames_of_an_item(codec, n_samples):
    more = codec.net.config.model_type == "xcodec2"
    codes = codec.encode(torch.randn(n_samples), 16000)
    assert codes.lengths_B.tolist() == [n_samples // 320 + more]
    assert codec.decode(codes).shape[1] <= n_samples * codec.sample_rate // 16000


def test_neucodec_hears_16_khz_and_decodes_to_24(folders, speech):
    codec, wav_S = load(folders["neucodec"]), speech[0][: 320 * 50]
    assert (codec.input_rate, codec.sample_rate, codec.hop, codec.frame_rate) == (16000, 24000, 480, 50)
    codes = codec.encode(wav_S, 16000)
    assert codes.lengths_B.tolist() == [50]
    assert codes.n_samples_B is not None
    assert codes.n_samples_B.tolist() == [24000]
    assert codec.decode(codes).shape == (1, 24000)
    louder_S = resample(wav_S, 16000, 48000)
    expected = codec.encode(resample(louder_S, 48000, 16000), 16000)
    assert torch.equal(codec.encode(louder_S, 48000).tokens_BTK, expected.tokens_BTK)


def test_xcodec2_rates(folders):
    codec = load(folders["xcodec2"])
    assert (codec.input_rate, codec.sample_rate, codec.hop, codec.frame_rate) == (16000, 16000, 320, 50)
    assert codec.codebook_sizes == (64,)


def test_decoded_audio_is_that_of_the_class(codec):
    codes = replace(codec.encode(torch.randn(16000) * 0.1, 16000), n_samples_B=None)
    with torch.no_grad():
        raw_BCS = codec.net.decode(audio_codes=codes.tokens_BTK.transpose(1, 2)).audio_values
    assert raw_BCS.shape[2] == codec.samples_of(int(codes.lengths_B[0]))
    torch.testing.assert_close(codec.decode(codes), raw_BCS[:, 0].clamp(-1, 1))


def test_the_codebook_holds_the_scalars_of_each_entry(codec):
    (book_ED,) = codec.codebooks
    assert book_ED.shape == (64, 3)
    assert len(book_ED.unique(dim=0)) == 64
    with torch.no_grad():
        latent_BTD = codec.net.quantizer.from_codes(torch.arange(64)[None, :, None])
        torch.testing.assert_close(codec.net.quantizer.project_out(book_ED), latent_BTD[0])


def test_neither_side_streams_and_both_say_why(codec):
    for stream in (codec.stream_encoder, codec.stream_decoder):
        with pytest.raises(InputError, match="its encoder and its decoder attend over the whole recording"):
            stream()


def test_there_is_one_level(folders):
    with pytest.raises(InputError, match="levels 1 to 1"):
        load_codec(folders["xcodec2"], levels=2)
