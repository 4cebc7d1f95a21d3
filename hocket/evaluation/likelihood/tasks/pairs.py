"""Pairs of recordings of which one is true: how they are scored, and what all tasks have in common.

    score of a pair    1    the true one is likelier
                      .5    both are equally likely, to the last bit
                       0    the false one is likelier

What is compared is the log-likelihood of whole recordings, all that the model predicts of them, ends included; summed,
by predicted cell (the default, as in SlamKit and SALMon: `mean_nll`) or by frame.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hocket.errors import InputError
from hocket.evaluation.likelihood.tally import MEAN, Score
from hocket.evaluation.results import Measure


@dataclass(frozen=True, kw_only=True)
class Pair:
    """A true recording and a false one."""

    id: str
    """Unique within the task."""
    good: Path
    bad: Path
    good_text: str | None = None
    bad_text: str | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)
    """What the pair is grouped by: item, voice, frequency, length, type, part."""


@dataclass(frozen=True, kw_only=True)
class Judged:
    """A pair with the model's verdict."""

    pair: Pair
    good: float
    """Log-likelihood of the true one, normalised."""
    bad: float

    @property
    def score(self) -> float:
        """1, .5 or 0."""
        return 0.5 if self.good == self.bad else float(self.good > self.bad)

    def row(self) -> dict[str, Any]:
        """Plain values, as items/TASK.jsonl holds them."""
        names = {"good_file": self.pair.good.name, "bad_file": self.pair.bad.name}
        return names | {"good": self.good, "bad": self.bad, "score": self.score} | dict(self.pair.facts)


@dataclass(frozen=True, kw_only=True)
class TaskKind:
    """How a task is read and counted."""

    name: str
    title: str
    """As it is known."""
    source: str
    """Paper and repository."""
    read: Callable[[Path], list[Pair]]
    """Raises InputError where the folder is none of the task's."""
    count: Callable[[Sequence[Judged]], dict[str, Measure]]
    """The official aggregation, the headline number first."""
    part: str = ""
    """The fact that several sets of one task differ in; empty where there is one set."""
    item: str = ""
    """The fact that the pairs of one item (one word in several voices) share; empty where a pair is an item."""
    normalisation: str = MEAN
    """Of the official evaluation."""


def judge(pair: Pair, good: Score, bad: Score, normalisation: str) -> Judged:
    """The verdict of a model."""
    return Judged(pair=pair, good=-good.by(normalisation), bad=-bad.by(normalisation))


def check_files(pairs: Sequence[Pair], folder: Path) -> None:
    """InputError, with the first and how many, where recordings are missing."""
    files = [path for pair in pairs for path in (pair.good, pair.bad)]
    if not files:
        raise InputError(f'"{folder}" holds no pair of recordings')
    missing = [path for path in files if not path.is_file()]
    if missing:
        raise InputError(f'{len(missing)} of {len(files)} recordings are missing, "{missing[0]}" first')


def find_folder(folder: Path, below: Sequence[str], holds: Callable[[Path], bool], what: str) -> Path:
    """`folder`, or the first of some folders below it, that holds the files of a task. InputError where none does."""
    if not folder.is_dir():
        raise InputError(f'there is no folder "{folder}" to read {what} from')
    for candidate in (folder, *(folder / name for name in below)):
        if candidate.is_dir() and holds(candidate):
            return candidate
    raise InputError(f'"{folder}" does not hold {what}')
