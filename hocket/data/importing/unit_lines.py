"""Lines of units: an id or a file, then the units of one level, as fairseq's and textless speech resynthesis' files.

a|71 12 12 4         parts separated by a bar
a.wav\t71 12 12 4    or by a tab
a|71 12 4|1 2 1      a third part says for how many frames each unit stands
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path, PurePosixPath
from typing import Any

from hocket.data.importing.arrays import read_stated
from hocket.data.importing.entries import CodeRow, Entry, make_row
from hocket.data.importing.json_lines import id_of_audio, numbered_lines
from hocket.data.sources import files
from hocket.errors import InputError

SUFFIXES = (".txt", ".tsv", ".km", ".units", ".unit")


@dataclass(frozen=True)
class UnitLines:
    """One file of lines."""

    name: str
    column: str | None = None
    ignore: frozenset[str] = frozenset()

    def entries(self) -> Iterator[Entry]:
        base = PurePosixPath(self.name).name
        for number, line in numbered_lines(self.name):
            name = f"{base}, line {number}"
            yield Entry(name, line, lambda line=line, name=name: self._read(line, name))

    def survey(self) -> tuple[int | None, str]:
        digest, n_rows = sha256(), 0
        for _, line in numbered_lines(self.name):
            digest.update(line + b"\n")
            n_rows += 1
        return n_rows, digest.hexdigest()

    def stated(self) -> Mapping[str, Any]:
        return {} if files.is_url(self.name) else read_stated(Path(self.name))

    def _read(self, line: bytes, name: str) -> CodeRow:
        where = f'"{name}"'
        try:
            text = line.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise InputError(f"{where} is not UTF-8 text") from error
        parts = [part.strip() for part in text.split("|" if "|" in text else "\t")]
        if len(parts) not in (2, 3) or not parts[0]:
            raise InputError(f'{where} is not like "id|1 2 3" or "id", a tab and "1 2 3"')
        durations = parts[2] if len(parts) == 3 else None
        row: dict[str, Any] = {"audio": parts[0]}
        if durations is not None:
            durations = _frames(durations, where)
        return make_row(row, parts[1], where, id=id_of_audio(parts[0]), durations=durations, ignore=self.ignore)


def _frames(text: str, where: str) -> list[int]:
    try:
        return [int(part) for part in text.split()]
    except ValueError as error:
        raise InputError(
            f'{where} has "{text[:24]}" for the durations of its units, which should be "1 2 1"'
        ) from error
