import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from hocket.codec import SpectralCodec
from hocket.codec.learning import AudioStore, ReconstructionTrainer, ReconstructionTraining
from hocket.codec.learning.losses import MultiScaleDistance
from hocket.codec.quantizer import ResidualQuantizer

SETTINGS = ReconstructionTraining(
    steps=20, batch=4, crop=0.4, warmup=2, unquantized=6, fit_batches=4, learning_rate=3e-3, bf16=False
)


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> AudioStore:
    random = np.random.default_rng(0)
    waves = [0.1 * random.standard_normal(12000) * np.hanning(12000) for _ in range(3)]
    return AudioStore.write(tmp_path_factory.mktemp("store"), (torch.from_numpy(wave) for wave in waves), 16000)


@pytest.fixture(scope="module")
def trainer(store, small_codec):
    """trainer(folder, settings) -> a training of a fresh tiny codec."""

    def make(folder, settings: ReconstructionTraining = SETTINGS) -> ReconstructionTrainer:
        codec = SpectralCodec.random(0, "tiny", **small_codec.config.to_dict())
        return ReconstructionTrainer(codec, store, settings, folder)

    return make


def test_twenty_steps_lower_the_loss_and_log_the_codebooks(trainer, tmp_path):
    training = trainer(tmp_path)
    training.run(log_every=1)
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert len(rows) == 20
    assert rows[-1]["mel"] < 0.8 * rows[0]["mel"]
    assert all(1 <= rows[-1][f"perplexity/{level}"] <= 16 for level in range(3))
    assert rows[-1]["lr"] < rows[10]["lr"]


@pytest.mark.parametrize("stop", [4, 11])
def test_a_resumed_training_is_the_uninterrupted_one_bit_for_bit(trainer, tmp_path, stop):
    whole = trainer(tmp_path / "whole")
    whole.run()
    trainer(tmp_path / "parts").run(until=stop)
    resumed = trainer(tmp_path / "parts")
    assert resumed.resume()
    assert resumed.step == stop
    resumed.run()
    for name, tensor in whole.codec.net.state_dict().items():
        assert torch.equal(tensor, resumed.codec.net.state_dict()[name]), name


def test_the_schedule_ends_by_wall_time_too(trainer, tmp_path):
    training = trainer(tmp_path, replace(SETTINGS, minutes=1.0))
    training.seconds = 60.0
    assert training.progress == 1
    assert training.learning_rate() == 0


def test_entries_nobody_chooses_start_again(trainer, tmp_path):
    training = trainer(tmp_path)
    training.quantizer.codebooks_KED[0, 3:] = 1e4
    training.ema.reset(1.0)
    generator = torch.Generator().manual_seed(0)
    for _ in range(300):
        training.ema.quantize(torch.randn(64, 8, generator=generator), generator)
    assert training.quantizer.codebooks_KED.abs().max() < 10


def test_kmeans_finds_separate_clusters():
    centres_ED = 10 * torch.randn(8, 4, generator=torch.Generator().manual_seed(0))
    points_ND = centres_ED.repeat(50, 1) + 0.01
    quantizer = ResidualQuantizer(2, 8, 4)
    quantizer.fit(points_ND, torch.Generator().manual_seed(1), iterations=20)
    codes_NK = quantizer.encode(points_ND, 2)
    torch.testing.assert_close(quantizer.decode(codes_NK), points_ND, atol=2.0, rtol=0)


def test_a_signal_is_at_no_distance_from_itself_and_silence_has_a_gradient():
    distance = MultiScaleDistance(16000)
    wav_BS = 0.1 * torch.randn(2, 6400)
    assert distance(wav_BS, wav_BS).total == 0
    silence_BS = torch.zeros(2, 6400, requires_grad=True)
    distance(silence_BS, wav_BS).total.backward()
    assert silence_BS.grad is not None
    assert torch.isfinite(silence_BS.grad).all()
