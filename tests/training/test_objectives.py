"""What objectives hide: schedules, prompts and spans, dropped conditions; draws depend on documents alone.

Shapes: T frames, K levels.
"""

import itertools
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from launching import rows

from hocket.data import Batch, PackedLoader, one_pass
from hocket.errors import InputError
from hocket.evaluation.report import build_report
from hocket.evaluation.runs import read_run
from hocket.evaluation.scores import measure_bits, score_run
from hocket.interleave import Stage, load_layout, load_stage
from hocket.model import Model
from hocket.training import run_recipe
from hocket.training.config import TrainingGroup
from hocket.training.objectives import Masking, Objective, build_objective, loading_options, predicted_levels
from hocket.training.recipes import load_recipe
from hocket.vocab import Vocabulary
from tests.conftest import TINY
from tests.data.corpora import codec_of, random_rows, write_corpus

LEVELS, CODES = 4, 12
STREAMS = {"audio": codec_of(LEVELS, CODES), "semantic": codec_of(1, 20, weights="1")}
SOUNDSTORM = load_stage("soundstorm", {"audio": LEVELS, "semantic": 1}, {"audio": 25, "semantic": 25})
SMALL = [
    "codec=corpus",
    "model.ffn_dim=32",
    "model.context=128",
    "data.batch_steps=200",
    "training.steps=6",
    "training.save_every=3",
    "training.valid_every=3",
    "training.tensorboard=false",
    "training.engine=accelerate",
]
PRESETS = {
    "soundstorm": ["interleave=soundstorm"],
    "magnet": [
        *("interleave=magnet", "vocab=bpe", "training.mask_span=3", "training.mask_prompt=0"),
        "training.condition_dropout=0.2",
    ],
    "valle": ["interleave=valle", "interleave.stage=nar", "vocab=bpe"],
    "bark": ["interleave=bark", "interleave.stage=fine"],
}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """48 clips of 20 to 40 frames with units and texts, 8 of them held out."""
    made = random_rows([20, 30, 40] * 16, STREAMS, texts=True, words=True)
    made = [replace(row, split="train" if number % 6 else "valid") for number, row in enumerate(made)]
    return write_corpus(tmp_path_factory.mktemp("objectives") / "corpus", made, STREAMS)


@pytest.fixture(scope="module")
def vocabulary():
    return Vocabulary.build(None, {name: codec.codebook_sizes for name, codec in STREAMS.items()})


def objective(vocabulary: Vocabulary, stage: Stage = SOUNDSTORM, learning: bool = True, **settings) -> Objective:
    return build_objective(stage, vocabulary, TrainingGroup(**settings), learning=learning)


def hidden(hide: Objective, vocabulary: Vocabulary, n_frames: int, seeds: range, stage: Stage = SOUNDSTORM):
    """For each seed the audio ids as shown, what is predicted of them (bool), and their true ids: each `[T, K]`."""
    plan = stage.layout.batch(
        dict.fromkeys(stage.layout.streams, [n_frames] * len(seeds)), ended=stage.ended, given=stage.given
    )
    zeros = {name: np.zeros((n_frames * len(seeds), k), np.int64) for name, k in stage.layout.streams.items()}
    ids, legal = torch.from_numpy(plan.interleave(zeros, vocabulary)), torch.from_numpy(plan.legal_TR.astype(np.int64))
    bounds, names = torch.from_numpy(plan.cu_seqlens), [str(seed) for seed in seeds]
    batch = hide(Batch(ids, legal, (legal > 0).float(), bounds, names, 0), plan, list(seeds))
    where = torch.tensor(plan.where["audio"]).view(len(seeds), n_frames, -1)
    assert batch.target_NR is not None
    shown, true = (x.view(-1)[where].numpy() for x in (batch.ids_NR, batch.target_NR))
    assert torch.equal(batch.weight_NR > 0, batch.legal_NR > 0)
    assert int((batch.legal_NR > 0).sum()) == int((batch.legal_NR.view(-1)[where] > 0).sum())
    return shown, (batch.legal_NR > 0).view(-1)[where].numpy(), true


@pytest.mark.parametrize(("schedule", "mean"), [("cosine", 2 / np.pi), ("linear", 0.5)])
def test_shares_follow_the_schedule(schedule, mean):
    masking, rng = Masking(schedule=schedule), np.random.default_rng(0)
    shares = np.array([masking.count(200, rng) for _ in range(4000)]) / 200
    assert abs(shares.mean() - mean) < 4 * shares.std() / 4000**0.5 + 1 / 200
    middle = np.cos(np.pi / 4) if schedule == "cosine" else 0.5
    assert abs((shares < middle).mean() - 0.5) < 0.04
    assert min(masking.count(1, rng) for _ in range(50)) == 1


