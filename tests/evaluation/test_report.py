import re

import numpy as np
import pytest
import torch

from hocket.codec import write_audio
from hocket.errors import InputError
from hocket.evaluation.plots import frequency_ticks, panels, smooth, spectrogram, time_ticks
from hocket.evaluation.report import build_report
from hocket.evaluation.runs import Sample

RATE = 16_000


def tone(hertz, seconds=1.0):
    return np.sin(2 * np.pi * hertz * np.arange(int(seconds * RATE)) / RATE).astype(np.float32)


def add_sample(folder):
    for name in ("prompt.wav", "continuation.wav", "original.wav", "resynthesis.wav", "prompt-and-continuation.wav"):
        write_audio(folder / name, torch.from_numpy(tone(440)), RATE)
    codes = np.random.default_rng(0).integers(0, 1024, (30, 8)).tolist()
    Sample(
        clip="demo-echotest",
        text="Is <this> escaped?",
        prompt_seconds=0.4,
        seconds=0.8,
        wall_seconds=0.2,
        ended=False,
        step=4,
        sampling={"temperature": 0.9, "top_k": 0, "top_p": 0.95, "seed": 0},
        prompt_codes=codes[:10],
        codes=codes[10:],
    ).save(folder)


@pytest.fixture(scope="module")
def pages(run_folder):
    """The page without and with a sample."""
    bare = build_report(run_folder).read_text()
    add_sample(run_folder)
    return bare, build_report(run_folder).read_text()


def test_the_page_needs_nothing_outside_it(pages):
    for page in pages:
        sources = re.findall(r'(?:src|href)="([^"]{0,12})', page)
        assert all(source.startswith("data:") for source in sources)
        assert "@import" not in page
        assert "url(" not in page


def test_the_page_shows_everything_of_a_demo(pages):
    page = pages[1]
    assert page.count("<audio") == 5
    assert page.count('class="panel"') == 8
    for wanted in ("bigram", "unigram", "resynthesis", "Delay(audio", "Is &lt;this&gt; escaped?", "bit/s"):
        assert wanted in page
    assert page.count('polyline class="unigram"') == 8
    assert page.count('polyline class="bigram"') == 1


def test_what_is_not_there_is_left_out(pages):
    bare = pages[0]
    assert "<audio" not in bare
    assert "Listen" not in bare
    assert "<script" not in bare
    assert "Loss per codebook level" in bare


def test_a_run_without_metrics_or_checkpoint_has_a_page(tmp_path):
    (tmp_path / "config.yaml").write_text("name: early\ntraining: {dtype: float32}\n")
    page = build_report(tmp_path).read_text()
    assert "Loss per" not in page
    assert "float32" in page


def test_a_folder_that_is_no_run_is_refused(tmp_path):
    with pytest.raises(InputError, match="no run folder"):
        build_report(tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_tone_lights_up_its_band():
    picture = spectrogram(tone(1000), RATE)
    assert picture.shape == (96, 101)
    tick = next(tick for tick in frequency_ticks(RATE) if tick.text == "1")
    loudest = picture.mean(axis=1).argmax() + 0.5
    assert 100 * loudest / 96 == pytest.approx(tick.at, abs=2)


def test_silence_and_clips_shorter_than_a_window_have_a_spectrogram():
    for wav_S in (np.zeros(RATE, np.float32), tone(440, 0.01)):
        picture = spectrogram(wav_S, RATE)
        assert np.isfinite(picture).all()


def test_ticks_are_round_and_few():
    assert [tick.text for tick in time_ticks(6.0)] == ["0", "1", "2", "3", "4", "5"]
    assert all(len(time_ticks(duration)) <= 8 for duration in (0.04, 0.5, 3, 47, 600))


def test_charts_share_their_axes_and_cut_off_a_first_spike():
    found = panels({"a": {"train": [(1, 90.0), *((x, 3.0) for x in range(2, 200))]}, "b": {"valid": [(100, 2.0)]}})
    assert found[0].y_ticks == found[1].y_ticks
    heights = [float(point.split(",")[1]) for point in found[0].curves[0].points.split()]
    assert min(heights) >= 0
    assert len(smooth([(x, 0.0) for x in range(600)])) <= 60
