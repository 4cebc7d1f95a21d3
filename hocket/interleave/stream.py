"""References to a stream, or to some of its levels: `audio`, `audio[:4]`, `audio[4:]`."""

import re
from dataclasses import dataclass, replace

from hocket.errors import InputError
from hocket.vocab.vocabulary import TEXT

_PATTERN = re.compile(r"([A-Za-z_]\w*)(?:\[(\d*):(\d*)\])?")


@dataclass(frozen=True)
class StreamRef:
    """Levels `start` to `stop` of a stream; `stop` is None until the number of levels is known."""

    name: str
    start: int = 0
    stop: int | None = None

    @classmethod
    def parse(cls, text: "str | StreamRef") -> "StreamRef":
        """Reads `audio` or `audio[a:b]`.

        Raises:
            InputError: the text is neither.
        """
        if isinstance(text, StreamRef):
            return text
        match = _PATTERN.fullmatch(text.strip())
        if match is None:
            raise InputError(f'"{text}" is no stream; write a name such as audio, or levels of it such as audio[:4]')
        name, start, stop = match.groups()
        if name == TEXT:
            stop = stop or "1"
        return cls(name, int(start or 0), int(stop) if stop else None)

    def resolve(self, levels: int | None) -> "StreamRef":
        """Fixes an open end at `levels`, the number of levels that the stream has."""
        stop = self.stop if self.stop is not None else levels
        if stop is not None and (stop <= self.start or (levels is not None and self.name != TEXT and stop > levels)):
            raise InputError(f"{self} names no levels of a stream that has {levels}")
        return replace(self, stop=stop)

    @property
    def n_levels(self) -> int:
        """How many levels are meant.

        Raises:
            InputError: the number of levels was never given.
        """
        if self.stop is None:
            raise InputError(
                f'the number of levels of "{self.name}" is not known: write {self.name}[:8], '
                f"or load the layout with load_layout(…, levels=8)"
            )
        return self.stop - self.start

    def block(self, level: int) -> str:
        """The vocabulary block that holds the codes of a level (counted from the stream's level 0)."""
        return TEXT if self.name == TEXT else f"{self.name}.{level}"

    def __str__(self) -> str:
        if self.name == TEXT or (self.start == 0 and self.stop is None):
            return self.name
        return f"{self.name}[{self.start or ''}:{'' if self.stop is None else self.stop}]"
