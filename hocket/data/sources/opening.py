"""Which kind of source a path, a URL or a name is."""

import re
from pathlib import Path

from hocket.data.clips import Clip, Rejected
from hocket.data.sources import cut_sets, files, hub, kaldi, tars, texts
from hocket.data.sources.folders import AudioFile, AudioFolder, is_audio_name, list_names
from hocket.data.sources.listing import Listing, Source
from hocket.data.sources.manifests import MANIFEST_SUFFIXES, Manifest, manifest_suffix
from hocket.errors import InputError

BUNDLED = Path(__file__).parent.parent / "speech" / "manifest.jsonl"
"""Real speech with transcripts that travels with the package."""

FOLDER_MANIFESTS = ("manifest.jsonl", "manifest.csv", "manifest.tsv", "cuts.jsonl", "cuts.jsonl.gz", "wav.scp")
"""A folder with one of these is read by it, so that texts and splits are not lost."""

_HUB_NAME = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*(:[\w.-]+)?(@[\w.\[\]:%+-]+)?")


def open_source(src: str | Path) -> Source:
    """The clips of a source, lazily, in a fixed order; see the room's docstring for the kinds.

    Raises InputError where there is nothing of that name or it is of no kind that is known.
    """
    return Source(str(src), _listing(str(BUNDLED) if str(src) == "bundled" else str(src)))


def read_clips(src: str | Path) -> list[Clip]:
    """All clips of a source at once; splits that the source leaves open stay None.

    Raises InputError for what `open_source` refuses, for a source that holds nothing, and for the first row that
    cannot be used.
    """
    clips = []
    for item in open_source(src):
        if isinstance(item, Rejected):
            raise InputError(item.reason)
        clips.append(item)
    return clips


def is_manifest_of(src: str | Path, path: Path) -> bool:
    """Whether a file at `path` makes the folder `src` be read by it instead of by what lies in it."""
    return path.parent.absolute() == Path(src).absolute() and path.name in FOLDER_MANIFESTS


def _listing(src: str) -> Listing:
    if src.startswith(hub.STREAM):
        return hub.Repository.parse(src.removeprefix(hub.STREAM), streaming=True)
    if src.startswith(hub.HUB) and not src.startswith(hub.HUB + "datasets/"):
        return hub.Repository.parse(src, streaming=False)
    if tars.is_tar_pattern(src) and any(mark in src for mark in "*?{["):
        return tars.TarShards(src)
    if files.is_file(src):
        return _file(src)
    if files.exists(src):
        return _folder(src)
    if _is_hub_name(src):
        return hub.Repository.parse(src, streaming=False, is_guess=True)
    raise InputError(f'there is no file or folder "{src}" to read audio from')


def _is_hub_name(src: str) -> bool:
    is_file_name = is_audio_name(src) or texts.is_text_name(src) or manifest_suffix(src) in MANIFEST_SUFFIXES
    return _HUB_NAME.fullmatch(src) is not None and not is_file_name


def _file(location: str) -> Listing:
    if tars.is_tar_pattern(location):
        return tars.TarShards(location)
    if texts.is_text_name(location):
        return texts.TextFile(location)
    if location.lower().endswith(".parquet"):
        return hub.Repository("parquet", data_files=location, split="train")
    if files.base_name(location) == kaldi.TABLE:
        return kaldi.KaldiFolder(files.parent(location))
    suffix = manifest_suffix(location)
    if suffix == ".jsonl" and cut_sets.is_cut_set(location):
        return cut_sets.CutSet(location)
    return Manifest(location) if suffix in MANIFEST_SUFFIXES else AudioFile(location)


def _folder(location: str) -> Listing:
    if files.exists(files.join(location, "corpus.json")):
        raise InputError(f'"{location}" is a corpus already: it holds codes, and tokenising needs audio')
    if any(files.exists(files.join(location, name)) for name in hub.SAVED_FILES):
        return hub.SavedDataset(location)
    for name in FOLDER_MANIFESTS:
        if files.is_file(files.join(location, name)):
            return _file(files.join(location, name))
    return _folder_of(location, list_names(location))


def _folder_of(location: str, names: list[str]) -> Listing:
    """By what lies in it: audio before tar files, tables and texts."""
    if not any(map(is_audio_name, names)):
        if any(name.endswith(".tar") for name in names):
            return tars.TarShards(files.join(location, "*.tar"))
        if any(name.endswith(".parquet") for name in names):
            return hub.Repository(location)
        if any(map(texts.is_text_name, names)):
            return texts.TextFolder(location)
    return AudioFolder(location)
