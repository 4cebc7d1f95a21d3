# ruff: noqa: PLC0415 (rooms are imported inside the commands, for a quick --help)
"""`hocket codecs` and `hocket codec ...`: what is supported, training, units, and how good a codec sounds."""

from typing import Annotated

import typer

from hocket.cli_common import Json, report

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
