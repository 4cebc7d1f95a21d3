"""Where the numbers of a comparison come from: checkpoints, machines, versions, settings."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hocket.evaluation.comparison import words
from hocket.evaluation.comparison.charts import Look
from hocket.evaluation.comparison.subject import Subject
from hocket.evaluation.comparison.tables import Cell, Row, Table

HEAD = [
    ("folder", ""),
    ("trained", "steps"),
    ("in", ""),
    ("evaluated", ""),
    ("suite", ""),
    ("step", ""),
    ("weights", ""),
]


def origin_table(subjects: Sequence[Subject], styles: dict[str, Look]) -> Table:
    """Folders, steps, dates and weights."""
    rows = [Row(label=s.label, look=styles[s.label], cells=[Cell(text=text) for text in _origin(s)]) for s in subjects]
    return Table(caption="Where the numbers come from", head=HEAD, rows=rows)


def _origin(subject: Subject) -> list[str]:
    run, found = subject.run, subject.newest
    wall = run.last("wall")
    trained = [f"{run.train[-1]['step']:,}" if run.train else "–", words.duration(wall) if wall else "–"]
    if found is None:
        return [run.folder.as_posix(), *trained, "–", "–", "–", "–"]
    step = f"{found.step:,}" if found.step is not None else "–"
    return [run.folder.as_posix(), *trained, found.date[:10], found.suite, step, found.weights[:16]]


def shared_origins(subjects: Sequence[Subject]) -> list[tuple[str, str, str]]:
    """Machines, versions and settings of the evaluations: what, the value, whose it is where they differ."""
    evaluated = [(s.label, s.newest) for s in subjects if s.newest]
    found: list[tuple[str, str, str]] = []
    for title, say in (
        ("hardware", lambda e: e.hardware),
        ("hocket", lambda e: e.hocket),
        ("settings", lambda e: _say_settings(e.settings)),
    ):
        whose: dict[str, list[str]] = {}
        for label, evaluation in evaluated:
            whose.setdefault(say(evaluation), []).append(label)
        names = {value: words.listing(labels) if len(whose) > 1 else "" for value, labels in whose.items()}
        found += [(title, value, names[value]) for value in whose if value]
    return found


def _say_settings(settings: dict[str, Any], prefix: str = "") -> str:
    said = []
    for key, value in settings.items():
        if isinstance(value, dict):
            said.append(_say_settings(value, f"{prefix}{key}."))
        elif value not in (None, [], "") and value is not False:
            said.append(f"{prefix}{key}={_short(value)}")
    return ", ".join(one for one in said if one)


def _short(value: Any) -> str:
    """A value; of a path from the root only its end, which says enough on other machines."""
    if isinstance(value, list):
        return " ".join(map(_short, value))
    text = str(value)
    return "/".join(Path(text).parts[-2:]) if text.startswith("/") else text
