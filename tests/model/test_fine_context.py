"""Restricted context: codes beyond the window change no logit once a level above the lowest is predicted.

Shapes: N steps, T frames, K levels.
"""

import numpy as np
import pytest
import torch

from hocket.errors import InputError
from hocket.inference import Request, Sampling
from hocket.inference.in_place import InPlaceSampler
from hocket.inference.masking import MaskSampling
from hocket.interleave import Stage, load_layout
from hocket.model import Model, ModelConfig, load_model
from hocket.model.documents import Documents
from hocket.training.objectives import Masking, Objective, predicted_levels
from hocket.vocab import Vocabulary, train_bpe
from tests.conftest import CODES, LEVELS, TINY
from tests.model.in_place_batches import hidden_batch

FRAMES, WINDOW = 12, 3
LAYOUTS = [
    "Parallel(audio)",
    "Concat(Text(text), Parallel(audio))",
    "Stack(Lead(Repeat(semantic, 2)), Parallel(audio))",
]
UNCOMPILED = pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")


@pytest.fixture
def make(identity):
    def build(expression: str, given: tuple[str, ...] = (), **changes) -> Model:
        streams = {"audio": identity.codebook_sizes, "semantic": (CODES,)}
        vocabulary = Vocabulary.build(train_bpe(["abc"], 256), streams)
        layout = load_layout(expression, levels=LEVELS)
        given = (*given, *(name for name in layout.streams if name != "audio"))
        objective = "levels" if "audio[:1]" in given else "masked"
        stage = Stage(name="", layout=layout, given=given, objective=objective, attention="bidirectional")
        config = ModelConfig(**{**TINY.__dict__, "fine_window": WINDOW, **changes})
        return Model.build(config, vocabulary, stage, identity).eval()

    return build


