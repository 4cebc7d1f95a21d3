"""A training step with a depth head on all frames against one on 1/16 of them, at CSM's shape in small.

CSM-1B (Sesame, 2025): trunk of width 2,048, 16 layers, feed-forward 8,192; depth head of width 1,024, 4 layers,
feed-forward 8,192; a quarter as many key heads as query heads in both; 32 codebooks of 2,051 entries, a row each. Here
widths and entries are divided by 8, which keeps the ratio of operations. Counted by weights:

    trunk    16 x (2.5 D^2 + 3 D F)            per step, and D x entries for row 0
    depth     4 x (2.5 E^2 + 3 E G) x 32       per step that is trained on, and E x entries x 31

A step is forward, backward and AdamW. Limit: 1/16 of depth cannot make the step faster than (1 + r) / (1 + r / 16) for
a depth head that costs r times the trunk.
"""

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch

from benchmarks.timing import heading, interleaved
from hocket.codec import CodecIdentity
from hocket.data.loading import Batch
from hocket.interleave import Stage, load_layout
from hocket.model import Model, ModelConfig
from hocket.vocab import Vocabulary

SCALE, LEVELS, FRAMES, DOCUMENTS = 8, 32, 128, 2
ENTRIES = 2051 // SCALE
FRACTION = 1 / 16
CONFIG = ModelConfig(
    dim=2048 // SCALE,
    n_layers=16,
    n_heads=4,
    n_kv_heads=1,
    ffn_dim=8192 // SCALE,
    qk_norm=False,
    context=2 * FRAMES,
    depth_dim=1024 // SCALE,
    depth_layers=4,
    depth_heads=4,
    depth_kv_heads=1,
    depth_ffn_dim=8192 // SCALE,
)


def depth_ratio(c: ModelConfig = CONFIG) -> float:
    """Operations of the depth head on all frames over those of the trunk, by weights."""
    trunk = c.n_layers * (2.5 * c.dim**2 + 3 * c.dim * c.ffn_dim) + c.dim * ENTRIES
    position = c.depth_layers * (2.5 * c.depth_dim**2 + 3 * c.depth_dim * c.depth_ffn_dim) + c.dim * c.depth_dim
    return (LEVELS * position + (LEVELS - 1) * c.depth_dim * ENTRIES) / trunk


def main(rounds: int = 5) -> None:
    torch.set_num_threads(1)
    ratio = depth_ratio()
    limit = (1 + ratio) / (1 + ratio * FRACTION)
    candidates = {
        "trunk and row 0 alone": _trainer(Stage(name="", layout=_layout(1)), CONFIG),
        "all frames": _trainer(_stage(), CONFIG),
        "1/16 of frames": _trainer(_stage(), replace(CONFIG, depth_fraction=FRACTION)),
    }
    median = interleaved(candidates, rounds)
    print(heading(f"depth head at CSM's shape / {SCALE}, {DOCUMENTS} x {FRAMES} frames of {LEVELS} levels, float32"))
    for name, seconds in median.items():
        print(f"  {name:<22}{seconds:8.3f} s a step")
    print(f"  depth costs {ratio:.2f} times the trunk by weights")
    print(f"  ratio {median['all frames'] / median['1/16 of frames']:.2f}, limit {limit:.2f}\n")


def _stage() -> Stage:
    return Stage(name="", layout=_layout(LEVELS), head="depth")


def _layout(levels: int):
    return load_layout("Parallel(audio)", levels=levels)


def _trainer(stage: Stage, config: ModelConfig) -> Callable[[], None]:
    """A function that takes one optimizer step on the same documents of random codes, with another draw each time."""
    model = _model(stage, config)
    batch = _batch(model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)

    def step() -> None:
        batch.seed += 1
        parts = model(batch)
        (parts.total / parts.weight).backward()
        optimizer.step()
        optimizer.zero_grad()
        assert math.isfinite(parts.total.detach())

    return step


def _model(stage: Stage, config: ModelConfig) -> Model:
    sizes = (ENTRIES,) * stage.layout.streams["audio"]
    identity = CodecIdentity(
        name="random", revision="1", weight_hash="0", sample_rate=24000, hop=1920, codebook_sizes=sizes
    )
    vocabulary = Vocabulary.build(None, {"audio": sizes}, {"audio": identity.fingerprint})
    return Model.build(config, vocabulary, stage, identity).train()


def _batch(model: Model) -> Batch:
    plan = model.layout.batch({"audio": [FRAMES] * DOCUMENTS})
    codes_TK = np.random.default_rng(0).integers(0, ENTRIES, (FRAMES * DOCUMENTS, model.layout.streams["audio"]))
    legal_NR = torch.from_numpy(plan.legal_TR.astype(np.int64))
    ids_NR = torch.from_numpy(plan.interleave({"audio": codes_TK}, model.vocabulary))
    names = [str(i) for i in range(DOCUMENTS)]
    return Batch(ids_NR, legal_NR, (legal_NR > 0).float(), torch.from_numpy(plan.cu_seqlens), names, FRAMES * DOCUMENTS)
