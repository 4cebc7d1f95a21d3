"""Nats of examples: known probabilities, uniform logits in every layout, packing, pieces, resuming, bounds."""

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from hocket.data import Corpus, Mixture, one_pass
from hocket.errors import InputError
from hocket.evaluation.likelihood import Score, Scorer, add_up, score_corpus, split_nats, weights_of
from hocket.evaluation.results import Evaluation
from hocket.evaluation.scores import measure_bits
from hocket.interleave import Stage, load_layout
from hocket.model import Model
from hocket.training.objectives import Objective, loading_options
from hocket.vocab import Vocabulary, train_bpe
from tests.conftest import AUDIO_LAYOUTS, LEVELS, TINY
from tests.data.corpora import codec_of, random_rows, write_corpus
from tests.interleave.cases import CASES, stages

RATE, SIZE, LENGTHS = 25, 12, (12, 17, 9)
STAGES = {f"{case}/{stage.name}": stage for case in CASES for stage in stages(case, 9 if case == "dia" else 8)}
AUDIOLM = "Concat(Flatten(semantic), Flatten(audio))"
SOUNDSTORM = Stage(
    name="",
    layout=load_layout("Stack(Lead(semantic), Parallel(audio))", levels={"audio": LEVELS, "semantic": 1}),
    given=("semantic",),
    objective="masked",
    attention="bidirectional",
)
KINDS = {
    "delay": "Delay(audio)",
    "depth": ("Delay(audio)", "depth"),
    "flatten": "Flatten(audio)",
    "units": AUDIOLM,
    "text": "Concat(Delay(audio), Text(text))",
    "spans": 'Alternate(Text(text), Delay(audio), spans="word")',
    "masked": SOUNDSTORM,
    "levels": replace(SOUNDSTORM, objective="levels"),
}


def build(kind: Stage | str | tuple[str, str], context: int = 128) -> Model:
    """A tiny model of a stage over codes of 12 entries."""
    if not isinstance(kind, Stage):
        expression, head = (kind, "parallel") if isinstance(kind, str) else kind
        kind = Stage(name="", layout=load_layout(expression, levels={"audio": LEVELS, "semantic": 1}), head=head)
    sizes = {name: [SIZE] * k for name, k in kind.layout.streams.items() if "text" not in name}
    codec = codec_of(kind.layout.streams.get("audio", 1), SIZE, RATE)
    vocabulary = Vocabulary.build(train_bpe(["w1 w2"], 256), sizes)
    return Model.build(replace(TINY, context=context), vocabulary, kind, codec).eval()


def make_uniform(model: Model) -> Model:
    """Every legal id is as likely as any other."""
    nn.init.zeros_(model.head.weight)
    if model.depth is not None:
        nn.init.zeros_(model.depth.weight)
    return model


def corpus_for(folder: Path, model: Model, lengths=LENGTHS, prefix: str = "clip") -> Corpus:
    """Random codes, texts and words for the streams that the model's layout has."""
    streams = {n: codec_of(k, SIZE, RATE) for n, k in model.layout.streams.items() if "text" not in n}
    return write_corpus(folder, random_rows(lengths, streams, texts=True, words=True, prefix=prefix), streams)


def as_numbers(scores: list[Score]) -> dict[str, list[float]]:
    found = {}
    for score in scores:
        held = [value for tally in score.blocks.values() for value in (tally.codes, tally.structure, tally.cells)]
        found[score.id] = [*held, score.frames, *score.drawn]
    return found


# --- known probabilities ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("expression", AUDIO_LAYOUTS)
@pytest.mark.parametrize("head", ["parallel", "depth"])
def test_uniform_logits_have_the_same_audio_bits_with_every_head(expression, head, tmp_path):
    if head == "depth" and load_layout(expression, levels=LEVELS).n_rows == 1:
        pytest.skip("one row leaves a depth head nothing to predict")
    model = make_uniform(build((expression, head)))
    found = score_corpus(model, corpus_for(tmp_path / "corpus", model))
    assert found.bits["audio"].value == pytest.approx(LEVELS * RATE * math.log2(SIZE), rel=1e-6)


