"""How the id space is laid out: blocks and special tokens of each part of a vocabulary.

    text        unused          special              audio.0      audio.1      language   special.1      image
    [tokenizer) [… embedding    [<pad> <epad> …      [1024 ids)   [1024 ids)   [2 ids)    [<end.image>   [8192 ids)
                rows of a       <none> <bos> …)                                           …)
                text model)
    |---------------------- part 0: Vocabulary.build -------------------------------|------ part 1: grow -----|

A part only ever adds ids after those that exist, so growth leaves every old id alone. `lay_out` computes everything
from the parts; nothing else decides an id. It costs microseconds and is done once a vocabulary.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields

from hocket.errors import InputError, did_you_mean

TEXT = "text"
ALIGNED_TEXT = "aligned_text"
"""Text on the audio clock (Moshi's inner monologue): codes of the text rows, then `<pad>` and `<epad>`."""
SPECIAL = "special"
UNUSED = "unused"
PAD, END_OF_PAD = "<pad>", "<epad>"
COMMON = ("<none>", "<bos>", "<cont>", "<null>", "<wait>")
TAKEN = (TEXT, ALIGNED_TEXT, SPECIAL, UNUSED)
PREFIXES = ("end", "to", "mask", "hocket")
"""Names that a token group cannot have, for its tokens would read like `<end.audio>`."""


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
class Part:
    """What one `build` or one `grow` puts into the id space."""

    streams: dict[str, tuple[int, ...]] = field(default_factory=dict)
    """Codebook sizes of each code stream, level 0 first."""
    codecs: dict[str, str] = field(default_factory=dict)
    """Fingerprint of the codec behind each code stream, where it is known."""
    share: dict[str, str] = field(default_factory=dict)
    """Streams that use the blocks of another stream, and which."""
    tokens: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Names of the tokens of each group."""
    reserved: dict[str, int] = field(default_factory=dict)
    """Sizes of plain blocks."""

    @classmethod
    def of(
        cls,
        streams: Mapping[str, Sequence[int]] | None,
        codecs: Mapping[str, str] | None,
        share: Mapping[str, str] | None,
        tokens: Mapping[str, Sequence[str]] | None,
        reserved: Mapping[str, int] | None,
    ) -> "Part":
        """A part from what a user gave, with sizes as whole numbers."""
        for group, names in (tokens or {}).items():
            if isinstance(names, str):
                raise InputError(f'token group "{group}" takes a list of names, not the text "{names}"')
        return cls(
            streams={name: tuple(int(size) for size in levels) for name, levels in (streams or {}).items()},
            codecs=dict(codecs or {}),
            share=dict(share or {}),
            tokens={name: tuple(names) for name, names in (tokens or {}).items()},
            reserved={name: int(size) for name, size in (reserved or {}).items()},
        )

    @property
    def names(self) -> tuple[str, ...]:
        """Every stream that the part adds, in the order of its blocks."""
        return (*self.streams, *self.reserved, *self.tokens)

    @property
    def block_sizes(self) -> dict[str, int]:
        """Sizes of the part's own blocks; a stream that shares has none."""
        owned = {name: levels for name, levels in self.streams.items() if name not in self.share}
        sizes = {f"{name}.{k}": size for name, levels in owned.items() for k, size in enumerate(levels)}
        return sizes | self.reserved | {name: len(names) for name, names in self.tokens.items()}

    def plain(self) -> dict:
        """The part as values that JSON holds; empty fields are left out."""
        return {name: value for name, value in asdict(self).items() if value}

    @classmethod
    def read(cls, plain: Mapping) -> "Part":
        """The part that `plain` wrote."""
        known = {f.name for f in fields(cls)}
        return cls.of(**{name: plain.get(name) for name in known})


def joined(parts: Iterable[Part]) -> Part:
    """Several parts as one."""
    parts = list(parts)
    merged = {f.name: {k: v for part in parts for k, v in getattr(part, f.name).items()} for f in fields(Part)}
    return Part(**merged)


def lay_out(text_size: int | None, text_rows: int, parts: Sequence[Part]) -> tuple[list[Block], dict[str, int]]:
    """Blocks in the order of their ids, and the ids of the special tokens by name.

    Args:
        text_size: ids of the text tokenizer, or None without text.
        text_rows: rows of the text block, ids that the tokenizer never gives included.
        parts: what was built and what grew.
    """
    blocks: list[Block] = []
    specials: dict[str, int] = {}

    def add(name: str, size: int) -> int:
        start = blocks[-1].stop if blocks else 0
        blocks.append(Block(name, start, size))
        return start

    if text_size is not None:
        add(TEXT, text_size)
        if text_rows > text_size:
            add(UNUSED, text_rows - text_size)
    for number, part in enumerate(parts):
        names = special_names(part, first=number == 0, has_text=text_size is not None)
        start = add(SPECIAL if number == 0 else f"{SPECIAL}.{number}", len(names))
        specials |= {name: start + i for i, name in enumerate(names)}
        for name, size in part.block_sizes.items():
            add(name, size)
    return blocks, specials


def special_names(part: Part, *, first: bool, has_text: bool) -> list[str]:
    """Special tokens of a part. Padding of aligned text is first, so that it directly follows the text rows."""
    text = [TEXT] if first and has_text else []
    names = [PAD, END_OF_PAD] if text else []
    names += COMMON if first else ()
    names += [f"<end.{name}>" for name in (*text, *([ALIGNED_TEXT] if text else []), *part.names)]
    names += [f"<to.{name}>" for name in (*text, *part.streams, *part.reserved)]
    return names + [f"<mask.{name}>" for name in (*text, *part.block_sizes)]


def completed(part: Part, before: Part) -> Part:
    """A part whose sharing streams have the sizes and the codec of the stream that they share."""
    streams, codecs = dict(part.streams), dict(part.codecs)
    owners = {**before.streams, **part.streams}
    for name, owner in part.share.items():
        if owner not in owners or owner in part.share or owner in before.share or owner == name:
            valid = [s for s in owners if s not in part.share and s not in before.share]
            raise InputError(
                f'"{name}" cannot share the blocks of "{owner}", which owns none' + did_you_mean(owner, valid)
            )
        sizes = streams.setdefault(name, owners[owner])
        if sizes != owners[owner]:
            raise InputError(
                f'"{name}" cannot share the blocks of "{owner}": its codebooks have {list(sizes)} entries, '
                f"those of {owner} {list(owners[owner])}"
            )
        codec = part.codecs.get(owner) or before.codecs.get(owner)
        if codec and codecs.setdefault(name, codec) != codec:
            raise InputError(f'"{name}" cannot share the blocks of "{owner}": their codes come from different codecs')
    return Part(streams=streams, codecs=codecs, share=part.share, tokens=part.tokens, reserved=part.reserved)


def check(part: Part, before: Part) -> None:
    """Refuses a part with names that are malformed or taken, empty blocks, or codecs of no stream.

    Raises:
        InputError: says which.
    """
    seen = set(before.names)
    for name in part.names:
        _check_name(name, seen)
        seen.add(name)
    for name, levels in part.streams.items():
        if not levels or min(levels) < 1:
            raise InputError(f'stream "{name}" has codebook sizes {list(levels)}; each level needs at least one entry')
    for name, size in part.reserved.items():
        if size < 1:
            raise InputError(f'the reserved block "{name}" has size {size}; it needs at least one entry')
    for group, names in part.tokens.items():
        _check_group(group, names)
    for name in part.codecs:
        if name not in part.streams:
            raise InputError(
                f'a codec is given for "{name}", which is no code stream' + did_you_mean(name, part.streams)
            )


def _check_name(name: str, seen: set[str]) -> None:
    if name in TAKEN or not name.isidentifier():
        taken = ", ".join(f'"{n}"' for n in TAKEN)
        raise InputError(
            f'"{name}" cannot name a code stream, token group or block; use an identifier other than {taken}'
        )
    if name in seen:
        raise InputError(f'the name "{name}" is taken: streams, token groups and reserved blocks each need their own')


def _check_group(group: str, names: Sequence[str]) -> None:
    if group in PREFIXES:
        raise InputError(f'"{group}" cannot name a token group: <{group}.…> are special tokens')
    if not names:
        raise InputError(f'token group "{group}" has no tokens')
    if len(set(names)) < len(names):
        double = next(name for i, name in enumerate(names) if name in names[:i])
        raise InputError(f'token group "{group}" names "{double}" twice')
    for name in names:
        if not isinstance(name, str) or not name or any(c in "<>" or c.isspace() for c in name):
            raise InputError(f'token group "{group}" has a token {name!r}; names are text without spaces, "<" or ">"')
