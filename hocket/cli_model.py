# ruff: noqa: PLC0415 (rooms are imported inside the commands, for a quick --help)
"""`hocket export` and `hocket import-model`: models to and from the formats of others."""

import dataclasses
from pathlib import Path
from typing import Annotated

import typer

from hocket.cli_common import Json, examples, report

EXPORT_EPILOG = examples(
    "hocket export runs/units units-hf/",
    "hocket export runs/flat flat-hf/ --dtype bfloat16 --json",
)


def export(
    checkpoint: Annotated[Path, typer.Argument(help="A run, one of its checkpoints, or a model folder.")],
    folder: Annotated[Path, typer.Argument(help="A new folder for the stock checkpoint and its tokenizer.")],
    dtype: Annotated[str, typer.Option(help="Of the weights: float32, bfloat16 or float16.")] = "float32",
    unrestricted: Annotated[
        bool,
        typer.Option("--unrestricted", help="Export even where generate would draw ids that were never trained."),
    ] = False,
    as_json: Json = False,
) -> None:
    """Write a flat-layout model as a checkpoint that transformers' AutoModelForCausalLM loads."""
    from hocket.model import load_model
    from hocket.model.export import export_model

    facts = export_model(load_model(checkpoint), folder, dtype=dtype, unrestricted=unrestricted)
    drawn = f", {facts.n_suppressed:,} ids suppressed" if facts.n_suppressed else ""
    warning = "" if facts.restricted else "; mask illegal ids yourself, generate does not (README.md says which)"
    report(
        dataclasses.asdict(facts),
        as_json,
        f"{facts.folder}: {facts.architecture}, {facts.n_parameters / 1e6:.1f}M parameters, "
        f"{facts.vocabulary_size:,} ids{drawn}{warning}",
    )


IMPORT_MODEL_EPILOG = examples(
    "hocket import-model sesame/csm-1b models/csm",
    "hocket import-model path/to/csm models/csm --codec mimi",
)


def import_model(
    source: Annotated[str, typer.Argument(help="A CSM model of transformers: a Hugging Face name or a folder.")],
    folder: Annotated[Path, typer.Argument(help="A new folder for hocket's model.")],
    codec: Annotated[
        str | None, typer.Option(help="Where the model's codec is to be found; its own weights are taken unless given.")
    ] = None,
    context: Annotated[
        int | None, typer.Option(min=2, help="Longest document in steps; the model's own unless given.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Make a hocket model of a published multi-codebook model (CSM), to sample from or to go on training."""
    from hocket.model.import_csm import import_csm

    model = import_csm(source, folder, codec=codec, context=context)
    facts = {
        "folder": str(folder),
        "layout": model.layout.expression,
        "n_parameters": model.n_parameters,
        "codec": model.codec_identity.name,
        "fingerprint": model.codec_identity.fingerprint,
    }
    report(facts, as_json, f"{folder}: {model.n_parameters / 1e6:.1f}M parameters, {model.layout}")
