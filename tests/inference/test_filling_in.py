"""Filling in what is masked: an oracle's rule comes out exactly, prompts stay, batches equal solo, passes are counted.

Shapes: N steps, R rows, T frames, K levels, M cells, J legal ids.
"""

import math

import numpy as np
import pytest
import torch

from hocket.errors import InputError
from hocket.inference import Request, Sampling
from hocket.inference.in_place import InPlaceSampler
from hocket.inference.masking import MAGNET, MaskSampling
from hocket.model import Model
from hocket.training.objectives import Masking, Objective, predicted_levels
from tests.conftest import CODES
from tests.inference.oracle_in_place import LEVELS, STAGES, Oracle, build, expected, request_of
from tests.model.in_place_batches import hidden_batch

GREEDY = Sampling(temperature=0)
PLAIN = MaskSampling(steps=(5, 2))


@pytest.mark.parametrize("n_prompt", [0, 3])
@pytest.mark.parametrize("settings", [MaskSampling(), PLAIN, MaskSampling(score="random", schedule="linear", span=2)])
@pytest.mark.parametrize("name", STAGES)
def test_an_oracle_gives_its_rule(name, settings, n_prompt):
    model = build(name)
    requests = [request_of(model, n, n_prompt, seed) for seed, n in enumerate((9, 4, 14))]
    if model.stage.objective == "levels":
        settings = MaskSampling(score=settings.score)
    Oracle(model, requests)
    for request, item in zip(requests, InPlaceSampler(model).run(requests, GREEDY, settings), strict=True):
        np.testing.assert_array_equal(item.streams["audio"], expected(model, request))
        for stream, codes in request.given.items():
            np.testing.assert_array_equal(item.streams[stream][:, : codes.shape[1]], codes)


def test_magnet_shows_the_oracle_null_conditions_beside_the_true_ones():
    model = build("magnet")
    requests = [request_of(model, n, 2, n) for n in (9, 16)]
    oracle = Oracle(model, requests)
    items = InPlaceSampler(model).run(requests, Sampling(temperature=3, top_p=0.9), MAGNET)
    assert len(oracle.seen) == items[0].passes
    null = model.vocabulary.id("<null>")
    for seen, conditions in zip(oracle.seen, oracle.conditions, strict=True):
        assert len(seen) in (2, 4)
        for b, condition in enumerate(conditions):
            assert (condition == null).all() == (b >= 2)
        for told, untold in zip(seen[:2], seen[2:], strict=False):
            np.testing.assert_array_equal(told, untold)


def test_the_surest_cells_come_first():
    """A chain in which only the frame after a known one can be told: one cell a pass, from the prompt on."""
    model = build("Parallel(audio)")
    request = request_of(model, 10, 1)
    oracle = Oracle(model, [request])
    mask, offset = model.vocabulary.id("<mask.audio.0>"), model.vocabulary["audio.0"].start

    def logits(x_MD, legal):
        ids_TK = oracle.seen[-1][0]
        if legal > 1:
            return torch.zeros(len(x_MD), CODES)
        open_T = (ids_TK[:, 0] == mask).nonzero()[0]
        logits_MJ = torch.zeros(len(open_T), CODES)
        logits_MJ[0, (ids_TK[open_T[0] - 1, 0] - offset + 5) % CODES] = 9.0
        return logits_MJ

    model.head.__dict__["logits"] = logits
    settings = MaskSampling(steps=(9, 1), schedule="linear", choice_temperature=0.0)
    item = InPlaceSampler(model).run([request], GREEDY, settings)[0]
    first = request.prompts["audio"][0, 0]
    assert item.streams["audio"][:, 0].tolist() == [(first + 5 * t) % CODES for t in range(10)]


def test_the_cells_left_after_each_pass_are_those_of_the_papers():
    passes = MaskSampling().of("audio.0", 0, "masked")
    assert passes.steps == 16
    left = passes.left(100)
    assert left == [math.floor(100 * math.cos(math.pi / 2 * i / 16)) for i in range(1, 16)] + [0]
    assert left[:4] == [99, 98, 95, 92]
    assert MaskSampling(schedule="linear", steps=4).of("audio.0", 0, "masked").left(10) == [7, 5, 2, 0]
    assert MaskSampling(steps=4).of("audio.0", 0, "masked").left(1) == [1, 1, 1, 0]
    magnet = MAGNET.of("audio.0", 0, "masked")
    assert [round(magnet.guidance(step), 3) for step in (0, 10, 19)] == [10.0, 7.364, 1.706]
    assert [round(magnet.temperature(step, 3.0), 3) for step in (0, 10, 19)] == [2.85, 1.35, 0.0]


