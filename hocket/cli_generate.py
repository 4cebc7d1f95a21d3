# ruff: noqa: PLC0415 (rooms are imported inside the commands, for a quick --help)
"""`hocket generate`: sound and text from a checkpoint, or from a pipeline of several."""

import dataclasses
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hocket.cli_common import Device, Json, examples, goes_on, report
from hocket.cli_sampling import (
    SAMPLING,
    Beams,
    BestOf,
    ChoiceTemperature,
    GuidanceScale,
    MinP,
    Passes,
    RepetitionRatio,
    RepetitionWindow,
    Rows,
    Span,
    Temperature,
    TopK,
    TopP,
    find_how,
    parse_rows,
)
from hocket.errors import InputError

if TYPE_CHECKING:
    from hocket.inference.files import Job, Maker
    from hocket.inference.rows import Row

EPILOG = examples(
    "hocket generate runs/demo --prompt hello.wav --seconds 4 --out more.wav",
    "hocket generate runs/tts --text 'Good morning.' --seed 3 --out morning.wav",
    "hocket generate runs/asr --prompt question.wav --beams 4 --out question.txt",
    "hocket generate runs/demo --batch prompts.jsonl --out made/ --batch-size 16",
    "hocket generate --pipeline runs/semantic,runs/soundstorm --prompt hello.wav --seconds 20",
    "hocket generate runs/tts --text 'Good morning.' --row 'audio[1:].temperature=0.7'",
)
FILES = "Files"


@goes_on
def generate(
    checkpoint: Annotated[
        Path | None, typer.Argument(help="A run, one of its checkpoints, or a model folder.", show_default=False)
    ] = None,
    pipeline: Annotated[
        str | None, typer.Option(help="Instead: checkpoints that go one after another, A,B,C, or a YAML file.")
    ] = None,
    prompt: Annotated[Path | None, typer.Option(help="Audio to continue, recognise, or convert.")] = None,
    prompt_seconds: Annotated[float | None, typer.Option(help="Use only so much of the prompt's start.")] = None,
    prompt_text: Annotated[str | None, typer.Option(help="What is said in the prompt (VALL-E).")] = None,
    text: Annotated[str | None, typer.Option(help="What to say, for models that read text.")] = None,
    task: Annotated[
        str | None, typer.Option(help="Where a model can do several: continuation, tts, recognition, s2s.")
    ] = None,
    streams: Annotated[
        list[str] | None, typer.Option("--stream", help="NAME=FILE.npy, codes of a further stream that is given.")
    ] = None,
    seconds: Annotated[
        float | None, typer.Option(help="Seconds to generate, at most; 5, or as much as the source has, unless given.")
    ] = None,
    min_seconds: Annotated[
        float | None, typer.Option(help="The model may not end its audio before so much, after the prompt.")
    ] = None,
    overlap: Annotated[
        float | None,
        typer.Option(help="Past the context: seconds that a window has of the one before; half of it unless given."),
    ] = None,
    out: Annotated[
        Path,
        typer.Option(help="The file to write (.wav, .txt); with --batch a folder.", rich_help_panel=FILES),
    ] = Path("generated.wav"),
    batch: Annotated[
        Path | None,
        typer.Option(help="Rows to make: JSON lines with id, prompt, text, seconds, seed, …", rich_help_panel=FILES),
    ] = None,
    batch_size: Annotated[int, typer.Option(help="Items made together.", min=1, rich_help_panel=FILES)] = 8,
    n: Annotated[
        int, typer.Option("-n", "--n", help="How many of each, with seeds seed, seed + 1, …", rich_help_panel=FILES)
    ] = 1,
    continuation_only: Annotated[
        bool, typer.Option("--continuation-only", help="Write the wav without the prompt.", rich_help_panel=FILES)
    ] = False,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="With --batch: make again what is there.", rich_help_panel=FILES)
    ] = False,
    seed: Annotated[int, typer.Option(help="The same seed gives the same file.", rich_help_panel=SAMPLING)] = 0,
    temperature: Temperature = 0.9,
    top_k: TopK = 0,
    top_p: TopP = 0.95,
    min_p: MinP = 0.0,
    repetition_window: RepetitionWindow = 0,
    repetition_ratio: RepetitionRatio = 0.1,
    rows: Rows = None,
    guidance: GuidanceScale = None,
    beams: Beams = 1,
    best_of: BestOf = 1,
    passes: Passes = None,
    choice_temperature: ChoiceTemperature = None,
    span: Span = None,
    dtype: Annotated[str, typer.Option(help="Of the weights: float32 or bfloat16.")] = "float32",
    device: Device = "cpu",
    as_json: Json = False,
) -> None:
    """Sample from a trained model: continue a prompt, speak a text, recognise a recording, or start from nothing.

    Writes sound, codes and settings side by side.
    """
    from hocket.inference.files import Job, copies_of
    from hocket.inference.rows import Row, read_rows
    from hocket.inference.sampling import Sampling

    sampling = Sampling(
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        min_p=min_p,
        repetition_window=repetition_window,
        repetition_ratio=repetition_ratio,
        rows=parse_rows(rows or []),
    )
    first = Row(
        name="",
        prompt=prompt,
        prompt_seconds=prompt_seconds,
        prompt_text=prompt_text,
        text=text,
        seconds=seconds,
        min_seconds=min_seconds,
        overlap=overlap,
        seed=seed,
        task=task,
        streams=_parse_streams(streams or []),
        sampling=sampling,
    )
    asked = list(read_rows(batch, first)) if batch else [_named(first, out)]
    wanted = [copy for row in asked for copy in (copies_of(row, n) if isinstance(row, Row) else [row])]
    maker = _open(checkpoint, pipeline, device, dtype)
    guided, masks = find_how(guidance, maker.in_place, passes, choice_temperature, span)
    job = Job(
        maker=maker,
        folder=out if batch else out.parent,
        include_prompt=not continuation_only,
        batch=batch_size,
        guidance=guided,
        masks=masks,
        beams=beams,
        best_of=best_of,
        names_rows=batch is not None,
    )
    _run(job, wanted, fresh=fresh or not batch, is_batch=batch is not None, as_json=as_json)


