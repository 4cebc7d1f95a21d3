"""What a comparison could not show, and why, a sentence each."""

from collections.abc import Sequence

from hocket.evaluation.comparison import words
from hocket.evaluation.comparison.axes import AXES, DERIVED, track
from hocket.evaluation.comparison.groups import hold
from hocket.evaluation.comparison.subject import Subject


def axis_notes(subjects: Sequence[Subject]) -> list[str]:
    """Runs whose work or audio had to be summed up from speeds, or is not known."""
    notes = []
    for axis in AXES[1:]:
        tracks = {subject.label: track(subject.run, axis) for subject in subjects}
        derived = [label for label, one in tracks.items() if one and one.source == DERIVED]
        unknown = [label for label, one in tracks.items() if one is None]
        if derived:
            whose = "All runs" if len(derived) == len(subjects) else words.listing(derived)
            notes.append(f"{whose}: {axis.title} is summed up from logged speeds, as no cumulative column was logged.")
        if unknown:
            notes.append(f"{words.listing(unknown)}: {axis.title} is not known from the metrics.")
    return notes


def left_out(subjects: Sequence[Subject]) -> list[tuple[str, list[str]]]:
    """By run, what was not measured and why."""
    return [(subject.label, found) for subject in subjects if (found := _of(subject))]


def _of(subject: Subject) -> list[str]:
    said = list(subject.newest.left_out) if subject.newest else []
    where = subject.run.folder.as_posix()
    if subject.newest is None:
        said.append(
            f"Not evaluated, so no intervals, tasks, sounds or speed of generation: `hocket evaluate {where}` does it."
        )
    elif subject.run.step is not None and (subject.newest.step or 0) < subject.run.step:
        said.append(
            f"Evaluated at step {subject.newest.step or 0:,}, not at the newest checkpoint's, {subject.run.step:,}."
        )
    if hold(subject) is None:
        said.append("No bits per second of audio: neither evaluation, nor scores.json, nor exact bits in the metrics.")
    if not subject.run.valid and not subject.run.train:
        said.append("No metrics.jsonl, so no curves.")
    if subject.view is None:
        said.append("No drawing: without a checkpoint or an evaluation the layout's levels are not known.")
    return said
