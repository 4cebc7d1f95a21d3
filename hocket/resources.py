"""Finds the files that travel with the package."""

from pathlib import Path


def config_folder() -> Path:
    """The folder of recipes and config groups: inside an installed package, or at the root of a checkout."""
    installed = Path(__file__).parent / "configs"
    return installed if installed.exists() else Path(__file__).parents[1] / "configs"


def list_recipes() -> dict[str, str]:
    """Name -> what it is, from the comment that opens each recipe."""
    return {path.stem: _opening_comment(path) for path in sorted(config_folder().glob("*.yaml"))}


def _opening_comment(path: Path) -> str:
    return path.read_text(encoding="utf-8").split("\n", 1)[0].lstrip("# ").strip()
