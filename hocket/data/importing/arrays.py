"""Folders of arrays: one .npy or .pt file a row, `[K, T]`, `[T, K]` or with a batch of 1 before; text in x.txt beside.

    codes/a.npy  codes/a.txt  codes/more/b.pt  codes/codec.json

A .pt file holds a tensor, or a dictionary with the tensor under "codes" or "audio_codes" and perhaps text, speaker,
duration and the like; pickled code in it is never run. codec.json, where there is one, says what codec the codes are
of and must agree with the one named.
"""

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hocket.data.importing.entries import DAMAGE, STATED, CodeRow, Entry, brief, find_column, make_row
from hocket.errors import InputError

SUFFIXES = (".npy", ".pt")
CODEC_FILE = "codec.json"
NPY_MAGIC = b"\x93NUMPY"


@dataclass(frozen=True)
class ArrayFolder:
    """The arrays of a folder and of those in it, by the order of their names; or a single file."""

    name: str
    column: str | None = None
    ignore: frozenset[str] = frozenset()

    def entries(self) -> Iterator[Entry]:
        for path, relative, text in self._files():
            digest = f"{relative}\0{os.path.getsize(path)}".encode()
            yield Entry(relative, digest, partial(self._read, path, relative, text))

    def survey(self) -> tuple[int | None, str]:
        digest, n_rows = sha256(), 0
        for entry in self.entries():
            digest.update(entry.digest + b"\n")
            n_rows += 1
        return n_rows, digest.hexdigest()

    def stated(self) -> Mapping[str, Any]:
        return read_stated(Path(self.name))

    def _files(self) -> list[tuple[str, str, str | None]]:
        """Path, path within the folder and path of the text beside, of each array."""
        if os.path.isfile(self.name):
            text = os.path.splitext(self.name)[0] + ".txt"
            return [(self.name, os.path.basename(self.name), text if os.path.isfile(text) else None)]
        found = []
        for folder, _, names in os.walk(self.name):
            inside = os.path.relpath(folder, self.name).replace(os.sep, "/")
            prefix, present = "" if inside == "." else f"{inside}/", set(names)
            for name in names:
                if name.lower().endswith(SUFFIXES):
                    text = os.path.splitext(name)[0] + ".txt"
                    beside = os.path.join(folder, text) if text in present else None
                    found.append((os.path.join(folder, name), prefix + name, beside))
        return sorted(found, key=lambda file: file[1])

    def _read(self, path: str, name: str, text: str | None) -> CodeRow:
        where = f'"{name}"'
        row = _load_npy(path) if path.lower().endswith(".npy") else _load_pt(path, self.column, where)
        if "text" not in row and text:
            row["text"] = _read_text(text)
        codes = row.pop("codes")
        id = os.path.splitext(name)[0]
        return make_row(row, codes, where, id=id, name=name, ignore=self.ignore)


def read_stated(folder: Path) -> Mapping[str, Any]:
    """What the codec.json of a folder, or beside a file, says of the codec. Raises InputError."""
    file = (folder if folder.is_dir() else folder.parent) / CODEC_FILE
    if not file.is_file():
        return {}
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise InputError(f'"{file}" is no valid JSON: {error}') from error
    if not isinstance(found, dict):
        raise InputError(f'"{file}" should be a JSON object such as {{"codec": "mimi", "sample_rate": 24000}}')
    names = {what: (what, *names) for what, names in STATED.items()} | {"codec": ("codec", "name", "codec_name")}
    return {
        what: value
        for what, known in names.items()
        if (value := next((found[name] for name in known if found.get(name) is not None), None)) is not None
    }


def _read_text(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f'its text "{path}" cannot be read: {brief(error)}') from error


def _load_npy(path: str) -> dict[str, Any]:
    try:
        with open(path, "rb") as file:
            if file.read(len(NPY_MAGIC)) != NPY_MAGIC:
                raise ValueError("it does not begin as one does")
            file.seek(0)
            return {"codes": np.load(file, allow_pickle=False)}
    except DAMAGE as error:
        raise InputError(f"it is no array of numpy that can be read ({brief(error)})") from error


def _load_pt(path: str, column: str | None, where: str) -> dict[str, Any]:
    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except DAMAGE as error:
        raise InputError(f"it is no file of plain tensors ({brief(error)})") from error
    if isinstance(loaded, dict):
        known = {str(key): value for key, value in loaded.items()}
        codes = known.pop(find_column(known, column, where))
        plain = {key: value for key, value in known.items() if isinstance(value, str | int | float | list)}
        return plain | {"codes": _numbers(codes)}
    return {"codes": _numbers(loaded)}


def _numbers(value: Any) -> Any:
    if not isinstance(value, torch.Tensor):
        return value
    return (value.double() if value.is_floating_point() else value).numpy()
