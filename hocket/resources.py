"""Finds the files that travel with the package."""

from pathlib import Path


def config_folder() -> Path:
    """The folder of recipes and config groups: inside an installed package, or at the root of a checkout."""
    installed = Path(__file__).parent / "configs"
    return installed if installed.exists() else Path(__file__).parents[1] / "configs"