@pytest.mark.parametrize("name", STAGES)
def test_uniform_logits_have_the_same_audio_bits_in_every_layout(name, tmp_path):
    model = make_uniform(build(STAGES[name], context=1024))
    found = score_corpus(model, corpus_for(tmp_path / "corpus", model), missing="keep")
    levels = [block for block in found.levels if block.startswith(f"{model.main_stream}.")]
    assert bool(levels) == ("audio" in found.bits)
    if levels:
        assert found.bits["audio"].value == pytest.approx(len(levels) * RATE * math.log2(SIZE), rel=1e-6)
    for block, level in found.levels.items():
        if block != "text":
            assert level.mean == pytest.approx(math.log(SIZE), rel=1e-6)
    assert sum(m.value for n, m in found.bits.items() if n != "total") == pytest.approx(found.bits["total"].value)


class Constant(nn.Module):
    """A trunk that always thinks the same."""

    def forward(self, ids_NR: Tensor, starts: Tensor) -> Tensor:
        return torch.eye(TINY.dim)[:1].expand(len(ids_NR), -1)


def test_known_log_odds_give_nats_computed_by_hand(tmp_path):
    model = build("Delay(audio)")
    odds_V = torch.linspace(-2, 2, model.vocabulary.size)
    model.head.weight.data[:, 0] = odds_V
    model.decoder = Constant()  # pyright: ignore[reportAttributeAccessIssue]
    corpus = corpus_for(tmp_path / "corpus", model)
    odds, end = odds_V.double().numpy(), float(odds_V[model.vocabulary.id("<end.audio>")])
    for example, score in zip(corpus, Scorer(model, corpus).score(), strict=True):
        n_frames = len(example.streams["audio"])
        for level in range(LEVELS):
            block = model.vocabulary[f"audio.{level}"]
            within = np.log(np.exp(odds[block.start : block.stop]).sum())
            codes = sum(within - odds[block.start + code] for code in example.streams["audio"][:, level].tolist())
            assert score.blocks[block.name].codes == pytest.approx(codes, rel=1e-5)
            either = np.logaddexp(within, end) if level == 0 else within
            structure = n_frames * (either - within) + (either - end) * (level == 0)
            assert score.blocks[block.name].structure == pytest.approx(structure, rel=1e-5, abs=1e-6)
            assert (score.blocks[block.name].tokens, score.frames) == (n_frames, n_frames)
            assert score.blocks[block.name].cells == n_frames + (level == 0)
        assert score.by("mean") == pytest.approx(score.nats / (LEVELS * n_frames + 1))
        assert score.by("frame") == pytest.approx(score.nats / n_frames)
        assert score.seconds == n_frames / RATE


@pytest.mark.parametrize("kind", KINDS)
def test_levels_add_up_to_the_loss(kind, tmp_path):
    model = build(KINDS[kind])
    if model.stage.in_place:
        pytest.skip("a loss in place is of one level at a time")
    corpus = corpus_for(tmp_path / "corpus", model)
    totals, nats, cells = add_up(Scorer(model, corpus).score()), 0.0, 0.0
    hiding = loading_options(model.stage, Objective())
    with torch.no_grad():
        for batch in one_pass(corpus, model.layout, model.vocabulary, batch_steps=300, context=128, **hiding):
            parts = model(batch)
            nats += sum(float(total) for total, _ in parts.by_block.values())
            cells += sum(float(count) for _, count in parts.by_block.values())
    assert sum(tally.nats for tally in totals.values()) == pytest.approx(nats, rel=1e-5)
    assert sum(tally.cells for tally in totals.values()) == cells


# --- what does not matter ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_neither_batch_nor_packing_nor_order_matters(kind, tmp_path):
    model = build(KINDS[kind])
    together = corpus_for(tmp_path / "corpus", model)
    wanted = as_numbers(Scorer(model, together, batch_steps=100_000).score())
    packed = as_numbers(Scorer(model, together, batch_steps=1).score())
    assert packed == {name: pytest.approx(values, rel=1e-5, abs=1e-5) for name, values in wanted.items()}
    chosen = Scorer(model, together).score(np.array([2]))
    assert as_numbers(chosen) == {"clip2": pytest.approx(wanted["clip2"], rel=1e-5, abs=1e-5)}
    streams = together.streams
    rows = random_rows(LENGTHS, streams, texts=True, words=True)[::-1]
    turned = as_numbers(Scorer(model, write_corpus(tmp_path / "turned", rows, streams)).score())
    assert turned == {name: pytest.approx(values, rel=1e-5, abs=1e-5) for name, values in wanted.items()}


