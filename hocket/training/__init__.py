"""Training: recipes, the engine, the loop and its callbacks, checkpoints and resume.

Owns what happens between a corpus and a checkpoint. Accelerate runs the processes with DeepSpeed under it, on CPU too;
a run that was killed goes on as if nothing had happened.
"""

from hocket.training.config import Recipe
from hocket.training.dry_run import Plan, dry_run, plan_runs
from hocket.training.recipes import list_groups, load_recipe
from hocket.training.run import RunResult, run_recipe, train
from hocket.training.sweep import run_sweep

__all__ = [
    "Plan",
    "Recipe",
    "RunResult",
    "dry_run",
    "list_groups",
    "load_recipe",
    "plan_runs",
    "run_recipe",
    "run_sweep",
    "train",
]
