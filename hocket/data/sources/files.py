"""Files and folders of a source, on this machine or behind a URL that fsspec opens (s3://, memory://, file://)."""

import glob
import io
import os
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO, TextIO, cast

import fsspec
from fsspec.core import url_to_fs

from hocket.data.clips import AudioSource, RemoteAudio
from hocket.data.places import asking, is_url


def join(folder: str, name: str) -> str:
    """Where a file is that a source in `folder` calls `name`; absolute paths and URLs stay as they are."""
    if is_url(name) or os.path.isabs(name):
        return name
    return f"{folder.rstrip('/')}/{name}" if is_url(folder) else os.path.join(folder, name)


def locate(folder: str, name: str) -> str:
    """Like `join`, but a relative path that is not in the folder may lie where the job runs."""
    location = join(folder, name)
    there = is_url(location) or os.path.exists(location)
    return location if there or not os.path.exists(name) else name


def parent(location: str) -> str:
    """The folder that a file lies in."""
    return location.rpartition("/")[0] if is_url(location) else str(Path(location).parent)


def base_name(location: str) -> str:
    """The last part of a path."""
    return PurePosixPath(location).name


def stem(location: str) -> str:
    """The last part of a path, without its suffix and .gz."""
    return PurePosixPath(location.removesuffix(".gz")).stem


@dataclass(frozen=True)
class OddlyNamedAudio:
    """A file on this machine whose name is not UTF-8, which libsndfile cannot be given."""

    path: bytes

    def file(self) -> io.BytesIO:
        with open(self.path, "rb") as file:
            return io.BytesIO(file.read())


def audio_at(location: str) -> Path | AudioSource:
    """The audio of a clip at a path or a URL."""
    if is_url(location):
        return RemoteAudio(location)
    return OddlyNamedAudio(os.fsencode(location)) if is_torn(location) else Path(location)


def exists(location: str) -> bool:
    """Whether there is a file or folder. Raises InputError for a URL that cannot be asked."""
    if not is_url(location):
        return os.path.exists(location)
    with asking(location):
        files, path = url_to_fs(location)
        return files.exists(path)


def is_file(location: str) -> bool:
    """Whether there is a file. Raises InputError for a URL that cannot be asked."""
    if not is_url(location):
        return os.path.isfile(location)
    with asking(location):
        files, path = url_to_fs(location)
        return files.isfile(path)


def find_below(url: str) -> list[str]:
    """Every file below a URL by its path from there. Raises InputError for a URL that cannot be asked."""
    with asking(url):
        files, path = url_to_fs(url)
        return [PurePosixPath(name).relative_to(path).as_posix() for name in files.find(path)]


def matching(pattern: str) -> list[str]:
    """The files that a pattern with * names, sorted. Raises InputError for a URL that cannot be asked."""
    if not is_url(pattern):
        return sorted(glob.glob(pattern))
    with asking(pattern):
        files, path = url_to_fs(pattern)
        return sorted(files.unstrip_protocol(name) for name in files.glob(path))


def open_bytes(location: str) -> AbstractContextManager[BinaryIO]:
    """The file's content as a stream. Raises OSError where it cannot be had."""
    return cast(AbstractContextManager[BinaryIO], fsspec.open(location, "rb"))


def open_text(location: str, newline: str | None = None, errors: str = "strict") -> AbstractContextManager[TextIO]:
    """The file's lines, UTF-8 with or without a mark. Raises OSError where it cannot be had."""
    opened = fsspec.open(location, "rt", encoding="utf-8-sig", errors=errors, newline=newline, compression="infer")
    return cast(AbstractContextManager[TextIO], opened)


def read_bytes(location: str) -> bytes:
    """All of a file. Raises OSError where it cannot be had."""
    with open_bytes(location) as file:
        return file.read()


def is_torn(text: str) -> bool:
    """Whether bytes that are no UTF-8 (read with "surrogateescape"), or half a pair of UTF-16, hide in a text."""
    return not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text)


def printable(text: str) -> str:
    """A name in UTF-8: other bytes of a file's name are written as escapes."""
    return text.encode("utf-8", "backslashreplace").decode() if is_torn(text) else text
