# ruff: noqa: PLC0415 (rooms are imported inside the commands, for a quick --help)
"""`hocket codecs` and `hocket codec ...`: what is supported, training, units, and how good a codec sounds."""

import dataclasses
import shutil
import sys
from pathlib import Path
from typing import Annotated

import typer

from hocket.cli_common import Device, Json, examples, report

codec_app = typer.Typer(help="Train, fit and judge codecs.", no_args_is_help=True, rich_markup_mode="rich")


def codecs(
    names: Annotated[list[str] | None, typer.Argument(help="Codecs to show instead of all: names or folders.")] = None,
    levels: Annotated[int | None, typer.Option(help="Rates at this number of levels.")] = None,
    as_json: Json = False,
) -> None:
    """The codecs that are supported: frame rate, levels, tokens, bits, and audio in a context."""
    from rich.console import Console

    from hocket.evaluation.codec_table import list_codecs, print_codecs

    rows = list_codecs(names or [], levels)
    if as_json:
        report({"codecs": rows}, as_json, "")
    else:
        print_codecs(rows, Console())


@codec_app.command(
    epilog=examples(
        "hocket codec train recordings/ --out runs/my_codec --minutes 60 --adversarial-minutes 20",
        "hocket codec train recordings/ --out runs/tuned --start bundled --minutes 10",
        "hocket codec train a/ b/ manifest.jsonl --out runs/small --entries 256 --levels 4 --split split.json",
    )
)
def train(
    audio: Annotated[list[str], typer.Argument(help="Folders of audio, manifests, datasets on disk, or bundled.")],
    out: Annotated[Path, typer.Option(help="The run's folder; the codec is written to its codec/.")],
    minutes: Annotated[float | None, typer.Option(min=0.0, help="The schedule's end in minutes of training.")] = None,
    steps: Annotated[int, typer.Option(min=1, help="The schedule's end in steps, if that comes first.")] = 200_000,
    adversarial_minutes: Annotated[float, typer.Option(min=0.0, help="Minutes of the adversarial phase; 0: none.")] = 0,
    adversarial_steps: Annotated[int | None, typer.Option(min=1, help="Its end in steps.")] = None,
    start: Annotated[str | None, typer.Option(help="A spectral codec to go on from, such as bundled.")] = None,
    split: Annotated[Path | None, typer.Option(help="JSON of clips and speakers never to train on.")] = None,
    levels: Annotated[int | None, typer.Option(min=1, help="Codebook levels (8).")] = None,
    entries: Annotated[int | None, typer.Option(min=2, help="Entries of each codebook (1024).")] = None,
    learning_rate: Annotated[float, typer.Option(help="Peak learning rate.")] = 8e-4,
    batch: Annotated[int, typer.Option(min=1, help="One-second crops in a batch.")] = 24,
    seed: Annotated[int, typer.Option(help="Of the weights, the crops and the levels that are dropped.")] = 0,
    name: Annotated[str, typer.Option(help="The codec's name.")] = "codec",
    fresh: Annotated[bool, typer.Option("--fresh", help="Remove what the folder holds and start over.")] = False,
    device: Device = "cpu",
    as_json: Json = False,
) -> None:
    """Train a residual codec on speech. Killed or stopped, the same command goes on where it was."""
    from hocket.codec.learning import AdversarialTraining, ReconstructionTraining
    from hocket.progress import ProgressBar
    from hocket.training.codec_training import CodecRecipe, train_codec

    if fresh and (out / "settings.json").is_file():
        shutil.rmtree(out)
    forever = float("inf")
    adversarial = None
    if adversarial_minutes or adversarial_steps:
        adversarial = AdversarialTraining(
            steps=adversarial_steps or 200_000, minutes=adversarial_minutes or forever, seed=seed
        )
    recipe = CodecRecipe(
        sources=tuple(audio),
        name=name,
        start=start,
        split=str(split) if split else None,
        network={key: size for key, size in {"levels": levels, "entries": entries}.items() if size is not None},
        reconstruction=ReconstructionTraining(
            steps=steps,
            minutes=minutes or forever,
            learning_rate=learning_rate,
            batch=batch,
            seed=seed,
            unquantized=0 if start else ReconstructionTraining.unquantized,
        ),
        adversarial=adversarial,
    )
    with ProgressBar("codec train") as bar:
        result = train_codec(recipe, out, device=device, on_progress=bar.update)
    if result.n_rejected:
        print(f"{result.n_rejected} clips rejected, named in {out}/rejected.jsonl", file=sys.stderr)
    report(dataclasses.asdict(result), as_json, result.summary)
    if result.signal:
        raise typer.Exit(128 + result.signal)