@pytest.mark.parametrize("span", [1, 3])
def test_every_frame_is_masked_as_often_and_spans_hold_together(span):
    masking, rng = Masking(schedule="linear", span=span), np.random.default_rng(1)
    counts_T = np.zeros(30)
    for _ in range(3000):
        masked_T = np.zeros(30, bool)
        masked_T[masking.choose(30, rng)] = True
        counts_T += masked_T
        runs = [(is_masked, len(list(run))) for is_masked, run in itertools.groupby(masked_T)]
        assert sum(is_masked and n < span for is_masked, n in runs[1:-1]) <= 1  # the one that is cut
    assert np.abs(counts_T - counts_T.mean()).max() / 3000 < 0.05


def test_the_number_masked_is_exact_with_spans():
    masking = Masking(span=3)
    counts = [
        (masking.count(50, np.random.default_rng(s)), len(masking.choose(50, np.random.default_rng(s))))
        for s in range(99)
    ]
    assert all(wanted == found for wanted, found in counts)


def test_lower_levels_are_shown_and_higher_ones_hidden(vocabulary):
    shown, predicted, true = hidden(objective(vocabulary), vocabulary, 20, range(400))
    masks = np.array([vocabulary.id(f"<mask.audio.{k}>") for k in range(LEVELS)])
    drawn, prompts = [], []
    for shown_TK, predicted_TK, true_TK in zip(shown, predicted, true, strict=True):
        (level,) = set(np.nonzero(predicted_TK)[1].tolist())
        masked_TK = shown_TK != true_TK
        assert (shown_TK[masked_TK] == np.broadcast_to(masks, masked_TK.shape)[masked_TK]).all()
        assert not masked_TK[:, :level].any()
        assert (masked_TK[:, level] == predicted_TK[:, level]).all()
        if level + 1 < LEVELS:
            first = int(masked_TK[:, level + 1].argmax())
            assert (masked_TK[:, level + 1 :] == (np.arange(20) >= first)[:, None]).all()
            assert not masked_TK[:first].any()
            prompts.append(first / 20)
        drawn.append(level)
    assert np.bincount(drawn).min() > 0.18 * 400
    assert abs(np.mean(prompts) - 0.475) < 0.06
    assert min(prompts) == 0


def test_without_a_prompt_every_frame_may_be_masked(vocabulary):
    _, predicted, _ = hidden(objective(vocabulary, mask_prompt=0.0), vocabulary, 20, range(200))
    assert predicted.any(axis=2).mean(axis=0).min() > 0.5


def test_levels_predict_all_frames_after_the_prompt(vocabulary):
    stage = Stage(name="", layout=load_layout("Parallel(audio)", LEVELS), given=("audio[:2]",), objective="levels")
    shown, predicted, true = hidden(objective(vocabulary, stage), vocabulary, 10, range(100), stage)
    for shown_TK, predicted_TK, true_TK in zip(shown, predicted, true, strict=True):
        (level,) = set(np.nonzero(predicted_TK)[1].tolist())
        assert level >= 2
        first = int(predicted_TK[:, level].argmax())
        assert predicted_TK[first:, level].all()
        assert (shown_TK == true_TK)[:, :level].all()
        assert (shown_TK != true_TK)[first:, level:].all()
        assert (shown_TK == true_TK)[:first].all()


def test_a_level_without_weight_is_never_drawn(vocabulary):
    hide = objective(vocabulary, level_weights={"audio": [0, 1]})
    _, predicted, _ = hidden(hide, vocabulary, 10, range(60))
    assert set(np.nonzero(predicted)[2].tolist()) == {1, 2, 3}


def test_in_validation_levels_go_round(vocabulary):
    hide = objective(vocabulary, learning=False)
    _, predicted, _ = hidden(hide, vocabulary, 10, range(8))
    assert np.bincount([np.nonzero(p)[1][0] for p in predicted]).tolist() == [2] * LEVELS


