"""Which runs may be ranked against each other, and what may be said about those that may.

Bits per second of audio compare runs of the same codec, levels, stream and conditions that were scored on the same
data (design: "Bits"). Runs are put into groups by that; only inside a group is one called better, and only where the
95 % interval of the difference, clip by clip, is above 0 (`paired`), or, without clips, their own intervals are apart.
Two kinds of figures are upper bounds, "at most", and never called worse than another:

    masked objectives     have no exact likelihood: a Monte-Carlo bound
    further streams       a total that names the semantic units or the text too says at most what the audio alone needs
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from hocket.evaluation.comparison import words
from hocket.evaluation.comparison.axes import AXES, Axis, along, common_end, interpolate, track
from hocket.evaluation.comparison.paired import Clip, clip_by_clip, read_clips
from hocket.evaluation.comparison.subject import Subject
from hocket.evaluation.results import Measure
from hocket.evaluation.runs import Line

TOTAL, STRUCTURE, AUDIO = "total", "structure", "audio"
OWN = (TOTAL, STRUCTURE, AUDIO)
VALID_BITS, SEED = "valid_bits/", "training.seed"


@dataclass(frozen=True)
class Basis:
    """What must be equal for two figures to be compared."""

    codec: str
    """Fingerprint."""
    levels: int | None
    stream: str
    given: tuple[str, ...]
    data: str
    """What was scored: a fingerprint, or the name of a corpus where there is none."""

    def differences(self, other: "Basis", codecs: dict[str, str]) -> list[str]:
        """In words, what sets this one apart from another."""
        found = []
        if not self.codec:
            return ["its codec is not known, without a checkpoint or an evaluation"]
        if self.codec != other.codec:
            found.append(f"another codec ({codecs.get(self.codec, '?')}, not {codecs.get(other.codec, '?')})")
        if self.levels != other.levels:
            plural = "" if self.levels == 1 else "s"
            found.append(f"{self.levels} level{plural}, not {other.levels}")
        if self.stream != other.stream:
            found.append(f'the stream "{self.stream}", not "{other.stream}"')
        if self.given != other.given:
            found.append(f"given {_streams(self.given)}, not {_streams(other.given)}")
        if self.data != other.data:
            found.append("scored on other data")
        return found


def _streams(given: tuple[str, ...]) -> str:
    return words.listing(given) if given else "nothing"


@dataclass(frozen=True, kw_only=True)
class Held:
    """What a run needs to name held-out audio, in bits per second."""

    subject: Subject
    step: int | None
    source: str
    """"evaluation", "scores.json" or "metrics.jsonl"."""
    bits: dict[str, Measure]
    data: str
    is_bound: bool
    """Of a masked objective."""
    clips: Mapping[str, Clip] = field(default_factory=dict)
    """What each clip took, where that was kept."""

    @property
    def total(self) -> Measure:
        return self.bits[TOTAL]

    @property
    def further(self) -> tuple[str, ...]:
        """Streams that the total names beside the scored one."""
        return tuple(name for name, m in self.bits.items() if name not in (*OWN, self.subject.stream) and m.value)

    @property
    def is_most(self) -> bool:
        return self.is_bound or bool(self.further)

    @property
    def basis(self) -> Basis:
        codec = self.subject.codec
        return Basis(
            codec=codec.fingerprint if codec else "",
            levels=self.subject.levels,
            stream=self.subject.stream,
            given=self.subject.given,
            data=self.data,
        )


def hold(subject: Subject) -> Held | None:
    """The newest figure of a run, from the evaluation, else scores.json, else the metrics; None where there is none."""
    scored = subject.scored
    if scored and scored.likelihood:
        found = scored.likelihood
        return Held(
            subject=subject,
            step=scored.step,
            source="evaluation",
            bits=found.bits,
            data=found.data,
            is_bound=found.draws is not None,
            clips=read_clips(subject.evaluation_folder(scored)),
        )
    if subject.scores:
        return _from_scores(subject)
    rows = [row for row in subject.run.valid if VALID_BITS + TOTAL in row]
    if not rows:
        return None
    bits = {key.removeprefix(VALID_BITS): Measure(value=v) for key, v in rows[-1].items() if key.startswith(VALID_BITS)}
    return Held(
        subject=subject,
        step=rows[-1]["step"],
        source="metrics.jsonl",
        bits=bits,
        data=corpus_of(subject),
        is_bound=subject.is_bound,
    )


def _from_scores(subject: Subject) -> Held:
    assert subject.scores
    found, half = subject.scores.bits, subject.scores.bits.interval
    parts = {TOTAL: found.total, AUDIO: found.audio, STRUCTURE: found.structure}
    parts |= {name: value for name, value in found.further.items() if value}
    bits = {name: Measure(value=value) for name, value in parts.items()}
    if half is not None:
        bits[TOTAL] = Measure(value=found.total, low=found.total - half, high=found.total + half)
    return Held(
        subject=subject,
        step=subject.scores.step,
        source="scores.json",
        bits=bits,
        data=corpus_of(subject),
        is_bound=half is not None,
    )


def corpus_of(subject: Subject) -> str:
    """The held-out split of the corpus that a run was trained on, by name."""
    return f"corpus {Path(str(subject.run.setting('data.corpus') or 'bundled')).name}"


@dataclass(frozen=True, kw_only=True)
class Group:
    """Runs that may be ranked, lowest total first."""

    basis: Basis
    members: tuple[Held, ...]

    @property
    def best(self) -> Held:
        return self.members[0]

    def difference(self, held: Held) -> Measure | None:
        """Bits per second above the lowest, clip by clip; None where the clips were not kept."""
        return clip_by_clip(self.best.clips, held.clips)

    def is_more(self, held: Held) -> bool | None:
        """Whether a run needs more than the lowest: their difference clip by clip has an interval above 0, or, where
        clips were not kept, their intervals do not overlap. None where there is no interval, or the run has a bound."""
        if held.is_most:
            return None
        if (difference := self.difference(held)) and difference.low is not None:
            return difference.low > 0
        low, high = self.best.total, held.total
        return None if low.high is None or high.low is None else low.high < high.low

    def standing(self, held: Held) -> str:
        """How a run stands to the lowest, in a few words."""
        if held is self.best:
            return "lowest" if len(self.members) > 1 else ""
        apart = words.percent(held.total.value / self.best.total.value - 1)
        if held.is_most:
            return f"{apart}, a bound: not told apart"
        told = {None: "no interval", True: "more", False: "not told apart"}[self.is_more(held)]
        return f"{apart}, {told}{say_difference(self.difference(held))}"


def say_difference(difference: Measure | None) -> str:
    """The interval of a difference clip by clip, in bits per second."""
    spread = words.interval(difference, words.signed_bits) if difference else ""
    return f" ({spread} clip by clip)" if spread else ""


def group_runs(helds: Sequence[Held]) -> list[Group]:
    """The runs by what they may be compared with: the largest group first, then in the order given."""
    by_basis: dict[Basis, list[Held]] = {}
    for held in helds:
        by_basis.setdefault(held.basis, []).append(held)
    groups = [
        Group(basis=basis, members=tuple(sorted(members, key=lambda held: held.total.value)))
        for basis, members in by_basis.items()
    ]
    return sorted(groups, key=lambda group: -len(group.members))


def why_apart(group: Group, first: Group) -> str:
    """Why a group is not ranked against the first."""
    codecs = {m.basis.codec: m.subject.codec.name for g in (group, first) for m in g.members if m.subject.codec}
    found = group.basis.differences(first.basis, codecs)
    return f"Not ranked against {words.listing([m.subject.label for m in first.members])}: {words.listing(found)}."


def group_notes(group: Group) -> list[str]:
    """What the reader must know about the figures of a group."""
    notes = []
    bounds = [held.subject.label for held in group.members if held.is_bound]
    if bounds:
        notes.append(
            f"{words.listing(bounds)}: masked, so without an exact likelihood; the figure is an upper bound, and the "
            "true one may lie below any other here."
        )
    for held in (h for h in group.members if h.further):
        notes.append(
            f"{held.subject.label}: its total names the {words.listing(held.further)} stream too, so that for the "
            f"{held.subject.stream} alone it is an upper bound."
        )
    contexts = {held.subject.label: held.subject.context_seconds for held in group.members}
    spans = [seconds for seconds in contexts.values() if seconds is not None]
    if spans and max(spans) > 1.05 * min(spans):
        shortest = [label for label, s in contexts.items() if s is not None and s <= 1.05 * min(spans)]
        notes.append(
            f"Contexts differ, from {words.duration(min(spans))} of audio ({words.listing(shortest)}) to "
            f"{words.duration(max(spans))}: what lies further back than the context cannot help."
        )
    if len(group.members) > 1 and any(held.total.low is None for held in group.members):
        notes.append(
            "Where no interval stands, none was measured (hocket evaluate does), and nothing is called better."
        )
    return notes


@dataclass(frozen=True)
class Repeat:
    """Runs that differ in nothing but the seed: what chance does from one training to the next."""

    labels: tuple[str, ...]
    apart: float
    """Highest total by the lowest, less 1."""

    def __str__(self) -> str:
        size = words.percent(self.apart).removeprefix("+")
        return f"{words.listing(self.labels)} differ in the seed alone and lie {size} apart"


def find_repeats(group: Group) -> list[Repeat]:
    """Runs of a group that were trained again from another seed."""
    same: dict[str, list[Held]] = {}
    for held in group.members:
        rest = {key: value for key, value in held.subject.settings.items() if key != SEED}
        same.setdefault(json.dumps(rest, sort_keys=True, default=str), []).append(held)
    return [
        Repeat(tuple(h.subject.label for h in some), some[-1].total.value / some[0].total.value - 1)
        for some in same.values()
        if len({h.subject.settings.get(SEED) for h in some}) > 1
    ]


@dataclass(frozen=True, kw_only=True)
class Trace:
    """Held-out bits of a run while it trained."""

    held: Held
    line: Line
    """Step and total bits per second."""

    @property
    def basis(self) -> Basis:
        return self.held.basis


def trace(subject: Subject, held: Held | None) -> Trace | None:
    """From the metrics where they have exact bits, else the evaluations at their steps."""
    line = [(row["step"], row[VALID_BITS + TOTAL]) for row in subject.run.valid if VALID_BITS + TOTAL in row]
    if held is None:
        return None
    if line:
        return Trace(held=replace(held, data=_data_of_metrics(subject, held)), line=line)
    points: Line = [
        (step, one.likelihood.bits[TOTAL].value)
        for step, one in subject.evaluations.items()
        if one.likelihood and one.likelihood.data == held.data
    ]
    points = points or ([(held.step, held.total.value)] if held.step is not None else [])
    return Trace(held=held, line=points)


def _data_of_metrics(subject: Subject, held: Held) -> str:
    """What the figures in the metrics were scored on: the evaluation's data if it is the run's own held-out split."""
    own = corpus_of(subject)
    scored = subject.scored
    if scored and scored.likelihood and scored.likelihood.split == "valid":
        return held.data if f"corpus {Path(scored.likelihood.corpus).name}" == own else own
    return own


@dataclass(frozen=True, kw_only=True)
class Equal:
    """Runs at the largest x that they have in common."""

    axis: Axis
    x: float
    values: tuple[tuple[Trace, float], ...]
    """Lowest first."""
    left: tuple[str, ...]
    """Runs of the group that have no point there."""


def compare_at(traces: Sequence[Trace], axis: Axis) -> Equal | None:
    """Bits of runs of one basis at the largest common x of an axis; None where fewer than two reach one."""
    lines = {t.held.subject.label: along(t.line, track(t.held.subject.run, axis)) for t in traces}
    x, left = common_end(lines)
    if x is None:
        return None
    found = [(t, interpolate(lines[t.held.subject.label], x)) for t in traces if t.held.subject.label not in left]
    values = [(t, value) for t, value in found if value is not None]
    return Equal(axis=axis, x=x, values=tuple(sorted(values, key=lambda pair: pair[1])), left=tuple(left))


@dataclass(frozen=True)
class Terms:
    """Runs of one basis while they trained, and what they needed at equal x."""

    traces: tuple[Trace, ...]
    equals: tuple[Equal, ...]


def equal_terms(traces: Sequence[Trace]) -> list[Terms]:
    """For each basis with two runs or more, a comparison at each axis that they share; the largest first."""
    by_basis: dict[Basis, list[Trace]] = {}
    for one in traces:
        by_basis.setdefault(one.basis, []).append(one)
    several = sorted((members for members in by_basis.values() if len(members) > 1), key=len, reverse=True)
    compared = ([compare_at(members, axis) for axis in AXES] for members in several)
    return [
        Terms(tuple(members), tuple(equal for equal in found if equal))
        for members, found in zip(several, compared, strict=True)
    ]
