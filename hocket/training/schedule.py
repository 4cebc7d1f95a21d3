"""The learning rate as a pure function of the step, so that a resumed run needs no scheduler state.

cosine   /‾‾‾\\__        up for `warmup` steps, then half a cosine down to min_lr_ratio
wsd      /‾‾‾‾‾‾\\       up, constant, then a straight line down over the last `decay_share`
"""

import math

from hocket.training.config import TrainingGroup


def learning_rate(step: int, training: TrainingGroup) -> float:
    """Rate of optimizer step `step`, counted from 1; the last step has exactly lr * min_lr_ratio."""
    if step <= training.warmup:
        return training.lr * step / training.warmup
    decay = _cosine if training.schedule == "cosine" else _stable_then_line
    low = training.min_lr_ratio
    return training.lr * (low + (1 - low) * decay(step, training))


def _cosine(step: int, training: TrainingGroup) -> float:
    progress = min(1.0, (step - training.warmup) / max(1, training.steps - training.warmup))
    return 0.5 * (1 + math.cos(math.pi * progress))


def _stable_then_line(step: int, training: TrainingGroup) -> float:
    length = max(1, round(training.decay_share * (training.steps - training.warmup)))
    return min(1.0, max(0.0, (training.steps - step) / length))
