"""Prints an evaluation for people: the likelihood, what was heard, paired tasks, speed, and what is left out."""

from collections.abc import Callable, Sequence
from itertools import groupby
from pathlib import Path

from rich.console import Console
from rich.table import Table

from hocket.evaluation.rendering import print_rows
from hocket.evaluation.results import Evaluation, Heard, Likelihood, Measure, Task

METRICS = {
    "wer": ("word errors, %", 1),
    "wer_mean": ("word errors, %, mean", 1),
    "cer": ("character errors, %", 1),
    "cer_mean": ("character errors, %, mean", 1),
    "perplexity": ("perplexity of what is heard", 0),
    "perplexity_mean": ("perplexity, mean", 0),
    "auto_bleu": ("auto-BLEU, %", 1),
    "self_bleu": ("self-BLEU, %", 1),
    "vert": ("VERT, %", 1),
    "silent": ("nothing heard, %", 0),
    "dnsmos": ("DNSMOS", 2),
    "utmos": ("UTMOS", 2),
    "similarity": ("similarity to the prompt", 3),
    "similarity_original": ("similarity to the original", 3),
    "similarity_wavlm": ("similarity to the prompt, WavLM", 3),
    "similarity_wavlm_original": ("similarity to the original, WavLM", 3),
    "seconds": ("seconds", 1),
    "ended": ("ended by itself, %", 0),
}
"""Names for people, and digits."""
SPEEDS: dict[str, tuple[str, Callable[[float], str]]] = {
    "generation_audio_seconds_per_second": ("generation", lambda value: f"{value:,.2f} s of audio a second"),
    "generation_steps_per_second": ("steps", lambda value: f"{value:,.0f} a second"),
    "first_audio_ms": ("first sound", lambda value: f"after {value:,.0f} ms"),
    "memory_gib": ("memory", lambda value: f"{value:,.2f} GiB at most"),
    "scoring_tokens_per_second": ("scoring", lambda value: f"{value:,.0f} tokens a second"),
}
BATCH = "_batch_"


def print_evaluation(evaluation: Evaluation, folder: Path, console: Console) -> None:
    """All that is known about one checkpoint, and where it is written."""
    step = f", step {evaluation.step:,}" if evaluation.step is not None else ""
    console.print(f"[bold]{_plain(evaluation.name)}[/bold]{step}  {_plain(evaluation.layout)}", highlight=False)
    print_rows(console, _facts(evaluation, folder))
    if evaluation.likelihood:
        _print_likelihood(evaluation.likelihood, console)
    if evaluation.heard:
        _print_heard(evaluation.heard, len(evaluation.clips), console)
    if evaluation.tasks:
        _print_tasks(evaluation.tasks, console)
    if evaluation.speed:
        console.print("\n[bold]Speed[/bold]")
        print_rows(console, _speeds(evaluation.speed))
    if evaluation.left_out:
        console.print("\n[bold]Left out[/bold]")
        table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 1, 0, 0))
        for sentence in evaluation.left_out:
            table.add_row("-", _plain(sentence))
        console.print(table, highlight=False)


def _facts(evaluation: Evaluation, folder: Path) -> dict[str, str | None]:
    codec = evaluation.codec
    rate = codec["sample_rate"] / codec["hop"]
    given = f", given {', '.join(evaluation.given)}" if evaluation.given else ""
    return {
        "model": f"{evaluation.n_parameters / 1e6:.2f} million parameters, {evaluation.objective}{given}",
        "codec": f"{codec['name']}, {evaluation.levels} levels at {rate:g} Hz",
        "context": f"{evaluation.context_seconds:.1f} s of audio",
        "hardware": evaluation.hardware,
        "written to": str(folder),
    }


def _print_likelihood(found: Likelihood, console: Console) -> None:
    kind = "exact" if found.draws is None else f"an upper bound, from {found.draws} masks of each level"
    place = f"{found.n:,} clips of {_plain(found.corpus)}, {found.split}, {found.seconds:,.0f} s; {kind}"
    console.print(f"\n[bold]Likelihood[/bold]  {place}", highlight=False)
    most = "at most " if found.draws is not None else ""
    bits = {name: f"{most if name == 'total' else ''}{say(one, 1)}" for name, one in found.bits.items()}
    rows = {f"{name}, bits per second": text for name, text in bits.items()}
    if found.bound and found.bound.half is not None:
        rows["of that, by the masks alone"] = f"± {found.bound.half:,.1f}"
    print_rows(console, rows)
    table = _table("block", "nats per token", "tokens")
    for name, level in found.levels.items():
        table.add_row(name, f"{level.mean:.3f}" if level.tokens else "", f"{level.tokens:,}")
    console.print(table)
    means = {"sum": "of an example", "mean": "per token", "frame": "per frame"}
    nats = [f"{say(one, 3 if name != 'sum' else 0)} {means[name]}" for name, one in found.normalised.items()]
    print_rows(console, {"nats, mean over examples": "; ".join(nats)})


def _print_heard(heard: Sequence[Heard], n_clips: int, console: Console) -> None:
    """A table for each protocol: metrics down, kinds of sound across."""
    console.print(f"\n[bold]Generation[/bold]  {n_clips} clips to listen to", highlight=False)
    for protocol, lines in groupby(heard, key=lambda one: one.protocol):
        kinds = list(lines)
        table = _table(protocol, *(f"{one.kind} ({one.n})" for one in kinds))
        for name in dict.fromkeys(name for one in kinds for name in one.metrics):
            label, digits = METRICS.get(name, (name.replace("_", " "), 2))
            table.add_row(label, *(say(one.metrics.get(name), digits) for one in kinds))
        console.print(table)


def _print_tasks(tasks: Sequence[Task], console: Console) -> None:
    console.print("\n[bold]Paired tasks[/bold]  how often the true one is the likelier one")
    table = _table("task", "metric", "%", "pairs", "by", left=2)
    for task in tasks:
        for number, (name, one) in enumerate(task.metrics.items()):
            share = say(Measure(value=100 * one.value, low=_percent(one.low), high=_percent(one.high), n=one.n), 1)
            table.add_row("" if number else task.name, name, share, f"{one.n:,}", task.normalisation)
    console.print(table)


def _percent(value: float | None) -> float | None:
    return None if value is None else 100 * value


def _speeds(speed: dict[str, float]) -> dict[str, str]:
    rows = {}
    for name, value in speed.items():
        plain, _, batch = name.partition(BATCH)
        if plain in SPEEDS:
            label, text = SPEEDS[plain]
            rows[f"{label}, {batch} together" if batch else label] = text(value)
    if "first sound" in rows and not speed.get("first_audio_streams"):
        rows["first sound"] += ", with all the rest"
    return rows


def _table(*columns: str, left: int = 1) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for number, column in enumerate(columns):
        table.add_column(column, justify="left" if number < left else "right")
    return table


def say(one: Measure | None, digits: int) -> str:
    """A number and half of its interval: "12.3 ± 0.4"; nothing for none."""
    if one is None:
        return ""
    half = f" ± {one.half:,.{digits}f}" if one.half is not None else ""
    return f"{one.value:,.{digits}f}{half}"


def _plain(text: str) -> str:
    return text.replace("[", r"\[")
