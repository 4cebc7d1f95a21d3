import numpy as np
import pytest
import soundfile
import torch

from hocket.codec import audio_info, read_audio, resample, write_audio
from hocket.errors import InputError


def tone(seconds: float, rate: int, hertz: float = 440.0) -> torch.Tensor:
    return 0.5 * torch.sin(2 * torch.pi * hertz * torch.arange(round(seconds * rate)) / rate)


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg", "mp3"])
def test_every_format_reads_back_as_mono_at_the_rate_asked_for(tmp_path, suffix):
    stereo = torch.stack([tone(0.5, 48000), tone(0.5, 48000)], dim=1).numpy()
    soundfile.write(tmp_path / f"a.{suffix}", stereo, 48000)
    wav_S, rate = read_audio(tmp_path / f"a.{suffix}", 16000)
    assert rate == 16000
    assert wav_S.dtype == torch.float32
    assert abs(len(wav_S) - 8000) < 800  # lossy formats pad
    assert 0.3 < wav_S[2000:6000].square().mean().sqrt() / 0.3536 * 0.5 < 0.7


def test_channels_are_averaged(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.array([[0.5, 0.25]] * 100, dtype=np.float32), 16000, subtype="FLOAT")
    wav_S, rate = read_audio(tmp_path / "a.wav")
    assert rate == 16000
    assert torch.equal(wav_S, torch.full((100,), 0.375))


def test_a_span_of_a_file_is_what_lies_there(tmp_path):
    write_audio(tmp_path / "a.wav", torch.arange(16000) / 16000, 16000)
    whole_S, _ = read_audio(tmp_path / "a.wav")
    span_S, _ = read_audio(tmp_path / "a.wav", start=0.25, end=0.5)
    assert torch.equal(span_S, whole_S[4000:8000])


def test_written_audio_is_16_bit_and_leaves_nothing_beside_it(tmp_path):
    write_audio(tmp_path / "new" / "a.wav", torch.tensor([2.0, -2.0, 0.0]), 16000)
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["a.wav"]
    assert soundfile.info(tmp_path / "new" / "a.wav").subtype == "PCM_16"
    assert read_audio(tmp_path / "new" / "a.wav")[0].abs().max() <= 1


def test_info_comes_from_the_header(tmp_path):
    write_audio(tmp_path / "a.wav", tone(0.25, 8000), 8000)
    info = audio_info(tmp_path / "a.wav")
    assert (info.sample_rate, info.channels, info.duration) == (8000, 1, 0.25)


def test_a_streamed_flac_that_states_no_length_is_refused_in_words(tmp_path):
    soundfile.write(tmp_path / "a.flac", tone(0.25, 16000).numpy(), 16000)
    content = bytearray((tmp_path / "a.flac").read_bytes())
    content[21] &= 0xF0  # the 36 bits of STREAMINFO that count samples
    content[22:26] = bytes(4)
    (tmp_path / "a.flac").write_bytes(content)
    for read in (audio_info, read_audio):
        with pytest.raises(InputError, match=r"a\.flac.*states no length"):
            read(tmp_path / "a.flac")


def test_resampling_keeps_duration_and_pitch():
    wav_S = resample(tone(1.0, 44100), 44100, 16000)
    assert len(wav_S) == 16000
    assert torch.fft.rfft(wav_S).abs().argmax() == 440


def bad_files(folder):
    (folder / "text.wav").write_text("these are words, not samples")
    (folder / "zero.wav").write_bytes(b"")
    soundfile.write(folder / "silent.wav", np.zeros(0, np.float32), 16000)
    soundfile.write(folder / "nan.wav", np.array([0, np.nan], np.float32), 16000, subtype="FLOAT")
    (folder / "folder.wav").mkdir()


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("missing.wav", "does not exist"),
        ("text.wav", "cannot be read as audio"),
        ("zero.wav", "is empty"),
        ("silent.wav", "has no samples"),
        ("nan.wav", "NaN"),
        ("folder.wav", "is a folder"),
    ],
)
def test_a_bad_file_is_named_with_what_is_wrong(tmp_path, name, words):
    bad_files(tmp_path)
    with pytest.raises(InputError, match=words) as caught:
        read_audio(tmp_path / name)
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)
