import dataclasses
import json
import math

import pytest
import torch

from hocket.data import one_pass
from hocket.errors import InputError
from hocket.evaluation.runs import open_corpus, read_run
from hocket.evaluation.scores import Scores, leading_level, measure_bits, score_run
from hocket.model import load_model


def test_bits_sum_to_the_loss_that_training_reports(run_folder):
    run = read_run(run_folder)
    scores = score_run(run)
    valid = open_corpus(run).split("valid")
    model = load_model(run_folder)
    nats = 0.0
    for batch in one_pass(valid, model.layout, model.vocabulary, batch_steps=256, context=128):
        with torch.no_grad():
            nats += sum(float(total) for total, _ in model(batch).by_block.values())
    assert scores.bits.total == pytest.approx(nats / math.log(2) / scores.bits.seconds, rel=1e-4)
    for block, loss in scores.losses.items():
        assert loss == pytest.approx(run.last(f"valid/{block}"), rel=1e-4)


def test_an_untrained_model_needs_the_codec_s_own_bits(run_folder):
    run = read_run(run_folder)
    model, valid = load_model(run_folder), open_corpus(run).split("valid")
    torch.nn.init.zeros_(model.head.weight)
    bits, losses = measure_bits(model, valid)
    assert bits.audio == pytest.approx(model.codec_identity.bits_per_second, rel=1e-6)
    assert losses["audio.0"] == pytest.approx(math.log(1025), rel=1e-6)
    assert losses["audio.1"] == pytest.approx(math.log(1024), rel=1e-6)


def test_scores_are_kept_until_there_are_new_weights(run_folder):
    run = read_run(run_folder)
    first = score_run(run)
    path = run_folder / "scores.json"
    assert Scores.from_dict(json.loads(path.read_text())) == first
    path.write_text(json.dumps(first.to_dict() | {"weights": "of another model"}))
    assert score_run(run) == first


def test_a_reversed_delay_is_led_by_its_last_level(make_model):
    assert leading_level(make_model("Delay(audio, [2, 1, 0])")) == 2


def test_a_run_without_a_checkpoint_cannot_be_scored(tmp_path):
    (tmp_path / "config.yaml").write_text("name: early\n")
    with pytest.raises(InputError, match="no checkpoint"):
        score_run(read_run(tmp_path))


def test_blocks_go_by_stream_and_level_and_markers_have_none(run_folder):
    keys = ("text", "audio.0", "audio.10", "audio.2", "<to.text>")
    row = {"step": 1, "loss": 1.0} | {f"loss/{key}": 1.0 for key in keys}
    run = dataclasses.replace(read_run(run_folder), train=[row], valid=[])
    assert run.blocks == ["text", "audio.0", "audio.2", "audio.10", "<to.text>"]
