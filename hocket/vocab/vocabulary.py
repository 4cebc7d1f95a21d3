"""The id space: consecutive blocks, named special tokens, and the fingerprint.

    text            special                              audio.0        audio.1
    [0 … size_text) [<none> <bos> … <mask.audio.0> …)    [1024 ids)     [1024 ids) …

Text comes first so that a pretrained text model keeps its embedding rows. `ids = codes + offset`, one offset a level.

Special tokens, each with one meaning:

    <none>          filler: embeds to zero, is never predicted
    <bos>           first step of a document
    <cont>          first step of a document whose true start was cut off
    <null>          a dropped condition, in place
    <wait>          a step in which nothing is due (input only; keeps a step from being all filler)
    <end.STREAM>    the true end of a stream
    <mask.BLOCK>    a masked code of that block
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from hocket.errors import InputError, did_you_mean
from hocket.vocab.text import TextTokenizer, load_tokenizer

TEXT = "text"
SPECIAL = "special"
FILE_NAME = "vocabulary.json"


@dataclass(frozen=True)
class Block:
    """A named half-open range of ids: `[start, start + size)`."""

    name: str
    start: int
    size: int

    @property
    def stop(self) -> int:
        return self.start + self.size


@dataclass(frozen=True, kw_only=True)
class Vocabulary:
    """Blocks and special tokens of one model. Make it with `Vocabulary.build` or `Vocabulary.load`."""

    text: TextTokenizer | None
    streams: dict[str, tuple[int, ...]]
    """Codebook sizes of each code stream, level 0 first."""
    codecs: dict[str, str]
    """Fingerprint of the codec behind each code stream, where it is known."""
    blocks: tuple[Block, ...]
    specials: dict[str, int]
    """Ids of the special tokens by name."""

    @classmethod
    def build(
        cls,
        text: TextTokenizer | None = None,
        streams: Mapping[str, Sequence[int]] | None = None,
        codecs: Mapping[str, str] | None = None,
    ) -> "Vocabulary":
        """Lays out the id space for a text tokenizer and code streams.

        Args:
            text: tokenizer of the `text` stream, or None for a vocabulary without text.
            streams: codebook sizes by stream, such as `{"audio": [1024] * 8}`.
            codecs: codec fingerprints by stream; they enter the vocabulary's fingerprint.

        Raises:
            InputError: no stream at all, a reserved or malformed stream name, or a codebook without entries.
        """
        sizes = {name: tuple(int(s) for s in levels) for name, levels in (streams or {}).items()}
        _check_streams(sizes, has_text=text is not None)
        levels = {f"{name}.{k}": size for name, per_level in sizes.items() for k, size in enumerate(per_level)}
        names = ["<none>", "<bos>", "<cont>", "<null>", "<wait>"]
        names += [f"<end.{stream}>" for stream in ([TEXT] if text else []) + list(sizes)]
        names += [f"<mask.{block}>" for block in levels]
        block_sizes = ({TEXT: text.size} if text else {}) | {SPECIAL: len(names)} | levels
        blocks, start = [], 0
        for name, size in block_sizes.items():
            blocks.append(Block(name, start, size))
            start += size
        first_special = next(b.start for b in blocks if b.name == SPECIAL)
        return cls(
            text=text,
            streams=sizes,
            codecs=dict(codecs or {}),
            blocks=tuple(blocks),
            specials={name: first_special + i for i, name in enumerate(names)},
        )

    @property
    def size(self) -> int:
        """The number of ids."""
        return self.blocks[-1].stop

    def __getitem__(self, name: str) -> Block:
        for block in self.blocks:
            if block.name == name:
                return block
        raise InputError(f'the vocabulary has no block "{name}"' + did_you_mean(name, [b.name for b in self.blocks]))

    def id(self, special: str) -> int:
        """The id of a special token such as `<bos>`."""
        if special not in self.specials:
            raise InputError(f"the vocabulary has no special token {special}" + did_you_mean(special, self.specials))
        return self.specials[special]

    def offsets(self, stream: str) -> tuple[int, ...]:
        """What to add to a code of each level to get its id; one entry for the text stream."""
        if stream == TEXT:
            return (self[TEXT].start,)
        return tuple(self[f"{stream}.{k}"].start for k in range(self.levels(stream)))

    def levels(self, stream: str) -> int:
        """K, the number of levels of a stream (1 for text)."""
        if stream == TEXT and self.text is not None:
            return 1
        if stream not in self.streams:
            known = [*self.streams, *([TEXT] if self.text else [])]
            raise InputError(f'the vocabulary has no stream "{stream}"' + did_you_mean(stream, known))
        return len(self.streams[stream])

    def ranges(self, legal: Sequence[str]) -> tuple[tuple[int, int], ...]:
        """Half-open id ranges of a legal set given as block and special token names, ascending."""
        spans = []
        for name in legal:
            if name.startswith("<"):
                spans.append((self.id(name), self.id(name) + 1))
            else:
                spans.append((self[name].start, self[name].stop))
        return tuple(sorted(spans))

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

    def name_of(self, token_id: int) -> str:
        """A readable name: `<bos>`, `audio.3:517`, `text:42`."""
        for name, special in self.specials.items():
            if special == token_id:
                return name
        for block in self.blocks:
            if block.start <= token_id < block.stop:
                return f"{block.name}:{token_id - block.start}"
        raise InputError(f"id {token_id} is outside the vocabulary of {self.size} ids")

    @property
    def fingerprint(self) -> str:
        """A hash over block names, sizes and offsets, special tokens, the text tokenizer and the codecs."""
        return hashlib.sha256(json.dumps(self._facts(), sort_keys=True).encode()).hexdigest()[:16]

    def _facts(self) -> dict:
        return {
            "blocks": [[b.name, b.start, b.size] for b in self.blocks],
            "specials": self.specials,
            "text": self.text.fingerprint if self.text else None,
            "codecs": self.codecs,
        }

    def save(self, folder: str | Path) -> None:
        """Writes `vocabulary.json` and, with text, the tokenizer's file."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        content = {"streams": self.streams, "fingerprint": self.fingerprint, **self._facts()}
        (folder / FILE_NAME).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
        if self.text:
            self.text.save(folder)

    @classmethod
    def load(cls, folder: str | Path) -> "Vocabulary":
        """Reads a saved vocabulary.

        Raises:
            InputError: the folder holds none, or its files no longer agree with the fingerprint.
        """
        path = Path(folder) / FILE_NAME
        if not path.exists():
            raise InputError(f"{folder} holds no vocabulary: {FILE_NAME} is missing")
        content = json.loads(path.read_text(encoding="utf-8"))
        text = load_tokenizer(folder) if content["text"] else None
        vocabulary = cls.build(text, content["streams"], content["codecs"])
        if vocabulary.fingerprint != content["fingerprint"]:
            raise InputError(
                f"the vocabulary in {folder} was changed after it was saved: its fingerprint is "
                f"{vocabulary.fingerprint}, the file says {content['fingerprint']}"
            )
        return vocabulary


def _check_streams(sizes: Mapping[str, tuple[int, ...]], has_text: bool) -> None:
    if not sizes and not has_text:
        raise InputError("a vocabulary needs a text tokenizer or at least one code stream")
    for name, levels in sizes.items():
        if name in (TEXT, SPECIAL) or not name.isidentifier():
            raise InputError(f'"{name}" cannot name a code stream; use an identifier other than "{TEXT}", "{SPECIAL}"')
        if not levels or min(levels) < 1:
            raise InputError(f'stream "{name}" has codebook sizes {list(levels)}; each level needs at least one entry')
