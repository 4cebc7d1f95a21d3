import numpy as np
import pytest
import soundfile
import torch

from hocket.codec import Codec, SpectralCodec, decode_file, encode_file, read_audio, write_audio
from hocket.errors import InputError
from tests.codec.conftest import SPEECH


@pytest.fixture(params=[(16000, 1), (44100, 2), (8000, 1)])
def recording(request, tmp_path, speech):
    """Real speech as a file of another rate and number of channels."""
    rate, channels = request.param
    wav_S = torch.cat(speech)[: 16000 * 2].numpy()
    path = tmp_path / "long.wav"
    soundfile.write(path, np.stack([wav_S * (1 - 0.5 * channel) for channel in range(channels)], axis=1), rate)
    return path


@pytest.mark.parametrize("block_seconds", [0.3, 2.0, 60.0])
def test_a_file_in_blocks_has_the_codes_of_the_whole(small_codec, recording, block_seconds):
    wav_S, rate = read_audio(recording)
    whole = small_codec.encode(wav_S, rate)
    blocks = encode_file(small_codec, recording, block_seconds)
    assert torch.equal(blocks.tokens_BTK, whole.tokens_BTK)
    assert blocks.n_samples_B is not None
    assert whole.n_samples_B is not None
    assert torch.equal(blocks.n_samples_B, whole.n_samples_B)


@pytest.mark.parametrize("block_frames", [3, 500])
def test_codes_in_blocks_make_the_file_of_the_whole(small_codec, recording, tmp_path, block_frames):
    codes = encode_file(small_codec, recording)
    decode_file(small_codec, codes.tokens_BTK[0], tmp_path / "blocks.wav", block_frames)
    write_audio(tmp_path / "whole.wav", small_codec.decode(codes.prefix(codes.codec.levels))[0], 16000)
    blocks, whole = read_audio(tmp_path / "blocks.wav")[0], read_audio(tmp_path / "whole.wav")[0]
    assert torch.equal(blocks[: len(whole)], whole)
    assert len(blocks) == codes.tokens_BTK.shape[1] * small_codec.hop


def test_the_memory_of_the_stream_does_not_grow_with_the_recording(small_codec):
    encoder, decoder = small_codec.stream_encoder(), small_codec.stream_decoder()

    def held(stream: object) -> int:
        return sum(value.numel() for value in vars(stream).values() if isinstance(value, torch.Tensor))

    sizes = []
    for _ in range(4):
        decoder.push(encoder.push(0.1 * torch.randn(40 * small_codec.hop)))
        sizes.append((held(encoder), held(decoder)))
    assert sizes[1] == sizes[3]


def test_what_is_no_audio_is_named(small_codec, tmp_path):
    (tmp_path / "a.wav").write_bytes(b"RIFFnothing")
    with pytest.raises(InputError, match=r"a\.wav"):
        encode_file(small_codec, tmp_path / "a.wav")
    with pytest.raises(InputError, match="does not exist"):
        encode_file(small_codec, tmp_path / "b.wav")


def test_codes_that_are_none_leave_no_file(small_codec: SpectralCodec, tmp_path):
    with pytest.raises(InputError, match="entries 0 to 15"):
        decode_file(small_codec, torch.full((3, 3), 99), tmp_path / "c.wav")
    assert not list(tmp_path.iterdir())


def test_a_bundled_recording_through_files(bundled: Codec, tmp_path):
    file = sorted(SPEECH.glob("*.opus"))[0]
    codes = encode_file(bundled, file)
    assert torch.equal(codes.tokens_BTK, bundled.encode(read_audio(file)[0], read_audio(file)[1]).tokens_BTK)
