# ruff: noqa: PLC0415 (rooms are imported inside the command, for a quick --help)
"""`hocket evaluate`: what a checkpoint can do, in numbers and to listen to."""

import dataclasses
from pathlib import Path
from typing import Annotated, Any

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

EPILOG = examples(
    "hocket evaluate runs/demo",
    "hocket evaluate runs/demo --suite full --whisper models/whisper-base --lm models/smollm",
    "hocket evaluate runs/demo --all-steps",
    "hocket evaluate runs/tts --only likelihood,speed --corpus corpus --split test --json",
    "hocket evaluate models/csm --audio recordings/manifest.jsonl --out csm-evaluation",
    "hocket evaluate runs/units --only tasks --tasks zerospeech --clips 500",
)
DATA, JUDGES, TASKS = "What is scored and heard", "Judges", "Paired tasks"


def _task(name: str) -> Any:
    return typer.Option(help=f"The folder of {name}.", rich_help_panel=TASKS)


@goes_on
def evaluate(
    checkpoint: Annotated[Path, typer.Argument(help="A run, one of its checkpoints, or a model folder.")],
    suite: Annotated[str, typer.Option(help="quick (minutes) or full (all held-out clips).")] = "quick",
    only: Annotated[
        str | None, typer.Option(help="Parts of it, such as likelihood,speed: likelihood, speed, generation, tasks.")
    ] = None,
    step: Annotated[int | None, typer.Option(help="Of a run, another checkpoint than the newest.")] = None,
    all_steps: Annotated[
        bool, typer.Option("--all-steps", help="The likelihood of every checkpoint that the run keeps.")
    ] = False,
    out: Annotated[
        Path | None, typer.Option(help="The folder to write; RUN/evaluation/STEP unless given.", show_default=False)
    ] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Measure again what is known.")] = False,
    corpus: Annotated[
        str | None, typer.Option(help="A tokenised corpus; the run's own unless given.", rich_help_panel=DATA)
    ] = None,
    split: Annotated[str, typer.Option(help="Of the corpus: valid, test or train.", rich_help_panel=DATA)] = "valid",
    audio: Annotated[
        str | None, typer.Option(help="Instead: a folder or manifest of recordings.", rich_help_panel=DATA)
    ] = None,
    codecs: Annotated[
        list[str] | None,
        typer.Option("--codec", help="NAME=FOLDER, the codec of a stream of units, for --audio.", rich_help_panel=DATA),
    ] = None,
    clips: Annotated[
        int | None, typer.Option(help="At most so many clips, and pairs of a task.", min=1, rich_help_panel=DATA)
    ] = None,
    prompt_seconds: Annotated[
        float, typer.Option(help="What is given of a clip that is continued.", rich_help_panel=DATA)
    ] = 3.0,
    longest: Annotated[
        float, typer.Option(help="Seconds of the longest clips that are continued.", rich_help_panel=DATA)
    ] = 10.0,
    n: Annotated[
        int, typer.Option("-n", "--n", "--samples", help="What is sampled of each clip.", min=1, rich_help_panel=DATA)
    ] = 1,
    texts: Annotated[
        Path | None, typer.Option(help="Texts to speak, as a meta.lst of Seed-TTS-eval.", rich_help_panel=DATA)
    ] = None,
    template: Annotated[
        str,
        typer.Option(help="How the model's texts are written, such as '{speaker}: {text}'.", rich_help_panel=DATA),
    ] = "{text}",
    whisper: Annotated[
        Path | None, typer.Option(help="A folder of Whisper for faster-whisper.", rich_help_panel=JUDGES)
    ] = None,
    asr: Annotated[
        Path | None, typer.Option(help="Instead: a recogniser of transformers.", rich_help_panel=JUDGES)
    ] = None,
    speaker_model: Annotated[
        Path | None, typer.Option(help="A folder of WavLM with speaker embeddings.", rich_help_panel=JUDGES)
    ] = None,
    utmos: Annotated[Path | None, typer.Option(help="UTMOS as a TorchScript file.", rich_help_panel=JUDGES)] = None,
    lm: Annotated[
        Path | None, typer.Option(help="A language model for generative perplexity.", rich_help_panel=JUDGES)
    ] = None,
    tasks: Annotated[
        Path | None, typer.Option(help="A folder with the folders of the tasks in it.", rich_help_panel=TASKS)
    ] = None,
    swuggy: Annotated[Path | None, _task("sWUGGY")] = None,
    sblimp: Annotated[Path | None, _task("sBLIMP")] = None,
    storycloze: Annotated[Path | None, _task("spoken StoryCloze")] = None,
    topic_storycloze: Annotated[Path | None, _task("topic StoryCloze")] = None,
    salmon: Annotated[Path | None, _task("SALMon")] = None,
    seed: Annotated[int, typer.Option(help="Of all that is drawn.", rich_help_panel=SAMPLING)] = 0,
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
    batch_size: Annotated[int, typer.Option(help="Items made together.", min=1)] = 8,
    batch_steps: Annotated[int, typer.Option(help="Steps that are scored together.", min=1)] = 4096,
    device: Device = "cpu",
    as_json: Json = False,
) -> None:
    """Measure a checkpoint: likelihood of held-out audio, speed, what it says beside the truth, paired tasks.

    What is finished is kept: the same command goes on, and measures again only what other settings change.
    """
    from rich.console import Console

    from hocket.evaluation.evaluating import evaluate as run
    from hocket.evaluation.evaluation_tables import print_evaluation
    from hocket.evaluation.suites import LIKELIHOOD, JudgeSettings, Settings, find_suite, find_tasks, parse_parts
    from hocket.evaluation.targets import find_targets
    from hocket.inference.sampling import Sampling

    _refuse_pairs({"--corpus": corpus, "--audio": audio}, {"--whisper": whisper, "--asr": asr})
    named = {"swuggy": swuggy, "sblimp": sblimp, "storycloze": storycloze}
    named |= {"topic-storycloze": topic_storycloze, "salmon": salmon}
    settings = Settings(
        suite=find_suite(suite),
        only=(LIKELIHOOD,) if all_steps and only is None else parse_parts(only),
        corpus=corpus,
        audio=audio,
        codecs=_parse_codecs(codecs or []),
        split=split,
        clips=clips,
        n=n,
        prompt_seconds=prompt_seconds,
        longest=longest,
        texts=_text(texts),
        template=template,
        beams=beams,
        best_of=best_of,
        seed=seed,
        sampling=Sampling(
            temperature=temperature,
            top_k=top_k,
            top_p=top_p,
            min_p=min_p,
            repetition_window=repetition_window,
            repetition_ratio=repetition_ratio,
            rows=parse_rows(rows or []),
        ),
        how=lambda in_place: find_how(guidance, in_place, passes, choice_temperature, span),
        judges=JudgeSettings(
            recogniser=_text(whisper or asr), wavlm=_text(speaker_model), utmos=_text(utmos), reader=_text(lm)
        ),
        tasks=find_tasks(tasks, named),
        batch=batch_size,
        batch_steps=batch_steps,
        device=device,
    )
    console, facts = Console(), []
    for target in find_targets(checkpoint, step, all_steps, out):
        found = run(target, settings, fresh)
        facts.append({"folder": str(target.folder)} | dataclasses.asdict(found))
        if not as_json:
            print_evaluation(found, target.folder, console)
    if as_json:
        report({"evaluations": facts} if all_steps else facts[0], as_json, "")


def _refuse_pairs(*pairs: dict[str, Any]) -> None:
    for pair in pairs:
        if None not in pair.values():
            raise InputError(f"say {' or '.join(pair)}, not both")


def _parse_codecs(codecs: list[str]) -> dict[str, str]:
    found = {}
    for codec in codecs:
        name, equals, folder = codec.partition("=")
        if not (name and equals and folder):
            raise InputError(f"--codec {codec} is none: write NAME=FOLDER, such as semantic=units")
        found[name] = folder
    return found


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path)
