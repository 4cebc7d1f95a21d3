"""Prints what `inspect` found for people: tables and bars on a console. Layouts have `layout_tables`."""

import math
from collections.abc import Callable
from itertools import groupby
from typing import Any

from rich.console import Console
from rich.table import Table

from hocket.evaluation.scores import Scores
from hocket.progress import format_seconds

BAR_WIDTH = 30
Facts = dict[str, Any]


def print_facts(facts: Facts, console: Console) -> None:
    """Print one thing."""
    console.print(f"[bold]{facts['name']}[/bold]  {facts['kind']}", highlight=False, markup=True)
    PRINTERS[facts["kind"]](facts, console)
    console.print()


def print_rows(console: Console, rows: dict[str, Any]) -> None:
    """A table of labels and values; what is None is left out."""
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(style="dim")
    table.add_column(overflow="fold")
    for label, value in rows.items():
        if value is not None:
            table.add_row(label, str(value).replace("[", r"\["))
    console.print(table, highlight=False)


def _codec_line(codec: Facts) -> str:
    return (
        f"{codec['codec']}, {codec['sample_rate']:,} Hz, {codec['levels']} levels at {codec['frame_rate']:g} Hz, "
        f"{codec['bits_per_second']:,.0f} bit/s, fingerprint {codec['fingerprint']}"
    )


def _runs(sizes: list[int]) -> list[str]:
    """Sizes of codebooks, equal neighbours counted: "8 x 1,024"."""
    groups = [(size, len(list(group))) for size, group in groupby(sizes)]
    return [f"{count} x {size:,}" if count > 1 else f"{size:,}" for size, count in groups]


def _codec(facts: Facts, console: Console) -> None:
    print_rows(
        console,
        {
            "codec": _codec_line(facts),
            "codebooks": ", ".join(_runs(facts["codebook_sizes"])),
            "hop": f"{facts['hop']} samples, {1000 * facts['hop'] / facts['sample_rate']:g} ms",
            "look-ahead": f"{facts['delay']} samples",
            "weights": facts["weight_hash"],
        },
    )


def _corpus(facts: Facts, console: Console) -> None:
    splits = facts["splits"].items()
    shares = ", ".join(f"{split['n_examples']:,} {name} ({_hours(split['seconds'])})" for name, split in splits)
    languages = ", ".join(f"{count:,} {name}" for name, count in facts["languages"].items())
    print_rows(
        console,
        {
            "source": facts["source"],
            "audio": _hours(3600 * facts["hours"]) if facts["streams"] else None,
            "examples": shares,
            "with text": f"{facts['texts']:,}, {facts['letters']:,} letters" if facts["texts"] else None,
            "with word times": f"{facts['aligned']:,}, {facts['words']:,} words" if facts["words"] else None,
            "languages": languages or None,
            "rejected": f"{facts['rejected']:,}" if facts["rejected"] else None,
            "settings": _settings(facts["settings"]),
            "fingerprint": facts["fingerprint"],
        },
    )
    for name, stream in facts["streams"].items():
        _stream(name, stream, console)
    if facts["streams"]:
        console.print("\nDurations")
        _histogram(facts["duration_edges"], facts["duration_counts"], console)
    _reasons(facts["reasons"], console)
    if "durations" in facts:
        console.print(f"\ndurations drawn in {facts['durations']}", markup=False, highlight=False)
    if "sample" in facts:
        sample = facts["sample"]
        said = f': "{sample["text"]}"' if sample["text"] else ""
        heard = (
            f'{sample["wav"]}: row "{sample["id"]}", {sample["seconds"]:.2f} s of the stream {sample["stream"]}{said}'
        )
        console.print(f"\n{heard}", markup=False, highlight=False)


def _stream(name: str, stream: Facts, console: Console) -> None:
    console.print()
    rows = {f"stream {name}": _codec_line(stream["codec"]), "": f"{stream['n_frames']:,} frames"}
    print_rows(console, rows)
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for column in ("level", "entries", "used", "entropy, bits", "of"):
        table.add_column(column, justify="right")
    for number, level in enumerate(stream["levels"]):
        most = f"{math.log2(level['size']):.2f}"
        table.add_row(str(number), f"{level['size']:,}", f"{level['used']:,}", f"{level['entropy_bits']:.2f}", most)
    console.print(table)


