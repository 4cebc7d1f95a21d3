"""Kaldi archives of codes: .ark files, or .scp lists of places in them; text, utt2spk, utt2dur and utt2lang beside.

A binary archive holds vectors of integers, for codecs of one level, and matrices of floats, whose values must be whole
numbers; integer matrices are no Kaldi type. An archive compressed with Kaldi's lossy schemes has lost its codes, and
shows by fractions.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from hocket.data.importing.arrays import read_stated
from hocket.data.importing.entries import DAMAGE, CodeRow, Entry, brief, damaged, make_row
from hocket.errors import InputError

SUFFIXES = (".scp", ".ark")
TABLES = {"text": "text", "utt2spk": "speaker", "utt2dur": "duration", "utt2lang": "language"}


@dataclass(frozen=True)
class KaldiArchives:
    """A list or an archive, or those of a folder: its lists where there are any, else its archives."""

    name: str
    column: str | None = None
    ignore: frozenset[str] = frozenset()

    def entries(self) -> Iterator[Entry]:
        tables = self._tables()
        for path in self._files():
            yield from _listed(path, tables, self) if path.suffix == ".scp" else _archived(path, tables, self)

    def survey(self) -> tuple[int | None, str]:
        digest, n_rows = sha256(), 0
        for path in self._files():
            if path.suffix == ".scp":
                lines = list(_lines(path))
                digest.update("\n".join(lines).encode())
                n_rows += len(lines)
            else:
                digest.update(f"{path.name}\0{path.stat().st_size}\n".encode())
                n_rows += sum(1 for _ in _archived(path, {}, self))
        digest.update(repr(sorted(self._tables().items())).encode())
        return n_rows, digest.hexdigest()

    def stated(self) -> Mapping[str, Any]:
        return read_stated(Path(self.name))

    def make(self, id: str, codes: np.ndarray, tables: Mapping[str, dict[str, str]]) -> CodeRow:
        """The row of an utterance."""
        row = {column: values[id] for column, values in tables.items() if id in values}
        return make_row(row, codes, f'"{id}"', id=id, name=id, ignore=self.ignore)

    def _files(self) -> list[Path]:
        root = Path(self.name)
        if root.is_file():
            return [root]
        lists = sorted(root.glob("*.scp"))
        return lists or sorted(root.glob("*.ark"))

    def _tables(self) -> dict[str, dict[str, str]]:
        root = Path(self.name)
        folder = root if root.is_dir() else root.parent
        found = {column: folder / name for name, column in TABLES.items()}
        return {column: _table(path) for column, path in found.items() if path.is_file()}


def _listed(path: Path, tables: dict[str, dict[str, str]], source: KaldiArchives) -> Iterator[Entry]:
    for line in _lines(path):
        id, _, place = line.partition(" ")
        place = place.strip()

        def read(id: str = id, place: str = place) -> CodeRow:
            return source.make(id, _load(place, path.parent), tables)

        yield Entry(id, line.encode(), read)


def _load(place: str, folder: Path) -> np.ndarray:
    """What lies at `file:offset`; the file by its path as written, or beside the list."""
    if not place or "|" in place:
        raise InputError(f'its place is "{place}", which should be a file and an offset; commands are not run')
    file, colon, offset = place.rpartition(":")
    name = file if colon and offset.isdigit() else place
    if not Path(name).is_file() and (folder / name).is_file():
        place = str(folder / place)
    elif not Path(name).is_file():
        raise InputError(f'there is no archive "{name}"')
    try:
        return _array(_kaldiio().load_mat(place))
    except DAMAGE as error:
        raise InputError(f'"{place}" is no Kaldi archive that can be read: {brief(error)}') from error


def _archived(path: Path, tables: dict[str, dict[str, str]], source: KaldiArchives) -> Iterator[Entry]:
    """The utterances of an archive; where it is damaged, what comes after cannot be found and is one bad row."""
    size, load, after = path.stat().st_size, _kaldiio().load_ark, "its start"
    try:
        with path.open("rb") as file:
            for id, codes in load(file):

                def read(id: str = id, codes: Any = codes) -> CodeRow:
                    return source.make(id, _array(codes), tables)

                yield Entry(id, f"{path.name}\0{size}\0{id}".encode(), read)
                after = f'what follows "{id}"'
    except DAMAGE as error:
        reason = f"it is no Kaldi archive, or damaged, from {after} on ({brief(error)})"
        yield damaged(path.name, f"{path.name}\0{size}\0damaged".encode(), reason)


def _array(value: Any) -> np.ndarray:
    if not isinstance(value, np.ndarray):
        raise InputError("it holds audio, not a vector or matrix of codes")
    return value


def _lines(path: Path) -> Iterator[str]:
    try:
        with path.open(encoding="utf-8") as file:
            yield from (line.strip() for line in file if line.strip())
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f'"{path}" is no UTF-8 text that can be read: {brief(error)}') from error


def _table(path: Path) -> dict[str, str]:
    pairs = (line.split(maxsplit=1) for line in _lines(path))
    return {pair[0]: pair[1] for pair in pairs if len(pair) == 2}


def _kaldiio() -> Any:
    try:
        import kaldiio  # noqa: PLC0415 (an extra)
    except ImportError as error:
        raise InputError('Kaldi archives need kaldiio: pip install "hocket[sources]"') from error
    return kaldiio
