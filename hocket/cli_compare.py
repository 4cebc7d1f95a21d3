# ruff: noqa: PLC0415 (rooms are imported inside the commands, for a quick --help)
"""`hocket compare`: runs side by side, ranked where they may be, as a page and as tables."""

from pathlib import Path
from typing import Annotated

import typer

from hocket.cli_common import Json, examples, report

COMPARE_EPILOG = examples(
    "hocket compare runs/delay runs/flatten runs/parallel",
    "hocket compare runs/sweep --out compare --clips 4",
    "hocket compare runs/delay runs/flatten --json",
)


def compare(
    runs: Annotated[list[Path], typer.Argument(help="Run folders, or folders of runs.", metavar="RUN…")],
    out: Annotated[Path, typer.Option(help="A folder for compare.html, comparison.csv and summary.csv.")] = Path(
        "compare"
    ),
    clips: Annotated[int, typer.Option(min=0, help="Clips to listen to, of each protocol at most.")] = 6,
    as_json: Json = False,
) -> None:
    """Say which interleaving is better, and by how much: one page with curves, metrics and players, and all as CSV."""
    from hocket.evaluation.comparison import compare_runs

    written = compare_runs(runs, out, clips)
    report(written.to_dict(), as_json, "\n".join([*written.lead, f"page: {written.page}"]))
