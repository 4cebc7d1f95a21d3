"""What every id means: blocks by name, names of ids, legal ranges, and codes to ids and back.

All of it follows from the text tokenizer's size, the text rows and the parts (`hocket.vocab.blocks`) and is computed
once. Looking up a name or an id costs under a microsecond; `ids` and `codes` are one addition for an array.

Shapes: T frames, K levels.
"""

from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

from hocket.errors import InputError, did_you_mean
from hocket.vocab.blocks import ALIGNED_TEXT, END_OF_PAD, PAD, TEXT, UNUSED, Block, Part, joined, lay_out
from hocket.vocab.codes import Array, add_offsets, remove_offsets
from hocket.vocab.text import TextTokenizer


@dataclass(frozen=True, kw_only=True)
class IdSpace:
    """Blocks, special tokens and named tokens, and the codes of each stream in them."""

    text: TextTokenizer | None
    text_rows: int
    """Rows of the text block: the tokenizer's ids and those of the text model that no token has. 0 without text."""
    parts: tuple[Part, ...]
    """What was built, then what grew."""

    @cached_property
    def _all(self) -> Part:
        return joined(self.parts)

    @cached_property
    def _layout(self) -> tuple[tuple[Block, ...], dict[str, int]]:
        blocks, specials = lay_out(self.text.size if self.text else None, self.text_rows, self.parts)
        return tuple(blocks), specials

    @property
    def blocks(self) -> tuple[Block, ...]:
        """All blocks in the order of their ids, without a gap."""
        return self._layout[0]

    @property
    def specials(self) -> dict[str, int]:
        """Ids of the special tokens by name."""
        return self._layout[1]

    @property
    def streams(self) -> dict[str, tuple[int, ...]]:
        """Codebook sizes of each code stream, level 0 first."""
        return self._all.streams

    @property
    def codecs(self) -> dict[str, str]:
        """Fingerprint of the codec behind each code stream, where it is known."""
        return self._all.codecs

    @property
    def share(self) -> dict[str, str]:
        """Streams that use the blocks of another stream, and which."""
        return self._all.share

    @property
    def tokens(self) -> dict[str, tuple[str, ...]]:
        """Names of the tokens of each group."""
        return self._all.tokens

    @property
    def reserved(self) -> dict[str, int]:
        """Sizes of the plain blocks."""
        return self._all.reserved

    @property
    def all_streams(self) -> tuple[str, ...]:
        """Every name that `ids` and `codes` take: text, aligned text, code streams, reserved blocks, token groups."""
        return (*((TEXT, ALIGNED_TEXT) if self.text else ()), *self._all.names)

    @property
    def size(self) -> int:
        """The number of ids."""
        return self.blocks[-1].stop

    def __getitem__(self, name: str) -> Block:
        if name not in self._by_name:
            raise InputError(f'the vocabulary has no block "{name}"' + did_you_mean(name, self._by_name))
        return self._by_name[name]

    @cached_property
    def _by_name(self) -> dict[str, Block]:
        """Blocks by name; those of a stream that shares stand under its own name too."""
        blocks = {block.name: block for block in self.blocks}
        for name, owner in self.share.items():
            blocks |= {f"{name}.{k}": blocks[f"{owner}.{k}"] for k in range(len(self.streams[name]))}
        return blocks

    @cached_property
    def _named(self) -> dict[str, int]:
        """Ids by name: special tokens, tokens of groups, and the masks of shared blocks under both names."""
        groups = {f"<{g}.{t}>": self[g].start + i for g, names in self.tokens.items() for i, t in enumerate(names)}
        masks = {
            f"<mask.{name}>": self.specials[f"<mask.{b.name}>"] for name, b in self._by_name.items() if name != b.name
        }
        return self.specials | groups | masks

    @cached_property
    def _names(self) -> dict[int, str]:
        """Names of the ids that have one of their own."""
        own = {token_id: name for name, token_id in reversed(self._named.items())}
        unused = self._by_name.get(UNUSED, Block(UNUSED, 0, 0))
        return own | {i: f"<{UNUSED}:{i}>" for i in range(unused.start, unused.stop)}

    def id(self, special: str) -> int:
        """The id of a special token such as `<bos>`, or of a token of a group such as `<language.en>`."""
        if special not in self._named:
            raise InputError(f"the vocabulary has no special token {special}" + did_you_mean(special, self._named))
        return self._named[special]

    def code(self, group: str, token: str) -> int:
        """The code of a token within its group: `code("language", "en")`."""
        if group not in self.tokens:
            raise InputError(f'the vocabulary has no token group "{group}"' + did_you_mean(group, self.tokens))
        if token not in self.tokens[group]:
            raise InputError(f'"{group}" has no token "{token}"' + did_you_mean(token, self.tokens[group]))
        return self.tokens[group].index(token)

    def name_of(self, token_id: int) -> str:
        """A readable name: `<bos>`, `<language.en>`, `audio.3:517`, `text:42`, `<unused:151800>`."""
        if token_id in self._names:
            return self._names[token_id]
        if not 0 <= token_id < self.size:
            raise InputError(f"id {token_id} is outside the vocabulary of {self.size} ids")
        block = self.blocks[bisect_right(self.blocks, token_id, key=lambda b: b.start) - 1]
        return f"{block.name}:{token_id - block.start}"

    def ranges(self, legal: Iterable[str]) -> tuple[tuple[int, int], ...]:
        """Half-open id ranges of a legal set given as names of blocks, special tokens and tokens of groups.

        They ascend; ranges that touch or overlap are one.
        """
        spans = []
        for name in legal:
            start = self.id(name) if name.startswith("<") else self[name].start
            spans.append((start, start + 1 if name.startswith("<") else self[name].stop))
        merged: list[tuple[int, int]] = []
        for start, stop in sorted(spans):
            if merged and start <= merged[-1][1]:
                start, stop = merged[-1][0], max(stop, merged.pop()[1])
            merged.append((start, stop))
        return tuple(merged)

    def shares(self, a: str, b: str) -> bool:
        """Whether two block names mean the same ids, so that two live rows of one step could not be told apart."""
        first, second = (self[TEXT if name == ALIGNED_TEXT else name] for name in (a, b))
        return first == second

    def levels(self, stream: str) -> int:
        """K, the number of levels of a stream (1 for text, token groups and reserved blocks)."""
        if stream not in self.all_streams:
            raise InputError(f'the vocabulary has no stream "{stream}"' + did_you_mean(stream, self.all_streams))
        return len(self.streams.get(stream, (1,)))

    def offsets(self, stream: str) -> tuple[int, ...]:
        """What to add to a code of each level to get its id."""
        n_levels = self.levels(stream)
        if stream in self.streams:
            return tuple(self[f"{stream}.{k}"].start for k in range(n_levels))
        return (self[TEXT if stream == ALIGNED_TEXT else stream].start,)

    def sizes(self, stream: str) -> tuple[int, ...]:
        """The number of codes of each level. That of aligned text counts the unused text rows, which are not legal."""
        return tuple(ranges[-1][1] for ranges in self._legal(stream))

    def _legal(self, stream: str) -> list[tuple[tuple[int, int], ...]]:
        """By level, half-open ranges of legal codes."""
        if self.levels(stream) and stream in self.streams:
            return [((0, size),) for size in self.streams[stream]]
        if stream == ALIGNED_TEXT:
            return [self.ranges([TEXT, PAD, END_OF_PAD])]
        return [((0, self[stream].size),)]

    def ids(self, stream: str, codes: Array, *, first_level: int = 0) -> Array:
        """Ids of codes `[…, T, K]`, or `[T]` for one level; numpy or torch, on any device. The result is int64.

        Args:
            stream: any of `all_streams`.
            codes: K levels from `first_level` on; fewer than the stream has are fine.
            first_level: the level of the first column.

        Raises:
            InputError: says which frame and level holds a code that the level does not have.
        """
        return add_offsets(codes, stream, first_level, self.offsets(stream), self._legal(stream))

    def codes(self, stream: str, ids: Array, *, first_level: int = 0) -> Array:
        """Codes of ids; the inverse of `ids`, with the same shapes.

        Raises:
            InputError: says which frame and level holds which token that is none of the level's.
        """
        return remove_offsets(ids, stream, first_level, self.offsets(stream), self._legal(stream), self._say)

    def _say(self, token_id: int) -> str:
        return self.name_of(token_id) if 0 <= token_id < self.size else f"id {token_id}"
