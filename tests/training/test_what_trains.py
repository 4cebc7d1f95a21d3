"""Averages, adapters and frozen parameters: exported plainly, and resumed bit for bit."""

import pytest
import safetensors.torch
import torch
from launching import free_port, python, rows

from hocket.errors import InputError
from hocket.model import load_model
from hocket.training import run_recipe
from hocket.training.adapters import choose_what_trains, freeze, merged
from hocket.training.config import TrainingGroup
from hocket.training.ema import WeightAverage
from hocket.training.flops import BatchFlops, block_weights
from tests.conftest import batch_of, random_document

EMA = ["training.ema=0.9"]
LORA = ["training.lora_rank=2", "training.freeze=[decoder.embedding]"]


def tensors(folder, step=8, name="model"):
    return safetensors.torch.load_file(folder / "checkpoints" / str(step) / name / "model.safetensors")


def equal(ours, theirs):
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in theirs)


@pytest.mark.parametrize(
    "more",
    [
        ["training.engine=accelerate", *EMA, *LORA],
        ["training.engine=deepspeed", *EMA, *LORA],
        ["training.engine=deepspeed", "training.dtype=bfloat16", *EMA],
        pytest.param(["training.engine=deepspeed", "training.dtype=bfloat16", *EMA, *LORA], marks=pytest.mark.slow),
        pytest.param(["training.engine=deepspeed", "training.zero_stage=3", *LORA], marks=pytest.mark.slow),
    ],
)
def test_resumed_runs_are_whole_ones(more, overrides, in_two_parts):
    whole, parts = run_recipe("tiny", overrides("whole", *more)), in_two_parts(overrides("parts", *more))
    assert rows(parts.folder) == rows(whole.folder)
    assert equal(tensors(parts.folder), tensors(whole.folder))
    if EMA[0] in more:
        assert equal(tensors(parts.folder, name="model-raw"), tensors(whole.folder, name="model-raw"))


def test_the_average_is_validated_and_exported(overrides):
    more = ["training.engine=accelerate", "training.lr=0"]
    still = run_recipe("tiny", overrides("still", *more, *EMA)).folder
    assert equal(tensors(still), tensors(still, name="model-raw"))
    moving = run_recipe("tiny", overrides("moving", "training.engine=accelerate", *EMA))
    plain = run_recipe("tiny", overrides("plain", "training.engine=accelerate"))
    assert equal(tensors(moving.folder, name="model-raw"), tensors(plain.folder))
    assert moving.metrics["loss"] == plain.metrics["loss"]
    assert moving.metrics["valid/loss"] != plain.metrics["valid/loss"]
    between = tensors(moving.folder)["head.weight"] - tensors(plain.folder)["head.weight"]
    assert 0 < between.norm() < (tensors(still)["head.weight"] - tensors(plain.folder)["head.weight"]).norm()


@pytest.mark.slow
def test_two_processes_average_alike(overrides, tmp_path):
    launch = ["torch.distributed.run", "--nproc-per-node", "2", "--master-port", free_port(), "-m", "hocket", "train"]
    more = ["training.engine=deepspeed", "training.steps=4", "training.save_every=4", *EMA, *LORA]
    two = python(*launch, "tiny", "--json", *overrides("two", *more))
    assert two.returncode == 0, two.stderr
    run_recipe("tiny", overrides("one", *more, "training.accumulation=2"))
    ours, theirs = tensors(tmp_path / "two", 4), tensors(tmp_path / "one", 4)
    assert ours.keys() == theirs.keys()
    for name in theirs:
        torch.testing.assert_close(ours[name], theirs[name], rtol=1e-4, atol=1e-5)


def test_an_average_follows_its_formula_and_gives_the_weights_back():
    module = torch.nn.Linear(1, 1, bias=False)
    average, expected = WeightAverage(module, 0.5), module.weight.detach().clone()
    for step in range(1, 20):
        with torch.no_grad():
            module.weight.copy_(torch.tensor([[float(step)]]))
        average.update(step)
        expected.lerp_(module.weight.detach(), 1 - min(0.5, (1 + step) / (10 + step)))
    with average.applied():
        torch.testing.assert_close(module.weight.detach(), expected)
    assert module.weight.item() == 19


def test_sharded_weights_have_no_average(overrides):
    with pytest.raises(InputError, match=r"choose training\.zero_stage=2 or less, or training\.ema=0"):
        run_recipe("tiny", overrides("run", "training.engine=deepspeed", "training.zero_stage=3", *EMA))


def test_adapters_train_and_are_exported_as_plain_weights(overrides):
    start = run_recipe("tiny", overrides("start", "training.engine=accelerate", "training.steps=1", "training.lr=0"))
    tuned = run_recipe("tiny", overrides("tuned", "training.engine=accelerate", *LORA))
    before, after = load_model(start.folder).state_dict(), load_model(tuned.folder).state_dict()
    assert before.keys() == after.keys()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {"head.weight", "decoder.norm.weight"} | {
        n for n in before if "blocks" in n and before[n].ndim == 2
    }
    difference = after["decoder.blocks.0.down.weight"] - before["decoder.blocks.0.down.weight"]
    assert torch.linalg.matrix_rank(difference, rtol=1e-4) == 2


def test_merged_weights_compute_what_adapters_do(make_model):
    training = TrainingGroup(lora_rank=3, lora_alpha=5, lora_targets=["qkv", "down"])
    model, plain = make_model("Flatten(audio)"), make_model("Flatten(audio)")
    choose_what_trains(model, training)
    with torch.no_grad():
        for name, p in model.named_parameters():
            if "lora_B" in name:
                p.normal_()
    batch = batch_of([random_document(plain, 9)])
    before = plain(batch).total
    plain.load_state_dict(merged(model.state_dict(), training))
    torch.testing.assert_close(plain(batch).total, model(batch).total)
    assert plain(batch).total != before
    assert BatchFlops(model)(batch) == BatchFlops(plain)(batch) - 2 * block_weights(plain.config) * batch.n_steps


def test_patterns_and_targets_that_name_nothing_are_refused(make_model):
    model = make_model("Flatten(audio)")
    freeze(model, "decoder.blocks.0.*")
    freeze(model, "head")
    frozen = {name for name, p in model.named_parameters() if not p.requires_grad}
    assert frozen == {n for n, _ in model.named_parameters() if n.startswith(("decoder.blocks.0.", "head."))}
    with pytest.raises(InputError, match=r'no parameter is "decoder.embeding".*decoder\.embedding'):
        freeze(model, "decoder.embeding")
    with pytest.raises(InputError, match=r'the blocks have no "gateup".*gate_up'):
        choose_what_trains(model, TrainingGroup(lora_rank=2, lora_targets=["gateup"]))


def test_a_recipe_that_freezes_everything_is_refused(overrides):
    with pytest.raises(InputError, match="leaves nothing to train"):
        run_recipe("tiny", overrides("run", "training.engine=accelerate", "training.freeze=['*']"))


def test_without_peft_the_extra_is_named(make_model, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "peft", None)
    with pytest.raises(InputError, match=r'needs peft: pip install "hocket\[lora\]"'):
        choose_what_trains(make_model("Flatten(audio)"), TrainingGroup(lora_rank=2))