def codes_of(model: Model, n_frames: int = FRAMES) -> dict[str, np.ndarray]:
    rng, n = np.random.default_rng(0), {"semantic": (n_frames + 1) // 2, "text": 4}
    return {name: rng.integers(0, CODES, (n.get(name, n_frames), k)) for name, k in model.layout.streams.items()}


def hide(model: Model, level: int) -> Objective:
    """Masks the last frame of a level alone, and the levels above it whole."""
    masking = Masking(schedule="linear", prompt=0.0, level=level)
    return Objective(levels=predicted_levels(model.stage, model.vocabulary), masking=masking)


def changed_frames(model: Model, level: int, stream: str, place: int, seed: int = 3) -> set[int]:
    """Frames of audio whose state changes when the code of a place does, at a level that is shown."""
    states = []
    for shift in (0, 1):
        codes = codes_of(model)
        codes[stream][place, 0] = (codes[stream][place, 0] + shift) % CODES
        batch = hidden_batch(model, [codes], [seed], hide(model, level))
        steps = model.layout.plan({n: len(c) for n, c in codes.items()}, ended=model.stage.ended).where["audio"][:, 0]
        states.append(model.hidden(batch.ids_NR, batch.cu_seqlens)[torch.tensor(steps // model.layout.n_rows)])
    return set((states[0] != states[1]).any(dim=1).nonzero()[:, 0].tolist())


@pytest.mark.parametrize("n_layers", [1, 2])
@pytest.mark.parametrize("expression", LAYOUTS)
@torch.no_grad()
def test_a_code_beyond_the_window_changes_nothing(make, expression, n_layers):
    model = make(expression, n_layers=n_layers)
    reach = n_layers * (WINDOW - 1)
    for place in (0, 5, 11):
        near = {t for t in range(FRAMES) if abs(t - place) <= reach}
        assert changed_frames(model, 1, "audio", place) == near


@torch.no_grad()
def test_the_lowest_level_sees_everything(make):
    """Where frame 5 of level 0 is shown."""
    model = make("Concat(Text(text), Parallel(audio))", n_layers=1)
    seeds = [seed for seed in range(12) if changed_frames(model, 0, "audio", 5, seed)]
    assert seeds
    assert all(changed_frames(model, 0, "audio", 5, seed) == set(range(FRAMES)) for seed in seeds)


@pytest.mark.parametrize("level", range(LEVELS))
@torch.no_grad()
def test_a_text_before_the_codes_is_seen_from_everywhere(make, level):
    model = make("Concat(Text(text), Parallel(audio))", n_layers=1)
    assert changed_frames(model, level, "text", 0) == set(range(FRAMES))


@torch.no_grad()
def test_where_level_0_is_given_all_levels_are_restricted(make):
    model = make("Parallel(audio)", ("audio[:1]",), n_layers=1)
    assert changed_frames(model, 0, "audio", 6) == {4, 5, 6, 7, 8}


@pytest.mark.parametrize("expression", LAYOUTS)
@torch.no_grad()
def test_a_pack_of_levels_equals_its_documents_alone(make, expression):
    model = make(expression)
    parts = [hidden_batch(model, [codes_of(model, n)], [n], hide(model, n % 3)) for n in (4, 9, 5, 7)]
    alone = torch.cat([model.hidden(batch.ids_NR, batch.cu_seqlens) for batch in parts])
    bounds = torch.tensor([0, *(len(batch.ids_NR) for batch in parts), 0]).cumsum(0)
    packed = model.hidden(torch.cat([batch.ids_NR for batch in parts]), bounds)
    torch.testing.assert_close(packed, alone, rtol=1e-5, atol=1e-5)


@UNCOMPILED
@pytest.mark.parametrize("expression", LAYOUTS)
@torch.no_grad()
def test_flex_equals_sdpa(make, expression):
    models = [make(expression, attention=name) for name in ("sdpa", "flex")]
    for level in range(LEVELS):
        batch = hidden_batch(models[0], [codes_of(models[0], n) for n in (4, 11)], [1, 2], hide(models[0], level))
        one, other = (model.hidden(batch.ids_NR, batch.cu_seqlens) for model in models)
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


def test_masks_are_what_steps_see():
    documents = Documents([0, 4, 9], 9, torch.device("cpu"), causal=False)
    documents.restrict(torch.tensor([False] * 5 + [True] * 4), 2)
    first, second = documents.masks
    assert first is None
    assert second is not None
    assert second.int().tolist() == [
        [1, 0, 0, 0, 0],
        [1, 1, 1, 0, 0],
        [1, 1, 1, 1, 0],
        [1, 0, 1, 1, 1],
        [1, 0, 0, 1, 1],
    ]


def test_it_learns_and_is_saved(make, tmp_path):
    model = make("Concat(Text(text), Parallel(audio))").train()
    batch = hidden_batch(model, [codes_of(model)] * 3, [0, 1, 2], hide(model, 2))
    model(batch).total.backward()
    assert all(p.grad is None or torch.isfinite(p.grad).all() for p in model.parameters())
    model.save(tmp_path)
    loaded = load_model(tmp_path)
    assert loaded.config.fine_window == WINDOW
    with torch.no_grad():
        one, other = (m.eval().hidden(batch.ids_NR, batch.cu_seqlens) for m in (model, loaded))
    assert torch.equal(one, other)


def test_a_sampled_level_depends_on_codes_nearby_alone(make):
    """Another code at the start of the prompt's level 0 changes upper levels of the frames within reach alone."""
    model = make("Parallel(audio)", ("audio[:1]",), n_layers=1)
    audio_TK, items = codes_of(model)["audio"], []
    for shift in (0, 1):
        given_TK = audio_TK[:, :1].copy()
        given_TK[0] = (given_TK[0] + shift) % CODES
        settings = MaskSampling(greedy_last=False)
        items.append(InPlaceSampler(model).run([Request(given={"audio": given_TK})], Sampling(), settings)[0])
    same_TK = items[0].log_probabilities["audio"] == items[1].log_probabilities["audio"]
    assert not same_TK[:WINDOW, 1].any()
    assert same_TK[WINDOW:, 1].all()


def test_what_cannot_be_is_refused_in_words(make, make_model):
    model = make("Parallel(audio)", attention="varlen")
    batch = hidden_batch(model, [codes_of(model)], [0], hide(model, 1))
    with pytest.raises(InputError, match=r"model.attention=varlen cannot run here"):
        model(batch)
    with pytest.raises(InputError, match=r"model.fine_window is for levels that are predicted in place"):
        make_model("Delay(audio)", fine_window=3)
    with pytest.raises(InputError, match=r"model.fine_window is -1, but must be at least 0"):
        ModelConfig(fine_window=-1)
