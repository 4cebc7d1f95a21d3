"""The learning rate as a pure function of the step, so that a resumed run needs no scheduler state.

cosine   /‾‾‾\\__        up for `warmup` steps, then half a cosine down to min_lr_ratio
wsd      /‾‾‾‾‾‾\\       up, constant, then a straight line down over the last fifth
"""

import math

from hocket.training.config import TrainingGroup

DECAY_SHARE = 0.2


def learning_rate(step: int, training: TrainingGroup) -> float:
    """Rate of optimizer step `step`, counted from 1; the last step has exactly lr * min_lr_ratio."""
    if step <= training.warmup:
        return training.lr * step / training.warmup
    decay = _cosine if training.schedule == "cosine" else _stable_then_line
    low = training.min_lr_ratio
    return training.lr * (low + (1 - low) * decay(step, training.warmup, training.steps))


def _cosine(step: int, warmup: int, steps: int) -> float:
    progress = min(1.0, (step - warmup) / max(1, steps - warmup))
    return 0.5 * (1 + math.cos(math.pi * progress))


def _stable_then_line(step: int, warmup: int, steps: int) -> float:
    length = max(1, round(DECAY_SHARE * (steps - warmup)))
    return min(1.0, max(0.0, (steps - step) / length))
