# ruff: noqa: PLC0415 (rooms are imported inside the commands, for a quick --help)
"""The `hocket` command. Each command calls one function of a room and prints what it returns; no logic lives here.

Rooms are imported inside the commands, so that `hocket --help` answers in a fraction of a second. An `InputError` ends
as one line on stderr and exit code 1. With `--json` a command prints one JSON object on stdout and all else on stderr.
"""

import dataclasses
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from hocket.cli_codec import codec_app, codecs
from hocket.cli_common import Json, examples, is_first_process, report
from hocket.cli_compare import COMPARE_EPILOG, compare
from hocket.cli_data import ALIGN_EPILOG, IMPORT_EPILOG, TOKENIZE_EPILOG, align, import_codes, tokenize
from hocket.cli_evaluate import EPILOG as EVALUATE_EPILOG
from hocket.cli_evaluate import evaluate
from hocket.cli_generate import EPILOG as GENERATE_EPILOG
from hocket.cli_generate import generate
from hocket.cli_model import EXPORT_EPILOG, IMPORT_MODEL_EPILOG, export, import_model
from hocket.errors import InputError
from hocket.resources import list_recipes

app = typer.Typer(
    help="Language models over audio codec tokens: any frozen codec in, any interleaving, one decoder.",
    epilog="Start with [bold]hocket demo[/bold]: some minutes, no network, and a page to listen to.",
    rich_markup_mode="rich",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

app.command(epilog=examples("hocket codecs", "hocket codecs mimi --levels 8", "hocket codecs path/to/codec --json"))(
    codecs
)
app.add_typer(codec_app, name="codec")
app.command(epilog=TOKENIZE_EPILOG)(tokenize)
app.command(epilog=ALIGN_EPILOG)(align)
app.command("import-codes", epilog=IMPORT_EPILOG)(import_codes)
app.command(epilog=GENERATE_EPILOG)(generate)
app.command(epilog=EVALUATE_EPILOG)(evaluate)
app.command(epilog=COMPARE_EPILOG)(compare)
app.command(epilog=EXPORT_EPILOG)(export)
app.command("import-model", epilog=IMPORT_MODEL_EPILOG)(import_model)


def main() -> None:
    """Entry point of the console script."""
    # Before torch is imported: threads that wait without spinning, or a busy machine halves the speed of training.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    arguments = [argument for argument in sys.argv[1:] if not argument.startswith("--local_rank=")]
    try:
        app(arguments)  # without what the deepspeed launcher adds; LOCAL_RANK says it too
    except InputError as error:
        if is_first_process():
            print(f"error: {error}", file=sys.stderr)
        sys.exit(1)


@app.command(
    epilog=examples(
        "hocket inspect corpus/",
        "hocket inspect corpus/ --svg durations.svg --wav sample.wav",
        "hocket inspect runs/demo --json",
        "hocket inspect",
        "hocket inspect moshi --codec mimi --levels 8 --svg moshi.svg",
        "hocket inspect delay flatten 'Delay(audio, [0, 1, ...])' --codec encodec-32khz",
        "hocket inspect soundstorm --frame-rates semantic=25,audio=50",
    )
)
def inspect(
    things: Annotated[
        list[str] | None, typer.Argument(help="Corpora, runs, checkpoints, codecs, layouts, audio files.")
    ] = None,
    codec: Annotated[
        str | None,
        typer.Option(help="Of layouts: whose levels and frame rate count (bundled). With --wav: what decodes (found)."),
    ] = None,
    levels: Annotated[int | None, typer.Option(help="Of layouts: codebook levels, from level 0 up.")] = None,
    frame_rate: Annotated[str | None, typer.Option(help="Of layouts: Hz of all streams of codes.")] = None,
    frame_rates: Annotated[str | None, typer.Option(help="Of layouts: Hz by stream, semantic=25,audio=50.")] = None,
    frames: Annotated[int | None, typer.Option(help="Of layouts: how many frames to draw.", min=1)] = None,
    svg: Annotated[
        Path | None, typer.Option(help="A file for the drawing of layouts, or of a corpus' durations (also .png).")
    ] = None,
    wav: Annotated[Path | None, typer.Option(help="Of a corpus: a file for a row that is decoded.")] = None,
    row: Annotated[str | None, typer.Option(help="With --wav: the row's id; the first of train unless given.")] = None,
    as_json: Json = False,
) -> None:
    """Say what a thing is: a layout (several are compared; none lists the presets), a corpus, a run, a checkpoint, a
    codec, an audio file."""
    from rich.console import Console

    from hocket.evaluation.clock import read_clock
    from hocket.evaluation.corpus_facts import Sample
    from hocket.evaluation.inspect import inspect_all

    if row and not wav:
        raise InputError("--row says which row is decoded: say by --wav into which file")
    sample = Sample(wav=wav, row=row, codec=codec) if wav else None
    clock = read_clock(None if sample else codec, levels, frame_rate, frame_rates)
    console = None if as_json else Console()
    facts = inspect_all(things or [], console, clock=clock, frames=frames, svg=svg, sample=sample)
    if as_json:
        report(facts, as_json, "")


def _train_epilog() -> str:
    recipes = "\n\n".join(f"[bold]{name}[/bold]: {meaning}" for name, meaning in list_recipes().items())
    commands = examples(
        "hocket train demo interleave=flatten model.dim=128 training.steps=200",
        "hocket train mimi-350m --dry-run",
        "hocket train my_recipe.yaml --fresh",
        "hocket train demo -m interleave=delay,parallel,flatten",
        "hocket train compare-layouts -m data.corpus=corpus",
        "accelerate launch --use_deepspeed --num_processes 2 -m hocket train small data.corpus=corpus",
    )
    return f"[bold]Recipes[/bold]\n\n{recipes}\n\n{commands}"


@app.command(epilog=_train_epilog())
def train(
    recipe: Annotated[str, typer.Argument(help="A recipe's name, or the path of a YAML file.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(help="group=choice and group.key=value.", metavar="KEY=VALUE")
    ] = None,
    multirun: Annotated[
        bool,
        typer.Option(
            "-m",
            "--multirun",
            help="Train a run for each combination of the values given, or those that the recipe names; compare them.",
        ),
    ] = False,
    fresh: Annotated[bool, typer.Option("--fresh", help="Start over instead of going on with the run.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Train nothing: say what it takes in memory, time and disk.")
    ] = False,
    mfu: Annotated[
        float, typer.Option(help="With --dry-run: share of the peak that training is taken to reach.")
    ] = 0.4,
    as_json: Json = False,
) -> None:
    """Train a recipe. A run that is there already goes on; SIGTERM or Ctrl-C saves first and exits with 143 or 130."""
    from hocket.evaluation.comparison import compare_runs
    from hocket.evaluation.report import build_report
    from hocket.training import plan_runs, run_recipe, run_sweep

    given = overrides or []
    if dry_run:
        plans = plan_runs(recipe, given, mfu, multirun)
        facts = [plan.to_dict() for plan in plans]
        return report({"runs": facts} if multirun else facts[0], as_json, "\n\n".join(map(str, plans)))
    results = run_sweep(recipe, given, fresh) if multirun else [run_recipe(recipe, given, fresh)]
    pages = [build_report(result.folder) for result in results if is_first_process() and not result.signal]
    facts = [dataclasses.asdict(result) for result in results]
    lines = [*(result.summary for result in results), *(f"report: {page}" for page in pages)]
    ended_by = max(result.signal for result in results)
    found: dict[str, Any] = {"runs": facts} if multirun else facts[0]
    if multirun and not ended_by:
        written = compare_runs([result.folder for result in results], results[0].folder.parent)
        lines += [*written.lead, f"comparison: {written.page}"]
        found["comparison"] = str(written.page)
    report(found, as_json, "\n".join(lines))
    if ended_by:
        raise typer.Exit(128 + ended_by)


@app.command(epilog=examples("hocket demo", "hocket demo --out runs/again --fresh"))
def demo(
    out: Annotated[Path, typer.Option(help="The run folder.")] = Path("runs/demo"),
    fresh: Annotated[bool, typer.Option("--fresh", help="Start over instead of going on.")] = False,
) -> None:
    """Train a small model on the bundled speech, continue a held-out prompt, and write a page to listen to."""
    from hocket.demo import run_demo

    result = run_demo(out, fresh)
    if result.signal:
        raise typer.Exit(128 + result.signal)
