"""A source: clips that come one by one, again and again in the same order, and beside them what could not be used.

Each kind of source is a `Listing`. `Source` adds what all kinds share: an id names one clip, and a source without
anything is an error. To know an id again costs about 120 bytes a clip while the source is gone through.
"""

import hashlib
from collections.abc import Callable, Iterator
from typing import Protocol

from hocket.data.clips import Clip, Rejected
from hocket.errors import InputError

Found = tuple[str, Clip | Rejected]
"""Where something was found, in words that begin a sentence, and the clip or why it is none."""


class Listing(Protocol):
    """One kind of source."""

    def find(self) -> Iterator[Found]:
        """Everything that the source has, in a fixed order. Raises InputError where the source as a whole is bad."""
        ...

    def count(self) -> int | None:
        """How many `find` yields, or None where only going through tells."""
        ...

    def nothing(self) -> str:
        """What to say where `find` yields nothing."""
        ...


class Source:
    """The clips of a source, read lazily; each `iter` begins at the start."""

    def __init__(self, name: str, listing: Listing):
        self.name, self._listing = name, listing

    @property
    def n_clips(self) -> int | None:
        """How many clips and rejected rows there are; None for streams, which only going through counts."""
        return self._listing.count()

    def __iter__(self) -> Iterator[Clip | Rejected]:
        """Raises InputError for a source that is malformed as a whole or holds nothing."""
        firsts = _FirstPlaces(self._listing.find)
        n_found = 0
        for where, item in self._listing.find():
            yield item if isinstance(item, Rejected) else firsts.check(n_found, where, item)
            n_found += 1
        if not n_found:
            raise InputError(self._listing.nothing())

    def __repr__(self) -> str:
        return f"Source({self.name!r})"


class _FirstPlaces:
    """Where each id was met first, as a 64-bit hash and a number; the words are found again when they are needed."""

    def __init__(self, find: Callable[[], Iterator[Found]]):
        self._find = find
        self._number_of: dict[int, int] = {}
        self._again: Iterator[Found] = iter(())
        self._reached = -1
        self._place = ""

    def check(self, number: int, where: str, clip: Clip) -> Clip | Rejected:
        """The clip, or why not where its id has been met before."""
        digest = hashlib.blake2b(clip.id.encode("utf-8", "surrogatepass"), digest_size=8).digest()
        first = self._number_of.setdefault(int.from_bytes(digest, "big"), number)
        if first == number:
            return clip
        reason = f'{where} has the id "{clip.id}" that {self._place_of(first)} has already; ids name one clip'
        return Rejected(id=clip.id, audio=clip.name, reason=reason)

    def _place_of(self, number: int) -> str:
        """Goes on from the last place asked for: a source given twice is gone through once more, not n times."""
        if number < self._reached or self._reached < 0:
            self._again, self._reached = self._find(), -1
        while self._reached < number:
            self._place = next(self._again)[0]
            self._reached += 1
        return self._place


def attempt(where: str, id: str, audio: str, make: Callable[[], Clip]) -> Found:
    """What `make` builds, or a rejection with the reason that it gave."""
    try:
        return where, make()
    except InputError as error:
        return where, Rejected(id=id, audio=audio, reason=str(error))
