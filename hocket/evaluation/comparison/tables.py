"""The tables of the page as plain cells: bits at equal x, speed and size, tasks, what judges heard, settings."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from hocket.evaluation.comparison import words
from hocket.evaluation.comparison.charts import Look
from hocket.evaluation.comparison.groups import Equal
from hocket.evaluation.comparison.records import highest, middle, steps_per_second
from hocket.evaluation.comparison.subject import Subject
from hocket.evaluation.results import MODEL, ORIGINAL, RESYNTHESIS, Heard, Measure

Styles = dict[str, Look]


@dataclass(frozen=True, kw_only=True)
class Cell:
    """A number, and what stands small below it."""

    text: str = "–"
    below: str = ""
    share: float | None = None
    """Of the largest in the column, for a bar behind the number."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """A row, of a run or of what all share."""

    label: str
    look: Look | None
    cells: list[Cell]
    below: str = ""


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table with its caption."""

    caption: str
    head: list[tuple[str, str]]
    """Title and unit of each column, without the first."""
    rows: list[Row]
    notes: list[str] = field(default_factory=list)


def equal_table(equals: Sequence[Equal], styles: Styles) -> Table:
    """Bits at the largest common steps, FLOPs and audio of one group."""
    labels = list(dict.fromkeys(one.held.subject.label for equal in equals for one, _ in equal.values))
    bounds = {one.held.subject.label for equal in equals for one, _ in equal.values if one.held.is_most}
    by_axis = [{one.held.subject.label: value for one, value in equal.values} for equal in equals]
    rows = [
        Row(label=label, look=styles[label], cells=[_against(values, label, bounds) for values in by_axis])
        for label in labels
    ]
    where: dict[tuple[str, ...], list[str]] = {}
    for equal in equals:
        where.setdefault(equal.left, []).append(equal.axis.equal)
    left = [
        f"{words.listing(names)}: no figure at {words.listing(axes, 'or')}." for names, axes in where.items() if names
    ]
    head = [(equal.axis.equal, equal.axis.say(equal.x)) for equal in equals]
    return Table(caption="Bits per second of audio at the largest common x", head=head, rows=rows, notes=left)


def _against(values: dict[str, float], label: str, bounds: set[str]) -> Cell:
    """A figure, and how far above the lowest it lies."""
    if label not in values:
        return Cell()
    best = min(values.values())
    apart = "lowest" if values[label] == best else words.percent(values[label] / best - 1)
    return Cell(text=("≤ " if label in bounds else "") + words.bits(values[label]), below=apart)


Fact = Callable[[Subject], float | None]


def _speed(key: str) -> Fact:
    return lambda subject: subject.newest.speed.get(key) if subject.newest else None


def _times(value: float) -> str:
    return f"{words.number(value)} ×"


def _streamed(subject: Subject) -> str:
    """Whether the first audio comes before the last."""
    streams = subject.newest.speed.get("first_audio_streams") if subject.newest else None
    return "" if streams is None else "streamed" if streams else "with the whole"


@dataclass(frozen=True, kw_only=True)
class Cost:
    """A column of the table of costs."""

    title: str
    unit: str = ""
    fact: Fact
    say: Callable[[float], str] = words.number
    below: Callable[[Subject], str] = lambda subject: ""


COSTS = (
    Cost(title="parameters", fact=lambda s: s.n_parameters, say=words.count),
    Cost(title="context", unit="of audio", fact=lambda s: s.context_seconds, say=words.duration),
    Cost(title="layout", unit="steps per second of audio", fact=steps_per_second, say=words.rate),
    Cost(title="training", unit="tokens per second", fact=lambda s: middle(s, "tokens_per_second")),
    Cost(title="training", unit="seconds of audio per second", fact=lambda s: middle(s, "audio_seconds_per_second")),
    Cost(title="memory", unit="GiB, training", fact=lambda s: highest(s, "memory_gib")),
    Cost(title="generation", unit="× real time", fact=_speed("generation_audio_seconds_per_second"), say=_times),
    Cost(
        title="generation",
        unit="× real time, 8 at once",
        fact=_speed("generation_audio_seconds_per_second_batch_8"),
        say=_times,
    ),
    Cost(title="first audio", unit="ms", fact=_speed("first_audio_ms"), below=_streamed),
    Cost(title="memory", unit="GiB, generation", fact=_speed("memory_gib")),
)
OWN_SPEEDS = ("generation_", "first_audio_", "memory_gib", "scoring_")
"""Beginnings of the names of speeds that have a column above, or stand in the CSV alone."""


def cost_table(subjects: Sequence[Subject], styles: Styles) -> Table:
    """What each run costs; columns that no run has are left out."""
    measured = dict.fromkeys(key for s in subjects for key in (s.newest.speed if s.newest else ()))
    others = [key for key in measured if not key.startswith(OWN_SPEEDS)]
    columns = [*COSTS, *(Cost(title=key.replace("_", " "), fact=_speed(key)) for key in others)]
    tops = [max((value for s in subjects if (value := c.fact(s)) is not None), default=None) for c in columns]
    kept = [(column, top) for column, top in zip(columns, tops, strict=True) if top is not None]
    rows = [
        Row(label=s.label, look=styles[s.label], cells=[_cost(column, s, top) for column, top in kept])
        for s in subjects
    ]
    head = [(column.title, column.unit) for column, _ in kept]
    return Table(caption="Speed and size", head=head, rows=rows)


