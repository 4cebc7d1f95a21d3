"""Preparing: from a clip to segments, with words, channels, loudness and cuts.

Shapes: C channels, S samples, F frames.
"""

import pickle
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st
from preparing import MONO, TWO, a_clip, made, reason
from recordings import write_noise

from hocket.data.clips import Clip, Rejected
from hocket.data.decoding import decode
from hocket.data.preparing import Preparation, Segment, StreamAudio, iter_segments, pipeline, prepare
from hocket.data.preparing.cutting import find_cuts
from hocket.data.words import Word
from hocket.errors import InputError


@pytest.fixture
def bursts(tmp_path: Path) -> Path:
    """Thirty seconds: noise of 0.7 s and silence of 0.3 s, again and again, at 8 kHz."""
    rng = np.random.default_rng(0)
    wav_S = 0.2 * rng.standard_normal(240000).clip(-2, 2) * (np.arange(240000) % 8000 < 5600)
    soundfile.write(tmp_path / "bursts.wav", wav_S, 8000, subtype="FLOAT")
    return tmp_path / "bursts.wav"


def bursts_words() -> tuple[Word, ...]:
    return tuple(Word(text=f"w{i}", start=float(i), end=i + 0.7) for i in range(30))


def test_nothing_is_done_by_default(tmp_path):
    path = write_noise(tmp_path / "a.wav", 0.5, rate=22050, channels=2)
    clip = a_clip(path, text="Hi.", speaker="s", language="en", split="valid")
    (segment,) = made(clip)
    np.testing.assert_array_equal(segment.waves["audio"], clip.read(8000))
    assert (segment.id, segment.recording, segment.name, segment.text) == ("talk", "talk", "a.wav", "Hi.")
    assert (segment.speaker, segment.language, segment.split) == ("s", "en", "valid")
    assert (segment.start, segment.duration) == (0.0, pytest.approx(0.5))


def test_text_alone_is_a_segment_without_waves():
    clip = Clip(id="t", name="t.txt", audio=None, text="Only text.")
    (segment,) = made(clip)
    assert (segment.text, segment.waves, segment.duration) == ("Only text.", {}, 0.0)


def test_channels_stay_apart(tmp_path):
    path = write_noise(tmp_path / "a.wav", 0.5, channels=2)
    wav_CS, rate = decode(a_clip(path))
    (segment,) = made(a_clip(path), TWO)
    np.testing.assert_array_equal(segment.waves["audio"], wav_CS[0])
    np.testing.assert_array_equal(segment.waves["user"], wav_CS[1])
    assert rate == 8000
    (one,) = made(a_clip(path, channel=1))
    np.testing.assert_array_equal(one.waves["audio"], wav_CS[1])


def test_a_channel_that_is_not_there(tmp_path):
    path = write_noise(tmp_path / "a.wav", 0.5)
    assert reason(a_clip(path), TWO) == 'the stream "user" is made from channel 1 (from 0 on) and it has 1 channel'
    assert reason(a_clip(path, channel=3)) == "channel 3 is asked for (from 0 on) and it has 1"


def test_one_silent_channel_is_fine_and_all_are_not(tmp_path):
    wav_SC = np.stack([np.zeros(4000), 0.1 * np.ones(4000)], axis=1)
    soundfile.write(tmp_path / "a.wav", wav_SC, 8000)
    (segment,) = made(a_clip(tmp_path / "a.wav"), TWO)
    assert not segment.waves["audio"].any()
    assert segment.waves["user"].any()
    assert reason(a_clip(tmp_path / "a.wav", channel=0)) == "it is silent: every sample is zero"


def test_streams_have_rates_of_their_own(tmp_path):
    path = write_noise(tmp_path / "a.wav", 0.5)
    streams = [StreamAudio("audio", None, 24000), StreamAudio("semantic", None, 16000)]
    (segment,) = made(a_clip(path), streams)
    assert {name: len(wav_S) for name, wav_S in segment.waves.items()} == {"audio": 12000, "semantic": 8000}


