"""Text out of tokens that come one after another.

A token may be a part of a character, and how it reads may depend on the one before it: tokens are held back until their
characters are whole, and read behind the few that came before.
"""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from hocket.interleave import unalign_text
from hocket.vocab import ALIGNED_TEXT, TEXT, Vocabulary

BEFORE = 8  # tokens that are read again
MOST_HELD = 32  # tokens of one character, or of none: random models write such
BROKEN = "\N{REPLACEMENT CHARACTER}"  # how decoders show bytes that are no character


def find_text(streams: Iterable[str]) -> str | None:
    """The stream of text among these; None where there is none."""
    held = set(streams)
    return next((name for name in (TEXT, ALIGNED_TEXT) if name in held), None)


def text_tokens(vocabulary: Vocabulary, stream: str, codes_TK: np.ndarray) -> list[int]:
    """The tokens of text, those of aligned text without pads."""
    if stream == ALIGNED_TEXT:
        return np.asarray(unalign_text(codes_TK, vocabulary.text_rows)[0]).tolist()
    return codes_TK[:, 0].tolist()


def whole_text(vocabulary: Vocabulary, streams: Mapping[str, np.ndarray]) -> str | None:
    """The text of a document; None where it has none."""
    stream = find_text(streams)
    return vocabulary.decode_text(text_tokens(vocabulary, stream, streams[stream])) if stream else None


class Words:
    """Tokens in, text out; all that came out, joined, is the text of all tokens."""

    def __init__(self, vocabulary: Vocabulary):
        self._vocabulary = vocabulary
        self._before: list[int] = []
        self._held: list[int] = []

    def push(self, tokens: Sequence[int]) -> str:
        """The text that these tokens complete."""
        self._held += tokens
        return self._read() if self._held else ""

    def finish(self) -> str:
        """What is left of a text that ends within a character."""
        return self._read(at_end=True) if self._held else ""

    def _read(self, at_end: bool = False) -> str:
        decode = self._vocabulary.decode_text
        whole, known = decode([*self._before, *self._held]), decode(self._before)
        if whole.endswith(BROKEN) and len(self._held) < MOST_HELD and not at_end:
            return ""
        self._before = [*self._before, *self._held][-BEFORE:]
        self._held = []
        return whole[len(known) :]