def _cost(column: Cost, subject: Subject, top: float) -> Cell:
    value = column.fact(subject)
    if value is None:
        return Cell()
    return Cell(text=column.say(value), below=column.below(subject), share=100 * value / top if top else None)


COLUMNS = {
    "wer": ("WER ↓", "%, all words"),
    "wer_mean": ("WER ↓", "%, mean of clips"),
    "cer": ("CER ↓", "%, all characters"),
    "cer_mean": ("CER ↓", "%, mean of clips"),
    "similarity": ("speaker ↑", "Resemblyzer, to the prompt"),
    "similarity_original": ("speaker ↑", "Resemblyzer, to the original"),
    "similarity_wavlm": ("speaker ↑", "WavLM, to the prompt"),
    "similarity_wavlm_original": ("speaker ↑", "WavLM, to the original"),
    "dnsmos": ("DNSMOS ↑", "1 to 5"),
    "utmos": ("UTMOS ↑", "1 to 5"),
    "perplexity": ("perplexity ↓", "all words"),
    "perplexity_mean": ("perplexity ↓", "mean of clips"),
    "auto_bleu": ("auto-BLEU ↓", "repeats itself"),
    "self_bleu": ("self-BLEU ↓", "repeats others"),
    "vert": ("VERT ↓", "auto- and self-BLEU"),
    "silent": ("silent", "%"),
    "ended": ("ended itself", "%"),
    "seconds": ("length", "seconds"),
}
"""What judges say by key: title with the better direction, unit."""
PROTOCOLS = {
    "continuation": "Continuation of a prompt",
    "revoice": "Continuation of a prompt, further streams given",
    "tts": "Text to speech",
    "recognition": "Recognition of speech",
}
SHARED_KINDS = {ORIGINAL: "the recording", RESYNTHESIS: "through the codec: the ceiling"}


def heard_tables(subjects: Sequence[Subject], styles: Styles) -> list[Table]:
    """A table for each protocol: original, resynthesis, and every run."""
    found = [(s, heard) for s in subjects if s.newest for heard in s.newest.heard]
    protocols = dict.fromkeys(heard.protocol for _, heard in found)
    return [_heard_table(name, [pair for pair in found if pair[1].protocol == name], styles) for name in protocols]


def _heard_table(protocol: str, found: list[tuple[Subject, Heard]], styles: Styles) -> Table:
    keys = list(dict.fromkeys(key for _, heard in found for key in heard.metrics))
    rows = []
    for kind, what in SHARED_KINDS.items():
        same: dict[Any, list[str]] = {}
        for subject, heard in found:
            if heard.kind == kind:
                same.setdefault(tuple(sorted(heard.metrics.items(), key=lambda i: i[0])), []).append(subject.label)
        for metrics, labels in same.items():
            of = f" of {words.listing(labels)}" if len(same) > 1 else ""
            rows.append(Row(label=kind + of, look=None, cells=_measures(dict(metrics), keys), below=what))
    for subject, heard in found:
        if heard.kind == MODEL:
            below = f"{heard.n:,} sounds" if heard.n else ""
            row = Row(
                label=subject.label, look=styles[subject.label], cells=_measures(heard.metrics, keys), below=below
            )
            rows.append(row)
    head = [COLUMNS.get(key, (key.replace("_", " "), "")) for key in keys]
    return Table(caption=PROTOCOLS.get(protocol, protocol), head=head, rows=rows)


def _measures(metrics: dict[str, Measure], keys: list[str]) -> list[Cell]:
    found = [metrics.get(key) for key in keys]
    return [Cell() if m is None else Cell(text=words.number(m.value), below=words.interval(m)) for m in found]


def task_table(subjects: Sequence[Subject], styles: Styles) -> Table | None:
    """The paired tasks: shares as percentages."""
    found = {s.label: {t.name: t for t in s.newest.tasks} for s in subjects if s.newest and s.newest.tasks}
    columns = list(
        dict.fromkeys((t.name, key) for tasks in found.values() for t in tasks.values() for key in t.metrics)
    )
    if not columns:
        return None
    rows = []
    for label, tasks in found.items():
        measures = [tasks[name].metrics.get(key) if name in tasks else None for name, key in columns]
        below = words.listing(sorted({f"by {t.normalisation}" for t in tasks.values()}))
        rows.append(Row(label=label, look=styles[label], cells=[_share(m) for m in measures], below=below))
    return Table(caption="Paired tasks", head=[(name, f"{key}, %") for name, key in columns], rows=rows)


def _share(m: Measure | None) -> Cell:
    if m is None:
        return Cell()
    return Cell(text=f"{100 * m.value:.1f}", below=words.interval(m, lambda value: f"{100 * value:.1f}"))


def settings_table(subjects: Sequence[Subject], styles: Styles) -> tuple[list[Look], list[tuple[str, list[str]]], int]:
    """The runs, the settings that differ (key, value by run), and how many are equal."""
    flat = [subject.settings for subject in subjects]
    keys = list(dict.fromkeys(key for one in flat for key in one))
    rows = [(key, [_say(one.get(key)) for one in flat]) for key in keys]
    different = [(key, values) for key, values in rows if len(set(values)) > 1]
    return [styles[subject.label] for subject in subjects], different, len(rows) - len(different)


def _say(value: Any) -> str:
    if value is None or value in ([], ""):
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, dict):
        return " ".join(f"{key}={_say(inner)}" for key, inner in value.items())
    return "; ".join(map(_say, value)) if isinstance(value, list) else str(value)
