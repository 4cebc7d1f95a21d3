import pytest

from hocket.training.config import TrainingGroup
from hocket.training.schedule import learning_rate


@pytest.mark.parametrize("schedule", ["cosine", "wsd"])
def test_rates_rise_to_the_peak_and_end_at_the_floor(schedule):
    training = TrainingGroup(steps=100, warmup=10, lr=2.0, min_lr_ratio=0.1, schedule=schedule)
    rates = [learning_rate(step, training) for step in range(1, 101)]
    assert rates[:10] == pytest.approx([0.2 * i for i in range(1, 11)])
    assert rates[-1] == pytest.approx(0.2)
    assert all(a >= b for a, b in zip(rates[9:], rates[10:], strict=False))


def test_wsd_is_constant_until_the_last_fifth():
    training = TrainingGroup(steps=110, warmup=10, lr=1.0, min_lr_ratio=0.0, schedule="wsd")
    assert learning_rate(90, training) == 1.0
    assert learning_rate(100, training) == pytest.approx(0.5)


def test_no_warmup_starts_at_the_peak():
    assert learning_rate(1, TrainingGroup(steps=2, warmup=0, lr=1.0, schedule="wsd")) == 1.0


def test_the_decay_of_wsd_can_be_longer():
    training = TrainingGroup(steps=110, warmup=10, lr=1.0, min_lr_ratio=0.0, schedule="wsd", decay_share=0.5)
    assert learning_rate(60, training) == 1.0
    assert learning_rate(85, training) == pytest.approx(0.5)
