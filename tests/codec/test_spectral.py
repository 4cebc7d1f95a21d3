"""What only the spectral codec promises, on real speech: with the bundled weights and with a tiny random codec."""

from dataclasses import replace
from fractions import Fraction

import pytest
import torch

from hocket.codec import Codec, CodecIdentity, Codes, SpectralCodec
from hocket.codec.spectral_stream import CHUNK, SHORTER, exact_chunks
from hocket.errors import InputError


@pytest.fixture(params=["bundled", "small_codec"])
def codec(request) -> Codec:
    return request.getfixturevalue(request.param)


def padded(items: list[torch.Tensor]) -> tuple[torch.Tensor, list[int]]:
    return torch.nn.utils.rnn.pad_sequence(items, batch_first=True), [len(item) for item in items]


def test_what_lies_after_an_items_length_changes_nothing(codec, speech):
    wav_S = speech[0]
    noisy_S = torch.cat([wav_S, torch.randn(5000)])
    longer = codec.encode(noisy_S, 16000, [len(wav_S)])
    assert torch.equal(longer.tokens_BTK, codec.encode(wav_S, 16000).tokens_BTK)


@pytest.mark.parametrize("frame", [1, 7, 32, 40])
def test_later_samples_change_no_earlier_code(codec, speech, frame):
    wav_S = torch.cat(speech)[: 64 * codec.hop]
    changed_S = wav_S.clone()
    changed_S[frame * codec.hop :] = torch.randn(len(wav_S) - frame * codec.hop)
    before, after = codec.encode(wav_S, 16000).tokens_BTK, codec.encode(changed_S, 16000).tokens_BTK
    assert torch.equal(before[:, :frame], after[:, :frame])
    assert not torch.equal(before[:, frame:], after[:, frame:])
    assert torch.equal(codec.encode(wav_S[: frame * codec.hop], 16000).tokens_BTK, before[:, :frame])


def test_decoded_audio_is_final_one_output_delay_after_its_frame(codec, speech):
    codes = codec.encode(speech[0], 16000)
    shorter = Codes(codes.tokens_BTK[:, :20], torch.tensor([20]), codes.codec)
    final = 20 * codec.hop - codec.identity.output_delay
    torch.testing.assert_close(codec.decode(shorter)[:, :final], codec.decode(codes)[:, :final], atol=1e-5, rtol=0)


def test_decoding_gives_whole_frames_and_silence_after_an_items_end(codec, speech):
    codes = replace(codec.encode(*[padded(speech)[0], 16000, padded(speech)[1]]), n_samples_B=None)
    wav_BS = codec.decode(codes)
    assert wav_BS.shape == (len(speech), codes.tokens_BTK.shape[1] * codec.hop)
    assert wav_BS.dtype == torch.float32
    assert wav_BS.abs().max() <= 1
    for row, length in enumerate(codes.lengths_B.tolist()):
        assert not wav_BS[row, length * codec.hop :].any()
        alone = Codes(codes.tokens_BTK[row : row + 1, :length], codes.lengths_B[row : row + 1], codes.codec)
        assert torch.equal(codec.decode(alone)[0], wav_BS[row, : length * codec.hop])


def test_more_levels_of_the_bundled_codec_come_closer(bundled, speech):
    wav_S = torch.cat(speech)
    codes = bundled.encode(wav_S, 16000)
    latent_TD = bundled.net.quantizer.decode(codes.tokens_BTK[0])
    distances = [
        float((bundled.net.quantizer.decode(codes.tokens_BTK[0, :, :levels]) - latent_TD).square().mean())
        for levels in range(1, 8)
    ]
    assert distances == sorted(distances, reverse=True)


def test_rates_are_exact(bundled):
    assert bundled.frame_rate == Fraction(25)
    assert bundled.identity.bits_per_second == 2000
    assert bundled.codebook_sizes == (1024,) * 8
    identity = CodecIdentity(
        name="dac", revision="1", weight_hash="", sample_rate=44100, hop=512, codebook_sizes=(1024,) * 9
    )
    assert identity.frame_rate == Fraction(44100, 512)


def test_random_weights_are_the_same_every_time_and_differ_by_seed(small_codec):
    sizes = small_codec.config.to_dict()
    assert SpectralCodec.random(0, "small", **sizes).identity == small_codec.identity
    assert SpectralCodec.random(1, "small", **sizes).identity != small_codec.identity


@pytest.mark.parametrize(
    ("wav", "rate", "lengths", "words"),
    [
        (torch.zeros(1, 1, 1, 5), 16000, None, "batch, samples"),
        (torch.zeros(5, dtype=torch.int16), 16000, None, "floats"),
        (torch.zeros(5), 0, None, "sample_rate"),
        (torch.zeros(0, 5), 16000, None, "at least one item"),
        (torch.zeros(2, 5), 16000, [5], "lengths"),
        (torch.zeros(2, 5), 16000, [5, 6], "0 to 5 samples"),
        (torch.tensor([0.0, torch.nan]), 16000, None, "NaN"),
    ],
)
def test_what_is_no_audio_is_refused(small_codec, wav, rate, lengths, words):
    with pytest.raises(InputError, match=words):
        small_codec.encode(wav, rate, lengths)


@pytest.mark.parametrize(
    ("tokens", "lengths", "words"),
    [
        (torch.full((1, 4, 3), 16), [4], "entries 0 to 15"),
        (torch.full((1, 4, 3), -1), [4], "entries 0 to 15"),
        (torch.zeros(1, 4, 4, dtype=torch.int64), [4], "4 levels"),
        (torch.zeros(1, 4, 3), [4], "integers"),
        (torch.zeros(1, 4, 3, dtype=torch.int64), [5], "0 to 4 frames"),
    ],
)
def test_what_are_no_codes_is_refused(small_codec, tokens, lengths, words):
    with pytest.raises(InputError, match=words):
        small_codec.decode(Codes(tokens, torch.tensor(lengths), small_codec.identity))


def test_codes_of_another_codec_are_refused_with_both_names(small_codec, bundled):
    codes = bundled.encode(torch.zeros(640), 16000)
    with pytest.raises(InputError, match=r'"bundled".*"small"'):
        small_codec.decode(codes)


def test_streams_take_chunks_that_change_no_bit(monkeypatch):
    """The shortest that is exact; where none is, those of the whole, and the stream is exact all the same."""
    codec = SpectralCodec.random(seed=1)
    wav_S = torch.randn(codec.hop * 70) / 10
    whole_TK = codec.encode(wav_S, codec.input_rate).tokens_BTK[0]
    assert set(exact_chunks(codec.net, codec.device)) <= {*SHORTER, CHUNK}
    for is_exact in (None, lambda *_: False):
        if is_exact:
            monkeypatch.setattr("hocket.codec.spectral_stream._is_exact", is_exact)
            monkeypatch.setattr("hocket.codec.spectral_stream._EXACT", {})
        stream = codec.stream_encoder()
        assert stream.sizes[-1] == CHUNK  # type: ignore
        pieces = [stream.push(piece_S) for piece_S in wav_S.split([300, codec.hop * 50, codec.hop * 20 - 300])]
        assert torch.equal(torch.cat([*pieces, stream.finish()]), whole_TK)