def test_durations_are_filtered(tmp_path):
    path = write_noise(tmp_path / "a.wav", 0.5)
    assert reason(a_clip(path), min_seconds=1) == "it lasts 0.500 s and min_seconds is 1"
    assert reason(a_clip(path), max_seconds=0.4) == "it lasts 0.500 s and max_seconds is 0.4"
    assert made(a_clip(path), min_seconds=0.5, max_seconds=0.5)


def test_too_short(tmp_path):
    path = write_noise(tmp_path / "a.wav", 0.05)
    long_frames = [StreamAudio("audio", None, 8000, 0.08)]
    assert "it is too short: it lasts 50 ms and at least 80 ms are needed" in reason(a_clip(path), long_frames)
    assert made(a_clip(path))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"loudness": 3}, "at most 0"),
        ({"loudness": float("nan")}, "finite"),
        ({"cut_seconds": 0.5}, "at least 1"),
        ({"min_seconds": -1}, "0 or more"),
        ({"min_seconds": 3, "max_seconds": 2}, "but min_seconds is 3"),
        ({"max_seconds": 0}, "above 0"),
    ],
)
def test_settings_that_make_no_sense(settings, words):
    with pytest.raises(InputError, match=words):
        Preparation(**settings)


def test_cuts_lie_in_silences_and_lose_nothing(bursts):
    segments = made(a_clip(bursts), cut_seconds=7)
    whole_S = made(a_clip(bursts))[0].waves["audio"]
    np.testing.assert_array_equal(np.concatenate([segment.waves["audio"] for segment in segments]), whole_S)
    assert [segment.id for segment in segments] == [f"talk#{i:06d}" for i in range(len(segments))]
    assert {segment.recording for segment in segments} == {"talk"}
    assert all(segment.duration <= 7 for segment in segments)
    assert all(0.75 < segment.start % 1 < 0.95 for segment in segments[1:])
    assert [segment.start for segment in segments[1:]] == pytest.approx(
        np.cumsum([segment.duration for segment in segments])[:-1]
    )


def test_words_go_to_the_segment_where_they_start(bursts):
    clip = a_clip(bursts, text="all of it", words=bursts_words())
    segments = made(clip, cut_seconds=7)
    assert " ".join(segment.text or "" for segment in segments) == " ".join(word.text for word in bursts_words())
    for segment in segments:
        assert segment.text == " ".join(word.text for word in segment.words)
        for word in segment.words:
            assert segment.start + word.start == pytest.approx(int(word.text[1:]))
            assert word.end - word.start == pytest.approx(0.7)


def test_text_without_times_is_not_torn(bursts):
    (segment,) = made(a_clip(bursts, text="all of it"), cut_seconds=7)
    assert (segment.id, segment.text, segment.duration) == ("talk", "all of it", 30.0)


def test_short_clips_keep_their_text_and_id(bursts):
    (segment,) = made(a_clip(bursts, text="All of it.", words=bursts_words()), cut_seconds=30)
    assert (segment.id, segment.text) == ("talk", "All of it.")


def test_silent_pieces_are_named(tmp_path):
    wav_S = np.concatenate([0.1 * np.ones(8000), np.zeros(80000), 0.1 * np.ones(8000)])
    soundfile.write(tmp_path / "a.wav", wav_S, 8000)
    items = prepare(a_clip(tmp_path / "a.wav"), MONO, Preparation(cut_seconds=2))
    rejected = [item for item in items if isinstance(item, Rejected)]
    assert {item.reason for item in rejected} == {"it is silent: every sample is zero"}
    assert all(item.id.startswith("talk#00000") for item in rejected)
    assert len(rejected) < len(items)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.floats(1, 20), st.floats(1.1, 90), st.sampled_from([8000, 11025, 22050]))
