import json

import pytest
from typer.testing import CliRunner

from hocket import cli
from hocket.data import Mixture
from hocket.errors import InputError
from hocket.model import load_model
from hocket.training import dry_run, load_recipe, run_recipe
from hocket.training.dry_run import in_bytes, in_count, in_seconds
from hocket.training.parts import make_loader, plan_model

PLANNED = ["training.engine=accelerate", "training.steps=4", "training.save_every=2"]


def test_it_counts_what_the_run_then_logs(overrides, tmp_path):
    made = overrides("run", *PLANNED, "training.log_every=1")
    plan, result = dry_run("tiny", made), run_recipe("tiny", made)
    model = load_model(result.folder)
    assert plan.parameters.total == plan.parameters.trainable == model.n_parameters
    assert plan.parameters.embeddings == plan.parameters.heads == model.head.weight.numel()
    lines = [json.loads(line) for line in (result.folder / "metrics.jsonl").read_text().splitlines()]
    rows = [row for row in lines if "tokens" in row]
    tokens = [row["tokens"] for row in rows]
    seconds = [(now - before) / row["tokens_per_second"] for before, now, row in zip([0, *tokens], tokens, rows)]  # noqa: B905
    flops = [row["tflops"] * 1e12 * took for row, took in zip(rows, seconds)]  # noqa: B905
    assert sum(flops) / len(flops) == pytest.approx(plan.flops_per_step, rel=0.15)
    assert plan.codes == pytest.approx(tokens[-1], rel=0.15)
    assert plan.epochs == pytest.approx(4 * plan.grid_steps_per_step / sum_of_documents(made), rel=0.01)


def sum_of_documents(made: list[str]) -> int:
    recipe = load_recipe("tiny", made)
    corpus = Mixture.open(recipe.data.corpus)
    return make_loader(recipe, plan_model(recipe, corpus).sketch(), corpus.split("train")).epoch_steps


def test_nothing_is_written_or_allocated(overrides, tmp_path, monkeypatch):
    monkeypatch.setattr("hocket.model.Model.build", lambda *given: pytest.fail("weights were made"))
    plan = dry_run("tiny", overrides("run", "model.dim=8192", "model.ffn_dim=65536", "model.n_layers=24"))
    assert plan.parameters.trunk > 4e10
    assert not (tmp_path / "run").exists()


def test_what_is_assumed_is_said():
    plan = dry_run("small", ["codec=bundled", "interleave=audiolm"])
    assert "no corpus is named: documents of" in plan.assumed[0]
    assert "semantic: 500 units, as many a second as there are frames" in plan.assumed
    assert plan.epochs is None
    with pytest.raises(
        InputError, match=r"no corpus is named: add data\.corpus=FOLDER, codec=bundled, or codec\.facts"
    ):
        dry_run("small")


def test_the_source_of_a_warm_start_need_not_be_at_hand():
    plan = dry_run("slam", ["model.warm_start=nowhere/at-all"])
    assert "nowhere/at-all is not at hand: its dimensions are those that the recipe states" in plan.assumed
    with pytest.raises(InputError, match="nowhere"):
        dry_run("slam", ["model=pretrained", "model.warm_start=nowhere/at-all"])


@pytest.mark.parametrize("layout", ["tts-delay", "moshi", "soundstorm", "delay-stereo", "csm", "spiritlm"])
def test_every_kind_of_layout_is_counted_without_a_corpus(layout):
    plan = dry_run("mimi-350m", [f"interleave={layout}", "vocab=bpe", "data.batch_steps=8192"])
    assert 0.5 * plan.micro_batch * 2 < plan.grid_steps_per_step <= plan.micro_batch * 2
    assert plan.flops_per_step > 6 * plan.parameters.trunk * plan.grid_steps_per_step


def test_work_and_time_follow_settings():
    one, more = dry_run("mimi-350m"), dry_run("mimi-350m", ["training.processes=4", "training.accumulation=4"])
    assert more.flops_per_step == pytest.approx(8 * one.flops_per_step)
    assert more.hours == pytest.approx(2 * one.hours)
    assert dry_run("mimi-350m", mfu=0.2).hours == pytest.approx(2 * one.hours)
    frozen = dry_run("mimi-350m", ["training.freeze=[decoder]"])
    assert frozen.parameters.trainable == frozen.parameters.heads
    assert frozen.flops_per_step < one.flops_per_step
    offloaded = dry_run("mimi-350m", ["training.offload=optimizer"])
    assert offloaded.memory.host == pytest.approx(one.memory.states - offloaded.memory.states)


def test_memory_falls_with_zero_and_checkpointing():
    def total(*given: str) -> float:
        return dry_run("mimi-7b", list(given)).memory.total

    stages = [total(f"training.zero_stage={stage}") for stage in (1, 3)]
    assert stages == sorted(stages, reverse=True)
    assert total("model.checkpointing=false") > 3 * total()


def test_the_command_prints_one_object_or_lines(overrides, capsys):
    made = overrides("run", "training.engine=accelerate")
    shown = CliRunner().invoke(cli.app, ["train", "tiny", "--dry-run", "--json", *made])
    facts = json.loads(shown.output)
    assert {"parameters", "memory", "flops", "hours", "disk", "assumed"} <= set(facts)
    lines = CliRunner().invoke(cli.app, ["train", "tiny", "--dry-run", *made]).output.splitlines()
    assert [line.split()[0] for line in lines if not line.startswith("assumed")] == [
        "recipe", "parameters", "step", "memory", "run", "time", "disk",
    ]  # fmt: skip


def test_numbers_are_short():
    assert (in_count(1234567), in_count(999), in_count(0.5)) == ("1.23 M", "999 ", "0.5 ")
    assert (in_bytes(2.5e9), in_seconds(90), in_seconds(7200), in_seconds(3 * 86400)) == (
        "2.5 GB", "1.5 min", "2.0 h", "3.0 days",
    )  # fmt: skip