@pytest.mark.parametrize(("levels", "settings", "passes"), [(8, None, 23), (4, MAGNET, 50)])
def test_passes_are_counted(levels, settings, passes):
    """SoundStorm's of 30 s at 12.5 Hz and 8 levels, MAGNeT's of 4 levels."""
    model, told, decoder = build("magnet", levels, dim=8, context=512), [], []
    model.decoder.register_forward_hook(lambda *_: decoder.append(1))
    request = Request(given={"text": np.zeros((3, 1), np.int64)}, limits={"audio": 375})
    item = InPlaceSampler(model).run([request], GREEDY, settings, lambda *done: told.append(done))[0]
    assert item.passes == len(decoder) == passes
    assert told == [(i + 1, passes) for i in range(passes)]


def test_only_open_cells_of_the_level_take_the_head():
    model = build("Parallel(audio)")
    request = request_of(model, 24, 4)
    oracle = Oracle(model, [request])
    InPlaceSampler(model).run([request], GREEDY, MaskSampling(steps=(4, 1)))
    left = MaskSampling(steps=4).of("audio.0", 0, "masked").left(20)
    assert oracle.n_rows == [20, *left[:-1], 20, 20, 20]


def test_spans_are_fixed_whole():
    model = build("Parallel(audio)")
    request = request_of(model, 13, 2)
    oracle = Oracle(model, [request])
    InPlaceSampler(model).run([request], GREEDY, MaskSampling(steps=(4, 1), span=3, span_score="mean"))
    mask = model.vocabulary.id("<mask.audio.0>")
    for (ids_TK,), n_spans in zip(oracle.seen[:4], (4, 3, 2, 1), strict=True):
        masked_T = ids_TK[2:, 0] == mask
        spans = [masked_T[a : a + 3] for a in range(0, 11, 3)]
        assert all(span.all() or not span.any() for span in spans)
        assert sum(bool(span.all()) for span in spans) == n_spans


def test_documents_that_are_done_wait_for_the_others():
    model = build("Parallel(audio)")
    requests = [request_of(model, n, 0, n) for n in (1, 0, 30)]
    Oracle(model, requests)
    items = InPlaceSampler(model).run(requests, GREEDY)
    assert [len(item.streams["audio"]) for item in items] == [1, 0, 30]
    for request, item in zip(requests, items, strict=True):
        np.testing.assert_array_equal(item.streams["audio"], expected(model, request))


SETTINGS = [
    (Sampling(), MaskSampling(steps=(6, 2))),
    (Sampling(temperature=3, top_p=0.9), MaskSampling(**{**MAGNET.__dict__, "steps": (5, 3)})),
    (Sampling(top_k=5, rows={"audio.1": {"temperature": 0}}), MaskSampling(steps=3, score="random", greedy_last=False)),
]


@pytest.mark.parametrize(("sampling", "settings"), SETTINGS)
@pytest.mark.parametrize("name", ["soundstorm", "magnet"])
def test_a_batch_equals_its_items_alone(name, sampling, settings):
    model = build(name)
    sampler = InPlaceSampler(model)
    requests = [request_of(model, n, p, seed) for seed, (n, p) in enumerate([(12, 3), (5, 0), (20, 19), (7, 7)])]
    together = sampler.run(requests, sampling, settings)
    for request, item in zip(requests, together, strict=True):
        alone = sampler.run([request], sampling, settings)[0]
        for stream, codes_TK in item.streams.items():
            np.testing.assert_array_equal(codes_TK, alone.streams[stream])
        np.testing.assert_allclose(item.log_probabilities["audio"], alone.log_probabilities["audio"], atol=1e-4)