def _run(job: "Job", rows: "list[Row | InputError]", *, fresh: bool, is_batch: bool, as_json: bool) -> None:
    """Makes the rows and says what came of them; what could not be made ends the command with exit code 1."""
    from hocket.progress import ProgressBar

    with ProgressBar("generate") as bar:
        job.on_progress = lambda done, total, speed: bar.update(
            done, total, f"{speed:.2f} x real time" if speed else ""
        )
        summary = job.run(rows, fresh=fresh)
    if is_batch:
        job.write_rejected()
    elif job.rejected:
        raise InputError(job.rejected[0]["reason"])
    report(summary, as_json, "\n".join(_describe(summary)))
    for row in job.rejected:
        print(f"error: {row['reason']}", file=sys.stderr)
    if job.rejected:
        raise typer.Exit(1)


def _named(row: "Row", out: Path) -> "Row":
    """The row of the command line, named by the file that was asked for."""
    if out.suffix not in (".wav", ".txt"):
        raise InputError(f"sound is written as .wav and text as .txt; {out} has the ending {out.suffix!r}")
    return dataclasses.replace(row, name=out.stem)


def _open(checkpoint: Path | None, pipeline: str | None, device: str, dtype: str) -> "Maker":
    from hocket.inference.files import open_generator

    if (checkpoint is None) == (pipeline is None):
        raise InputError("say what to sample from: a CHECKPOINT, or --pipeline with several, and not both")
    if checkpoint is not None:
        return open_generator(checkpoint, device, dtype)
    from hocket.inference.pipeline import Pipeline

    assert pipeline is not None
    return Pipeline.open(pipeline, device=device, dtype=dtype)


def _parse_streams(streams: list[str]) -> dict[str, Path]:
    found = {}
    for stream in streams:
        name, equals, path = stream.partition("=")
        if not (name and equals and path):
            raise InputError(f"--stream {stream} is none: write NAME=FILE.npy, such as user=user.npy")
        found[name] = Path(path)
    return found


def _describe(summary: dict[str, Any]) -> list[str]:
    """A line for each item, and one for all."""
    lines = []
    for item in summary["outputs"]:
        parts = [f"{item['prompt_seconds']:.2f} s of prompt"] if item["prompt_seconds"] else []
        if item["wav"]:
            end = ", where the model ended it" if item["ended"] else ""
            parts.append(f"{item['generated_seconds']:.2f} s generated with seed {item['seed']}{end}")
        if item["text"] is not None and not item["wav"]:
            parts.append(f'"{item["text"]}"')
        lines.append(f"{item['wav'] or item['name']}: {', '.join(parts)}")
    if summary["kept"]:
        lines.append(f"{len(summary['kept'])} rows were there already")
    if summary["generated_seconds"]:
        lines.append(
            f"{summary['generated_seconds']:.2f} s of audio in {summary['wall_seconds']:.2f} s, "
            f"{summary['real_time_factor']:.2f} x real time"
        )
    return lines
