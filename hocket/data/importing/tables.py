"""Tables of codes: Hugging Face data sets and Parquet files, read a batch of Arrow at a time.

    saved/                     what save_to_disk wrote, one data set or a dictionary of splits
    parquet/, x.parquet        Parquet files, read as they are, without a copy in a cache
    hf://user/name             a repository on the hub, or a folder that load_dataset reads
    stream:user/name@train     row by row, nothing kept on disk

The column of codes holds nested lists in either order, fixed in size or not, or units as text. Codes go from Arrow to
numpy without Python lists.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from datasets.exceptions import DatasetsError

from hocket.data.clips import canonical_split
from hocket.data.importing.arrays import read_stated
from hocket.data.importing.entries import DURATION_COLUMNS, CodeRow, Entry, brief, damaged, find_column, make_row
from hocket.data.sources.hub import HUB, STREAM, Repository
from hocket.data.sources.rows import ALIASES, pick
from hocket.errors import InputError

BATCH_ROWS = 1000

_LOADING_ERRORS = (OSError, ValueError, KeyError, DatasetsError)


class DamagedTable(InputError):
    """A file whose remaining rows cannot be read."""


@dataclass(frozen=True)
class Part:
    """One table: a split or a file."""

    name: str
    split: str | None
    n_rows: int | None
    identity: str
    """By which a changed table is known."""
    batches: Callable[[], Iterator[pa.Table]]


@dataclass(frozen=True)
class Tables:
    """The rows of some tables."""

    name: str
    parts: list[Part]
    column: str | None = None
    ignore: frozenset[str] = frozenset()
    said: Mapping[str, Any] = field(default_factory=dict)

    def entries(self) -> Iterator[Entry]:
        for part in self.parts:
            first = 0
            try:
                for table in part.batches():
                    columns = _Columns.of(table, self.column, self.name, self.ignore)
                    for index in range(table.num_rows):
                        yield self._entry(part, columns, index, first + index)
                    first += table.num_rows
            except DamagedTable as error:
                yield damaged(f"{part.name}[{first}…]", f"{part.name}\0{part.identity}\0damaged".encode(), str(error))

    def survey(self) -> tuple[int | None, str]:
        counts = [part.n_rows for part in self.parts]
        if any(n is None for n in counts):
            return None, ""
        facts = [f"{part.name}\0{part.split}\0{part.n_rows}\0{part.identity}" for part in self.parts]
        return sum(n or 0 for n in counts), sha256("\n".join(facts).encode()).hexdigest()

    def stated(self) -> Mapping[str, Any]:
        return self.said

    def _entry(self, part: Part, columns: "_Columns", index: int, number: int) -> Entry:
        name = f"{part.name}[{number}]"
        id = f"{part.name}-{number:08d}" if part.name else f"{number:08d}"
        digest = f"{name}\0{part.identity}".encode()

        def read() -> CodeRow:
            row, codes, durations = columns.row(index)
            made = {**row, "split": part.split} if part.split else row
            own = id if pick(made, "id") is None else ""
            return make_row(made, codes, f'"{name}"', id=own, name=name, durations=durations, ignore=self.ignore)

        return Entry(name, digest, read)


@dataclass(frozen=True)
class _Columns:
    """A batch taken apart."""

    light: dict[str, list[Any]]
    codes: pa.Array
    durations: pa.Array | None

    @classmethod
    def of(cls, table: pa.Table, wanted: str | None, name: str, ignore: frozenset[str]) -> "_Columns":
        column = find_column(list(table.column_names), wanted, f'the data set "{name}"')
        arrays = {key: _whole(table, key) for key in table.column_names if key not in ignore}
        codes = arrays.pop(column) if column in arrays else _whole(table, column)
        durations = next((key for key in DURATION_COLUMNS if key in arrays and _is_list(arrays[key].type)), None)
        durations = arrays.pop(durations) if durations else None
        light = {key: array.to_pylist() for key, array in arrays.items() if _is_light(key, array.type)}
        return cls(light, codes, durations)

    def row(self, index: int) -> tuple[dict[str, Any], Any, Any]:
        """The light columns, the codes and the durations of one row. Raises InputError."""
        row = {key: values[index] for key, values in self.light.items()}
        durations = None if self.durations is None else cell(self.durations, index)
        return row, cell(self.codes, index), durations


def cell(array: pa.Array, index: int) -> Any:
    """One row of a column of nested lists as a numpy array, or a text. Raises InputError for nulls and ragged lists."""
    if not array[index].is_valid:
        raise InputError("its codes are missing")
    if not _is_list(array.type):
        return array[index].as_py()
    return _cut(array, index, index + 1)[0]


def _cut(array: pa.Array, start: int, stop: int) -> np.ndarray:
    """Elements of an array whose lists, at each depth, are of one size: [stop - start, size, …]."""
    if pa.types.is_fixed_size_list(array.type):
        size = array.type.list_size
        first, last = (array.offset + start) * size, (array.offset + stop) * size
    elif _is_list(array.type):
        offsets = array.offsets[start : stop + 1].to_numpy()
        sizes = np.diff(offsets)
        size, first, last = int(sizes[0]) if len(sizes) else 0, int(offsets[0]), int(offsets[-1])
        if len(sizes) and (sizes != size).any():
            raise InputError("its codes are lists of different lengths, so some level lacks frames")
    else:
        values = array.slice(start, stop - start)
        if values.null_count:
            raise InputError("its codes hold a null, which is no whole number")
        return values.to_numpy(zero_copy_only=False)
    inner = _cut(array.values, first, last)
    return inner.reshape(stop - start, size, *inner.shape[1:])


def saved_dataset(folder: str, **options: Any) -> Tables:
    """What `save_to_disk` wrote. Raises InputError."""
    try:
        loaded = datasets.load_from_disk(folder)
    except _LOADING_ERRORS as error:
        raise InputError(f'"{folder}" looks like a Hugging Face dataset but does not load: {brief(error)}') from error
    return Tables(folder, _parts(loaded, None), said=read_stated(Path(folder)), **options)


def repository(address: str, **options: Any) -> Tables:
    """A data set that `load_dataset` reads: hf://name, or stream:name. Raises InputError."""
    streaming = address.startswith(STREAM)
    asked = Repository.parse(address.removeprefix(STREAM), streaming)
    try:
        loaded = datasets.load_dataset(asked.name, asked.config, split=asked.split, streaming=streaming)
    except _LOADING_ERRORS as error:
        raise InputError(f'the Hugging Face dataset "{asked.name}" does not load: {brief(error)}') from error
    return Tables(address, _parts(loaded, asked.split), **options)


