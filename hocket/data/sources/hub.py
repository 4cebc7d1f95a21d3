"""Hugging Face data sets: what `save_to_disk` wrote, and repositories that `load_dataset` reads, streaming or not.

    data/saved                  a folder of save_to_disk
    hf://user/name              a repository on the hub, or a folder that is one: parquet, JSON lines, audiofolder
    user/name:config@split      the same where there is no such path; config and split may be left out
    stream:user/name@train      row by row, nothing kept on disk

Audio stays encoded (`decode=False`), so torchcodec is not needed. A data set that is mapped from disk gives its
clips by row number; a streamed one brings the bytes with the row. One without audio but with text is text alone.
A repository that is a folder of audio files is read row by row in any case where torchcodec lacks: `datasets` cannot
write its paths to its cache then.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import datasets
from datasets.exceptions import DatasetsError

from hocket.data.clips import AudioSource, Clip, HeldAudio, StoredAudio, canonical_split
from hocket.data.sources import files
from hocket.data.sources.listing import Found, attempt
from hocket.data.sources.rows import ALIASES, as_text, facts, pick
from hocket.errors import InputError

STREAM = "stream:"
HUB = "hf://"
SAVED_FILES = ("dataset_dict.json", "state.json")

_LOADING_ERRORS = (OSError, ValueError, KeyError, DatasetsError)


@dataclass(frozen=True)
class SavedDataset:
    """A folder that `save_to_disk` wrote; a dictionary of data sets brings its own splits."""

    folder: str

    def find(self) -> Iterator[Found]:
        yield from _find(self._load(), self.folder)

    def count(self) -> int | None:
        return _count(self._load())

    def nothing(self) -> str:
        return f'the data set "{self.folder}" has no rows'

    def _load(self) -> Any:
        try:
            return datasets.load_from_disk(self.folder)
        except _LOADING_ERRORS as error:
            raise InputError(f'"{self.folder}" looks like a Hugging Face dataset but does not load: {error}') from error


@dataclass(frozen=True)
class Repository:
    """A data set that `load_dataset` reads."""

    name: str
    config: str | None = None
    split: str | None = None
    streaming: bool = False
    data_files: str | None = None
    is_guess: bool = False
    """Whether it was taken for one because there is no such path."""

    @classmethod
    def parse(cls, address: str, streaming: bool, is_guess: bool = False) -> "Repository":
        """From `name[:config][@split]`."""
        rest, _, split = address.removeprefix(HUB).partition("@")
        name, _, config = rest.partition(":")
        return cls(name, config or None, split or None, streaming, is_guess=is_guess)

    def find(self) -> Iterator[Found]:
        yield from _find(self._load(self.streaming), self.name, self.split)

    def count(self) -> int | None:
        return None if self.streaming else _count(self._load(self.streaming))

    def nothing(self) -> str:
        return f'the data set "{self.name}" has no rows'

    def _load(self, streaming: bool) -> Any:
        try:
            return datasets.load_dataset(
                self.name, self.config, split=self.split, streaming=streaming, data_files=self.data_files
            )
        except _LOADING_ERRORS as error:
            if isinstance(error.__cause__, ImportError) and not streaming:
                return self._load(streaming=True)
            said = " ".join(str(error).split())
            no_path = f'there is no file or folder "{self.name}", and ' if self.is_guess else ""
            raise InputError(f'{no_path}the Hugging Face dataset "{self.name}" does not load: {said}') from error


def _count(loaded: Any) -> int | None:
    parts = list(loaded.values()) if isinstance(loaded, dict) else [loaded]
    return None if isinstance(parts[0], datasets.IterableDataset) else sum(map(len, parts))


def _find(loaded: Any, name: str, split: str | None = None) -> Iterator[Found]:
    if isinstance(loaded, dict):
        for key, dataset in loaded.items():
            yield from _rows(dataset, name, str(key), canonical_split(str(key), f'the dataset "{name}"'))
    else:
        yield from _rows(loaded, name, "", _known_split(split))


def _known_split(name: str | None) -> str | None:
    """The split that was asked for by name, where it is one of ours; the whole choice is the user's anyway."""
    try:
        return canonical_split(name.partition("[")[0], "") if name else None
    except InputError:
        return None


