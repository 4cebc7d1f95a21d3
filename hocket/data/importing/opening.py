"""Which kind a source of codes is, by its address and its files."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hocket.data.importing import arrays, json_lines, kaldi, tables, unit_lines
from hocket.data.importing.arrays import CODEC_FILE
from hocket.data.importing.entries import CodeSource
from hocket.data.sources import files
from hocket.data.sources.hub import SAVED_FILES
from hocket.errors import InputError

Opener = Callable[..., Any]

KINDS: list[tuple[tuple[str, ...], Opener]] = [
    (arrays.SUFFIXES, arrays.ArrayFolder),
    ((".parquet",), tables.parquet),
    (kaldi.SUFFIXES, kaldi.KaldiArchives),
    (json_lines.SUFFIXES, json_lines.JsonLines),
    (unit_lines.SUFFIXES, unit_lines.UnitLines),
]
"""What opens files of these suffixes; in a folder the first kind that is there is meant."""

_KNOWN = (
    "codes are read from .npy, .pt, .jsonl, .parquet, .scp and .ark files, lines of units in .txt, .tsv or .km files, "
    "and Hugging Face data sets"
)


def open_codes(src: str | Path, column: str | None = None, ignore: frozenset[str] = frozenset()) -> CodeSource:
    """The rows of a source of codes; see the modules of the kinds.

    Args:
        src: file, folder, hf://name or stream:name.
        column: where rows hold their codes; looked for under the usual names unless given.
        ignore: columns that are not meant as hocket would take them.

    Raises:
        InputError: there is nothing of that name, or it is of no kind that is known.
    """
    name, options = str(src), {"column": column, "ignore": ignore}
    if tables.is_repository(name):
        return tables.repository(name, **options)
    if not files.exists(name):
        raise InputError(f'there is no file or folder "{name}" to import codes from')
    return _opener(name)(name, **options)


def _opener(name: str) -> Opener:
    if files.is_file(name):
        for suffixes, opener in KINDS:
            if name.lower().endswith(suffixes):
                return opener
        raise InputError(f'"{name}" is of no kind that holds codes: {_KNOWN}')
    if files.is_url(name):
        raise InputError(f'"{name}" is a folder behind a URL: copy it here first, or name its JSON lines one by one')
    return _folder_opener(Path(name))


def _folder_opener(folder: Path) -> Opener:
    if (folder / "corpus.json").is_file():
        raise InputError(f'"{folder}" is a corpus already')
    if any((folder / name).is_file() for name in SAVED_FILES):
        return tables.saved_dataset
    found: dict[str, Opener] = {}
    for _, _, names in os.walk(folder):
        for suffixes, opener in KINDS[:-1]:
            hit = next((name for name in sorted(names) if name.lower().endswith(suffixes) and name != CODEC_FILE), None)
            if hit and opener not in found.values():
                found[hit] = opener
    if len(found) > 1:
        raise InputError(f'"{folder}" holds codes of several kinds ({", ".join(sorted(found))}): import one at a time')
    if not found:
        raise InputError(f'"{folder}" holds no codes: {_KNOWN}')
    return next(iter(found.values()))
