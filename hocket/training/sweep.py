"""`hocket train RECIPE -m key=a,b`: several runs, one for each combination, through Hydra's own multirun.

    hocket train demo -m interleave=delay,parallel training.steps=200
    -> runs/demo-sweep/0, runs/demo-sweep/1

Every job's overrides are composed and checked before the first one starts.
"""

import os
import sys
from pathlib import Path

import hydra
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig

from hocket.errors import InputError
from hocket.training.recipes import HYDRA_VERSION_BASE, load_recipe, locate, search_path_override, to_recipe
from hocket.training.run import RunResult, train


def plan_jobs(recipe: str | Path, overrides: list[str]) -> list[list[str]]:
    """The overrides of every job, each checked. InputError for the first that cannot be."""
    try:
        parsed = OverridesParser.create().parse_overrides(overrides)
    except HydraException:
        load_recipe(recipe, overrides)  # says what is wrong with them
        raise
    jobs = [list(job) for job in BasicSweeper.split_arguments(parsed, None)[0]]
    for job in jobs:
        load_recipe(recipe, job)
    return jobs


def run_sweep(recipe: str | Path, overrides: list[str], fresh: bool = False) -> list[RunResult]:
    """Train every combination, one after the other, in runs/NAME-sweep/NUMBER."""
    folder, name = locate(recipe)
    sweep = Path(f"{load_recipe(recipe, plan_jobs(recipe, overrides)[0]).output}-sweep")
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise InputError("a sweep (-m) runs in one process: start it without a launcher")
    results: list[RunResult] = []

    @hydra.main(config_path=str(folder), config_name=name, version_base=HYDRA_VERSION_BASE)
    def job(composed: DictConfig) -> None:
        job_recipe = to_recipe(composed)
        job_recipe.output = str(sweep / str(HydraConfig.get().job.num))
        results.append(train(job_recipe, fresh))

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
