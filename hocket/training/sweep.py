"""`hocket train RECIPE -m`: several runs, one after the other, that can then be compared.

    hocket train demo -m interleave=delay,parallel training.steps=200     each combination, through Hydra's own multirun
    -> runs/demo-sweep/0, runs/demo-sweep/1

    hocket train compare-layouts -m data.corpus=FOLDER                    the runs that the recipe names under `sweep`
    -> runs/compare-layouts-sweep/delay, runs/compare-layouts-sweep/flatten, …

A recipe's own list is a name and overrides for each run, where `{data.corpus}` stands for what the recipe itself has
there. Every job's overrides and corpus are checked before the first one starts; a run that is finished is not trained
again, so that the same command goes on after a stop.
"""

import os
import re
import sys
from pathlib import Path

import hydra
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig

from hocket.errors import InputError
from hocket.training.config import BUNDLED, Recipe, flatten
from hocket.training.parts import open_mixture, plan_model
from hocket.training.recipes import HYDRA_VERSION_BASE, load_recipe, locate, search_path_override, to_recipe
from hocket.training.run import RunResult, train


def plan_jobs(recipe: str | Path, overrides: list[str]) -> dict[str, list[str]]:
    """The overrides of every job by its name, each checked. InputError for the first that cannot be."""
    listed = _listed_jobs(recipe, overrides)
    jobs = {str(number): job for number, job in enumerate(listed)}
    base = load_recipe(recipe, listed[0])
    if base.sweep:
        if len(listed) > 1:
            raise InputError(
                f"the recipe {base.name} has a list of runs of its own: give one value for each key, not several"
            )
        jobs = {name: [*overrides, *(_fill(one, base) for one in own)] for name, own in base.sweep.items()}
    for job in jobs.values():
        load_recipe(recipe, job)
    return jobs


def _listed_jobs(recipe: str | Path, overrides: list[str]) -> list[list[str]]:
    """One for each combination of the values given."""
    try:
        parsed = OverridesParser.create().parse_overrides(overrides)
    except HydraException:
        load_recipe(recipe, overrides)  # says what is wrong with them
        raise
    return [list(job) for job in BasicSweeper.split_arguments(parsed, None)[0]]


def _fill(override: str, base: Recipe) -> str:
    """An override with `{key}` replaced by what the recipe has there. InputError where it has no such key."""
    known = flatten(base.to_dict())

    def value(found: re.Match) -> str:
        if found[1] not in known:
            raise InputError(f'"{override}" in the sweep of {base.name} names {{{found[1]}}}, which is no key')
        return str(known[found[1]])

    return re.sub(r"\{([\w.]+)\}", value, override)


def run_sweep(recipe: str | Path, overrides: list[str], fresh: bool = False) -> list[RunResult]:
    """Train every job, one after the other, in runs/NAME-sweep/JOB; a signal ends it after the run that it stops."""
    jobs = {name: load_recipe(recipe, job) for name, job in plan_jobs(recipe, overrides).items()}
    first = next(iter(jobs.values()))
    sweep = Path(f"{first.output}-sweep")
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise InputError("a sweep (-m) runs in one process: start it without a launcher")
    for name, job in jobs.items():
        _check_corpus(name, job)
    if not first.sweep:
        return _multirun(recipe, overrides, sweep, fresh)
    results: list[RunResult] = []
    for name, job in jobs.items():
        results.append(_train_in(job, sweep / name, fresh))
        if results[-1].signal:
            break
    return results


def _check_corpus(name: str, recipe: Recipe) -> None:
    """Refuse a run whose corpus is not there or lacks a stream of its layout, before hours go into the ones before."""
    if recipe.data.corpus == BUNDLED:
        return
    try:
        plan_model(recipe, open_mixture(recipe, recipe.data.corpus))
    except InputError as error:
        raise InputError(f'the run "{name}" of the sweep cannot be trained: {error}') from error


def _train_in(recipe: Recipe, folder: Path, fresh: bool) -> RunResult:
    recipe.output, recipe.sweep = str(folder), {}
    return train(recipe, fresh)


def _multirun(recipe: str | Path, overrides: list[str], sweep: Path, fresh: bool) -> list[RunResult]:
    """Every combination of listed values, by Hydra."""
    folder, name = locate(recipe)
    results: list[RunResult] = []

    @hydra.main(config_path=str(folder), config_name=name, version_base=HYDRA_VERSION_BASE)
    def job(composed: DictConfig) -> None:
        results.append(_train_in(to_recipe(composed), sweep / str(HydraConfig.get().job.num), fresh))

    settings = [
        f"hydra.sweep.dir='{sweep}'",
        "hydra.output_subdir=null",
        "hydra/job_logging=none",
        "hydra/hydra_logging=none",
    ]
    _hand_over(job, ["--multirun", *overrides, *settings, *search_path_override(folder)])
    return results


def _hand_over(job, arguments: list[str]) -> None:
    """Run a Hydra application with these arguments; HYDRA_FULL_ERROR makes it raise errors instead of printing them."""
    before, sys.argv = sys.argv, ["hocket train", *arguments]
    full = os.environ.get("HYDRA_FULL_ERROR")
    os.environ["HYDRA_FULL_ERROR"] = "1"
    try:
        job()
    finally:
        sys.argv = before
        os.environ.pop("HYDRA_FULL_ERROR")
        if full is not None:
            os.environ["HYDRA_FULL_ERROR"] = full
