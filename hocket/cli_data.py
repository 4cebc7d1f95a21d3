# ruff: noqa: PLC0415 (rooms are imported inside the commands, for a quick --help)
"""`hocket tokenize`, `hocket align` and `hocket import-codes`: from recordings or codes to a corpus."""

import dataclasses
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hocket.cli_common import Device, Json, examples, goes_on, report
from hocket.errors import InputError, did_you_mean

if TYPE_CHECKING:
    from hocket.data import CorpusCard, StreamCodec

ENGINES = ("local", "ray")

TOKENIZE_EPILOG = examples(
    "hocket tokenize recordings/ corpus/",
    "hocket tokenize manifest.jsonl corpus/ --levels 4 --strict",
    "hocket tokenize podcasts/ corpus/ --cut-seconds 30 --trim --loudness -23 --codec mimi --device cuda",
    "hocket tokenize dialogues/ corpus/ --channels audio,user",
    "hocket tokenize manifest.jsonl corpus/ --stream semantic=my_units/",
    "hocket tokenize stream:user/speech@train corpus/ --engine ray --actors 8 --gpus 1",
)


@goes_on
def tokenize(
    src: Annotated[
        str,
        typer.Argument(help="Folder, audio file, manifest, Kaldi or Lhotse data, dataset, tar shards, URL, bundled."),
    ],
    dst: Annotated[str, typer.Argument(help="Corpus folder to write, also behind a URL.")],
    codec: Annotated[str, typer.Option(help='"bundled", a name or a codec folder; "none" for text alone.')] = "bundled",
    levels: Annotated[int | None, typer.Option(help="Codebook levels to keep, from level 0 up.")] = None,
    channels: Annotated[
        str | None, typer.Option(help="A stream for each channel of the audio, as audio,user; otherwise their mix.")
    ] = None,
    stream: Annotated[list[str] | None, typer.Option(help="A further stream by its codec, as semantic=units/.")] = None,
    trim: Annotated[bool, typer.Option("--trim", help="Cut off what is no speech at both ends (silero-vad).")] = False,
    loudness: Annotated[float | None, typer.Option(help="Bring each clip to so many LUFS, as -23.")] = None,
    min_seconds: Annotated[float | None, typer.Option(min=0, help="Leave out what is shorter.")] = None,
    max_seconds: Annotated[float | None, typer.Option(min=0, help="Leave out what is longer.")] = None,
    cut_seconds: Annotated[
        float | None, typer.Option(min=0, help="Cut longer recordings at silences into segments of at most this.")
    ] = None,
    valid_share: Annotated[float, typer.Option(help="Share held out of clips without a split of their own.")] = 0.05,
    batch_seconds: Annotated[float, typer.Option(help="Audio that is encoded at once.")] = 60.0,
    shard_seconds: Annotated[float, typer.Option(help="Audio in one file.")] = 1800.0,
    workers: Annotated[
        int | None, typer.Option(min=0, help="Processes that read ahead; 0: threads. Chosen unless given.")
    ] = None,
    engine: Annotated[str, typer.Option(help="local, or ray: on a Ray cluster.")] = "local",
    actors: Annotated[int, typer.Option(min=1, help="With --engine ray: shards that are made at once.")] = 2,
    gpus: Annotated[float, typer.Option(min=0, help="With --engine ray: GPUs of each actor.")] = 0.0,
    ray_address: Annotated[
        str | None, typer.Option(help="With --engine ray: of the cluster; else RAY_ADDRESS.")
    ] = None,
    strict: Annotated[bool, typer.Option(help="End at the first bad clip instead of counting it.")] = False,
    device: Device = "cpu",
    as_json: Json = False,
) -> None:
    """Encode recordings into a corpus of codes. A job that was killed goes on where it was."""
    from hocket.data import Preparation, Settings
    from hocket.data import tokenize as tokenize_clips
    from hocket.progress import ProgressBar

    made_by = _engine(engine, actors, gpus, ray_address)
    preparation = Preparation(
        trim=trim, loudness=loudness, min_seconds=min_seconds, max_seconds=max_seconds, cut_seconds=cut_seconds
    )
    settings = Settings(
        batch_seconds=batch_seconds, shard_seconds=shard_seconds, valid_share=valid_share, preparation=preparation
    )
    with ProgressBar("tokenize", note=lambda bar: f"{bar.rate:,.0f} h of audio an hour") as bar:
        card = tokenize_clips(
            src,
            dst,
            _streams(codec, levels, channels, stream or []),
            settings=settings,
            strict=strict,
            device=device,
            n_workers=workers,
            engine=made_by,
            on_progress=bar.update,
            notify=lambda sentence: print(sentence, file=sys.stderr),
        )
    report(card.to_dict(), as_json, _describe(dst, card))