@pytest.mark.parametrize("name", STAGES)
@pytest.mark.parametrize("n_prompt", [0, 1, 6])
def test_an_untrained_model_gives_legal_codes_and_keeps_its_prompt(name, n_prompt):
    model = build(name)
    request = request_of(model, 11, n_prompt)
    settings = MaskSampling(greedy_last=False) if model.stage.objective == "levels" else PLAIN
    one, two = (InPlaceSampler(model).run([request], Sampling(), settings)[0] for _ in range(2))
    codes_TK, logp_TK = one.streams["audio"], one.log_probabilities["audio"]
    assert codes_TK.shape == (11, LEVELS)
    assert codes_TK.dtype == np.int64
    assert ((codes_TK >= 0) & (codes_TK < CODES)).all()
    np.testing.assert_array_equal(codes_TK, two.streams["audio"])
    if n_prompt:
        np.testing.assert_array_equal(codes_TK[:n_prompt], request.prompts["audio"])
    n_given = request.given["audio"].shape[1] if "audio" in request.given else 0
    assert np.isnan(logp_TK[:n_prompt]).all()
    assert np.isnan(logp_TK[:, :n_given]).all()
    assert (logp_TK[n_prompt:, n_given:] < 0).all()


def test_seeds_differ():
    model = build("Parallel(audio)")
    items = [InPlaceSampler(model).run([request_of(model, 11, 0, seed)])[0] for seed in (1, 2)]
    assert not np.array_equal(items[0].streams["audio"], items[1].streams["audio"])


@torch.no_grad()
def test_log_probabilities_are_those_of_teacher_forcing():
    """Level by level at one go, each code's is that of the document with all levels below it known."""
    model = build("valle")
    request = request_of(model, 8, 2)
    item = InPlaceSampler(model).run([request], Sampling(), MaskSampling(greedy_last=False))[0]
    for number, (_, level) in enumerate(model.stage.predicted_levels):
        masking = Masking(schedule="all", prompt=0.0, level=number)
        hide = Objective(levels=predicted_levels(model.stage, model.vocabulary), masking=masking)
        batch = hidden_batch(model, [item.streams], [0], hide)
        assert batch.target_NR is not None
        ids_NR = batch.ids_NR.clone()
        ids_NR[-8:-6] = batch.target_NR[-8:-6]  # the prompt
        x_ND = model.hidden(ids_NR, batch.cu_seqlens)
        legal = model.layout.legal_cells.index(("audio", level))
        logp_MJ = model.head.log_probabilities(x_ND[-6:], legal)
        codes_M1 = torch.from_numpy(item.streams["audio"][2:, level])[:, None]
        found = logp_MJ.gather(1, codes_M1)[:, 0].numpy()
        np.testing.assert_allclose(item.log_probabilities["audio"][2:, level], found, rtol=1e-4, atol=1e-5)


def train(model: Model, document, n_steps: int) -> Model:
    """Trains on fresh documents; `document(rng)` makes one."""
    rng, schedule = np.random.default_rng(0), "all" if model.stage.objective == "levels" else "cosine"
    hide = Objective(levels=predicted_levels(model.stage, model.vocabulary), masking=Masking(schedule=schedule))
    optimizer = torch.optim.AdamW(model.train().parameters(), lr=3e-3)
    for step in range(n_steps):
        optimizer.param_groups[0]["lr"] = 3e-3 * min(1.0, (step + 1) / 20)
        seeds = list(range(12 * step, 12 * step + 12))
        parts = model(hidden_batch(model, [document(rng) for _ in seeds], seeds, hide))
        optimizer.zero_grad()
        (parts.total / parts.weight).backward()
        optimizer.step()
    return model


