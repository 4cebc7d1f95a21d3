"""Errors meant for the user: one sentence that says what was wrong, where, and what would be right."""

import difflib
from collections.abc import Iterable


class InputError(ValueError):
    """Input that hocket cannot use. The command line prints its message as one line and exits with 1."""


def did_you_mean(name: str, valid: Iterable[str]) -> str:
    """` (did you mean "delay"?)`, or, where nothing is near, ` (there are: "delay", "flatten")`."""
    names = sorted(valid)
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    if near:
        return f' (did you mean "{near[0]}"?)'
    return " (there are: " + ", ".join(f'"{n}"' for n in names) + ")" if names else ""
