"""Words with their times: what lets text meet audio on one clock, in a clip and in every piece that is cut from it."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from hocket.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Word:
    """One word and when it is said."""

    text: str
    start: float
    """Seconds from the start of the clip (not of the file that the clip lies in)."""
    end: float
    stream: str = "audio"
    """Whose it is: the stream that holds its sound, such as `audio` or `user`."""


def check_words(words: Iterable[Word], where: str) -> tuple[Word, ...]:
    """The words in the order of their starts, stream by stream as they were given.

    Raises:
        InputError: a word is empty, starts before 0 s, or ends before it starts.
    """
    checked = tuple(sorted(words, key=lambda word: word.start))
    for word in checked:
        if not word.text.strip():
            raise InputError(f"{where} has an empty word at {word.start:g} s")
        if not 0 <= word.start <= word.end:
            raise InputError(f'{where} has the word "{word.text}" from {word.start:g} to {word.end:g} s')
    return checked


def words_between(words: Iterable[Word], start: float, end: float) -> tuple[Word, ...]:
    """The words that begin in the half-open span of seconds, with times from the span's start, none beyond its end."""
    length = end - start
    return tuple(
        replace(word, start=round(word.start - start, 6), end=round(min(word.end - start, length), 6))
        for word in words
        if start <= word.start < end
    )


def join_words(words: Iterable[Word], stream: str = "audio") -> str | None:
    """The words of a stream as text; None where there are none."""
    return " ".join(word.text for word in words if word.stream == stream) or None
