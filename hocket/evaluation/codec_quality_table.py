"""The tables of `hocket codec evaluate`, as text that is also Markdown."""

from collections.abc import Iterator
from typing import Any

from rich.box import MARKDOWN
from rich.console import Console
from rich.table import Table

TITLES = {
    "mel": ("mel", 3),
    "stoi": ("STOI", 3),
    "pesq_wb": ("PESQ-WB", 2),
    "visqol": ("ViSQOL", 2),
    "dnsmos": ("DNSMOS", 2),
    "wer": ("WER %", 1),
    "similarity": ("speaker", 3),
}
"""Column: its title and decimals."""
SHOWN_LEVELS = 8
WIDTH = 140


def print_quality(result: dict[str, Any], console: Console) -> None:
    """The scores, what each codec's codebooks are used for, speeds, and what the numbers do not cover."""
    wide = Console(file=console.file, width=max(console.width, WIDTH))
    columns = [name for name in TITLES if any(name in row["scores"] for row in result["rows"])]
    wide.print(_score_table(result["rows"], columns), highlight=False)
    for sentence in (*_speeds(result), *_uncovered(result["rows"], columns), *result["left_out"]):
        wide.print(sentence, highlight=False, markup=False, soft_wrap=True)


def _score_table(rows: list[dict[str, Any]], columns: list[str]) -> Table:
    table = _table("set", "codec", "levels", "kbit/s", "clips", *(TITLES[name][0] for name in columns))
    for row in rows:
        table.add_row(
            _place(row),
            row["codec"] or "original",
            str(row["levels"] or ""),
            f"{row['kbit_per_second']:.3g}" if row["kbit_per_second"] else "",
            str(row["clips"]),
            *(_number(row["scores"].get(name), TITLES[name][1]) for name in columns),
        )
    return table


def _table(*titles: str) -> Table:
    table = Table(box=MARKDOWN)
    for title in titles:
        table.add_column(title, justify="left" if title in ("set", "codec") else "right", no_wrap=True)
    return table


def _place(row: dict[str, Any]) -> str:
    return row["set"] or row["group"] or "all"


def _number(value: float | None, decimals: int) -> str:
    return "" if value is None else f"{value:.{decimals}f}"


def _speeds(result: dict[str, Any]) -> Iterator[str]:
    yield f"{result['recordings']} recordings, {result['audio_seconds']:g} s, on one thread"
    for name, facts in result["codecs"].items():
        decode = facts["decode_times_real_time"]
        speeds = f"encodes at {facts['encode_times_real_time']:g} times real time"
        speeds += f", decodes at {decode:g} times" if decode else ", has no decoder"
        lag = f", {facts['lag_ms']:.1f} ms late (made up for)" if facts["lag_ms"] else ""
        used, varied = facts["entries_used"], facts["perplexity"]
        more = ", …" if len(used) > SHOWN_LEVELS else ""
        yield f"{name}: {speeds}{lag}; by level over {facts['frames']} frames:"
        yield f"  entries used {', '.join(f'{100 * share:.0f} %' for share in used[:SHOWN_LEVELS])}{more}"
        yield f"  perplexity {', '.join(f'{value:.0f}' for value in varied[:SHOWN_LEVELS])}{more}"


def _uncovered(rows: list[dict[str, Any]], columns: list[str]) -> Iterator[str]:
    for row in rows:
        fewer = [name for name in columns if row["covers"].get(name, 0) < row["clips"] and name in row["covers"]]
        if fewer:
            covered = ", ".join(f"{TITLES[name][0]} {row['covers'][name]}" for name in fewer)
            who = f"{row['codec']} at {row['levels']} levels" if row["codec"] else "original"
            yield f"{_place(row)}, {who}: of {row['clips']} clips are judged by {covered}"