def _engine(name: str, actors: int, gpus: float, address: str | None) -> Callable[..., Any] | None:
    """What makes the shards on a Ray cluster; None for this machine."""
    from hocket.data.tokenizing.on_ray import on_ray

    if name not in ENGINES:
        raise InputError(f'--engine has no choice "{name}"{did_you_mean(name, ENGINES)}')
    return on_ray(actors, gpus=gpus, address=address) if name == "ray" else None


def _describe(dst: str, card: "CorpusCard") -> str:
    """A corpus that was made, in one line."""
    folder = dst.rstrip("/")
    streams = [f"{name} of {n} level{'s' * (n > 1)}" for name, n in card.levels.items()]
    made = [f"{card.seconds / 60:.1f} minutes", *streams] if streams else ["text alone"]
    rejected = f"; {card.n_rejected} rejected, named in {folder}/rejected.jsonl" if card.n_rejected else ""
    return f"{folder}: {card.n_examples} examples, {', '.join(made)}{rejected}"


def _streams(codec: str, levels: int | None, channels: str | None, further: list[str]) -> "dict[str, StreamCodec]":
    """What is made of the audio: its mix or its channels by one codec, and further streams by others."""
    from hocket.codec import load_codec
    from hocket.data import StreamCodec

    if codec == "none":
        if further or channels:
            raise InputError("--codec none takes text alone, so --stream and --channels have no meaning with it")
        return {}
    names = channels.split(",") if channels else ["audio"]
    if len(set(names)) < len(names) or not all(name.isidentifier() for name in names):
        raise InputError(f'--channels names a stream for each channel, as audio,user, not "{channels}"')
    main = load_codec(codec, levels)
    streams = {name: StreamCodec(main, number if channels else None) for number, name in enumerate(names)}
    for item in further:
        name, equals, its_codec = item.partition("=")
        if not equals or not its_codec or name in streams:
            raise InputError(f'--stream takes a new name and its codec, as semantic=units/, not "{item}"')
        streams[name] = StreamCodec(load_codec(its_codec), 0 if channels else None)
    return streams


ALIGN_EPILOG = examples(
    "hocket align recordings/ aligned.jsonl --model tiny.en",
    "hocket align manifest.jsonl aligned.jsonl --model path/to/faster-whisper-model --language fr",
)


