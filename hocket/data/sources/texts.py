"""Text without sound: .txt files, one document a line. JSON lines and data sets without audio are text too."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath

from hocket.data.clips import Clip, Rejected
from hocket.data.sources import files
from hocket.data.sources.folders import list_names
from hocket.data.sources.listing import Found
from hocket.data.sources.rows import as_text
from hocket.errors import InputError

TEXT_SUFFIXES = (".txt", ".txt.gz")


@dataclass(frozen=True)
class TextFile:
    """The lines of one file."""

    location: str

    def find(self) -> Iterator[Found]:
        yield from _documents(files.parent(self.location), PurePosixPath(self.location).name)

    def count(self) -> int:
        return sum(1 for _ in self.find())

    def nothing(self) -> str:
        return f'the text "{self.location}" has no lines'


@dataclass(frozen=True)
class TextFolder:
    """The lines of every text below a folder."""

    location: str

    def find(self) -> Iterator[Found]:
        for name in list_names(self.location):
            if is_text_name(name):
                yield from _documents(self.location, name)

    def count(self) -> int:
        return sum(1 for _ in self.find())

    def nothing(self) -> str:
        return f'the texts in "{self.location}" have no lines'


def is_text_name(name: str) -> bool:
    """Whether a file is text by its suffix."""
    return name.lower().endswith(TEXT_SUFFIXES)


def _documents(folder: str, name: str) -> Iterator[Found]:
    location = files.join(folder, name)
    stem = name.removesuffix(".gz").removesuffix(".txt")
    try:
        with files.open_text(location, errors="surrogateescape") as file:
            for line, raw in enumerate(file, start=1):
                where, id, place = f"{location}, line {line},", f"{stem}:{line}", f"{name}, line {line}"
                if files.is_torn(raw) or "\0" in raw:
                    yield where, Rejected(id=id, audio=place, reason=f"{where} is not UTF-8 text")
                elif text := as_text(raw):
                    yield where, Clip(id=id, name=place, audio=None, text=text)
    except OSError as error:
        raise InputError(f'the text "{location}" cannot be read: {error}') from error
