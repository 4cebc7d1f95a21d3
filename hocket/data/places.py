"""Folders on this machine and behind a URL, through fsspec: s3://bucket/corpus, hf://datasets/user/name, memory://x.

A file is written whole or not at all. On this machine that is a file aside, flushed to disk and renamed; an object
store shows an object only when all of it is there, so that there one write does.
"""

import contextlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fsspec
from fsspec.core import url_to_fs

from hocket.errors import InputError

CACHE_VARIABLE = "HOCKET_CACHE"
"""Names the folder for copies of what lies behind a URL; ~/.cache/hocket where it is not set."""


_NETWORK_LIBRARIES = ("aiohttp", "botocore", "gcsfs", "httpx", "httpx2", "requests")
"""Whose errors are no OSError where a machine has no network or no rights."""


def is_url(path: str | Path) -> bool:
    """Whether a path names a file system of fsspec's, as memory://a or s3://bucket/a do."""
    return "://" in str(path)


@contextmanager
def asking(url: str) -> Iterator[None]:
    """Where a file system behind a URL does not answer, that is an InputError, whatever its library raises."""
    try:
        yield
    except Exception as error:
        library = type(error).__module__.partition(".")[0]
        if isinstance(error, OSError | ImportError | ValueError) or library in _NETWORK_LIBRARIES:
            raise InputError(f'"{url}" cannot be opened: {str(error) or type(error).__name__}') from error
        raise


@dataclass(frozen=True)
class Place:
    """A folder and how its files are read and written; names are relative to it and may hold slashes."""

    name: str
    """As it was given."""
    files: Any  # fsspec.AbstractFileSystem
    root: str
    is_local: bool

    @classmethod
    def at(cls, path: str | Path) -> "Place":
        """Raises InputError for a URL that fsspec does not know or whose package is missing."""
        if not is_url(path):
            return cls(str(path), fsspec.filesystem("file"), str(path), True)
        try:
            files, root = url_to_fs(str(path))
        except (ImportError, ValueError) as error:
            raise InputError(f'"{path}" cannot be opened: {error}') from error
        return cls(str(path), files, root.rstrip("/"), files.protocol in ("file", ("file", "local")))

    def path(self, name: str = "") -> str:
        """Of a file, for the file system."""
        return f"{self.root}/{name}" if name else self.root

    def read(self, name: str) -> bytes | None:
        """The content of a file, or None where there is none."""
        with contextlib.nullcontext() if self.is_local else asking(self.name):
            try:
                return self.files.cat_file(self.path(name))
            except FileNotFoundError:
                return None

    def write(self, name: str, content: bytes, aside: str = "") -> None:
        """Write a whole file or none. `aside`: the folder for what is not whole yet. Raises InputError."""
        with self._changing(name):
            if not self.is_local:
                self.files.pipe_file(self.path(name), content)
                return
            path = Path(self.path(name))
            partial = (Path(self.path(aside)) if aside else path.parent) / f"{path.name}.partial"
            try:
                with partial.open("wb") as file:
                    file.write(content)
                    file.flush()
                    os.fsync(file.fileno())
                os.replace(partial, path)
            except OSError:
                partial.unlink(missing_ok=True)
                raise

    def has(self, name: str) -> bool:
        """Whether there is such a file or folder."""
        return self.files.exists(self.path(name))

    def is_file(self) -> bool:
        return self.files.isfile(self.root)

    def is_empty(self) -> bool:
        """Whether there is nothing in it, or no such folder."""
        return not self.files.exists(self.root) or not self.files.ls(self.root, detail=False)

    def make(self, name: str = "") -> None:
        """Make a folder and those above it. Raises InputError."""
        with self._changing(name):
            self.files.makedirs(self.path(name), exist_ok=True)

    def remove(self, name: str = "") -> None:
        """Take away a file or a whole folder, where it is there. Raises InputError."""
        with self._changing(name):
            if self.files.exists(self.path(name)):
                self.files.rm(self.path(name), recursive=True)

    def size(self, name: str) -> int:
        """Bytes of a file; 0 where there is none."""
        return self.files.size(self.path(name)) if self.files.isfile(self.path(name)) else 0

    @contextmanager
    def _changing(self, name: str) -> Iterator[None]:
        """What the file system refuses is an InputError that says where."""
        try:
            yield
        except OSError as error:
            reason = error.strerror or str(error) or type(error).__name__
            raise InputError(
                f'"{self.path(name) if self.is_local else self.name}" cannot be written: {reason}'
            ) from error


def cache_folder() -> Path:
    """Where copies of remote files are kept."""
    return Path(os.environ.get(CACHE_VARIABLE) or Path.home() / ".cache" / "hocket")


def fetch(place: Place, name: str, folder: Path) -> Path:
    """A copy of a remote file in a local folder, made where there is none of the same size."""
    target = folder / name
    if target.is_file() and target.stat().st_size == place.files.size(place.path(name)):
        return target
    partial = target.with_name(f".{target.name}.{os.getpid()}")
    partial.parent.mkdir(parents=True, exist_ok=True)
    with asking(place.name), place.files.open(place.path(name), "rb") as remote, partial.open("wb") as local:
        shutil.copyfileobj(remote, local)
    os.replace(partial, target)
    return target
