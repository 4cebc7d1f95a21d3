"""What one run of `hocket generate` is to make: rows of a file, or one row from the command line.

    {"id": "hello", "prompt": "hello.wav", "seconds": 4}
    {"text": "Good morning.", "seed": 7, "temperature": 0.7}
    {"prompt": "question.wav", "streams": {"user": "user.npy"}}

Paths are relative to the file. A row without an id is named by its number.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from hocket.errors import InputError, did_you_mean
from hocket.inference.sampling import Sampling

DIGITS = 4  # of the names of rows without an id
_KINDS: dict[str, tuple[type | tuple[type, ...], str]] = {
    "id": (str, "a name"),
    "prompt": (str, "the path of an audio file"),
    "prompt_seconds": ((int, float), "a number of seconds"),
    "prompt_text": (str, "the text that is said in the prompt"),
    "text": (str, "a text"),
    "seconds": ((int, float), "a number of seconds"),
    "min_seconds": ((int, float), "a number of seconds"),
    "overlap": ((int, float), "a number of seconds"),
    "seed": (int, "a whole number"),
    "task": (str, "a task such as tts"),
    "streams": (dict, "paths by stream"),
}
SAMPLING_KEYS = tuple(f.name for f in fields(Sampling))


@dataclass(frozen=True, kw_only=True)
class Row:
    """One item to generate."""

    name: str
    """Of its files, without their ending."""
    prompt: Path | None = None
    prompt_seconds: float | None = None
    prompt_text: str | None = None
    """What is said in the prompt, for models that are given the text of prompt and continuation together."""
    text: str | None = None
    seconds: float | None = None
    min_seconds: float | None = None
    """The model may not end before so much."""
    overlap: float | None = None
    """Seconds that each window has of the one before, past the model's context."""
    seed: int = 0
    task: str | None = None
    streams: Mapping[str, Path] = field(default_factory=dict)
    """Files of codes (`.npy`, `[T, K]`) of further given streams."""
    sampling: Sampling = field(default_factory=Sampling)

    def load_streams(self) -> dict[str, np.ndarray]:
        """The codes of further streams.

        Raises:
            InputError: a file is none of codes.
        """
        return {name: load_codes(path) for name, path in self.streams.items()}


def load_codes(path: Path) -> np.ndarray:
    """Codes int64 `[T, K]` of an `.npy` file.

    Raises:
        InputError: there is no such file, or it holds no whole numbers `[T, K]` or `[T]`.
    """
    try:
        codes = np.load(path, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read as codes (.npy): {error}") from error
    if codes.dtype.kind not in "iu" or codes.ndim not in (1, 2):
        raise InputError(f"{path} holds {codes.dtype} of shape {codes.shape}, not codes [frames, levels]")
    return codes.reshape(len(codes), -1).astype(np.int64)


def read_rows(path: Path, default: Row) -> Iterator[Row | InputError]:
    """The rows of a file of JSON lines; what is wrong with one stands in its place.

    Args:
        default: what holds for keys that a row does not have.

    Raises:
        InputError: there is no such file, or it holds no row.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read: {error}") from error
    numbered = [(number, line) for number, line in enumerate(lines, 1) if line.strip()]
    if not numbered:
        raise InputError(f"{path} holds no row; write one JSON object a line, such as " + '{"text": "Hello."}')
    seen: set[str] = set()
    for number, line in numbered:
        try:
            row = _parse_row(line, path.parent, replace(default, name=f"{number:0{DIGITS}d}"))
            if row.name in seen:
                raise InputError(f'the id "{row.name}" is taken by an earlier row')
            seen.add(row.name)
            yield row
        except InputError as error:
            yield InputError(f"{path}, line {number}: {error}")


def _parse_row(line: str, folder: Path, default: Row) -> Row:
    try:
        content = json.loads(line)
    except json.JSONDecodeError as error:
        raise InputError(f"this is no JSON ({error.msg} at column {error.colno})") from error
    if not isinstance(content, dict):
        raise InputError(f"a row is a JSON object, not {type(content).__name__}")
    for key, value in content.items():
        if key in SAMPLING_KEYS:
            continue
        if key not in _KINDS:
            raise InputError(f'there is no key "{key}"' + did_you_mean(key, (*_KINDS, *SAMPLING_KEYS)))
        kind, meaning = _KINDS[key]
        if value is not None and (not isinstance(value, kind) or isinstance(value, bool)):
            raise InputError(f'"{key}" is {meaning}, not {json.dumps(value)}')
    return _make_row(content, folder, default)


def _make_row(content: dict[str, Any], folder: Path, default: Row) -> Row:
    changes = {key: content[key] for key in content.keys() & (_KINDS.keys() - {"id", "prompt", "streams"})}
    if content.get("id") is not None:
        changes["name"] = _checked_name(content["id"])
    if content.get("prompt") is not None:
        changes["prompt"] = folder / content["prompt"]
    if content.get("streams"):
        changes["streams"] = {**default.streams, **{n: folder / str(p) for n, p in content["streams"].items()}}
    sampling = {key: content[key] for key in content.keys() & set(SAMPLING_KEYS)}
    return replace(default, **changes, sampling=replace(default.sampling, **sampling))


def _checked_name(name: str) -> str:
    if not name or name.startswith(".") or any(c in name for c in "/\\\0"):
        raise InputError(f'"{name}" is no name for files; take letters, digits, - and _')
    return name
