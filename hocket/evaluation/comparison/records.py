"""All numbers of a comparison as a tidy table, one value a row, and the few to begin with as a wide one.

    comparison.csv      run, step, metric, value, low, high, n, unit
    summary.csv         one row a run

Metrics are named by where they come from: "bits/total", "level/audio.0", "task/swuggy/all", "continuation/model/wer",
"speed/first_audio_ms", "valid/audio.0" and "valid_bits/total" over the steps, "at/flops/bits" at the largest common x.
"""

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from hocket.evaluation.comparison.axes import AXES, track
from hocket.evaluation.comparison.groups import Equal, Group, Held
from hocket.evaluation.comparison.subject import Subject
from hocket.evaluation.results import Evaluation, Measure

BITS = "bits per second of audio"
NATS = "nats per token"
SPEEDS = {"tokens_per_second": "tokens/s", "audio_seconds_per_second": "s of audio/s"}
COLUMN_UNITS = {"wer": "%", "cer": "%", "wer_mean": "%", "cer_mean": "%", "silent": "%", "ended": "%", "seconds": "s"}


@dataclass(frozen=True, kw_only=True)
class Record:
    """One number of one run."""

    run: str
    step: int | None
    metric: str
    value: float
    low: float | None = None
    high: float | None = None
    n: int | None = None
    unit: str = ""


def all_records(subjects: Sequence[Subject], helds: Sequence[Held], tables: Sequence[Sequence[Equal]]) -> list[Record]:
    """Everything that the page says in numbers."""
    by_label = {held.subject.label: held for held in helds}
    records: list[Record] = []
    for subject in subjects:
        for evaluation in subject.evaluations.values():
            records += _evaluated(subject.label, evaluation)
        held = by_label.get(subject.label)
        if held and held.source != "evaluation":
            records += [_measured(subject.label, held.step, f"bits/{k}", m, BITS) for k, m in held.bits.items()]
        records += [*_training(subject), *_over_steps(subject)]
    return records + [record for table in tables for equal in table for record in _at(equal)]


def _measured(run: str, step: int | None, metric: str, m: Measure, unit: str) -> Record:
    return Record(run=run, step=step, metric=metric, value=m.value, low=m.low, high=m.high, n=m.n or None, unit=unit)


def _evaluated(run: str, found: Evaluation) -> Iterator[Record]:
    step = found.step
    if found.likelihood:
        yield from (_measured(run, step, f"bits/{k}", m, BITS) for k, m in found.likelihood.bits.items())
        yield from (_measured(run, step, f"nats/{k}", m, "nats") for k, m in found.likelihood.normalised.items())
        for block, level in found.likelihood.levels.items():
            if level.tokens:
                yield Record(run=run, step=step, metric=f"level/{block}", value=level.mean, n=level.tokens, unit=NATS)
    for task in found.tasks:
        yield from (_measured(run, step, f"task/{task.name}/{k}", m, "share") for k, m in task.metrics.items())
    for heard in found.heard:
        for column, m in heard.metrics.items():
            name = f"{heard.protocol}/{heard.kind}/{column}"
            yield _measured(run, step, name, m, COLUMN_UNITS.get(column, ""))
    yield from (Record(run=run, step=step, metric=f"speed/{key}", value=v) for key, v in found.speed.items())


def middle(subject: Subject, key: str) -> float | None:
    """The median over the rows of training."""
    values = [value for _, value in subject.run.line(key)]
    return float(np.median(values)) if values else None


def highest(subject: Subject, key: str) -> float | None:
    return max((value for _, value in subject.run.line(key)), default=None)


def _training(subject: Subject) -> Iterator[Record]:
    step = subject.run.train[-1]["step"] if subject.run.train else subject.run.step
    facts: list[tuple[str, float | int | None, str]] = [
        ("parameters", subject.n_parameters, ""),
        ("context_seconds", subject.context_seconds, "s"),
        ("layout/steps_per_second", steps_per_second(subject), "steps/s of audio"),
        ("train/memory_gib", highest(subject, "memory_gib"), "GiB"),
        *((f"train/{key}", middle(subject, key), unit) for key, unit in SPEEDS.items()),
    ]
    yield from (
        Record(run=subject.label, step=step, metric=metric, value=value, unit=unit)
        for metric, value, unit in facts
        if value is not None
    )


def steps_per_second(subject: Subject) -> float | None:
    """Steps of the layout for a second of audio."""
    if subject.view is None:
        return None
    return float(subject.view.layout.steps_per_second(subject.view.rates)) or None


def _over_steps(subject: Subject) -> Iterator[Record]:
    run = subject.run
    for row in run.valid:
        for key, value in row.items():
            if key.startswith(("valid/", "valid_bits/")):
                unit = BITS if key.startswith("valid_bits/") else NATS
                yield Record(run=subject.label, step=row["step"], metric=key, value=value, unit=unit)
    for axis in AXES[1:]:
        by = track(run, axis)
        for row in run.valid if by else ():
            if (x := by.at(row["step"])) is not None:  # type: ignore[union-attr]
                unit = "FLOP" if axis.key == "flops" else "s"
                yield Record(run=subject.label, step=row["step"], metric=f"train/{axis.key}", value=x, unit=unit)


def _at(equal: Equal) -> Iterator[Record]:
    for one, value in equal.values:
        label = one.held.subject.label
        yield Record(run=label, step=None, metric=f"at/{equal.axis.key}/x", value=equal.x)
        yield Record(run=label, step=None, metric=f"at/{equal.axis.key}/bits", value=value, unit=BITS)


def summary_rows(
    subjects: Sequence[Subject], groups: Sequence[Group], records: Iterable[Record]
) -> list[dict[str, Any]]:
    """One row a run: what it is, the group it may be ranked in, and the newest value of each short metric."""
    places = {m.subject.label: (number, m) for number, group in enumerate(groups, 1) for m in group.members}
    newest: dict[str, dict[str, float]] = {subject.label: {} for subject in subjects}
    for record in records:
        if not record.metric.startswith(("valid", "level/", "nats/")):
            newest[record.run][record.metric] = record.value
    rows = []
    for subject in subjects:
        number, held = places.get(subject.label, (None, None))
        facts = {"run": subject.label, "layout": subject.layout, "objective": subject.objective, "head": subject.head}
        facts |= {"given": " ".join(subject.given), "group": number, "upper_bound": held.is_most if held else None}
        rows.append(facts | newest[subject.label])
    return rows


def to_csv(rows: Sequence[dict[str, Any] | Record]) -> str:
    """Rows as CSV; columns in the order in which they first appear, empty where a row has none."""
    plain = [asdict(row) if isinstance(row, Record) else row for row in rows]
    columns = list(dict.fromkeys(key for row in plain for key in row))
    target = io.StringIO()
    writer = csv.DictWriter(target, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows({key: "" if value is None else value for key, value in row.items()} for row in plain)
    return target.getvalue()
