"""Prints layouts for people: each drawn, with its rates; several side by side.

In a terminal drawings are in colour, hue by stream and shade by level; elsewhere they are plain text.
"""

from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from hocket.evaluation.layout_facts import FirstFrame, LayoutView, StageView
from hocket.evaluation.rendering import print_rows
from hocket.interleave import draw_stages_svg, draw_svg, draw_text

NARROWEST = 60  # characters
SVG_COLUMNS = 26
COMPARED_CONTEXT = 2048


def print_layouts(views: Sequence[LayoutView], console: Console) -> None:
    """Each layout; then, of several stages or layouts, a table that compares them."""
    for view in views:
        console.print(f"[bold]{view.name}[/bold]  layout", highlight=False)
        shared = {"what it is": view.scheme.description or None, "when": view.scheme.when or None}
        shared |= {"codec": _clock(view)}
        if len(view.stages) > 1:
            print_rows(console, shared)
        for heading, stage in view.titled:
            if len(view.stages) > 1:
                console.print(f"\n[bold]{heading}[/bold]", highlight=False)
            print_rows(console, ({} if len(view.stages) > 1 else shared) | _costs(stage))
            _print_drawing(stage, console)
        console.print()
    stages = [item for view in views for item in view.titled]
    if len(stages) > 1:
        console.print(_comparison(stages))
        console.print()


def print_presets(facts: Sequence[dict[str, str]], console: Console) -> None:
    """A line for each preset."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for column in ("layout", "expression", "when to choose it"):
        table.add_column(column, overflow="fold")
    for row in facts:
        table.add_row(Text(row["name"], style="bold"), Text(row["layout"]), Text(row["when"]))
    console.print(table)


def draw_views(views: Sequence[LayoutView], columns: int = SVG_COLUMNS) -> str:
    """The drawings of all layouts and stages as one SVG."""
    stages = [(heading, stage.plan) for view in views for heading, stage in view.titled]
    if len(stages) == 1:
        return draw_svg(stages[0][1], title=stages[0][0], columns=columns)
    return draw_stages_svg(stages, ", ".join(view.name for view in views), columns=columns)


def say_first_frame(first: FirstFrame | None) -> str:
    """When the first frame is there, in a few words."""
    if first is None:
        return "depends on the spans"
    if first.steps is None:
        return "with the whole clip"
    seconds = "" if first.seconds is None else f", {say_seconds(first.seconds)}"
    after = f" after all of {' and '.join(first.after)}" if first.after else ""
    return f"{first.steps} step{'s' if first.steps > 1 else ''}{seconds}{after}"


def say_seconds(seconds: float) -> str:
    """Milliseconds below one second."""
    return f"{1000 * seconds:.0f} ms" if seconds < 1 else f"{seconds:.2f} s"


def _clock(view: LayoutView) -> str:
    rates = {name: rate for stage in view.stages for name, rate in stage.rates.items()}
    return f"{view.codec}: " + ", ".join(f"{name} at {float(rate):g} Hz" for name, rate in rates.items())


def _costs(view: StageView) -> dict[str, Any]:
    """What a stage costs, by label."""
    facts = view.facts
    held = ", ".join(f"{seconds:g} s in {n:,} steps" for n, seconds in facts["seconds_in_context"].items())
    return {
        "expression": facts["layout"],
        "rows": facts["rows"],
        "steps a second": f"{facts['steps_per_second']:g}",
        "tokens a second": f"{facts['tokens_per_second']:g}",
        "audio in a context": held or None,
        "first frame": say_first_frame(view.first_frame),
        "online": "yes" if facts["online"] else "no",
        "training": _training(facts),
        "given*": ", ".join(facts["given"]) or None,
    }


def _print_drawing(view: StageView, console: Console) -> None:
    """The example, in colour where the console has it."""
    colour = console.is_terminal and not console.no_color
    drawing = draw_text(view.plan, width=max(console.width - 1, NARROWEST), colour=colour)
    console.print()
    console.print(Text.from_ansi(drawing) if colour else Text(drawing), no_wrap=True, crop=False, overflow="ignore")


def _training(facts: dict[str, Any]) -> str:
    return f"{facts['objective']}, {facts['attention']} attention, {facts['head']} head"


def _comparison(stages: Sequence[tuple[str, StageView]]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("layout", overflow="fold")
    for column in ("rows", "steps/s", "tokens/s", f"s in {COMPARED_CONTEXT:,}"):
        table.add_column(column, justify="right")
    table.add_column("first frame")
    table.add_column("online")
    table.add_column("legal sets", justify="right")
    for heading, view in stages:
        facts = view.facts
        seconds = facts["seconds_in_context"].get(COMPARED_CONTEXT)
        table.add_row(
            Text(heading),
            str(facts["rows"]),
            f"{facts['steps_per_second']:g}",
            f"{facts['tokens_per_second']:g}",
            "–" if seconds is None else f"{seconds:g}",
            say_first_frame(view.first_frame),
            "yes" if facts["online"] else "no",
            str(facts["legal_sets"]),
        )
    return table
