"""Runs that are compared: the steps that some operations buy, and the list of runs that a recipe has."""

from pathlib import Path

import pytest
from launching import rows

from hocket.errors import InputError
from hocket.training import run_recipe, run_sweep
from hocket.training.dry_run import dry_run
from hocket.training.sweep import plan_jobs

PLAIN = "training.engine=accelerate"
RECIPE = """
defaults:
  - tiny
  - _self_
name: versus
sweep:
  flat: [interleave=flatten]
  waits: [interleave=delay, "data.corpus={data.corpus}", training.seed=3]
"""


@pytest.fixture
def recipe(tmp_path) -> Path:
    path = tmp_path / "versus.yaml"
    path.write_text(RECIPE)
    return path


def test_steps_follow_from_the_work(overrides):
    step = dry_run("tiny", overrides("run", PLAIN)).flops_per_step
    again = overrides("run", PLAIN, f"training.flops={5.2 * step}")
    run = run_recipe("tiny", again)
    assert run.steps == 5 == dry_run("tiny", again).steps
    assert rows(run.folder)[-2]["flops"] == pytest.approx(5 * step, rel=0.15)
    assert run_recipe("tiny", again).steps == 5  # it is finished
    longer = run_recipe("tiny", overrides("run", PLAIN, f"training.flops={7 * step}"))
    assert longer.steps == 7


def test_layouts_at_equal_work_take_unequal_steps(overrides):
    budget = 8 * dry_run("tiny", overrides("run", PLAIN, "interleave=delay")).flops_per_step
    runs = [
        run_recipe("tiny", overrides(name, PLAIN, f"interleave={name}", f"training.flops={budget}"))
        for name in ("delay", "flatten")
    ]
    spent = [run.metrics["flops"] for run in runs]
    assert spent == pytest.approx([budget, budget], rel=0.15)
    assert runs[0].metrics["audio_seconds"] > runs[1].metrics["audio_seconds"]


def test_work_that_buys_no_step_is_refused(overrides):
    with pytest.raises(InputError, match=r"training\.flops is 1e\+03, but one step takes .* raise it"):
        run_recipe("tiny", overrides("run", PLAIN, "training.flops=1000"))


def test_what_a_run_has_seen_goes_on_with_it(overrides, in_two_parts):
    whole = run_recipe("tiny", overrides("whole", PLAIN))
    parts = in_two_parts(overrides("parts", PLAIN))
    assert {"flops", "audio_seconds", "tokens"} <= set(rows(whole.folder)[0])
    assert rows(parts.folder) == rows(whole.folder)


def test_a_recipe_names_its_own_runs(recipe, overrides, tmp_path):
    given = [*overrides("versus", PLAIN), "training.steps=2"]
    corpus = next(one for one in given if one.startswith("data.corpus="))
    jobs = plan_jobs(recipe, given)
    assert jobs["flat"] == [*given, "interleave=flatten"]
    assert corpus.replace("'", "") in jobs["waits"]
    results = run_sweep(recipe, given)
    assert [result.folder.name for result in results] == ["flat", "waits"]
    assert [result.steps for result in results] == [2, 2]
    assert "sweep: {}" in (results[0].folder / "config.yaml").read_text()
    again = run_sweep(recipe, [*given, "~sweep.flat"])
    assert [result.folder.name for result in again] == ["waits"]


def test_a_recipe_with_runs_of_its_own_takes_no_lists(recipe, overrides):
    with pytest.raises(InputError, match="has a list of runs of its own: give one value for each key, not several"):
        plan_jobs(recipe, [*overrides("versus"), "model.dim=32,64"])


def test_a_key_that_is_none_is_named(recipe, overrides):
    recipe.write_text(RECIPE.replace("{data.corpus}", "{data.corps}"))
    with pytest.raises(InputError, match=r"names \{data\.corps\}, which is no key"):
        plan_jobs(recipe, overrides("versus"))


def test_a_corpus_that_lacks_a_stream_ends_the_sweep_before_it_begins(recipe, overrides):
    recipe.write_text(RECIPE.replace("interleave=delay", "interleave=audiolm"))
    given = overrides("versus", PLAIN)
    with pytest.raises(InputError, match=r'the run "waits" of the sweep cannot be trained: .*semantic'):
        run_sweep(recipe, given)
    output = next(one for one in given if one.startswith("output=")).partition("=")[2].strip("'")
    assert not Path(f"{output}-sweep").exists()
