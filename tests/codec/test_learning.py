import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from hocket.codec import SpectralCodec
from hocket.codec.learning import (
    AdversarialTrainer,
    AdversarialTraining,
    AudioStore,
    ReconstructionTrainer,
    ReconstructionTraining,
)
from hocket.codec.learning.balancer import LossBalancer
from hocket.codec.learning.discriminators import Discriminators, adversarial_loss, discriminator_loss, feature_distance
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


ADVERSARIAL = AdversarialTraining(
    steps=12, batch=2, crop=0.2, warmup=2, windows=(256,), periods=(2, 3), channels=4, head_start=1, ramp=4, bf16=False
)


@pytest.fixture(scope="module")
def adversary(store, small_codec):
    """adversary(folder, settings) -> an adversarial phase of a fresh tiny codec."""

    def make(folder, settings: AdversarialTraining = ADVERSARIAL) -> AdversarialTrainer:
        codec = SpectralCodec.random(0, "tiny", **small_codec.config.to_dict())
        return AdversarialTrainer(codec, store, settings, folder)

    return make


def test_the_adversarial_phase_changes_the_decoder_and_no_code(adversary, small_codec, tmp_path):
    phase = adversary(tmp_path)
    phase.run(log_every=1)
    before, after = small_codec.net.state_dict(), phase.codec.net.state_dict()
    changed = {name.split(".")[0] for name in before if not torch.equal(before[name], after[name])}
    assert changed == {"decoder"}
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert len(rows) == 12
    assert {"spectral", "adversarial", "feature", "discriminator"} <= set(rows[0])


def test_the_last_decoder_is_between_the_first_and_the_adversarial_one(adversary, small_codec, tmp_path):
    phase = adversary(tmp_path, replace(ADVERSARIAL, kept=0.25))
    phase.run()
    after = {name: tensor.clone() for name, tensor in phase.codec.net.decoder.state_dict().items()}
    phase.conclude()
    for name, tensor in phase.codec.net.decoder.state_dict().items():
        expected = 0.25 * small_codec.net.decoder.state_dict()[name] + 0.75 * after[name]
        torch.testing.assert_close(tensor, expected)


def test_a_resumed_adversarial_phase_is_the_uninterrupted_one_bit_for_bit(adversary, tmp_path):
    whole = adversary(tmp_path / "whole")
    whole.run()
    adversary(tmp_path / "parts").run(until=5)
    resumed = adversary(tmp_path / "parts")
    assert resumed.resume()
    resumed.run()
    for module in ("discriminators", "codec.net"):
        own, other = whole, resumed
        for part in module.split("."):
            own, other = getattr(own, part), getattr(other, part)
        for name, tensor in own.state_dict().items():
            assert torch.equal(tensor, other.state_dict()[name]), name


def test_discriminators_learn_to_tell_speech_from_noise(speech):
    torch.manual_seed(0)
    judges = Discriminators((256, 512), (2, 3), 4)
    optimizer = torch.optim.AdamW(judges.parameters(), lr=1e-2)
    real_BS = torch.stack([wav_S[4000:8000] for wav_S in speech[:4]])
    fake_BS = real_BS.abs().mean() * torch.randn(4, 4000)
    losses = []
    for _ in range(40):
        loss = discriminator_loss(judges(real_BS), judges(fake_BS))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]
    assert adversarial_loss(judges(fake_BS)) > adversarial_loss(judges(real_BS))
    assert feature_distance(judges(real_BS), judges(real_BS)) == 0


def test_the_balancer_gives_each_loss_its_share_whatever_its_scale():
    output_BS = torch.randn(2, 50, requires_grad=True)
    target_BS = torch.randn(2, 50)
    losses = {"small": 1e-6 * (output_BS * target_BS).sum(), "large": 1e6 * output_BS[:, :5].sum()}
    balancer = LossBalancer({"small": 3.0, "large": 1.0})
    gradient_BS = balancer.gradient(losses, output_BS)
    small_BS, large_BS = target_BS / target_BS.norm(), torch.zeros(2, 50)
    large_BS[:, :5] = 1 / 10**0.5
    torch.testing.assert_close(gradient_BS, 0.75 * small_BS + 0.25 * large_BS)


def test_a_store_gives_back_its_waves_of_any_length(tmp_path):
    waves = [torch.linspace(-1, 1, n) for n in (500, 30, 4000)]
    written = AudioStore.write(tmp_path, iter(waves), 16000)
    assert len(written) == 3
    assert written.seconds == pytest.approx(4530 / 16000)
    for index, wav_S in enumerate(waves):
        torch.testing.assert_close(torch.from_numpy(written[index] / 32767).float(), wav_S, atol=1e-4, rtol=0)
