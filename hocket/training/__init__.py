"""Training: recipes, the engine, the loop and its callbacks, checkpoints and resume.

Owns what happens between a corpus and a checkpoint. Accelerate runs the processes with DeepSpeed under it, on CPU too;
a run that was killed goes on as if nothing had happened.
"""

from hocket.training.config import Recipe
from hocket.training.recipes import list_groups, list_recipes, load_recipe
from hocket.training.run import RunResult, run_recipe, train

__all__ = ["Recipe", "RunResult", "list_groups", "list_recipes", "load_recipe", "run_recipe", "train"]
