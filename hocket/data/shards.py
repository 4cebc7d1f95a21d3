"""Shards: Arrow stream files that are read by mapping them into memory, and that `datasets` opens too.

    id, text, speaker, language, split, recording, audio   string
    start, duration                                        float64, seconds
    words                                                  list<struct<text, start, end, stream>>
    codes, codes_user, codes_semantic, …                   list<fixed_size_list<uint16>[K]>, one a stream

A shard is one record batch, so all codes of a stream lie in one contiguous block [frames of the shard, K] and an
example is a slice of it: 8 levels at 12.5 Hz are 200 bytes a second of audio. Nothing is copied or decoded when one is
read.

Shapes: S frames of a shard, T frames of an example, N examples, K levels.
"""

import hashlib
import io
import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import torch

from hocket.data.words import Word

CODE_DTYPE = np.uint16
MAX_CODEBOOK = 2**16
AUDIO = "audio"


@dataclass(frozen=True, kw_only=True)
class Row:
    """One segment on its way to disk."""

    id: str
    streams: Mapping[str, np.ndarray]  # codes_TK of each, uint16
    text: str | None = None
    words: Sequence[Word] = ()
    speaker: str | None = None
    language: str | None = None
    split: str
    recording: str
    """The id of the clip that it was cut from; its own id where it was not."""
    start: float = 0.0
    """Seconds into the recording."""
    duration: float
    """Seconds of audio."""
    audio: str
    """What the source called the audio."""


def codes_column(stream: str) -> str:
    """Where a shard keeps the codes of a stream."""
    return "codes" if stream == AUDIO else f"codes_{stream}"


def shard_features(levels: Mapping[str, int]) -> datasets.Features:
    """The columns of a shard, as `datasets` describes them; `levels` by stream."""
    text, number = datasets.Value("string"), datasets.Value("float64")
    frames = {
        codes_column(stream): datasets.List(datasets.List(datasets.Value("uint16"), length=n))
        for stream, n in levels.items()
    }
    word = {"text": text, "start": number, "end": number, "stream": text}
    return datasets.Features(
        {
            "id": text,
            **frames,
            "text": text,
            "words": datasets.List(word),
            "speaker": text,
            "language": text,
            "split": text,
            "recording": text,
            "start": number,
            "duration": number,
            "audio": text,
        }
    )


def shard_name(number: int) -> str:
    """File name of shard `number`, counted from 0."""
    return f"data-{number:05d}.arrow"


def shard_bytes(rows: Sequence[Row], levels: Mapping[str, int]) -> bytes:
    """The rows as one Arrow stream; the same rows give the same bytes."""
    schema = shard_features(levels).arrow_schema
    codes = {codes_column(stream): stream for stream in levels}
    arrays = []
    for column in schema:
        if column.name in codes:
            stream = codes[column.name]
            arrays.append(_codes_array([row.streams[stream] for row in rows], levels[stream]))
        elif column.name == "words":
            arrays.append(pa.array([[asdict(word) for word in row.words] for row in rows], column.type))
        else:
            arrays.append(pa.array([getattr(row, column.name) for row in rows], column.type))
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, schema) as writer:
        writer.write_batch(pa.record_batch(arrays, schema=schema))
    return sink.getvalue()


def _codes_array(codes: Sequence[np.ndarray], levels: int) -> pa.Array:
    block_SK = np.concatenate([np.zeros((0, levels), CODE_DTYPE), *codes])
    assert block_SK.dtype == CODE_DTYPE, block_SK.dtype
    offsets = np.concatenate([[0], np.cumsum([len(codes_TK) for codes_TK in codes])]).astype(np.int32)
    frames = pa.FixedSizeListArray.from_arrays(pa.array(block_SK.reshape(-1)), levels)
    return pa.ListArray.from_arrays(pa.array(offsets), frames)


class Shard:
    """A mapped shard: of each stream a read-only block of codes, example i being frames offsets[i] to offsets[i+1]."""

    def __init__(self, table: pa.RecordBatch):
        self.table = table
        self._blocks: dict[str, tuple[np.ndarray, np.ndarray]] = {}
        self._rows: dict[str, tuple[np.ndarray, memoryview]] = {}
        self._tensors: dict[str, torch.Tensor] = {}

    @classmethod
    def map(cls, path: Path) -> "Shard":
        """Map a file into memory. Raises OSError or pyarrow.ArrowInvalid where it is no whole shard."""
        with pa.memory_map(str(path)) as source, pa.ipc.open_stream(source) as reader:
            return cls(reader.read_next_batch())

    def __len__(self) -> int:
        return self.table.num_rows

    def block(self, stream: str) -> tuple[np.ndarray, np.ndarray]:
        """`codes_SK`, a uint16 view of the file, and `offsets`, int32 [N + 1]."""
        if stream not in self._blocks:
            codes = self._array(codes_column(stream))
            frames = codes.values
            codes_SK = frames.values.to_numpy(zero_copy_only=True).reshape(-1, frames.type.list_size)
            self._blocks[stream] = codes_SK, codes.offsets.to_numpy(zero_copy_only=True)
        return self._blocks[stream]

    def rows_of(self, stream: str) -> tuple[np.ndarray, memoryview]:
        """`block`, with offsets that give plain integers, which costs a third."""
        if stream not in self._rows:
            codes_SK, offsets = self.block(stream)
            self._rows[stream] = codes_SK, offsets.data
        return self._rows[stream]

    def tensor(self, stream: str) -> torch.Tensor:
        """The block of codes as a uint16 tensor [S, K] over the same bytes; writing to it is an error of the system."""
        if stream not in self._tensors:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", message=".*not writable.*", category=UserWarning)
                self._tensors[stream] = torch.from_numpy(self.block(stream)[0])
        return self._tensors[stream]

    def codes_TK(self, stream: str, row: int) -> np.ndarray:
        """The codes of one example, a view."""
        codes_SK, offsets = self.block(stream)
        return codes_SK[offsets[row] : offsets[row + 1]]

    def words(self, row: int) -> tuple[Word, ...]:
        """The words of one example."""
        return tuple(Word(**word) for word in self._array("words")[row].as_py() or ())

    def value(self, row: int, column: str) -> Any:
        """One value of another column, as a Python object."""
        return self._array(column)[row].as_py()

    def column(self, column: str) -> pa.Array:
        """All values of another column."""
        return self._array(column)

    @cached_property
    def n_words_N(self) -> np.ndarray:
        """Words with times of each example, int32 [N]."""
        return np.diff(self._array("words").offsets.to_numpy())

    def _array(self, column: str) -> Any:
        return self.table.column(self.table.schema.get_field_index(column))


def json_bytes(value: Any) -> bytes:
    """A value as indented JSON."""
    return (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode()


def datasets_metadata(files: Sequence[str], levels: Mapping[str, int], fingerprint: str) -> dict[str, bytes]:
    """The two files that let `datasets.load_from_disk` open a folder of shards, by name."""
    state = {
        "_data_files": [{"filename": name} for name in files],
        "_fingerprint": fingerprint[:16],
        "_format_columns": None,
        "_format_kwargs": {},
        "_format_type": None,
        "_output_all_columns": False,
        "_split": None,
    }
    return {
        "dataset_info.json": json_bytes({"features": shard_features(levels).to_dict()}),
        "state.json": json_bytes(state),
    }


def sha256(content: bytes) -> str:
    """Hex digest of some bytes."""
    return hashlib.sha256(content).hexdigest()