def test_cuts_are_contiguous_bounded_and_outside_of_words(seed, limit, seconds, rate):
    rng = np.random.default_rng(seed)
    frame = round(rate / 100)
    n_samples = int(seconds * rate)
    energy_F = rng.random(-(-n_samples // frame)) ** 4
    edges = np.sort(rng.uniform(0, seconds, 2 * int(seconds)))
    words = [Word(text="w", start=a, end=min(b, a + 0.4)) for a, b in zip(edges[::2], edges[1::2], strict=True)]
    spans = find_cuts(energy_F, frame, n_samples, rate, limit, words)
    assert [first for first, _ in spans] == [0, *[last for _, last in spans[:-1]]]
    assert spans[-1][1] == n_samples
    assert all(last - first <= limit * rate for first, last in spans)
    if len(spans) > 1:
        assert min(last - first for first, last in spans) > 0
        cuts = [last / rate for _, last in spans[:-1]]
        assert not any(word.start < cut < word.end for word in words for cut in cuts)


def test_a_word_longer_than_a_segment_is_cut_at_last():
    word = Word(text="aaah", start=0.0, end=9.0)
    spans = find_cuts(np.ones(1000), 80, 80000, 8000, 2.0, [word])
    assert all(last - first <= 16000 for first, last in spans)


def test_words_behind_the_end(tmp_path):
    path = write_noise(tmp_path / "a.wav", 0.5)
    (segment,) = made(a_clip(path, words=(Word(text="late", start=0.55, end=0.6),)))
    assert segment.words[0].start < segment.words[0].end <= 0.5
    gone = a_clip(path, words=(Word(text="gone", start=3.0, end=3.1),))
    assert reason(gone) == 'the word "gone" is said at 3 s and it ends at 0.500 s'


def as_bytes(items: list[Segment | Rejected]) -> bytes:
    return b"".join(wav_S.tobytes() for item in items if isinstance(item, Segment) for wav_S in item.waves.values())


def test_long_recordings_are_the_same_as_kept_ones(tmp_path, monkeypatch):
    pytest.importorskip("pyloudnorm")
    clip = a_clip(write_noise(tmp_path / "a.flac", 61.3, rate=16000))
    asked = Preparation(loudness=-23, cut_seconds=9)
    kept = prepare(clip, MONO, asked)
    monkeypatch.setattr(pipeline, "KEPT_SECONDS", 0.0)
    assert as_bytes(prepare(clip, MONO, asked)) == as_bytes(kept)


def test_same_bytes_alone_and_beside_others(bursts):
    clips = [replace(a_clip(bursts), id=str(i)) for i in range(8)]
    asked = Preparation(cut_seconds=5)
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda clip: as_bytes(prepare(clip, MONO, asked)), clips))
    assert set(together) == {as_bytes(prepare(clips[0], MONO, asked))}


def test_memory_does_not_grow_with_the_recording(tmp_path):
    path = write_noise(tmp_path / "a.flac", 600, rate=16000)
    clip = a_clip(path)
    tracemalloc.start()
    n_segments = sum(1 for _ in iter_segments(clip, MONO, Preparation(cut_seconds=20)))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert n_segments > 30
    assert peak < 12e6  # all samples take 38 MB


def test_a_recording_that_breaks_off_gives_no_segment(tmp_path):
    path = write_noise(tmp_path / "a.flac", 200, rate=8000)
    path.write_bytes(path.read_bytes()[:-200000])
    assert reason(a_clip(path), cut_seconds=20).startswith("truncated: header says 200.000 s")
    assert made(a_clip(path, start=10.0, end=40.0), cut_seconds=20)


def test_what_is_too_large_for_memory_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("hocket.data.decoding.MAX_WHOLE_BYTES", 100_000)
    path = write_noise(tmp_path / "a.wav", 200)
    assert "in one piece take" in reason(a_clip(path))
    assert made(a_clip(path), cut_seconds=2)


def test_settings_and_segments_travel(bursts):
    (segment,) = made(a_clip(bursts))
    assert pickle.loads(pickle.dumps(segment)).id == "talk"
    assert pickle.loads(pickle.dumps(Preparation(trim=True))) == Preparation(trim=True)
