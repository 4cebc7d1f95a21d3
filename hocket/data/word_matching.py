"""Words of a text against the words that a recogniser heard: each told word takes a time from the heard ones.

Words that were heard as they are written take over their times; words between two of these share the time between them
by their letters, and where something else was heard instead they share its time.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from difflib import SequenceMatcher

from hocket.data.words import Word


def match_words(text: str, heard: Sequence[Word], seconds: float) -> tuple[tuple[Word, ...], int, int]:
    """The words of a text with the times of those heard; how many there are, and how many were heard as written.

    `seconds`: the length of the clip, in which all times lie, in order. What has no letters (a dash) is no word to be
    counted and takes no time.
    """
    heard = in_order(heard, seconds)
    told = text.split()
    keys, heard_keys = [word_key(word) for word in told], [word_key(word.text) for word in heard]
    times: list[tuple[float, float]] = []
    n_matched = 0
    for kind, a, a_end, b, b_end in SequenceMatcher(None, keys, heard_keys, autojunk=False).get_opcodes():
        if kind == "equal":
            times += [(word.start, word.end) for word in heard[b:b_end]]
            n_matched += sum(map(bool, keys[a:a_end]))
        elif a < a_end:
            before = heard[b - 1].end if b else 0.0
            after = heard[b_end].start if b_end < len(heard) else seconds
            span = (heard[b].start, heard[b_end - 1].end) if b < b_end else (before, after)
            times += _shared(keys[a:a_end], *span)
    words = [Word(text=word, start=start, end=end) for word, (start, end) in zip(told, times, strict=True)]
    return in_order(words, seconds), sum(map(bool, keys)), n_matched


def in_order(words: Sequence[Word], seconds: float) -> tuple[Word, ...]:
    """The words with starts that never go back, inside the clip, to the millisecond."""
    ordered, last = [], 0.0
    for word in words:
        last = min(max(word.start, last), seconds)
        end = max(min(word.end, seconds), last)
        ordered.append(replace(word, start=round(last, 3), end=round(end, 3)))
    return tuple(ordered)


def word_key(word: str) -> str:
    """What two spellings of a word have in common."""
    return "".join(re.findall(r"\w+", word.casefold()))


def _shared(keys: Sequence[str], start: float, end: float) -> Iterator[tuple[float, float]]:
    """A stretch of time divided by letters."""
    total = sum(map(len, keys)) or 1
    length = max(end - start, 0.0)
    done = 0
    for key in keys:
        yield start + length * done / total, start + length * (done + len(key)) / total
        done += len(key)