@pytest.mark.parametrize("kind", ["delay", "units", "masked"])
def test_a_long_example_is_the_sum_of_its_pieces(kind, tmp_path):
    model = build(KINDS[kind], context=64)
    corpus = corpus_for(tmp_path / "corpus", model, lengths=(150, 10))
    long, short = Scorer(model, corpus).score()
    assert (long.documents > 2, short.documents) == (True, 1)
    assert long.frames == long.blocks["audio.0"].tokens == 150
    rows = random_rows((150, 10), corpus.streams, texts=True, words=True)
    n = long.documents
    pieces = []
    for i in range(n):
        start, stop = 150 * i // n, 150 * (i + 1) // n
        cut = {name: codes[start:stop] for name, codes in rows[0].streams.items()}
        pieces.append(replace(rows[0], id=f"{i}", streams=cut))
    alone = Scorer(model, write_corpus(tmp_path / "cut", pieces, corpus.streams)).score()
    codes = sum(score.blocks["audio.1"].codes for score in alone)
    if kind != "masked":  # other pieces draw other masks, and only the true start begins with <bos>
        assert long.blocks["audio.1"].codes == pytest.approx(codes, rel=0.05)
    assert sum(score.blocks["audio.1"].tokens for score in alone) == long.blocks["audio.1"].tokens


def test_clips_of_a_seed_hold_those_of_fewer(tmp_path):
    model = build("Delay(audio)")
    scorer = Scorer(model, corpus_for(tmp_path / "corpus", model, lengths=[5] * 20))
    few, more = scorer.choose(4), scorer.choose(9)
    assert set(few) < set(more)
    assert len(few) == 4
    assert list(scorer.choose(None)) == list(scorer.choose(99)) == list(range(20))
    assert scorer.fingerprint(few) != scorer.fingerprint(more)
    found = score_corpus(model, scorer.mixture, clips=4)
    assert (found.n, found.frames, found.data) == (4, 20, scorer.fingerprint(few))
    with pytest.raises(InputError, match="at least 1"):
        scorer.choose(0)


# --- going on ---------------------------------------------------------------------------------------------------------


class Killed(Exception):
    pass


@pytest.mark.parametrize("kind", ["delay", "masked"])
def test_a_killed_job_goes_on_and_comes_to_the_same(kind, tmp_path, monkeypatch):
    monkeypatch.setattr("hocket.evaluation.likelihood.scorer.count_draws", lambda model: 2)
    model = build(KINDS[kind], context=64)
    lengths = (90, 40, 31, 45) if kind == "masked" else (150, 12, 17, 9, 24, 40, 31)
    corpus = corpus_for(tmp_path / "corpus", model, lengths=lengths)
    scorer, path = Scorer(model, corpus, batch_steps=64), tmp_path / "items" / "likelihood.jsonl"
    whole = scorer.score()

    def kill(done: float, total: float) -> None:
        if done > 1:
            raise Killed

    with pytest.raises(Killed):
        scorer.score(items=path, on_progress=kill)
    before = path.read_text()
    assert 1 <= before.count("\n") - 1 < len(whole)
    path.write_text(before + '{"id": "clip3", "frames')  # a line that the kill cut short
    assert scorer.score(items=path) == whole
    assert path.read_text().startswith(before)
    lines = path.read_text()
    assert scorer.score(items=path) == whole
    assert path.read_text() == lines
    model.head.weight.data *= 2
    assert scorer.score(items=path) != whole
    assert json.loads(path.read_text().splitlines()[0])["settings"]["weights"] == weights_of(model)


# --- what is said about a corpus --------------------------------------------------------------------------------------


