"""What a run says about itself: metrics, a check of its start, spikes, samples, trackers."""

import json
import math
import sys
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from launching import rows

from hocket.codec import Codes
from hocket.data import Corpus
from hocket.errors import InputError
from hocket.evaluation.scores import measure_bits
from hocket.model import Model, load_model
from hocket.model.heads import ParallelHead
from hocket.training import run_recipe
from hocket.training.callbacks import Spikes
from hocket.training.health import describe, score_kinds
from hocket.training.metrics import Sums
from hocket.training.trackers import ID_FILE, Tracker
from tests.conftest import MODEL_LAYOUTS, batch_of, random_document

PLAIN = "training.engine=accelerate"


class HumCodec:
    """Decodes codes to a hum, without a file."""

    hop, sample_rate, frame_rate, device = 640, 16000, 25, "cpu"

    def decode(self, codes: Codes) -> torch.Tensor:
        torch.rand(3)  # as a codec that draws numbers while it is loaded
        return torch.sin(codes.tokens_BTK[..., 0].float().repeat_interleave(self.hop, dim=1))


@pytest.fixture
def humming(monkeypatch):
    monkeypatch.setattr(Model, "codec", HumCodec())


@pytest.mark.parametrize("head", ["parallel", "depth"])
def test_rows_hold_what_the_run_costs_and_gives(head, overrides, corpus_folder):
    more = ["interleave=delay", f"interleave.head={head}", "training.peak_flops=1e12", "training.steps=4"]
    result = run_recipe("tiny", overrides("run", PLAIN, *more))
    last, row = result.metrics, json.loads((result.folder / "metrics.jsonl").read_text().splitlines()[0])
    assert row["perplexity/audio.1"] == pytest.approx(math.exp(row["loss/audio.1"]))
    assert row["perplexity/audio"] == pytest.approx(math.exp(row["stream_loss/audio"]))
    assert row["mfu"] == pytest.approx(row["tflops"])
    assert row["memory_gib"] > 0.05
    bits, _ = measure_bits(load_model(result.folder), Corpus.open(corpus_folder).split("valid"))
    measured = {"audio": bits.audio, "structure": bits.structure, "total": bits.total}
    assert {name: last[f"valid_bits/{name}"] for name in measured} == pytest.approx(measured, rel=1e-5)


def test_without_a_known_peak_there_is_no_mfu(overrides):
    assert "mfu" not in run_recipe("tiny", overrides("run", PLAIN, "training.steps=1")).metrics


def test_streams_are_means_over_their_cells():
    sums = Sums(["audio.0", "audio.1", "text"])
    sums.add_vector([0, 0, 0, 6.0, 2.0, 5.0, 3, 1, 0])
    row = sums.perplexities("")
    assert row["stream_loss/audio"] == 2.0
    assert "perplexity/text" not in row
    sums.add_vector([0, 0, 0, 1e9, 0, 0, 0, 0, 0])
    assert sums.perplexities("")["perplexity/audio.0"] == pytest.approx(sys.float_info.max)


@pytest.mark.parametrize("expression", MODEL_LAYOUTS)
def test_fresh_models_start_healthily(expression, make_model):
    model = make_model(expression)
    batch = batch_of([random_document(model, n, seed=n) for n in (25, 18)])
    with torch.no_grad():
        kinds = score_kinds(model, batch, model.head.legal_sets)
    present = {
        i for i in batch.legal_NR[~batch.is_start_N].unique().tolist() if i and model.head.legal_sets[i].size > 1
    }
    assert len(kinds) == len(present)
    assert describe(kinds)[0].startswith("healthy start")
    assert len(describe(kinds)) == 1


def test_a_head_that_starts_too_large_is_named(overrides, capsys, monkeypatch):
    original = ParallelHead.initialise

    def too_large(self, generator):
        original(self, generator)
        with torch.no_grad():
            self.weight *= 10

    monkeypatch.setattr(ParallelHead, "initialise", too_large)
    run_recipe("tiny", overrides("run", PLAIN, "training.steps=1"))
    err = capsys.readouterr().err
    assert "unhealthy start" in err
    assert "warning: audio.1 starts at" in err
    assert "from ln(16) = 2.773: the logits start too large" in err


def test_models_that_predict_in_place_have_no_bits_while_they_train(overrides, capsys):
    more = ["interleave.layout='Parallel(audio)'", "interleave.objective=masked", "interleave.attention=bidirectional"]
    made = overrides("run", PLAIN, *more, "training.steps=2", "training.sample_every=1")
    metrics = run_recipe("tiny", made).metrics
    assert metrics["valid_perplexity/audio.0"] > 1
    assert not any(key.startswith("valid_bits") for key in metrics)
    err = capsys.readouterr().err
    assert "healthy start" in err


def report(step, loss) -> Any:
    return SimpleNamespace(step=step, sums=SimpleNamespace(total=loss, weight=1.0), worst=(loss, [f"clip-{step}"]))


