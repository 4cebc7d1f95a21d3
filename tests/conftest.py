"""Pieces that several rooms' tests share: a tiny model over random codes."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # of processes that tests start, too: the models are tiny

import numpy as np
import pytest
import torch

from hocket.codec import CodecIdentity
from hocket.data.loading import Batch
from hocket.interleave import load_layout
from hocket.model import Model, ModelConfig
from hocket.vocab import Vocabulary, train_bpe

torch.set_num_threads(1)
LEVELS, CODES = 3, 12
AUDIO_LAYOUTS = [
    "Parallel(audio)",
    "Delay(audio)",
    "Delay(audio, [0, 2, 2])",
    "Flatten(audio)",
    'Flatten(audio, order="level")',
    "Concat(Flatten(audio[:1]), Parallel(audio[1:]))",
    "CoarseFirst(audio)",
    "Flatten(audio, groups=[1, -1])",
    "Delay(audio, [0, 1, ...], offset=2)",
    "Repeat(audio, 3/2)",
]
ALL_LAYOUTS = [*AUDIO_LAYOUTS, "Concat(Text(text), Delay(audio))", "Concat(Flatten(audio), Text(text))"]
MODEL_LAYOUTS = [
    *ALL_LAYOUTS,
    "Alternate(text, Delay(audio), ratio=(2, 3))",
    "Stack(aligned_text, Delay(audio, [0, 1, ...]))",
    'Concat(Marker("<cont>"), Flatten(audio))',
]
TINY = ModelConfig(dim=32, n_layers=2, n_heads=4, n_kv_heads=2, ffn_dim=48, context=128)


@pytest.fixture(scope="session")
def identity() -> CodecIdentity:
    return CodecIdentity(
        name="fake", revision="1", weight_hash="0", sample_rate=16000, hop=640, codebook_sizes=(CODES,) * LEVELS
    )


@pytest.fixture(scope="session")
def make_model(identity):
    """make_model(expression, **changes to the configuration) -> a tiny, randomly initialised model."""

    def make(expression: str, seed: int = 0, **changes) -> Model:
        config = ModelConfig(**{**TINY.__dict__, **changes})
        text = train_bpe(["abc"], 256)
        vocabulary = Vocabulary.build(text, {"audio": identity.codebook_sizes}, {"audio": identity.fingerprint})
        layout = load_layout(expression, levels=LEVELS)
        return Model.build(config, vocabulary, layout, identity, seed=seed).eval()

    return make


def random_document(model: Model, n_frames: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids and legal sets `[T, R]` of a document of random codes."""
    rng = np.random.default_rng(seed)
    lengths = dict.fromkeys(model.layout.streams, n_frames)
    sizes = {name: 256 if name == "text" else CODES for name in lengths}
    plan = model.layout.plan(lengths)
    codes = {n: rng.integers(0, sizes[n], (n_frames, k)) for n, k in model.layout.streams.items()}
    return torch.from_numpy(plan.interleave(codes, model.vocabulary)), torch.from_numpy(plan.legal_TR.astype(np.int64))


def batch_of(documents: list[tuple[torch.Tensor, torch.Tensor]]) -> Batch:
    """Packs documents."""
    legal = torch.cat([legal for _, legal in documents])
    bounds = torch.tensor([0, *[len(ids) for ids, _ in documents]]).cumsum(0)
    names = [str(i) for i in range(len(documents))]
    return Batch(torch.cat([ids for ids, _ in documents]), legal, (legal > 0).float(), bounds, names, 0)


BUDGETS = {
    "interleave": 60,
    "codec": 90,
    "data": 90,
    "model": 90,
    "training": 90,
    "inference": 90,
    "rest": 90,
}
"""Seconds that the tests of each room may take on 2 cores."""


def pytest_terminal_summary(terminalreporter):
    """Prints the time per room beside its budget."""
    spent = dict.fromkeys(BUDGETS, 0.0)
    for reports in terminalreporter.stats.values():
        for report in reports:
            if hasattr(report, "duration"):
                room = report.nodeid.split("/")[1] if report.nodeid.count("/") > 1 else "rest"
                spent[room if room in spent else "rest"] += report.duration
    terminalreporter.write_sep("-", "seconds per room")
    for room, seconds in spent.items():
        over = "  over budget" if seconds > BUDGETS[room] else ""
        terminalreporter.write_line(f"{room:<12}{seconds:7.1f} of {BUDGETS[room]}{over}")
