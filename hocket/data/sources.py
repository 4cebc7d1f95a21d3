"""Where clips come from: a folder of audio, one file, a manifest, a Hugging Face dataset, or the bundled speech.

`read_clips` lists clips and decodes nothing. A list of 100,000 clips costs about 100 MB and a few seconds; a file
that turns out to be bad is found, named and counted when the tokenising job opens it.
"""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, cast

import datasets

from hocket.data.clips import Clip, StoredAudio, canonical_split
from hocket.data.manifests import MANIFEST_SUFFIXES, as_text, pick, read_manifest
from hocket.errors import InputError

BUNDLED = Path(__file__).parent / "speech" / "manifest.jsonl"
"""Real speech with transcripts that travels with the package."""

_READABLE = (".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aiff", ".aif", ".aifc", ".au", ".caf", ".w64", ".rf64")
_UNREADABLE = (".m4a", ".aac", ".mp4", ".wma", ".webm")
AUDIO_SUFFIXES = frozenset(_READABLE + _UNREADABLE)
"""What counts as audio in a folder. libsndfile reads most; the rest are counted and named, not silently skipped."""

_DATASET_FILES = ("dataset_dict.json", "state.json")


FOLDER_MANIFESTS = ("manifest.jsonl", "manifest.csv", "manifest.tsv")
"""A folder with one of these is read by it, so that texts and splits are not lost."""


def read_clips(src: str | Path) -> list[Clip]:
    """List the clips of a source, in a fixed order; splits that the source leaves open stay None.

    `src`: "bundled"; a folder (its manifest.jsonl or manifest.csv where it has one; otherwise it is searched through
    its subfolders, and `x.txt` beside `x.wav` is its text); one audio file;
    a manifest (.jsonl, .csv, .tsv); a folder that `datasets.save_to_disk` wrote.

    Raises InputError for a source that does not exist, is malformed, holds no clip, or gives two clips one id.
    """
    path = BUNDLED if str(src) == "bundled" else Path(src)
    if not path.exists():
        raise InputError(f'there is no file or folder "{src}" to read audio from')
    clips = _unique(_found(path))
    if not clips:
        raise InputError(_nothing_in(path))
    return clips


def _found(path: Path) -> Iterator[tuple[str, Clip]]:
    if path.suffix.lower() in MANIFEST_SUFFIXES and path.is_file():
        return read_manifest(path)
    if path.is_file():
        return iter([(str(path), _file_clip(path, path.parent))])
    if (path / "corpus.json").exists():
        raise InputError(f'"{path}" is a corpus already: it holds codes, and tokenising needs audio')
    if any((path / name).exists() for name in _DATASET_FILES):
        return _dataset_clips(path)
    manifests = [path / name for name in FOLDER_MANIFESTS if (path / name).is_file()]
    if manifests:
        return read_manifest(manifests[0])
    return ((str(file), _file_clip(file, path)) for file in _audio_files(path))


def _nothing_in(path: Path) -> str:
    if path.is_file():
        return f'the manifest "{path}" has no rows'
    return f'there is no audio in "{path}" or its subfolders (looked for {", ".join(sorted(AUDIO_SUFFIXES))})'


def _unique(found: Iterable[tuple[str, Clip]]) -> list[Clip]:
    """The clips, once it is sure that each id names one of them."""
    where_is: dict[str, str] = {}
    clips = []
    for where, clip in found:
        if clip.id in where_is:
            raise InputError(f'{where} has the id "{clip.id}" that {where_is[clip.id]} has already; ids name one clip')
        where_is[clip.id] = where
        clips.append(clip)
    return clips


def _audio_files(folder: Path) -> list[Path]:
    """Every audio file below the folder, links followed once, hidden files left out, sorted by relative path."""
    found: list[Path] = []
    seen: set[str] = set()
    for root, folders, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(root)
        folders[:] = [] if real in seen else [name for name in folders if not name.startswith(".")]
        if real not in seen:
            found += [Path(root, name) for name in names if _is_audio_name(name)]
        seen.add(real)
    return sorted(found, key=lambda file: file.relative_to(folder).as_posix())


def _is_audio_name(name: str) -> bool:
    return not name.startswith(".") and Path(name).suffix.lower() in AUDIO_SUFFIXES


def _file_clip(file: Path, folder: Path) -> Clip:
    name = file.relative_to(folder)
    return Clip(id=name.with_suffix("").as_posix(), name=name.as_posix(), audio=file, text=_text_beside(file))


def _text_beside(file: Path) -> str | None:
    beside = file.with_suffix(".txt")
    if beside == file or not beside.is_file():
        return None
    try:
        return as_text(beside.read_text(encoding="utf-8-sig"))
    except UnicodeDecodeError as error:
        raise InputError(f'the text "{beside}" is not UTF-8 (byte {error.start})') from error


def _dataset_clips(folder: Path) -> Iterator[tuple[str, Clip]]:
    """The rows of a dataset that `save_to_disk` wrote; a dictionary of datasets brings its own splits."""
    try:
        loaded = datasets.load_from_disk(str(folder))
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f'"{folder}" looks like a Hugging Face dataset but does not load: {error}') from error
    if isinstance(loaded, datasets.DatasetDict):
        for name, dataset in loaded.items():
            split = canonical_split(str(name), f'the dataset "{folder}"')
            yield from _row_clips(dataset, folder, str(name), split)
    else:
        yield from _row_clips(loaded, folder, "", None)


def _row_clips(dataset: datasets.Dataset, folder: Path, name: str, split: str | None) -> Iterator[tuple[str, Clip]]:
    column = _audio_column(dataset, folder)
    stored = dataset.select_columns([column]).cast_column(column, datasets.Audio(decode=False))
    others = dataset.remove_columns([other for other in dataset.column_names if not _is_plain(dataset, other)])
    rows = cast(Iterable[dict[str, Any]], others if others.column_names else [{}] * len(dataset))
    for index, row in enumerate(rows):
        where = f'"{folder}", row {name}[{index}],'
        own_split = as_text(pick(row, "split"))
        clip = Clip(
            id=as_text(pick(row, "id")) or (f"{name}-{index:08d}" if name else f"{index:08d}"),
            name=f"{name}[{index}]",
            audio=StoredAudio(stored, column, index),
            text=as_text(pick(row, "text")),
            speaker=as_text(pick(row, "speaker")),
            language=as_text(pick(row, "language")),
            split=split or (canonical_split(own_split, where) if own_split else None),
        )
        yield where, clip


def _audio_column(dataset: datasets.Dataset, folder: Path) -> str:
    columns = [name for name, feature in dataset.features.items() if isinstance(feature, datasets.Audio)]
    if not columns:
        have = ", ".join(f'"{name}"' for name in dataset.column_names)
        raise InputError(f'the dataset "{folder}" has no Audio column (its columns: {have})')
    return "audio" if "audio" in columns else columns[0]


def _is_plain(dataset: datasets.Dataset, column: str) -> bool:
    """Whether a column holds single values, which are cheap to read for every row."""
    return isinstance(dataset.features[column], datasets.Value | datasets.ClassLabel)