def test_spikes_name_their_examples_and_a_resumed_run_finds_the_same(capsys):
    written: list[Any] = []
    engine: Any = SimpleNamespace(gather=lambda value: [value, (0.0, ["another"])])
    files: Any = SimpleNamespace(write=written.append)
    losses = [3 - 0.01 * step + 0.02 * (-1) ** step for step in range(60)]
    losses[40] = losses[50] = 9.0
    whole, parts = (Spikes(engine, files, 6.0) for _ in range(2))
    for step, loss in enumerate(losses):
        whole.on_step(report(step, loss))
    assert [(row["step"], row["examples"]) for row in written] == [(40, ["clip-40"]), (50, ["clip-50"])]
    assert "step 40: the loss jumps to 9.000 from a mean of" in capsys.readouterr().err
    for step, loss in enumerate(losses):
        if step == 45:
            state = json.loads(json.dumps(parts.state()))
            parts = Spikes(engine, files, 6.0)
            parts.load_state(state)
        parts.on_step(report(step, loss))
    assert written[2:] == written[:2]


def test_samples_are_written_and_change_nothing(overrides, humming):
    more = [PLAIN, "model.dropout=0.1", "training.ema=0.9", "inference.seconds=0.4", "inference.prompt_seconds=0.2"]
    without = run_recipe("tiny", overrides("without", *more))
    heard = run_recipe("tiny", overrides("heard", *more, "training.sample_every=3"))
    wavs = sorted(path.name for path in (heard.folder / "samples").iterdir())
    assert wavs == ["3-1.wav", "3-2.wav", "6-1.wav", "6-2.wav", "8-1.wav", "8-2.wav"]
    sampled = [row for row in rows(heard.folder) if "samples" in row]
    assert [row["step"] for row in sampled] == [3, 6, 8]
    assert sampled[0]["samples"] == ["samples/3-1.wav", "samples/3-2.wav"]
    assert [row for row in rows(heard.folder) if "samples" not in row] == rows(without.folder)
    ours, theirs = load_model(heard.folder).state_dict(), load_model(without.folder).state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_texts_are_spoken(overrides, humming):
    more = ["interleave=tts-delay", "vocab.text_size=300", "model.context=128", "data.batch_steps=256"]
    made = overrides("run", PLAIN, *more, "training.steps=2", "training.sample_every=2", "inference.seconds=0.4")
    assert len(list((run_recipe("tiny", made).folder / "samples").glob("2-*.wav"))) == 2


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        ([], '"fake"'),
        (["training.engine=deepspeed", "training.zero_stage=3"], "no process has whole weights"),
    ],
)
def test_what_cannot_be_sampled_is_said_and_trained(more, sentence, overrides, capsys):
    size = ["model.context=128", "data.batch_steps=256", "training.steps=2", "training.sample_every=1"]
    assert run_recipe("tiny", overrides("run", PLAIN, *more, *size)).steps == 2
    err = capsys.readouterr().err
    assert sentence in err
    assert err.count("no samples will be made") == 1


def test_a_tracker_gets_the_numbers_of_every_row(overrides, monkeypatch):
    calls: list[Any] = []
    fake = SimpleNamespace(
        init=lambda **settings: calls.append(settings),
        log=lambda row, step: calls.append((step, row)),
        finish=lambda: calls.append("finished"),
    )
    monkeypatch.setitem(sys.modules, "trackio", fake)
    made = overrides("run", PLAIN, "training.tracker=trackio")
    result = run_recipe("tiny", [*made, "training.steps=2"])
    assert calls[0]["project"] == "hocket"
    assert calls[0]["config"]["model"]["dim"] == 32
    assert [call[0] for call in calls[1:-1]] == [1, 2, 2]
    assert all(isinstance(value, int | float) for call in calls[1:-1] for value in call[1].values())
    assert calls[-1] == "finished"
    name = (result.folder / ID_FILE).read_text().strip()
    run_recipe("tiny", [*made, "training.steps=3"])
    assert [call["name"] for call in calls if isinstance(call, dict)] == [name, name]


@pytest.mark.parametrize("kind", ["trackio", "wandb"])
def test_a_missing_tracker_is_named_with_its_extra(kind, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, kind, None)
    with pytest.raises(InputError, match=rf'training\.tracker={kind} needs a package: pip install "hocket\[{kind}\]"'):
        Tracker(kind, tmp_path, {})


@pytest.mark.slow
def test_weights_and_biases_offline(overrides, monkeypatch):
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    result = run_recipe("tiny", overrides("run", PLAIN, "training.tracker=wandb", "training.steps=2"))
    assert list((result.folder / "wandb").glob("offline-run-*/run-*.wandb"))


def test_wandb_without_an_account_is_one_sentence(overrides, monkeypatch):
    wandb = pytest.importorskip("wandb")

    def refuse(**settings):
        raise wandb.Error("No API key configured.")

    monkeypatch.setattr(wandb, "init", refuse)
    with pytest.raises(InputError, match=r"training\.tracker=wandb cannot start: No API key configured \("):
        run_recipe("tiny", overrides("run", PLAIN, "training.tracker=wandb"))