def _rows(dataset: Any, name: str, key: str, split: str | None) -> Iterator[Found]:
    if isinstance(dataset, datasets.IterableDataset):
        yield from _streamed_rows(dataset, name, key, split)
        return
    column = _audio_column(dataset.features, name)
    stored = column and dataset.select_columns([column]).cast_column(column, datasets.Audio(decode=False))
    heavy = [other for other in dataset.column_names if not _is_light(other, dataset.features[other])]
    others = dataset.remove_columns(heavy)
    rows = cast(Iterable[dict[str, Any]], others if others.column_names else [{}] * len(dataset))
    for index, row in enumerate(rows):
        audio = StoredAudio(stored, column, index) if column else None
        yield _found(row, index, name, key, split, audio)


def _streamed_rows(dataset: Any, name: str, key: str, split: str | None) -> Iterator[Found]:
    features = dataset.features or _features_by_rows(dataset)
    column = _audio_column(features, name)
    if column:
        dataset = _undecoded(dataset, column)
    for index, row in enumerate(dataset):
        light = {other: value for other, value in row.items() if _is_light(other, features.get(other))}
        yield _found(light, index, name, key, split, _held(row[column]) if column else None)


def _features_by_rows(dataset: Any) -> Mapping[str, Any]:
    """The features of a stream that tells none, by its first rows."""
    return datasets.Dataset.from_list(list(dataset.take(8))).features


def _undecoded(dataset: Any, column: str) -> Any:
    """The stream with its audio as it is stored: bytes and path, or, of a folder of audio, the path alone.

    `datasets` puts a path into an Audio feature with torchcodec only.
    """
    stored = dataset.cast_column(column, datasets.Audio(decode=False))
    try:
        next(iter(stored.take(1)), None)
    except ImportError:
        return dataset.cast_column(column, datasets.Value("string"))
    return stored


def _held(stored: Mapping[str, Any] | str | None) -> Path | AudioSource:
    """The audio of a streamed row; bytes that lack are found missing when it is read."""
    if isinstance(stored, Mapping) and stored.get("bytes") is not None:
        return HeldAudio(stored["bytes"])
    path = as_text(stored.get("path") if isinstance(stored, Mapping) else stored)
    return files.audio_at(path) if path else HeldAudio(b"")


def _found(row: Mapping[str, Any], index: int, name: str, key: str, split: str | None, audio: Any) -> Found:
    where = f'"{name}", row {key}[{index}],'
    id = as_text(pick(row, "id")) or (f"{key}-{index:08d}" if key else f"{index:08d}")

    def make() -> Clip:
        known = facts(row, where, has_own_audio=audio is not None)
        if audio is None and known["text"] is None:
            raise InputError(f"{where} has neither audio nor text")
        known["split"] = split or known["split"]
        return Clip(id=id, name=f"{key}[{index}]", audio=audio, **known)

    return attempt(where, id, f"{key}[{index}]", make)


def _audio_column(features: Mapping[str, Any], name: str) -> str | None:
    """The column of audio, or None for a data set of text alone. Raises InputError where there is neither."""
    columns = [column for column, feature in features.items() if _is_audio(feature)]
    if columns:
        return "audio" if "audio" in columns else columns[0]
    if any(alias in features for alias in ALIASES["text"]):
        return None
    have = ", ".join(f'"{column}"' for column in features)
    raise InputError(f'the dataset "{name}" has no Audio column and none of text (its columns: {have})')


def _is_audio(feature: Any) -> bool:
    """An Audio feature, or what parquet files without `datasets`' own notes have in its place."""
    return isinstance(feature, datasets.Audio) or (isinstance(feature, dict) and set(feature) == {"bytes", "path"})


def _is_light(column: str, feature: Any) -> bool:
    """Whether a column is cheap to read for every row: single values, and words with their times."""
    return isinstance(feature, datasets.Value | datasets.ClassLabel) or column in (
        *ALIASES["words"],
        *ALIASES["segments"],
    )
