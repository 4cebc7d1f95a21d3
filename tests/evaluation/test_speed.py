"""Speed is measured of every kind of model, on noise of a fixed length, and left out in words where there is none."""

import time

import pytest
import torch

from hocket.codec import load_codec
from hocket.data import Corpus, tokenize
from hocket.evaluation import speed
from hocket.evaluation.speed import SpeedSettings, hardware, make_noise, time_generation, time_scoring
from hocket.inference import Generator
from hocket.interleave import load_layout, load_scheme
from hocket.model import Model, ModelConfig
from hocket.vocab import Vocabulary, train_bpe
from tests.evaluable import make_recordings

RATES = {"generation_audio_seconds_per_second", "generation_steps_per_second"}
SOUND = {"first_audio_ms", "first_audio_streams"}
SETTINGS = SpeedSettings(runs=1, batch=2, seconds=0.4, prompt_seconds=0.2)


def make(layout) -> Generator:
    """A tiny untrained model that speaks the bundled codec."""
    codec = load_codec("bundled")
    sizes = {"audio": codec.codebook_sizes}
    vocabulary = Vocabulary.build(train_bpe(["one two"], 256), sizes, {"audio": codec.identity.fingerprint})
    config = ModelConfig(dim=16, n_layers=1, n_heads=2, n_kv_heads=2, ffn_dim=16, context=200)
    return Generator(Model.build(config, vocabulary, layout, codec.identity))


@pytest.mark.parametrize(
    ("scheme", "streams"),
    [("delay", 1.0), ("coarse-first", 1.0), ("tts-delay", 1.0), ("magnet", 0.0), ("moshi-like", 1.0)],
)
def test_generation_is_timed(scheme, streams):
    if scheme == "moshi-like":
        layout = load_layout("Stack(aligned_text, Delay(audio, [0, 1, ...]))", levels=8)
    else:
        layout = load_scheme(scheme, levels=8).stage()
    found, left_out = time_generation(make(layout), SETTINGS)
    assert set(found) == RATES | SOUND | {"memory_gib"} | {f"{name}_batch_2" for name in RATES}
    assert left_out == []
    assert found["first_audio_streams"] == streams
    assert all(value > 0 for name, value in found.items() if name != "first_audio_streams")


def test_what_makes_no_sound_has_no_first_sound(monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr(Generator, "is_heard", False)
        found, left_out = time_generation(make(load_layout("delay", levels=8)), SETTINGS)
    assert not SOUND & set(found)
    assert left_out == ["the time to the first sound is left out: the model makes no sound by itself"]
    recogniser = make(load_scheme("asr", levels=8).stage())
    found, left_out = time_generation(recogniser, SpeedSettings(runs=1, batch=1, seconds=0.2, prompt_seconds=0.2))
    assert set(found) == RATES | {"memory_gib"}
    assert len(left_out) == 1


def test_the_length_is_the_one_asked_for_whatever_the_model_says(monkeypatch):
    generator, asked = make(load_layout("delay", levels=8)), []
    monkeypatch.setattr(
        generator, "generate_batch", lambda requests, *rest, **more: asked.append(requests) or made(requests)
    )

    def made(requests):
        return Generator.generate_batch(generator, requests)

    time_generation(generator, SETTINGS)
    for requests in asked:
        assert all(request.limits == {"audio": 15} for request in requests)
        assert all(request.least == request.limits for request in requests)
        assert all(item.seconds == 0.4 and not item.ended for item in made(requests))


def test_rates_are_medians_after_a_warm_up(monkeypatch):
    walls = iter([100.0, 1.0, 4.0, 2.0])
    monkeypatch.setattr(speed._Clock, "whole", lambda self, requests: (next(walls), 4.0, 8))
    monkeypatch.setattr(speed._Clock, "first_audio", lambda self, request, streams: (0.25, 1.0))
    settings = SpeedSettings(runs=3, batch=1)
    found, _ = time_generation(make(load_layout("delay", levels=8)), settings)
    assert found["generation_audio_seconds_per_second"] == 2.0
    assert found["generation_steps_per_second"] == 4.0
    assert found["first_audio_ms"] == 250


def test_scoring_counts_predicted_cells(tmp_path, monkeypatch):
    tokenize(make_recordings(tmp_path / "recordings"), tmp_path / "corpus", load_codec("bundled"))
    model, corpus = make(load_layout("delay", levels=8)).model, Corpus.open(tmp_path / "corpus").split("valid")
    ticks = iter(range(100))
    monkeypatch.setattr(time, "perf_counter", lambda: float(next(ticks)))
    batch = next(speed._batches(model, corpus, 128, "refuse"))
    assert time_scoring(model, corpus, 128, "refuse", runs=1) == int((batch.legal_NR > 0).sum())


def test_noise_has_every_stream_in_its_range():
    generator = make(load_scheme("magnet", levels=8).stage())
    example = make_noise(generator.model, 1.0)
    assert example.streams["audio"].shape == (25, 8)
    assert example.streams["audio"].max() < 1024
    assert example.text


def test_hardware_is_named():
    assert f"{torch.get_num_threads()} of " in hardware("cpu")
