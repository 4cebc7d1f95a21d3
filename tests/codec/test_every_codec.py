"""The promises of the room, over every kind of codec, on real speech.

Tiny random weights saved to disk and loaded through `load_codec`, the bundled codec, and Lyra where its files are.
"""

import json
from dataclasses import replace

import pytest
import torch

from hocket.codec import Codec, CodecIdentity, load_codec, resample
from hocket.errors import InputError
from tests.codec.zoo import BUILDERS

N_FRAMES = 9


@pytest.fixture(scope="session")
def loaded(tmp_path_factory) -> dict[str, Codec]:
    """Codecs already built, by name; each is built when it is first asked for."""
    return {}


@pytest.fixture(params=BUILDERS)
def codec(request, loaded, tmp_path_factory) -> Codec:
    if request.param not in loaded:
        loaded[request.param] = load_codec(BUILDERS[request.param](tmp_path_factory.mktemp(request.param)))
    return loaded[request.param]


def cut(codec: Codec, speech: list[torch.Tensor], n_frames: float, start: int = 0) -> torch.Tensor:
    """`n_frames` of real speech at the codec's rate, from one of the recordings."""
    wav_S = resample(torch.cat(speech[start:])[: 16000 * 4], 16000, codec.sample_rate)
    return wav_S[: int(n_frames * codec.hop)]


def test_an_item_has_the_codes_alone_that_it_has_in_a_padded_batch(codec, speech):
    items = [cut(codec, speech, n, start) for n, start in ((N_FRAMES, 0), (4.5, 1), (N_FRAMES, 2), (6.3, 3))]
    padded = torch.nn.utils.rnn.pad_sequence(items, batch_first=True, padding_value=0.3)
    batch = codec.encode(padded, codec.sample_rate, [len(item) for item in items])
    for row, item_S in enumerate(items):
        alone = codec.encode(item_S, codec.sample_rate)
        n_frames = int(batch.lengths_B[row])
        assert n_frames == int(alone.lengths_B[0]) > 0
        assert torch.equal(batch.tokens_BTK[row, :n_frames], alone.tokens_BTK[0])
        assert not batch.tokens_BTK[row, n_frames:].any()


@pytest.mark.parametrize("piece", [0.37, 1, 4])
def test_streaming_encode_equals_encoding_the_whole(codec, speech, piece):
    if not codec.streams_encoding:
        with pytest.raises(InputError, match=f'"{codec.identity.name}" cannot stream: '):
            codec.stream_encoder()
        return
    wav_S, stream = cut(codec, speech, N_FRAMES + 0.4), codec.stream_encoder()
    codes = [stream.push(piece_S) for piece_S in wav_S.split(int(piece * codec.hop))]
    streamed_TK = torch.cat([*codes, stream.finish()])
    assert torch.equal(streamed_TK, codec.encode(wav_S, codec.sample_rate).tokens_BTK[0])
    with pytest.raises(InputError, match="has ended"):
        stream.push(wav_S)


@pytest.mark.parametrize("piece", [1, 4])
def test_streaming_decode_equals_decoding_the_whole(codec, speech, piece):
    if not codec.streams_decoding:
        with pytest.raises(InputError, match=f'"{codec.identity.name}" cannot stream: '):
            codec.stream_decoder()
        return
    codes, stream = codec.encode(cut(codec, speech, N_FRAMES), codec.sample_rate), codec.stream_decoder()
    pieces = [stream.push(codes_TK) for codes_TK in codes.tokens_BTK[0].split(piece)]
    streamed = torch.cat([*pieces, stream.finish()], dim=-1)
    whole = codec.decode(replace(codes, n_samples_B=None))[0]
    torch.testing.assert_close(streamed, whole, atol=1e-5, rtol=0)


