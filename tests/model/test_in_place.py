"""Models that predict in place: no leak, packed equals solo, a healthy start, and they learn.

Shapes: T steps, R rows, K levels.
"""

import math
from dataclasses import dataclass

import numpy as np
import pytest
import torch

from hocket.data.loading import Batch
from hocket.interleave import Stage, load_layout
from hocket.model import Model, ModelConfig, load_model
from hocket.training.objectives import Masking, Objective, predicted_levels
from hocket.vocab import Vocabulary, train_bpe
from tests.conftest import CODES, LEVELS, TINY
from tests.model.in_place_batches import hidden_batch

LAYOUTS = [
    "Parallel(audio)",
    "Delay(audio)",
    "Flatten(audio)",
    "Repeat(audio, 3/2)",
    "Concat(Text(text), Parallel(audio))",
    "Stack(Lead(Repeat(semantic, 2)), Parallel(audio))",
]
OBJECTIVES = ["masked", "levels"]


@dataclass
class Made:
    """A model that predicts in place, and how its documents are hidden."""

    model: Model
    objective: Objective

    def codes(self, n_frames: int, seed: int = 0) -> dict[str, np.ndarray]:
        rng, levels = np.random.default_rng(seed), self.model.layout.streams
        lengths = {name: n_frames // 2 if name == "semantic" else n_frames for name in levels}
        sizes = {name: 200 if name == "text" else CODES for name in levels}
        return {name: rng.integers(0, sizes[name], (lengths[name], k)) for name, k in levels.items()}

    def batch(self, documents: list[dict[str, np.ndarray]], seeds: list[int]) -> Batch:
        return hidden_batch(self.model, documents, seeds, self.objective)


@pytest.fixture
def make(identity):
    def build(expression: str, objective: str, config: ModelConfig = TINY, **masking) -> Made:
        streams = {"audio": identity.codebook_sizes, "semantic": (CODES,)}
        vocabulary = Vocabulary.build(train_bpe(["abc"], 256), streams)
        layout = load_layout(expression, levels=LEVELS)
        given = [name for name in layout.streams if name != "audio"] + ["audio[:1]"] * (objective == "levels")
        stage = Stage(name="", layout=layout, given=tuple(given), objective=objective, attention="bidirectional")
        model = Model.build(config, vocabulary, stage, identity).eval()
        schedule = "all" if objective == "levels" else "cosine"
        hide = Objective(levels=predicted_levels(stage, vocabulary), masking=Masking(schedule=schedule, **masking))
        return Made(model, hide)

    return build


def logits(model: Model, batch: Batch) -> torch.Tensor:
    return model.hidden(batch.ids_NR, batch.cu_seqlens) @ model.head.weight.T


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("expression", LAYOUTS)
@torch.no_grad()
def test_no_leak(make, expression, objective):
    """The true code of a cell that is hidden changes no logit; the code of one that is shown does."""
    made = make(expression, objective)
    codes, n_hidden, n_shown = made.codes(8), 0, 0
    before = made.batch([codes], [5])
    plain = logits(made.model, before)
    for t in range(8):
        for k in range(LEVELS):
            changed = {name: held.copy() for name, held in codes.items()}
            changed["audio"][t, k] = (changed["audio"][t, k] + 1) % CODES
            after = made.batch([changed], [5])
            assert torch.equal(after.legal_NR, before.legal_NR)
            if torch.equal(after.ids_NR, before.ids_NR):
                n_hidden += 1
                assert not torch.equal(after.target_NR, before.target_NR)
                assert torch.equal(logits(made.model, after), plain)
            else:
                n_shown += 1
                assert not torch.equal(logits(made.model, after), plain)
    assert n_hidden >= int((before.legal_NR > 0).sum()) > 0
    assert n_shown > 0


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("expression", LAYOUTS)
@torch.no_grad()
def test_every_predicted_cell_is_masked_in_the_input(make, expression, objective):
    made = make(expression, objective)
    batch = made.batch([made.codes(9, seed) for seed in range(20)], list(range(20)))
    masks = {made.model.vocabulary.id(f"<mask.audio.{k}>") for k in range(LEVELS)}
    assert set(batch.ids_NR[batch.legal_NR > 0].tolist()) <= masks
    assert not set(batch.target_NR[batch.legal_NR > 0].tolist()) & set(made.model.vocabulary.specials.values())
    assert torch.equal(batch.legal_NR > 0, batch.weight_NR > 0)


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("expression", LAYOUTS)
@torch.no_grad()
def test_a_packed_document_equals_itself_alone(make, expression, objective):
    made = make(expression, objective)
    documents, seeds = [made.codes(n, seed=n) for n in (4, 1, 9)], [3, 4, 5]
    together = made.batch(documents, seeds)
    alone = [made.batch([codes], [seed]) for codes, seed in zip(documents, seeds, strict=True)]
    assert torch.equal(together.ids_NR, torch.cat([batch.ids_NR for batch in alone]))
    packed = made.model.hidden(together.ids_NR, together.cu_seqlens)
    parts = [made.model.hidden(batch.ids_NR, batch.cu_seqlens) for batch in alone]
    torch.testing.assert_close(packed, torch.cat(parts), rtol=1e-5, atol=1e-5)
    totals = [made.model(batch).total for batch in alone]
    torch.testing.assert_close(made.model(together).total, sum(totals), rtol=1e-5, atol=0)


@torch.no_grad()
def test_a_step_sees_what_comes_after_it(make):
    made = make("Parallel(audio)", "levels", prompt=0.0)
    codes = made.codes(8)
    before = logits(made.model, made.batch([codes], [0]))
    codes["audio"][7, 0] = (codes["audio"][7, 0] + 1) % CODES
    assert not torch.equal(logits(made.model, made.batch([codes], [0]))[1], before[1])


@pytest.mark.parametrize("objective", OBJECTIVES)
@torch.no_grad()
def test_a_healthy_start_over_codes_alone(make, objective):
    """The first loss of each level is ln(codes) within 5 %: no end takes part in the softmax."""
    made = make("Parallel(audio)", objective, ModelConfig(**{**TINY.__dict__, "dim": 64}))
    assert [legal.size for legal in made.model.head.legal_sets] == [0, *[CODES] * LEVELS]
    parts = made.model(made.batch([made.codes(24, seed) for seed in range(60)], list(range(60))))
    learned = [(total, count) for total, count in parts.by_block.values() if count]
    assert len(learned) == LEVELS - (objective == "levels")
    for total, count in learned:
        assert abs(float(total / count) - math.log(CODES)) < 0.05 * math.log(CODES)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_it_learns_one_document(make, objective):
    made = make("Parallel(audio)", objective)
    codes, model = made.codes(12), made.model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for step in range(120):
        parts = model(made.batch([codes] * 6, list(range(6 * step, 6 * step + 6))))
        optimizer.zero_grad()
        (parts.total / parts.weight).backward()
        optimizer.step()
    fresh = model(made.batch([codes] * 32, list(range(10_000, 10_032))))
    assert (fresh.total / fresh.weight).item() < 0.05 * math.log(CODES)


def test_a_checkpoint_says_how_it_predicts(make, tmp_path):
    made = make("Parallel(audio)", "masked")
    made.model.save(tmp_path / "model")
    loaded = load_model(tmp_path / "model")
    assert (loaded.stage.objective, loaded.stage.attention) == ("masked", "bidirectional")
    batch = made.batch([made.codes(6)], [0])
    assert torch.equal(logits(loaded, batch), logits(made.model, batch))