@codec_app.command(
    epilog=examples(
        "hocket codec evaluate bundled recordings/",
        "hocket codec evaluate bundled recordings/ --against path/to/lyra --levels 8,4 --whisper whisper-tiny.en",
        "hocket codec evaluate bundled ljspeech/ digits/ --split bundled --limit 15 --json",
    )
)
def evaluate(
    codec: Annotated[str, typer.Argument(help="A codec's name or folder.")],
    audio: Annotated[list[str], typer.Argument(help="Folders of audio, manifests, datasets on disk, or bundled.")],
    against: Annotated[list[str] | None, typer.Option(help="Another codec on the same recordings; repeatable.")] = None,
    levels: Annotated[str | None, typer.Option(help="Numbers of levels, such as 8,4; all and half of them.")] = None,
    split: Annotated[
        str | None, typer.Option(help="Only what this JSON holds out; bundled is the own codec's.")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="So many recordings of each set, evenly spread.")] = None,
    whisper: Annotated[str | None, typer.Option(help="Folder of a faster-whisper model, for word errors.")] = None,
    device: Device = "cpu",
    as_json: Json = False,
) -> None:
    """Judge how codecs sound: scores of their reconstructions beside the originals, bit rates, speeds, codebook use."""
    from rich.console import Console

    from hocket.evaluation.codec_quality import evaluate_named
    from hocket.evaluation.codec_quality_table import print_quality
    from hocket.progress import ProgressBar

    with ProgressBar("codec evaluate") as bar:
        result = evaluate_named(
            [codec, *(against or [])],
            audio,
            levels=levels,
            split=split,
            limit=limit,
            whisper=whisper,
            device=device,
            on_progress=bar.update,
        )
    if as_json:
        report(result, as_json, "")
    else:
        print_quality(result, Console())


@codec_app.command(
    "fit-units",
    epilog=examples(
        "hocket codec fit-units bundled --extractor mfcc --clusters 100 --out units/mfcc",
        "hocket codec fit-units speech/ --extractor hubert:facebook/hubert-base-ls960 --layer 6 --out units/hubert",
        "hocket codec fit-units ljspeech/ --extractor whisper-ct2:tiny.en --every 2 --out units/whisper --json",
    ),
)
def fit_units(
    audio: Annotated[list[str], typer.Argument(help="Folders of audio, manifests, datasets on disk, or bundled.")],
    out: Annotated[Path, typer.Option(help="The folder of the units, new or empty.")],
    extractor: Annotated[
        str, typer.Option(help="mfcc, or hubert, wavlm, wav2vec2, wav2vec2-bert, whisper, whisper-ct2 with :FOLDER.")
    ] = "mfcc",
    layer: Annotated[int | None, typer.Option(help="Layer of the network, from 1; its whole encoder.")] = None,
    clusters: Annotated[int, typer.Option(min=2, help="How many units.")] = 500,
    scaled: Annotated[
        bool | None, typer.Option(help="Divide each feature by its standard deviation; Whisper's unless told not to.")
    ] = None,
    every: Annotated[
        int, typer.Option(min=1, help="Frames of the extractor that make a unit; 2 gives 25 a second of 50.")
    ] = 1,
    max_frames: Annotated[int, typer.Option(min=2, help="Fit to a uniform sample of so many frames.")] = 200_000,
    name: Annotated[str | None, typer.Option(help="The codec's name; the folder's.")] = None,
    seed: Annotated[int, typer.Option(help="Of the sample and the first centroids.")] = 0,
    device: Device = "cpu",
    as_json: Json = False,
) -> None:
    """Fit semantic units: k-means over features of speech, saved as a codec."""
    from hocket.data.unit_fitting import fit_units
    from hocket.progress import ProgressBar

    with ProgressBar("codec fit-units") as bar:
        result = fit_units(
            audio,
            extractor,
            clusters,
            out,
            layer=layer,
            name=name,
            seed=seed,
            max_frames=max_frames,
            scaled=scaled,
            every=every,
            device=device,
            on_progress=bar.update,
        )
    for rejected, reason in result.rejected:
        print(f"{rejected}: {reason}", file=sys.stderr)
    report(result.to_dict(), as_json, result.summary)