@pytest.mark.parametrize("preset", ["soundstorm", "csm-like"])
def test_dropped_conditions_are_null_in_place_and_never_a_target(corpus, vocabulary, preset):
    layout = load_layout("Concat(Flatten(semantic), Delay(audio))", {"audio": LEVELS, "semantic": 1})
    stage = SOUNDSTORM if preset == "soundstorm" else Stage(name="", layout=layout, given=("semantic",))
    null = vocabulary.id("<null>")
    options: dict[str, Any] = {"batch_steps": 200, "context": 128, "seed": 3}
    plain = PackedLoader(
        corpus, stage.layout, vocabulary, **options, **loading_options(stage, objective(vocabulary, stage))
    )
    dropping = objective(vocabulary, stage, condition_dropout=0.25)
    loader = PackedLoader(corpus, stage.layout, vocabulary, **options, **loading_options(stage, dropping))
    dropped = n_documents = 0
    for before, after in itertools.islice(zip(plain, loader, strict=False), 60):
        is_null = after.ids_NR == null
        assert torch.equal(after.ids_NR[~is_null], before.ids_NR[~is_null])
        assert not (is_null & (after.legal_NR > 0)).any()
        assert torch.equal(after.legal_NR, before.legal_NR)
        if after.target_NR is not None and before.target_NR is not None:
            assert torch.equal(after.target_NR, before.target_NR)
            assert not (after.target_NR == null).any()
        block = vocabulary["semantic.0"]
        is_unit = (before.ids_NR >= block.start) & (before.ids_NR < block.stop)
        for start, stop in itertools.pairwise(after.bounds):
            assert bool(is_null[start:stop].any()) == bool(is_null[start:stop][is_unit[start:stop]].all())
            assert not (is_null & ~is_unit)[start:stop].any()
            dropped, n_documents = dropped + bool(is_null[start:stop].any()), n_documents + 1
    assert abs(dropped / n_documents - 0.25) < 0.08


def test_validation_keeps_its_conditions(corpus, vocabulary):
    hide = objective(vocabulary, learning=False, condition_dropout=1.0)
    options = loading_options(SOUNDSTORM, hide)
    for batch in one_pass(corpus, SOUNDSTORM.layout, vocabulary, batch_steps=200, context=128, **options):
        assert not (batch.ids_NR == vocabulary.id("<null>")).any()


def documents(batches, n: int) -> dict[tuple[str, int], list]:
    """Ids of the first n documents by name and how often it was seen."""
    seen: dict[tuple[str, int], list] = {}
    for batch in batches:
        for name, (start, stop) in zip(batch.example_ids, itertools.pairwise(batch.bounds), strict=False):
            times = sum(name == other for other, _ in seen)
            seen[name, times] = batch.ids_NR[start:stop].tolist()
        if len(seen) >= n:
            return seen
    return seen


@pytest.mark.parametrize(
    "changes", [{"workers": 2}, {"batch_steps": 150}, {"packing": "fixed"}, {"buffer": 8}, {"seed": 3}]
)
def test_draws_do_not_depend_on_batches_or_workers(corpus, vocabulary, changes):
    options: dict[str, Any] = {"context": 128, "batch_steps": 200, "seed": 3}
    options |= loading_options(SOUNDSTORM, objective(vocabulary, condition_dropout=0.3))
    train = corpus.split("train")
    torch.manual_seed(7)
    state = torch.get_rng_state()
    plain = documents(PackedLoader(train, SOUNDSTORM.layout, vocabulary, **options), 80)
    assert torch.equal(torch.get_rng_state(), state)
    loader = PackedLoader(train, SOUNDSTORM.layout, vocabulary, **options | changes)
    other = documents(loader, 80)
    loader.close()
    shared = plain.keys() & other.keys()
    assert len(shared) > 60
    assert all(plain[key] == other[key] for key in shared)


def test_ranks_draw_what_one_process_draws(corpus, vocabulary):
    options: dict[str, Any] = {"context": 128, "batch_steps": 200, "seed": 3}
    options |= loading_options(SOUNDSTORM, objective(vocabulary))
    alone = PackedLoader(corpus, SOUNDSTORM.layout, vocabulary, **options)
    ranks = [PackedLoader(corpus, SOUNDSTORM.layout, vocabulary, **options, rank=r, world_size=2) for r in range(2)]
    for number in range(20):
        mine, theirs = next(alone), next(ranks[number % 2])
        assert torch.equal(mine.ids_NR, theirs.ids_NR)
        assert torch.equal(mine.weight_NR, theirs.weight_NR)


def test_epochs_and_seeds_draw_anew(corpus, vocabulary):
    options: dict[str, Any] = {"context": 128, "batch_steps": 200}
    options |= loading_options(SOUNDSTORM, objective(vocabulary))
    seen = documents(PackedLoader(corpus.split("train"), SOUNDSTORM.layout, vocabulary, **options, seed=3), 80)
    again = [name for name, times in seen if times == 1]
    assert sum(seen[name, 0] != seen[name, 1] for name in again) > 0.9 * len(again) > 20
    other = documents(PackedLoader(corpus.split("train"), SOUNDSTORM.layout, vocabulary, **options, seed=4), 40)
    assert sum(seen[key] != other[key] for key in other) > 0.9 * len(other)


