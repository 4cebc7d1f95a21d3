"""Runs follow the loss curves in docs/reference, which scripts/reference.py wrote."""

import json
from pathlib import Path

import pytest

from hocket.resources import list_recipes
from hocket.training import run_recipe

FOLDER = Path("docs/reference")
TOLERANCE = {"tiny": 0.01, "demo": 0.1, "tts": 0.1}
"""Nats a cell. Sums come in another order on another machine; the longer a run, the further that carries it apart."""


def check(name: str, folder: Path) -> None:
    reference = json.loads((FOLDER / f"{name}.json").read_text())
    result = run_recipe(name, [f"output={folder / name}", "training.tensorboard=false"])
    rows = [json.loads(line) for line in (result.folder / "metrics.jsonl").read_text().splitlines()]
    for key in ("loss", "valid/loss"):
        found = {row["step"]: row[key] for row in rows if key in row}
        for step, loss in reference[key].items():
            assert found[int(step)] == pytest.approx(loss, abs=TOLERANCE[name]), f"{key} of step {step}"


def test_tiny_follows_its_reference(tmp_path):
    check("tiny", tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["demo", "tts"])
def test_longer_recipes_follow_theirs(name, tmp_path):
    check(name, tmp_path)


def test_every_recipe_has_a_reference_or_says_that_it_was_never_run():
    for name, meaning in list_recipes().items():
        is_for_own_data = "data.corpus" in meaning
        assert (FOLDER / f"{name}.json").is_file() or is_for_own_data, name


def test_references_say_where_they_come_from():
    for path in FOLDER.glob("*.json"):
        curve = json.loads(path.read_text())
        assert curve["command"] == f"hocket train {path.stem}"
        assert {"torch", "deepspeed", "hocket"} <= set(curve["versions"])
        assert {"1", "10"} <= set(curve["loss"])
        assert curve["date"].startswith("20")
