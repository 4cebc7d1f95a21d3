"""`hocket compare`: reads the runs, writes OUT/compare.html, OUT/comparison.csv and OUT/summary.csv.

The page needs nothing outside it: sound, pictures and styles are inside, and it opens from a disk. Eight runs with six
clips make about 6 MB in 20 s, nearly all of it sound and spectrograms.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from markupsafe import Markup

import hocket
from hocket.evaluation.comparison import words
from hocket.evaluation.comparison.axes import AXES
from hocket.evaluation.comparison.charts import Look, bits_charts, forest, level_charts, looks
from hocket.evaluation.comparison.groups import (
    Group,
    Held,
    Terms,
    equal_terms,
    group_notes,
    group_runs,
    hold,
    trace,
    why_apart,
)
from hocket.evaluation.comparison.lead import lead_sentences
from hocket.evaluation.comparison.missing import axis_notes, left_out
from hocket.evaluation.comparison.origins import origin_table, shared_origins
from hocket.evaluation.comparison.records import Record, all_records, steps_per_second, summary_rows, to_csv
from hocket.evaluation.comparison.sounds import gather_takes, say_clips
from hocket.evaluation.comparison.subject import Subject, read_subjects
from hocket.evaluation.comparison.tables import (
    cost_table,
    equal_table,
    heard_tables,
    settings_table,
    task_table,
)
from hocket.evaluation.layout_tables import say_first_frame
from hocket.evaluation.report import TEMPLATES, render, write_whole
from hocket.evaluation.results import Evaluation
from hocket.interleave import draw_svg

PAGE_FILE, LONG_FILE, WIDE_FILE, TEMPLATE = "compare.html", "comparison.csv", "summary.csv", "compare.html.jinja"
N_COLOURS = 12
"""As many as compare.css has."""
DRAWN_COLUMNS = 15


@dataclass(frozen=True, kw_only=True)
class Written:
    """What a comparison found and where it was written."""

    page: Path
    records_csv: Path
    summary_csv: Path
    lead: list[str]
    """Which is better, in sentences."""
    groups: list[dict[str, Any]]
    runs: list[dict[str, Any]]
    """The rows of summary.csv."""
    records: list[Record]
    """The rows of comparison.csv."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        paths = {name: str(getattr(self, name)) for name in ("page", "records_csv", "summary_csv")}
        return paths | {
            "lead": self.lead,
            "groups": self.groups,
            "runs": self.runs,
            "records": [asdict(record) for record in self.records],
        }


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Runs, what may be ranked, and how each is drawn."""

    subjects: list[Subject]
    helds: list[Held]
    groups: list[Group]
    terms: list[Terms]
    styles: dict[str, Look]


def compare(folders: Sequence[str | Path]) -> Comparison:
    """Read runs and put them into groups that may be ranked. InputError where one cannot be compared at all."""
    subjects = read_subjects(folders)
    helds = [held for subject in subjects if (held := hold(subject))]
    found = {held.subject.label: held for held in helds}
    traces = [one for subject in subjects if (one := trace(subject, found.get(subject.label)))]
    styles = looks(subjects, N_COLOURS)
    for held in helds:
        label = held.subject.label
        styles[label] = replace(styles[label], is_bound=held.is_most)
    return Comparison(
        subjects=subjects,
        helds=helds,
        groups=group_runs(helds),
        terms=equal_terms(traces),
        styles=styles,
    )


def compare_runs(folders: Sequence[str | Path], out: str | Path = "compare", clips: int = 6) -> Written:
    """Compare runs and write the page and its tables.

    Args:
        folders: runs, or folders of runs.
        out: the folder for what is written; made where it is not there.
        clips: to listen to, of each protocol at most.

    Raises:
        InputError: a folder is no run, is named twice, has nothing to compare, or lacks a sound that it names.
    """
    found, out = compare(folders), Path(out)
    records = all_records(found.subjects, found.helds, [terms.equals for terms in found.terms])
    rows = summary_rows(found.subjects, found.groups, records)
    context = page_context(found, [str(folder) for folder in folders], out, clips)
    page = render(context, TEMPLATE)
    out.mkdir(parents=True, exist_ok=True)
    return Written(
        page=write_whole(out / PAGE_FILE, page),
        records_csv=write_whole(out / LONG_FILE, to_csv(records)),
        summary_csv=write_whole(out / WIDE_FILE, to_csv(rows)),
        lead=context["lead"],
        groups=[_plain(group) for group in found.groups],
        runs=rows,
        records=records,
    )


def _plain(group: Group) -> dict[str, Any]:
    members = [
        {"run": held.subject.label, "step": held.step, "from": held.source, "upper_bound": held.is_most}
        | asdict(held.total)
        | {"standing": group.standing(held)}
        for held in group.members
    ]
    return {"basis": asdict(group.basis), "members": members}


def page_context(found: Comparison, named: list[str], out: Path, clips: int) -> dict[str, Any]:
    """Everything the template names."""
    takes = gather_takes(found.subjects, found.styles, clips)
    looks_of, different, n_equal = settings_table(found.subjects, found.styles)
    style = "".join((TEMPLATES / name).read_text(encoding="utf-8") for name in ("report.css", "compare.css"))
    drawn, elsewhere = _on_the_same_speech(found)
    levels = [(axis, level_charts(drawn, found.styles, axis)) for axis in AXES]
    return {
        "title": f"{len(found.subjects)} runs compared" if len(found.subjects) > 1 else found.subjects[0].label,
        "version": hocket.__version__,
        "style": Markup(style),
        "lead": lead_sentences(found.groups, [terms.equals for terms in found.terms]),
        "groups": [_shown(group, found) for group in found.groups if len(group.members) > 1],
        "alone": [_alone(group, found) for group in found.groups if len(group.members) == 1],
        "unscored": _unscored(found),
        "terms": [_equal_terms(terms, found.styles) for terms in found.terms],
        "axis_notes": axis_notes(found.subjects),
        "level_axes": [(axis, charts) for axis, charts in levels if charts],
        "loss_looks": [found.styles[subject.label] for subject in drawn],
        "loss_notes": _loss_notes(drawn, elsewhere),
        "costs": cost_table(found.subjects, found.styles),
        "heard": heard_tables(found.subjects, found.styles),
        "tasks": task_table(found.subjects, found.styles),
        "takes": takes,
        "takes_note": say_clips(takes) if takes.takes else "",
        "drawings": [_drawing(subject, found.styles[subject.label]) for subject in found.subjects],
        "settings_looks": looks_of,
        "settings": different,
        "n_equal_settings": n_equal,
        "left_out": left_out(found.subjects),
        "origins": origin_table(found.subjects, found.styles),
        "machines": shared_origins(found.subjects),
        "commands": _commands(found.subjects, named, out, clips),
    }


def _shown(group: Group, found: Comparison) -> dict[str, Any]:
    """A group as the page shows it."""
    first = found.groups[0]
    return {
        "title": words.listing([held.subject.label for held in group.members]),
        "facts": _conditions(group),
        "why": "" if group is first else why_apart(group, first),
        "forest": forest(group.members, found.styles, group.standing),
        "parts": [(found.styles[h.subject.label], _parts(h)) for h in group.members],
        "notes": group_notes(group),
    }


def _conditions(group: Group) -> list[str]:
    """What the members of a group have in common."""
    codec = group.members[0].subject.codec
    held_out = next((e.likelihood for m in group.members if (e := m.subject.scored) and e.likelihood), None)
    facts = [
        f"codec {codec.name}, {codec.sample_rate:,} Hz" if codec else None,
        f"{group.basis.levels} level{'s' if group.basis.levels != 1 else ''} of “{group.basis.stream}”"
        if group.basis.levels
        else f"“{group.basis.stream}”",
        f"given {words.listing(group.basis.given)}" if group.basis.given else "nothing given",
        f"{held_out.n:,} held-out clips, {words.duration(held_out.seconds)}" if held_out else group.basis.data,
    ]
    return [fact for fact in facts if fact]


def _alone(group: Group, found: Comparison) -> dict[str, Any]:
    """A run that no other may be ranked against."""
    (held,) = group.members
    first = found.groups[0]
    spread = words.interval(held.total, words.bits)
    return {
        "look": found.styles[held.subject.label],
        "figure": f"{'≤ ' if held.is_most else ''}{words.bits(held.total.value)}",
        "range": spread,
        "facts": _conditions(group),
        "why": "" if group is first else why_apart(group, first),
        "parts": _parts(held),
    }


def _equal_terms(terms: Terms, styles: dict[str, Look]) -> dict[str, Any]:
    return {
        "looks": [styles[one.held.subject.label] for one in terms.traces],
        "charts": bits_charts(terms.traces, styles),
        "table": equal_table(terms.equals, styles) if terms.equals else None,
    }


def _parts(held: Held) -> str:
    """What the total is made of, where from, and at which step."""
    parts = [f"{name} {words.bits(m.value)}" for name, m in held.bits.items() if name != "total" and m.value >= 0.05]
    step = f"step {held.step:,}, " if held.step is not None else ""
    return f"{step}{held.source}: {' + '.join(parts)}"


def _unscored(found: Comparison) -> list[str]:
    scored = {held.subject.label for held in found.helds}
    return [subject.label for subject in found.subjects if subject.label not in scored]


def _on_the_same_speech(found: Comparison) -> tuple[list[Subject], list[Subject]]:
    """The runs whose losses are drawn together, and those that were scored on other speech than most."""
    speech = {held.subject.label: held.basis.data for held in found.helds}
    most, n = (Counter(speech.values()).most_common(1) or [("", 0)])[0]
    elsewhere = [s for s in found.subjects if n > 1 and speech.get(s.label, most) != most]
    return [subject for subject in found.subjects if subject not in elsewhere], elsewhere


def _loss_notes(drawn: list[Subject], elsewhere: list[Subject]) -> list[str]:
    notes = [
        "Nats per cell on held-out speech, or of training where that was not measured; each chart has its own scale."
    ]
    in_place = [s.label for s in drawn if s.objective != "next-token"]
    if in_place:
        notes.append(
            f"{words.listing(in_place)}: predicted in place, so a point is the mean over the hidden codes, with "
            "as many shown as the schedule draws; no likelihood, and not to be read against the others."
        )
    if elsewhere:
        notes.append(
            f"{words.listing([s.label for s in elsewhere])}: scored on other speech, so not drawn beside these."
        )
    return notes


def _drawing(subject: Subject, look: Look) -> dict[str, Any]:
    view = subject.view
    facts: list[str] = []
    if view:
        rate = steps_per_second(subject)
        facts = [
            f"{words.rate(rate)} steps per second of audio" if rate else "",
            f"{view.layout.n_rows} row{'s' if view.layout.n_rows > 1 else ''}",
            f"first frame: {say_first_frame(view.first_frame)}",
        ]
    how = [subject.objective, f"{subject.attention} attention", f"{subject.head} head"]
    how += [f"given {words.listing(subject.given)}"] if subject.given else []
    return {
        "look": look,
        "layout": subject.layout,
        "facts": [fact for fact in facts if fact],
        "how": ", ".join(how),
        "svg": Markup(draw_svg(view.plan, title=f"{subject.label}: {subject.layout}", columns=DRAWN_COLUMNS))
        if view
        else None,
    }


def _commands(subjects: list[Subject], named: list[str], out: Path, clips: int) -> list[str]:
    evaluate = [line for s in subjects if s.newest for line in _evaluate_again(s.run.folder.as_posix(), s.newest)]
    return [*evaluate, f"hocket compare {' '.join(named)} --out {out.as_posix()} --clips {clips}"]


def _evaluate_again(folder: str, found: Evaluation) -> list[str]:
    """A command for each suite by which some of the parts were measured."""
    suites = list(dict.fromkeys(found.suites.values())) or [found.suite]
    if len(suites) == 1:
        return [f"hocket evaluate {folder} --suite {suites[0]}"]
    parts = [",".join(part for part, suite in found.suites.items() if suite == one) for one in suites]
    return [f"hocket evaluate {folder} --suite {one} --only {of}" for one, of in zip(suites, parts, strict=True)]
