"""Documents as an objective that predicts in place shows them to a model."""

from collections.abc import Sequence

import numpy as np
import torch

from hocket.data.loading import Batch
from hocket.model import Model
from hocket.training.objectives import Objective


def hidden_batch(
    model: Model, documents: Sequence[dict[str, np.ndarray]], seeds: Sequence[int], objective: Objective
) -> Batch:
    """Packs documents (codes `[T, K]` by stream) and hides codes of them; a seed for each."""
    stage = model.stage
    lengths = {name: [len(codes[name]) for codes in documents] for name in stage.layout.streams}
    plan = stage.layout.batch(lengths, ended=stage.ended, given=stage.given)
    packed = {name: np.concatenate([codes[name] for codes in documents]) for name in lengths}
    legal = torch.from_numpy(plan.legal_TR.astype(np.int64))
    ids, bounds = torch.from_numpy(plan.interleave(packed, model.vocabulary)), torch.from_numpy(plan.cu_seqlens)
    names = [str(seed) for seed in seeds]
    return objective(Batch(ids, legal, (legal > 0).float(), bounds, names, 0), plan, seeds)
