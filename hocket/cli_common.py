"""What all commands share: the options they have in common, and how they report."""

import functools
import json
import os
import signal
import sys
from collections.abc import Callable
from types import FrameType
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


class _Stopped(KeyboardInterrupt):
    """A signal that asks the process to end."""

    def __init__(self, number: int):
        super().__init__(number)
        self.number = number


def goes_on(command: Callable[..., None]) -> Callable[..., None]:
    """A command that SIGTERM (exit code 143) and Ctrl-C (130) end with a word on how to go on; a second one at once."""

    @functools.wraps(command)
    def stoppable(*args: Any, **options: Any) -> None:
        before = {number: signal.signal(number, _stop) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            command(*args, **options)
        except _Stopped as stopped:
            before = dict.fromkeys(before, _end_at_once)
            name = signal.Signals(stopped.number).name
            print(f"stopped by {name}; what is finished is kept, and the same command goes on", file=sys.stderr)
            raise typer.Exit(128 + stopped.number) from None
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    return stoppable


def _stop(number: int, frame: FrameType | None) -> None:
    raise _Stopped(number)


def _end_at_once(number: int, frame: FrameType | None) -> None:
    os._exit(128 + number)