@pytest.mark.parametrize("packing", ["fixed", "padded"])
def test_padding_is_not_predicted(corpus, vocabulary, packing):
    options = loading_options(SOUNDSTORM, objective(vocabulary))
    loader = PackedLoader(
        corpus, SOUNDSTORM.layout, vocabulary, batch_steps=200, context=128, seed=0, packing=packing, **options
    )
    batch = next(batch for batch in loader if batch.n_padding)
    assert batch.target_NR is not None
    is_padding = (batch.ids_NR[:, 0] == vocabulary.id("<wait>")) & (batch.target_NR[:, 0] == vocabulary.id("<wait>"))
    assert int(is_padding.sum()) == batch.n_padding
    assert not batch.weight_NR[is_padding].any()


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_train_resume_and_are_scored(corpus, tmp_path, in_two_parts, preset):
    def made(name: str) -> list[str]:
        return [*SMALL, *PRESETS[preset], f"data.corpus='{corpus.folder}'", f"output='{tmp_path / name}'"]

    whole = run_recipe("tiny", made("whole"))
    assert rows(in_two_parts(made("parts"), stop=4).folder) == rows(whole.folder)
    assert "bits_per_audio_second" not in whole.metrics
    scores = score_run(read_run(whole.folder))
    assert set(scores.losses) == {f"audio.{k}" for k in range({"valle": 1, "bark": 2}.get(preset, 0), LEVELS)}
    assert (scores.bits.interval is None) == (scores.objective == "levels")
    assert (scores.bits.structure, scores.bits.say_total()[:7] == "at most") == (0, scores.objective == "masked")
    page = build_report(whole.folder).read_text()
    assert ("no exact likelihood" in page) == (scores.objective == "masked")


@torch.no_grad()
def test_the_bound_is_the_mean_over_all_orders(tmp_path):
    """Three frames have six orders in which they may be predicted one after another."""
    codec = codec_of(1, CODES)
    corpus = write_corpus(tmp_path / "short", random_rows([3] * 12, {"audio": codec}), {"audio": codec})
    stage = Stage(name="", layout=load_layout("Parallel(audio)", 1), objective="masked", attention="bidirectional")
    vocabulary = Vocabulary.build(None, {"audio": codec.codebook_sizes})
    model = Model.build(replace(TINY, embeddings="normal"), vocabulary, stage, codec).eval()
    mask, nats = vocabulary.id("<mask.audio.0>"), 0.0
    for example in corpus:
        codes = vocabulary.ids("audio", example.streams["audio"].astype(np.int64))[:, 0].tolist()
        for order in itertools.permutations(range(3)):
            for place, frame in enumerate(order):
                shown = [code if order.index(t) < place else mask for t, code in enumerate(codes)]
                x_TD = model.hidden(torch.tensor([vocabulary.id("<bos>"), *shown])[:, None], [0, 4])
                logp_J = model.head.log_probabilities(x_TD[1 + frame][None], 1)[0]
                nats -= float(logp_J[codes[frame] - vocabulary["audio.0"].start]) / 6
    bits, losses = measure_bits(model, corpus)
    assert bits.interval is not None
    assert abs(bits.total - nats / np.log(2) / (36 / 25)) < 2 * bits.interval
    assert losses["audio.0"] == pytest.approx(bits.total * np.log(2) / 25)


@pytest.mark.parametrize(
    ("settings", "expression", "sentence"),
    [
        ({"condition_dropout": 0.1}, "Delay(audio)", r"no stream of Delay\(audio.* is given"),
        ({"condition_streams": ["audio"]}, "Delay(audio)", 'names "audio", which .* not have as a given stream'),
        ({"mask_span": 3}, "Delay(audio)", 'mask_span is for objective "masked"'),
    ],
)
def test_settings_that_do_not_fit_are_refused(vocabulary, settings, expression, sentence):
    stage = Stage(name="", layout=load_layout(expression, LEVELS))
    with pytest.raises(InputError, match=sentence):
        objective(vocabulary, stage, **settings)


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("training.mask_schedule=cosin", 'no choice "cosin" .did you mean "cosine"'),
        ("training.mask_span=0", "training.mask_span is 0, but must be at least 1"),
        ("training.condition_dropout=1.5", "must be from 0 to 1"),
    ],
)
def test_settings_are_checked(override, sentence):
    with pytest.raises(InputError, match=sentence):
        load_recipe("tiny", [override])


def test_layouts_by_spans_are_not_learned_in_place():
    layout = load_layout('Alternate(text, Flatten(semantic), spans="word")')
    with pytest.raises(InputError, match="needs a layout without spans"):
        predicted_levels(Stage(name="", layout=layout, objective="masked"), Vocabulary.build(None, {"audio": [4]}))
