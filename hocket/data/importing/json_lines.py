"""JSON lines of codes: one object a line, the codes in one of its columns.

    {"units": [3, 49, 7], "duration": [1, 1, 4], "file_name": "a.flac"}          SlamKit's features
    {"file_name": "a.flac", "audio_repr": "<Un3><Un49><Un7>"}                    SlamKit's tokens
    {"audio": "a.wav", "text": "…", "ref_audio": "r.wav", "audio_codes": [[…16 codes…], …]}      Qwen3-TTS
    {"id": "a", "codes": [[…], …], "text": "…", "speaker": "…"}                  any other

SlamKit (Maimon et al., 2025, arXiv:2502.15814) writes each run of equal units once, and in `duration` for how many
frames it stands; here every frame is written out again.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path, PurePosixPath
from typing import Any

import fsspec

from hocket.data.importing.arrays import CODEC_FILE, read_stated
from hocket.data.importing.entries import CodeRow, Entry, find_column, make_row, pop_durations
from hocket.data.sources import files
from hocket.data.sources.rows import pick
from hocket.errors import InputError

SUFFIXES = (".jsonl", ".json", ".ndjson", ".jsonl.gz", ".json.gz")


@dataclass(frozen=True)
class JsonLines:
    """One file, or those of a folder by the order of their names; compressed ones too, also behind a URL."""

    name: str
    column: str | None = None
    ignore: frozenset[str] = frozenset()

    def entries(self) -> Iterator[Entry]:
        locations = self._locations()
        for location in locations:
            base = PurePosixPath(location).name
            for number, line in numbered_lines(location):
                name = f"{base}, line {number}"
                id = f"{base.split('.')[0]}:{number}"
                yield Entry(name, line, lambda line=line, name=name, id=id: self._read(line, name, id))

    def survey(self) -> tuple[int | None, str]:
        digest, n_rows = sha256(), 0
        for location in self._locations():
            for _, line in numbered_lines(location):
                digest.update(line + b"\n")
                n_rows += 1
        return n_rows, digest.hexdigest()

    def stated(self) -> Mapping[str, Any]:
        return {} if files.is_url(self.name) else read_stated(Path(self.name))

    def _locations(self) -> list[str]:
        if files.is_url(self.name) or Path(self.name).is_file():
            return [self.name]
        found = [path for path in Path(self.name).iterdir() if path.name.lower().endswith(SUFFIXES)]
        return [str(path) for path in sorted(found) if path.name != CODEC_FILE]

    def _read(self, line: bytes, name: str, id: str) -> CodeRow:
        where = f'"{name}"'
        try:
            row = json.loads(line)
        except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
            raise InputError(f"{where} is no valid JSON: {error}") from error
        if not isinstance(row, dict):
            raise InputError(f'{where} is no JSON object such as {{"id": "a", "codes": [[1, 2], [3, 4]]}}')
        codes = row.pop(find_column(row, self.column, where))
        durations = pop_durations(row)
        audio = pick(row, "audio")
        if isinstance(audio, str):
            id = id_of_audio(audio)
        return make_row(row, codes, where, id=id, name=name, durations=durations, ignore=self.ignore)


def id_of_audio(audio: str) -> str:
    """The id of a row that has none: the path of its audio as written, without suffix and leading ./ or ../."""
    parts = [part for part in PurePosixPath(audio).with_suffix("").parts if part not in ("..", ".", "/")]
    return "/".join(parts) or audio


def numbered_lines(location: str) -> Iterator[tuple[int, bytes]]:
    """Each line that holds something, with its number from 1."""
    try:
        with fsspec.open(location, "rb", compression="infer") as file:
            for number, line in enumerate(file, start=1):  # pyright: ignore[reportArgumentType]
                if stripped := line.strip():
                    yield number, stripped
    except OSError as error:
        raise InputError(f'"{location}" cannot be read: {error}') from error