def test_the_total_holds_every_stream_that_is_predicted(tmp_path):
    model = build(AUDIOLM)
    corpus = corpus_for(tmp_path / "corpus", model)
    found = score_corpus(model, corpus, name="mine", split="valid")
    assert list(found.bits) == ["audio", "structure", "semantic", "total"]
    assert found.bits["semantic"].value > 0
    assert found.bits["total"].value == pytest.approx(sum(m.value for m in found.bits.values()) / 2)
    bits, losses = measure_bits(model, corpus)
    assert bits.total == pytest.approx(found.bits["total"].value)
    assert (bits.further["semantic"], bits.text) == (pytest.approx(found.bits["semantic"].value), 0)
    assert set(losses) == set(found.levels) == {"semantic.0", "audio.0", "audio.1", "audio.2"}
    assert (found.corpus, found.split, found.draws, found.bound) == ("mine", "valid", None, None)


def test_intervals_and_normalisations_are_over_examples(tmp_path):
    model = build("Delay(audio)")
    corpus = corpus_for(tmp_path / "corpus", model)
    scores, found = Scorer(model, corpus).score(), score_corpus(model, corpus)
    for how in ("sum", "mean", "frame"):
        assert found.normalised[how].value == pytest.approx(np.mean([score.by(how) for score in scores]))
    total = found.bits["total"]
    assert total.low is not None
    assert total.high is not None
    assert total.low < total.value < total.high
    assert total.value == pytest.approx(sum(score.nats for score in scores) / math.log(2) / found.seconds)
    assert sum(split_nats(scores[0], "audio").values()) == pytest.approx(scores[0].nats)


def test_a_masked_model_has_a_bound_with_the_interval_of_its_masks(tmp_path):
    found = score_corpus(model := build(SOUNDSTORM), corpus := corpus_for(tmp_path / "corpus", model))
    assert found.draws == 8
    assert found.bound is not None
    assert found.bound.value == pytest.approx(found.bits["total"].value)
    assert 0 < (found.bound.half or 0) < 0.2 * found.bound.value
    assert set(found.bits) == {"audio", "structure", "total"}
    exact = score_corpus(build(KINDS["levels"]), corpus)
    assert exact.draws is None
    assert exact.bound is None


def test_a_result_is_read_back_as_it_was_written(tmp_path):
    found = score_corpus(model := build(SOUNDSTORM), corpus_for(tmp_path / "corpus", model))
    told = {"name": "a", "checkpoint": "b", "step": 1, "weights": "c", "suite": "quick", "hocket": "1", "date": "d"}
    told |= {"hardware": "e", "layout": "f", "objective": "g", "attention": "h", "head": "i", "stream": "audio"}
    whole = Evaluation(**told, levels=3, n_parameters=1, codec={}, context_seconds=1.0, likelihood=found)  # pyright: ignore[reportArgumentType]
    whole.save(tmp_path)
    assert Evaluation.load(tmp_path) == whole


def test_examples_of_one_name_are_told_apart(tmp_path):
    model = build("Delay(audio)")
    both = Mixture(
        [corpus_for(tmp_path / name, model, lengths=lengths) for name, lengths in (("a", (5,)), ("b", (9,)))]
    )
    assert [(score.id, score.frames) for score in Scorer(model, both).score()] == [("clip0#0", 5), ("clip0#1", 9)]


def test_what_cannot_be_scored_is_refused(tmp_path):
    model = build("Concat(Text(text), Flatten(audio))")
    corpus = corpus_for(tmp_path / "corpus", model)
    with pytest.raises(InputError, match="has no examples to score"):
        Scorer(model, corpus.split("test"))
    texts = write_corpus(tmp_path / "texts", random_rows((5, 6), {}, texts=True), {})
    with pytest.raises(InputError, match='needs a stream "audio"'):
        score_corpus(model, texts)
    rows = random_rows((5, 6), corpus.streams, texts=True)
    bare = [replace(row, streams={"audio": row.streams["audio"][:0]}) for row in rows]
    with pytest.raises(InputError, match="text alone"):
        score_corpus(model, write_corpus(tmp_path / "bare", bare, corpus.streams), missing="keep")
