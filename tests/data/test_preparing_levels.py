"""Preparing: trimming by voice activity, and loudness.

Shapes: C channels, S samples.
"""

from dataclasses import replace

import numpy as np
import pytest
import soundfile
from preparing import TWO, a_clip, made, reason
from recordings import write_noise

from hocket.data import read_clips
from hocket.data.decoding import decode, open_audio
from hocket.data.preparing.measuring import gains, measure
from hocket.data.words import Word


@pytest.fixture
def speech() -> tuple[np.ndarray, int]:
    """One bundled clip, between silences of 2 s and 3 s."""
    wav_CS, rate = decode(read_clips("bundled")[0])
    return np.concatenate([np.zeros(2 * rate, np.float32), wav_CS[0], np.zeros(3 * rate, np.float32)]), rate


def test_trimming_leaves_speech_and_shifts_words(speech, tmp_path):
    pytest.importorskip("faster_whisper")
    wav_S, rate = speech
    soundfile.write(tmp_path / "a.wav", wav_S, rate, subtype="FLOAT")
    seconds = len(wav_S) / rate
    (segment,) = made(a_clip(tmp_path / "a.wav"), trim=True)
    assert 1.7 < segment.start < 2.6
    assert seconds - 3.4 < segment.start + segment.duration < seconds - 2.5
    word = Word(text="oh", start=1.0, end=1.2)
    (kept,) = made(a_clip(tmp_path / "a.wav", words=(word,)), trim=True)
    assert kept.start == pytest.approx(1.0)
    assert kept.words == (replace(word, start=0.0, end=0.2),)
    assert "without the silence around it" in reason(a_clip(tmp_path / "a.wav"), trim=True, max_seconds=0.5)


def test_trimming_keeps_what_any_channel_says(speech, tmp_path):
    pytest.importorskip("faster_whisper")
    wav_S, rate = speech
    wav_SC = np.zeros((len(wav_S) + 4 * rate, 2), np.float32)
    wav_SC[: len(wav_S), 0] = wav_S
    wav_SC[4 * rate :, 1] = wav_S
    soundfile.write(tmp_path / "a.wav", wav_SC, rate, subtype="FLOAT")
    (both,) = made(a_clip(tmp_path / "a.wav"), TWO, trim=True)
    (first,) = made(a_clip(tmp_path / "a.wav", channel=0), trim=True)
    assert both.start == first.start
    assert both.duration == pytest.approx(first.duration + 4, abs=0.1)


def test_trimming_looks_only_at_the_ends_of_long_recordings(speech, tmp_path):
    pytest.importorskip("faster_whisper")
    wav_S, rate = speech
    silence_S = np.zeros(70 * rate, np.float32)
    soundfile.write(tmp_path / "a.flac", np.concatenate([silence_S, wav_S, silence_S, wav_S]), rate)
    (segment,) = made(a_clip(tmp_path / "a.flac"), trim=True)
    assert 71.7 < segment.start < 72.6
    assert segment.duration == pytest.approx(len(wav_S) / rate + 70 + len(wav_S) / rate - 5, abs=0.8)


def test_no_speech_at_all(tmp_path):
    pytest.importorskip("faster_whisper")
    assert "no speech is found" in reason(a_clip(write_noise(tmp_path / "a.wav", 1.0)), trim=True)


@pytest.mark.parametrize("rate", [8000, 16000, 22050, 44100])
@pytest.mark.parametrize("seconds", [0.1, 0.4, 0.77, 3.0, 12.34])
def test_loudness_is_that_of_pyloudnorm(tmp_path, rate, seconds):
    pyloudnorm = pytest.importorskip("pyloudnorm")
    clip = a_clip(write_noise(tmp_path / "a.wav", seconds, rate=rate))
    wav_CS, _ = decode(clip)
    with open_audio(clip) as stretch:
        levels = measure(stretch, [None], 0, stretch.n_samples, with_loudness=True)
    block = min(0.4, wav_CS.shape[1] / rate)
    expected = pyloudnorm.Meter(rate, block_size=block).integrated_loudness(wav_CS[0].astype(np.float64))
    assert levels.loudness[None] == pytest.approx(expected, abs=1e-6)


def test_loudness_is_reached_unless_samples_would_exceed_1(tmp_path):
    pytest.importorskip("pyloudnorm")
    clip = a_clip(write_noise(tmp_path / "a.wav", 2.0))
    (segment,) = made(clip, loudness=-30)
    soundfile.write(tmp_path / "b.wav", segment.waves["audio"], 8000, subtype="FLOAT")
    with open_audio(a_clip(tmp_path / "b.wav")) as stretch:
        levels = measure(stretch, [None], 0, stretch.n_samples, with_loudness=True)
    assert levels.loudness[None] == pytest.approx(-30, abs=1e-3)
    assert gains(levels, [None], 0.0)[None] == pytest.approx(1 / levels.peaks[None])
    (loud,) = made(clip, loudness=0)
    assert np.abs(loud.waves["audio"]).max() == pytest.approx(1.0)


def test_each_channel_has_its_own_loudness(tmp_path):
    pytest.importorskip("pyloudnorm")
    wav_SC = np.random.default_rng(0).standard_normal((16000, 2)) * [0.01, 0.1]
    soundfile.write(tmp_path / "a.wav", wav_SC, 8000, subtype="FLOAT")
    (segment,) = made(a_clip(tmp_path / "a.wav"), TWO, loudness=-30)
    own, user = (np.sqrt(np.mean(segment.waves[name] ** 2)) for name in ("audio", "user"))
    assert own == pytest.approx(user, rel=0.05)


def test_what_is_too_quiet_is_refused(tmp_path):
    pytest.importorskip("pyloudnorm")
    soundfile.write(tmp_path / "a.wav", np.full(8000, 1e-5), 8000, subtype="FLOAT")
    assert (
        reason(a_clip(tmp_path / "a.wav"), loudness=-23) == "it is too quiet for its loudness to be measured (-70 LUFS)"
    )
