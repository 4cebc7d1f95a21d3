"""Which kind of source a path, a URL or a name is."""

from pathlib import Path, PurePosixPath

from hocket.data.clips import Clip, Rejected
from hocket.data.sources import files, hub
from hocket.data.sources.folders import AudioFile, AudioFolder
from hocket.data.sources.listing import Listing, Source
from hocket.data.sources.manifests import MANIFEST_SUFFIXES, Manifest
from hocket.errors import InputError

BUNDLED = Path(__file__).parent.parent / "speech" / "manifest.jsonl"
"""Real speech with transcripts that travels with the package."""

FOLDER_MANIFESTS = ("manifest.jsonl", "manifest.csv", "manifest.tsv")
"""A folder with one of these is read by it, so that texts and splits are not lost."""


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


def _listing(src: str) -> Listing:
    if src.startswith(hub.STREAM):
        return hub.Repository.parse(src.removeprefix(hub.STREAM), streaming=True)
    if src.startswith(hub.HUB) and not src.startswith(hub.HUB + "datasets/"):
        return hub.Repository.parse(src, streaming=False)
    if not files.exists(src):
        raise InputError(f'there is no file or folder "{src}" to read audio from')
    return _file(src) if files.is_file(src) else _folder(src)


def _file(location: str) -> Listing:
    if PurePosixPath(location).suffix.lower() in MANIFEST_SUFFIXES:
        return Manifest(location)
    return AudioFile(location)


def _folder(location: str) -> Listing:
    if files.exists(files.join(location, "corpus.json")):
        raise InputError(f'"{location}" is a corpus already: it holds codes, and tokenising needs audio')
    if any(files.exists(files.join(location, name)) for name in hub.SAVED_FILES):
        return hub.SavedDataset(location)
    for name in FOLDER_MANIFESTS:
        if files.is_file(files.join(location, name)):
            return Manifest(files.join(location, name))
    return AudioFolder(location)
