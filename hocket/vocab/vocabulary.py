"""The id space: consecutive blocks, named special tokens, and the fingerprint.

    text            special                              audio.0        audio.1
    [0 … size_text) [<pad> <epad> <none> <bos> …)        [1024 ids)     [1024 ids) …

Text comes first so that a pretrained text model keeps its embedding rows. `ids = codes + offset`, one offset a level.

Special tokens, each with one meaning:

    <pad> <epad>    aligned text: nothing is said here, the next word begins (with text only)
    <none>          filler: embeds to zero, is never predicted
    <bos>           first step of a document
    <cont>          first step of a document whose true start was cut off
    <null>          a dropped condition, in place
    <wait>          a step in which nothing is due (input only; keeps a step from being all filler)
    <end.STREAM>    the true end of a stream
    <to.STREAM>     what follows is that stream (layouts that switch by spans)
    <mask.BLOCK>    a masked code of that block

A vocabulary is a text tokenizer and a list of parts, the first from `build`, one more for each `grow`; blocks and ids
follow from them (`hocket.vocab.blocks`).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from hocket.errors import InputError
from hocket.vocab import saving
from hocket.vocab.blocks import ALIGNED_TEXT, SPECIAL, TEXT, UNUSED, Part, check, completed
from hocket.vocab.idspace import IdSpace
from hocket.vocab.spelling import Speller
from hocket.vocab.text import TextTokenizer

__all__ = ["ALIGNED_TEXT", "TEXT", "Vocabulary"]

Sizes = Mapping[str, Sequence[int]]
Groups = Mapping[str, Sequence[str]]


@dataclass(frozen=True, kw_only=True)
class Vocabulary(IdSpace):
    """Blocks and special tokens of one model. Make it with `Vocabulary.build` or `Vocabulary.load`."""

    @classmethod
    def build(
        cls,
        text: TextTokenizer | None = None,
        streams: Sizes | None = None,
        codecs: Mapping[str, str] | None = None,
        *,
        text_rows: int | None = None,
        share: Mapping[str, str] | None = None,
        tokens: Groups | None = None,
        reserved: Mapping[str, int] | None = None,
    ) -> "Vocabulary":
        """Lays out the id space.

        Args:
            text: tokenizer of the `text` stream, or None for a vocabulary without text.
            streams: codebook sizes by stream, such as `{"audio": [1024] * 8}`.
            codecs: codec fingerprints by stream; they enter the vocabulary's fingerprint.
            text_rows: embedding rows of the pretrained text model, at least the tokenizer's size (the default).
            share: streams that use another's blocks, such as `{"user": "audio"}`.
            tokens: named tokens by group, such as `{"language": ["en", "de"]}`; each group is a one-level stream.
            reserved: sizes of plain blocks by name, such as `{"image": 8192}`; each is a one-level stream.

        Raises:
            InputError: no stream at all, a reserved, taken or malformed name, an empty block, or text rows too few.
        """
        part = Part.of(streams, codecs, share, tokens, reserved)
        if not part.names and text is None:
            raise InputError("a vocabulary needs a text tokenizer or at least one code stream")
        text_size = text.size if text else 0
        rows = text_size if text_rows is None else text_rows
        if rows < text_size or (rows and text is None):
            owner = f"the text tokenizer has {text_size} ids" if text else "there is no text tokenizer"
            raise InputError(f"text_rows is {rows}, but {owner}")
        return cls(text=text, text_rows=rows, parts=())._extended(part)

    def grow(
        self,
        streams: Sizes | None = None,
        codecs: Mapping[str, str] | None = None,
        *,
        share: Mapping[str, str] | None = None,
        tokens: Groups | None = None,
        reserved: Mapping[str, int] | None = None,
    ) -> "Vocabulary":
        """A larger vocabulary in which every id of this one means what it did; new ids follow the last.

        Args:
            streams, codecs, share, tokens, reserved: what is new, as in `build`.

        Raises:
            InputError: nothing is new, or a name is malformed or taken.
        """
        part = Part.of(streams, codecs, share, tokens, reserved)
        if not part.names and not part.share:
            raise InputError("a vocabulary grows by streams, tokens or reserved blocks; none were given")
        return self._extended(part)

    def _extended(self, part: Part) -> "Vocabulary":
        """This vocabulary with one more part after those that it has."""
        part = completed(part, self._all)
        check(part, self._all)
        return Vocabulary(text=self.text, text_rows=self.text_rows, parts=(*self.parts, part))

    def encode_text(self, text: str) -> list[int]:
        """Token numbers of `text` within the text block (the block's offset not yet added)."""
        return self._tokenizer().encode(text)

    def decode_text(self, tokens: Sequence[int]) -> str:
        """The text of token numbers within the text block."""
        return self._tokenizer().decode(tokens)

    def _tokenizer(self) -> TextTokenizer:
        if self.text is None:
            raise InputError("this vocabulary has no text tokenizer; train with vocab.text_size above 0")
        return self.text

    @cached_property
    def speller(self) -> Speller:
        """What turns ids into a string and back, made at the first use (0.05 s for 8 levels of 2048)."""
        n_text = self.text.size if self.text else 0
        names = [self.name_of(i) for i in range(n_text, self.size)]
        aliases = {name: block.name for name, block in self._by_name.items() if name != block.name}
        sizes = {b.name: b.size for b in self.blocks if b.name.split(".")[0] not in (TEXT, SPECIAL, UNUSED)}
        return Speller(self.text, names, {n: s for n, s in sizes.items() if n not in self.tokens}, aliases)

    def spell(self, ids: Iterable[int], *, strict: bool = False) -> str:
        """A flat sequence of ids as a string: `please hold<to.audio><audio.0:517>…`.

        Text that the tokenizer would read back otherwise, such as half a word, is spelled `<text:ID>` a token, which
        `read` understands and an exported tokenizer does not.

        Args:
            ids: any ids of the vocabulary.
            strict: refuse what an exported tokenizer would not read back to the same ids.

        Raises:
            InputError: an id is outside the vocabulary, or `strict` and text cannot be spelled plainly.
        """
        return self.speller.spell([int(i) for i in ids], strict=strict)

    def read(self, string: str) -> list[int]:
        """The ids of a string; the inverse of `spell`.

        Raises:
            InputError: a code is none of its block's, or there is text and the vocabulary has none.
        """
        return self.speller.read(string)

    @property
    def fingerprint(self) -> str:
        """A hash over block names, sizes and offsets, special and named tokens, the text tokenizer and the codecs."""
        return saving.fingerprint(self._facts())

    def _facts(self) -> dict:
        return {
            "blocks": [[b.name, b.start, b.size] for b in self.blocks],
            "specials": self.specials,
            "tokens": self.tokens,
            "share": self.share,
            "text": self.text.fingerprint if self.text else None,
            "codecs": self.codecs,
        }

    def save(self, folder: str | Path) -> None:
        """Writes `vocabulary.json` and, with text, the tokenizer's file."""
        saving.save(folder, self.text, self.text_rows, self.parts, self._facts())

    @classmethod
    def load(cls, folder: str | Path) -> "Vocabulary":
        """Reads a saved vocabulary.

        Raises:
            InputError: the folder holds none, it is of another format, or its files no longer agree with the
                fingerprint.
        """
        saved = saving.read(folder)
        vocabulary = cls(text=saved.text, text_rows=saved.text_rows, parts=())
        for part in saved.parts:
            vocabulary = vocabulary._extended(part)
        saving.check(folder, vocabulary.fingerprint, saved.fingerprint)
        return vocabulary