def test_a_prefix_of_the_levels_is_what_fewer_levels_encode_and_decodes(codec, speech, tmp_path):
    codec.save(tmp_path)
    wav_S = cut(codec, speech, N_FRAMES)
    codes = codec.encode(wav_S, codec.sample_rate)
    for levels in {1, codec.levels // 2 or 1, codec.levels}:
        fewer = load_codec(tmp_path, levels=levels)
        own = fewer.encode(wav_S, codec.sample_rate)
        assert fewer.levels == levels
        assert torch.equal(own.tokens_BTK, codes.tokens_BTK[..., :levels])
        if codec.can_decode:
            torch.testing.assert_close(codec.decode(codes.prefix(levels)), fewer.decode(own), atol=1e-5, rtol=0)


def test_decoding_gives_the_original_length_where_it_is_known_and_whole_frames_where_not(codec, speech):
    wav_S = cut(codec, speech, N_FRAMES - 0.5)
    codes = codec.encode(wav_S, codec.sample_rate)
    if not codec.can_decode:
        with pytest.raises(InputError, match="vocoder"):
            codec.decode(codes)
        return
    n_frames = int(codes.lengths_B[0])
    assert codes.n_samples_B is not None
    assert codes.n_samples_B.tolist() == [len(wav_S)]
    known, whole = codec.decode(codes), codec.decode(replace(codes, n_samples_B=None))
    assert known.dtype == torch.float32
    assert whole.shape[-1] == codec.samples_of(n_frames)
    assert known.shape[-1] == min(len(wav_S), codec.samples_of(n_frames))
    assert torch.equal(known, whole[..., : known.shape[-1]])
    assert float(whole.abs().max()) <= 1


def test_codes_lie_inside_the_codebooks(codec, speech):
    codes = codec.encode(cut(codec, speech, N_FRAMES), codec.sample_rate)
    assert codes.tokens_BTK.dtype == torch.int64
    assert codes.tokens_BTK.shape[2] == codec.levels
    for level, size in enumerate(codec.codebook_sizes):
        assert int(codes.tokens_BTK[..., level].min()) >= 0
        assert int(codes.tokens_BTK[..., level].max()) < size


def test_an_identity_is_saved_checked_and_survives_json(codec, tmp_path):
    codec.save(tmp_path)
    again = load_codec(tmp_path)
    assert again.identity == codec.identity
    assert CodecIdentity.from_dict(json.loads(json.dumps(codec.identity.to_dict()))) == codec.identity
    assert len(codec.identity.weight_hash) == 64


def test_codes_of_another_codec_are_refused(codec, speech, small_codec, bundled):
    if not codec.can_decode:
        return
    other = bundled if codec.identity.name == "small" else small_codec
    codes = other.encode(speech[0], 16000)
    with pytest.raises(InputError, match="decode them with the codec that made them"):
        codec.decode(codes)


def test_channels_are_mixed_or_repeated(codec, speech):
    left, right = cut(codec, speech, N_FRAMES), cut(codec, speech, N_FRAMES, 1)
    stereo_BCS = torch.stack([left, right])[None]
    codes = codec.encode(stereo_BCS, codec.sample_rate)
    if codec.identity.channels == 1:
        assert torch.equal(codes.tokens_BTK, codec.encode((left + right) / 2, codec.sample_rate).tokens_BTK)
    else:
        assert codec.decode(codes).shape[:2] == (1, codec.identity.channels)
        twice = codec.encode(torch.stack([left, left])[None], codec.sample_rate)
        assert torch.equal(codec.encode(left, codec.sample_rate).tokens_BTK, twice.tokens_BTK)


@pytest.mark.parametrize("rate", [8000, 44100])
def test_a_recording_at_another_rate_is_resampled(codec, speech, rate):
    wav_S = resample(cut(codec, speech, N_FRAMES), codec.sample_rate, rate)
    direct = codec.encode(resample(wav_S, rate, codec.input_rate), codec.input_rate)
    assert torch.equal(codec.encode(wav_S, rate).tokens_BTK, direct.tokens_BTK)


def test_an_empty_item_has_no_frames(codec, speech):
    wav_S = cut(codec, speech, N_FRAMES)
    codes = codec.encode(torch.stack([wav_S, wav_S]), codec.sample_rate, [0, len(wav_S)])
    assert codes.lengths_B[0] == 0
    if codec.can_decode:
        assert not codec.decode(codes)[0].any()