def up_by_one(first_T: np.ndarray) -> np.ndarray:
    """Each level is the one below plus its number."""
    return np.stack([(first_T + k * (k + 1) // 2) % CODES for k in range(LEVELS)], axis=1)


def test_a_trained_model_fills_in_upper_levels():
    def document(rng: np.random.Generator) -> dict[str, np.ndarray]:
        return {"text": np.zeros((1, 1), np.int64), "audio": up_by_one(rng.integers(0, CODES, 10))}

    model = train(build("valle"), document, 100)
    documents = [document(np.random.default_rng(seed)) for seed in range(3)]
    requests = [Request(given=d | {"audio": d["audio"][:, :1]}, seed=1) for d in documents]
    items = InPlaceSampler(model).run(requests)
    right = [item.streams["audio"] == d["audio"] for item, d in zip(items, documents, strict=True)]
    assert np.mean(right) > 0.97


@pytest.mark.parametrize("name", ["Parallel(audio)", pytest.param("soundstorm", marks=pytest.mark.slow)])
def test_a_trained_model_fills_in_all_levels(name):
    """Level 0 is that of the prompt all along, or what the unit says."""
    model = build(name, dim=64)

    def document(rng: np.random.Generator) -> dict[str, np.ndarray]:
        if name != "soundstorm":
            return {"audio": up_by_one(rng.integers(0, CODES, 1).repeat(10))}
        first_T = rng.integers(0, CODES, 10)
        return {"semantic": first_T[:, None], "audio": up_by_one(first_T)}

    train(model, document, 400 if name == "soundstorm" else 100)
    documents = [document(np.random.default_rng(seed)) for seed in range(3)]
    requests = [
        Request(
            given={stream: codes for stream, codes in d.items() if stream != "audio"},
            prompts={"audio": d["audio"][:2]},
            limits={"audio": 10},
            seed=seed,
        )
        for seed, d in enumerate(documents)
    ]
    items = InPlaceSampler(model).run(requests, GREEDY)
    right = [item.streams["audio"] == d["audio"] for item, d in zip(items, documents, strict=True)]
    assert np.mean(right) > 0.95


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"steps": 0}, "steps must be whole numbers from 1"),
        ({"steps": ()}, "steps must be whole numbers from 1"),
        ({"steps": (4, 1.5)}, "steps must be whole numbers from 1"),
        ({"schedule": "cosin"}, 'schedule has no choice "cosin".*cosine'),
        ({"score": "certainty"}, 'score has no choice "certainty"'),
        ({"span": 0}, "span must be a whole number of frames"),
        ({"span_score": "min"}, 'span_score has no choice "min"'),
        ({"choice_temperature": -1.0}, "choice_temperature must be at least 0"),
        ({"guidance": math.nan}, "guidance must be at least 0"),
        ({"levels": {"audio.0": {"stepz": 3}}}, 'level "audio.0" has no setting "stepz".*steps'),
        ({"levels": {"audio.0": {"steps": (3,)}}}, 'steps of level "audio.0" must be a whole number'),
        ({"levels": {"audio.0": {"span": 0}}}, "span must be a whole number of frames"),
    ],
)
def test_wrong_settings_are_refused(changes, message):
    with pytest.raises(InputError, match=message):
        MaskSampling(**changes)


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("Parallel(audio)", {"guidance": 3.0}, "guidance needs a stream that is given whole"),
        ("Parallel(audio)", {"levels": {"audio.9": {"steps": 3}}}, 'settings for level "audio.9", but predicted are'),
        ("valle", {"levels": {"audio.0": {"span": 3}}}, 'settings for level "audio.0", but predicted are audio.1'),
        ("valle", {"steps": (2, 1)}, "learned each level at one go"),
    ],
)
def test_settings_that_do_not_fit_the_model_are_refused(name, settings, message):
    model = build(name)
    with pytest.raises(InputError, match=message):
        InPlaceSampler(model).run([request_of(model, 5, 0)], None, MaskSampling(**settings))


def test_what_does_not_fit_is_refused(make_model):
    model = build("Parallel(audio)")
    sampler = InPlaceSampler(model)
    with pytest.raises(InputError, match="takes 201 steps, more than the model's context of 128"):
        sampler.run([request_of(model, 200, 0)])
    with pytest.raises(InputError, match="repetition_window is for codes that come one after another"):
        sampler.run([request_of(model, 5, 0)], Sampling(repetition_window=5))
    nar = build("valle")
    request = request_of(nar, 5, 0)
    with pytest.raises(InputError, match='"audio" is given with 5 frames, and asked for with 7'):
        InPlaceSampler(nar).run([Request(given=request.given, limits={"audio": 7})])
    with pytest.raises(InputError, match="this model predicts step by step"):
        InPlaceSampler(make_model("Delay(audio)"))


def test_settings_of_single_levels():
    assert MaskSampling(steps=[8, 2]) == MaskSampling(steps=(8, 2))  # as a file gives them
    settings = MaskSampling(steps=(8, 2), levels={"audio.1": {"steps": 5, "span": 3}})
    steps = [settings.of(f"audio.{k}", k, "masked").steps for k in range(4)]
    assert steps == [8, 5, 2, 2]
    assert [settings.of(f"audio.{k}", k, "masked").settings.span for k in range(3)] == [1, 3, 1]