def _reasons(reasons: list[Facts], console: Console) -> None:
    """What was rejected why, each kind with its first row."""
    if not reasons:
        return
    console.print("\nRejected")
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(justify="right")
    table.add_column(overflow="fold")
    for entry in reasons:
        first = f"{entry['example']}: " if entry["example"] else ""
        table.add_row(f"{entry['count']:,}", f"{first}{entry['reason']}".replace("[", r"\["))
    console.print(table, highlight=False)


def _settings(settings: Facts) -> str | None:
    """Settings on one line, groups spelt out, without what is not set."""
    flat: Facts = {}
    for name, value in settings.items():
        flat |= {f"{name}.{key}": inner for key, inner in value.items()} if isinstance(value, dict) else {name: value}
    chosen = [f"{name}={value}" for name, value in flat.items() if value not in (None, False, [])]
    return ", ".join(chosen) or None


def _hours(seconds: float) -> str:
    return f"{seconds / 3600:,.2f} h" if seconds >= 3600 else f"{seconds / 60:.1f} min"


def _histogram(edges: list[float], counts: list[int], console: Console) -> None:
    top = max([*counts, 1])
    ends = [f"to {edge:g} s" for edge in edges[1:]] + ["longer"]
    for start, end, count in zip(edges, ends, counts, strict=True):
        if count:
            bar = "█" * max(1, round(BAR_WIDTH * count / top))
            console.print(f"{start:>4g} {end:<9}{bar} {count:,}", highlight=False)


def _model(facts: Facts, console: Console) -> None:
    shape = facts["config"]
    print_rows(
        console,
        {
            "parameters": f"{facts['parameters']:,}",
            "shape": f"{shape['n_layers']} layers, width {shape['dim']}, {shape['n_heads']} heads",
            "layout": facts["layout"],
            "context": f"{shape['context']:,} steps, {facts['context_seconds']:.1f} s of audio",
            "codec": _codec_line(facts["codec"]),
            "ids": ", ".join(f"{name} {start}…{stop - 1}" for name, (start, stop) in facts["vocabulary"].items()),
            "fingerprint": facts["vocabulary_fingerprint"],
        },
    )


def _run(facts: Facts, console: Console) -> None:
    metrics, scores = facts["metrics"], facts["scores"]
    loss = [f"{key} {metrics[key]:.3f}" for key in ("loss", "valid/loss") if key in metrics]
    held_out = {key.removeprefix("valid/"): value for key, value in metrics.items() if key.startswith("valid/")}
    levels = [f"{block} {value:.2f}" for block, value in held_out.items() if block != "loss"]
    print_rows(
        console,
        {
            "checkpoint": "none yet" if facts["step"] is None else f"step {facts['step']:,} of {facts['steps']:,}",
            "last metrics": ", ".join(loss) or None,
            "held-out by level": ", ".join(levels) or None,
            "held-out bits": f"{Scores.from_dict(scores).bits.say_total(1)} per second of audio" if scores else None,
            "training time": format_seconds(metrics["wall"]) if "wall" in metrics else None,
            "engine": facts["engine"],
        },
    )
    if facts["model"]:
        _model(facts["model"], console)


def _audio(facts: Facts, console: Console) -> None:
    print_rows(
        console,
        {
            "duration": f"{facts['duration']:.3f} s",
            "sample rate": f"{facts['sample_rate']:,} Hz",
            "channels": facts["channels"],
            "as codes": f"{facts['codec_frames']:,} frames, {facts['codec_tokens']:,} tokens ({facts['codec']} codec)",
        },
    )


PRINTERS: dict[str, Callable[[Facts, Console], None]] = {
    "codec": _codec,
    "corpus": _corpus,
    "run": _run,
    "model": _model,
    "audio": _audio,
}
