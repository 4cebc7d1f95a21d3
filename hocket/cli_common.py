"""What all commands share: the options they have in common, and how they report."""

import json
import os
from typing import Annotated, Any

import typer

from hocket.errors import InputError

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout, everything else on stderr.")]


def check_device(device: str) -> str:
    """The name of a device that can be used here, else one sentence."""
    if device == "cpu":
        return device
    import torch  # noqa: PLC0415 (a quick --help)

    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f'device "{device}" cannot be used here ({reason}); cpu always can') from error
    return device


Device = Annotated[str, typer.Option(help="Where to compute: cpu, cuda, cuda:1 …", callback=check_device)]


def is_first_process() -> bool:
    return os.environ.get("RANK", "0") == "0"


def report(facts: dict[str, Any], as_json: bool, sentence: str) -> None:
    if not is_first_process():
        return
    if as_json:
        print(json.dumps(facts, default=str, ensure_ascii=False))
    else:
        print(sentence)


def examples(*lines: str) -> str:
    """Examples for the end of a help page, one a line."""
    return "[bold]Examples[/bold]\n\n" + "\n\n".join(f"[cyan]$ {line}[/cyan]".replace("[8", r"\[8") for line in lines)