def is_repository(src: str) -> bool:
    """Whether a source is given as hf://… or stream:…"""
    return src.startswith((STREAM, HUB)) and not src.startswith(HUB + "datasets/")


def parquet(location: str, **options: Any) -> Tables:
    """A Parquet file, or all in a folder and those in it; names that begin with a split say which. InputError."""
    root = Path(location)
    paths = [root] if root.is_file() else sorted(root.rglob("*.parquet"))
    base = root.parent if root.is_file() else root
    parts = [_parquet_part(path, path.relative_to(base).as_posix()) for path in paths]
    return Tables(location, parts, said=read_stated(root), **options)


def _parquet_part(path: Path, name: str) -> Part:
    try:
        n_rows = pq.read_metadata(path).num_rows
    except (pa.ArrowException, OSError) as error:
        raise InputError(f'"{path}" is no Parquet file that can be read: {brief(error)}') from error

    def batches() -> Iterator[pa.Table]:
        try:
            with pq.ParquetFile(path) as file:
                for batch in file.iter_batches(BATCH_ROWS):
                    yield pa.Table.from_batches([batch])
        except (pa.ArrowException, OSError) as error:
            raise DamagedTable(f"the file is damaged, and no row from here on can be read ({brief(error)})") from error

    return Part(name, _split_of(Path(name).name.split("-")[0].split(".")[0]), n_rows, str(path.stat().st_size), batches)


def _parts(loaded: Any, split: str | None) -> list[Part]:
    if isinstance(loaded, dict):
        return [_part(dataset, str(key), canonical_split(str(key), "the data set")) for key, dataset in loaded.items()]
    return [_part(loaded, "", _split_of((split or "").partition("[")[0]))]


def _split_of(name: str) -> str | None:
    """The split that a name means, if it means one."""
    try:
        return canonical_split(name, "") if name else None
    except InputError:
        return None


def _part(dataset: Any, name: str, split: str | None) -> Part:
    heavy = [key for key, feature in (dataset.features or {}).items() if isinstance(feature, datasets.Audio)]
    rows = (dataset.remove_columns(heavy) if heavy else dataset).with_format("arrow")
    is_stream = isinstance(dataset, datasets.IterableDataset)
    n_rows = None if is_stream else len(dataset)
    identity = "" if is_stream else str(dataset._fingerprint)
    return Part(name, split, n_rows, identity, lambda: rows.iter(BATCH_ROWS))


def _whole(table: pa.Table, key: str) -> pa.Array:
    array = table.column(key).combine_chunks()
    if isinstance(array, pa.ChunkedArray):
        array = array.chunk(0) if array.num_chunks else pa.array([], array.type)
    return array.storage if isinstance(array, pa.ExtensionArray) else array


def _is_list(kind: pa.DataType) -> bool:
    return pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)


def _is_light(key: str, kind: pa.DataType) -> bool:
    """Whether a column is cheap to read for every row: single values, and words with their times."""
    if key in ALIASES["words"] or key == "aligned_text":
        return True
    return not (pa.types.is_nested(kind) or pa.types.is_binary(kind) or pa.types.is_large_binary(kind))