@goes_on
def align(
    src: Annotated[str, typer.Argument(help="What `hocket tokenize` takes.")],
    dst: Annotated[Path, typer.Argument(help="The manifest to write, JSON lines with word times.")],
    model: Annotated[str, typer.Option(help="A faster-whisper model: a size such as tiny.en, a hub name or a folder.")],
    language: Annotated[str | None, typer.Option(help="Code such as en; recognised unless given.")] = None,
    device: Device = "cpu",
    as_json: Json = False,
) -> None:
    """Find when each word is said, by Whisper; texts that are there keep their words. Needs the extra eval."""
    from hocket.data.alignment import align as align_clips
    from hocket.progress import ProgressBar

    os.environ.setdefault("OMP_NUM_THREADS", str(os.cpu_count() or 1))
    with ProgressBar("align") as bar:
        result = align_clips(
            src, dst, model, language=language, device=device, on_progress=lambda n, total: bar.update(n, total or 0)
        )
    matched = (
        f"; {result.n_matched:,} of {result.n_words:,} words matched ({result.matched:.1%})" if result.n_words else ""
    )
    rejected = f"; {len(result.rejected)} rejected, named in {dst}.report.json" if result.rejected else ""
    facts = dataclasses.asdict(result) | {"matched": result.matched}
    report(facts, as_json, f"{dst}: {result.n_clips} clips with word times{matched}{rejected}")


IMPORT_EPILOG = examples(
    "hocket import-codes codes/ corpus/ --codec mimi --levels 8",
    "hocket import-codes train.jsonl corpus/ --codec tokenizer.json --verify recordings/",
    "hocket import-codes features.jsonl corpus/ --codec my_units/ --stream semantic",
    "hocket import-codes stream:user/codes@train corpus/ --codec mimi --levels 8 --column codes --axes KT",
)


@goes_on
def import_codes(
    src: Annotated[
        str,
        typer.Argument(
            help="Folder of .npy or .pt, JSON lines, lines of units, Parquet, Hugging Face dataset, Kaldi arks."
        ),
    ],
    dst: Annotated[str, typer.Argument(help="Corpus folder to write, also behind a URL.")],
    codec: Annotated[str, typer.Option(help="Whose codes they are: a name, a codec folder, or facts in a JSON file.")],
    levels: Annotated[int | None, typer.Option(min=1, help="How many of the codec's levels the rows hold.")] = None,
    axes: Annotated[
        str | None, typer.Option(help="TK for [frames, levels], KT for [levels, frames]; found unless given.")
    ] = None,
    column: Annotated[str | None, typer.Option(help="Which column holds the codes; found unless given.")] = None,
    ignore: Annotated[list[str] | None, typer.Option(help="A column to leave out; repeatable.")] = None,
    stream: Annotated[str, typer.Option(help="What to call the stream of codes.")] = "audio",
    deduplicated: Annotated[
        bool | None,
        typer.Option(
            "--deduplicated/--not-deduplicated", help="Units without durations are one frame each, or never were runs."
        ),
    ] = None,
    verify: Annotated[
        Path | None, typer.Option(help="Folder of recordings: encode up to 8 that rows name and compare.")
    ] = None,
    valid_share: Annotated[float, typer.Option(help="Share held out of rows without a split of their own.")] = 0.05,
    shard_seconds: Annotated[float, typer.Option(help="Audio in one file.")] = 36_000.0,
    strict: Annotated[bool, typer.Option(help="End at the first bad row instead of counting it.")] = False,
    device: Device = "cpu",
    as_json: Json = False,
) -> None:
    """Make a corpus of codes that exist, checked. No weights are needed, but to --verify."""
    from hocket.codec import load_codec
    from hocket.data import importing
    from hocket.progress import ProgressBar

    settings = importing.ImportSettings(valid_share=valid_share, shard_seconds=shard_seconds)
    check = importing.Verification(load_codec(codec, levels).to(device), verify) if verify else None
    identity = check.codec.identity if check else importing.read_identity(codec)
    with ProgressBar("import", note=lambda bar: f"{bar.rate:,.0f} rows a second") as bar:
        card = importing.import_codes(
            src,
            dst,
            identity,
            stream=stream,
            axes=axes,
            levels=levels,
            column=column,
            ignore=set(ignore or ()),
            deduplicated=deduplicated,
            settings=settings,
            strict=strict,
            verify=check,
            on_progress=bar.update,
            notify=lambda sentence: print(sentence, file=sys.stderr),
        )
    report(card.to_dict(), as_json, _describe(dst, card))
