"""Shards: Arrow stream files that are read by mapping them into memory, and that `datasets` opens too.

    id, text, speaker, language, split, audio   string
    duration                                    float64, seconds
    codes                                       list<fixed_size_list<uint16>[K]>

A shard is one record batch, so all its codes lie in one contiguous block [frames of the shard, K] and an example is a
slice of it: 8 levels at 12.5 Hz are 200 bytes a second of audio. Nothing is copied or decoded when one is read.

Shapes: S frames of a shard, T frames of an example, N examples, K levels.
"""

import hashlib
import io
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import datasets
import numpy as np
import pyarrow as pa

CODE_DTYPE = np.uint16
MAX_CODEBOOK = 2**16


@dataclass(frozen=True, kw_only=True)
class Row:
    """One tokenised clip on its way to disk."""

    id: str
    codes_TK: np.ndarray  # uint16
    text: str | None
    speaker: str | None
    language: str | None
    split: str
    duration: float
    audio: str


def shard_features(levels: int) -> datasets.Features:
    """The columns of a shard, as `datasets` describes them."""
    text = datasets.Value("string")
    frame = datasets.List(datasets.Value("uint16"), length=levels)
    return datasets.Features(
        {
            "id": text,
            "codes": datasets.List(frame),
            "text": text,
            "speaker": text,
            "language": text,
            "split": text,
            "duration": datasets.Value("float64"),
            "audio": text,
        }
    )


def shard_name(number: int, n_shards: int) -> str:
    """File name of shard `number`, counted from 0, as `datasets` writes it."""
    return f"data-{number:05d}-of-{n_shards:05d}.arrow"


def shard_bytes(rows: Sequence[Row], levels: int) -> bytes:
    """The rows as one Arrow stream; the same rows give the same bytes."""
    schema = shard_features(levels).arrow_schema
    columns = {name: [getattr(row, name) for row in rows] for name in schema.names if name != "codes"}
    arrays = {name: pa.array(values, schema.field(name).type) for name, values in columns.items()}
    arrays["codes"] = _codes_array([row.codes_TK for row in rows], levels)
    batch = pa.record_batch([arrays[name] for name in schema.names], schema=schema)
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, schema) as writer:
        writer.write_batch(batch)
    return sink.getvalue()


def _codes_array(codes: Sequence[np.ndarray], levels: int) -> pa.Array:
    block_SK = np.concatenate([np.zeros((0, levels), CODE_DTYPE), *codes])
    offsets = np.concatenate([[0], np.cumsum([len(codes_TK) for codes_TK in codes])]).astype(np.int32)
    frames = pa.FixedSizeListArray.from_arrays(pa.array(block_SK.reshape(-1)), levels)
    return pa.ListArray.from_arrays(pa.array(offsets), frames)


@dataclass(frozen=True)
class Shard:
    """A mapped shard: `codes_SK` is a read-only view of the file, example i being frames offsets[i] to offsets[i+1]."""

    table: pa.RecordBatch
    codes_SK: np.ndarray  # uint16
    offsets: np.ndarray  # int32 [N + 1]

    @classmethod
    def map(cls, path: Path) -> "Shard":
        """Map a file into memory. Raises OSError or pyarrow.ArrowInvalid where it is no whole shard."""
        with pa.memory_map(str(path)) as source, pa.ipc.open_stream(source) as reader:
            batch = reader.read_next_batch()
        codes = batch.column(batch.schema.get_field_index("codes"))
        frames = codes.values
        codes_SK = frames.values.to_numpy(zero_copy_only=True).reshape(-1, frames.type.list_size)
        return cls(batch, codes_SK, codes.offsets.to_numpy(zero_copy_only=True))

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def codes_TK(self, row: int) -> np.ndarray:
        """The codes of one example, a view."""
        return self.codes_SK[self.offsets[row] : self.offsets[row + 1]]

    def value(self, row: int, column: str):
        """One value of another column, as a Python object."""
        return self.table.column(self.table.schema.get_field_index(column))[row].as_py()

    def column(self, column: str) -> list:
        """All values of another column, as Python objects."""
        return self.table.column(self.table.schema.get_field_index(column)).to_pylist()


def write_file(path: Path, content: bytes, aside: Path | None = None) -> None:
    """Write a whole file or none: under another name (in the folder `aside`) first, then renamed."""
    partial = (aside or path.parent) / f"{path.name}.partial"
    with partial.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(partial, path)


def write_json(path: Path, value, aside: Path | None = None) -> None:
    """Write a value as indented JSON, whole or not at all."""
    write_file(path, (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode(), aside)


def write_datasets_metadata(folder: Path, files: Sequence[str], levels: int, fingerprint: str) -> None:
    """The two files that let `datasets.load_from_disk` open the folder."""
    info = {"features": shard_features(levels).to_dict()}
    state = {
        "_data_files": [{"filename": name} for name in files],
        "_fingerprint": fingerprint[:16],
        "_format_columns": None,
        "_format_kwargs": {},
        "_format_type": None,
        "_output_all_columns": False,
        "_split": None,
    }
    write_json(folder / "dataset_info.json", info)
    write_json(folder / "state.json", state)


def sha256(content: bytes) -> str:
    """Hex digest of some bytes."""
    return hashlib.sha256(content).hexdigest()
