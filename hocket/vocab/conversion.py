"""A `sentencepiece` model as a tokenizer of the `tokenizers` library, with the same ids.

Unigram (Kudo, 2018) and BPE models convert, with or without byte fallback. The ids are compared on up to 3,000
strings, made of the model's own pieces among others; a model for which they differ is refused with the string that
shows it. Converting takes 0.03 s for 1,200 pieces, 0.2 s for 16,000.

    sentencepiece                                 tokenizers
    character map of the normalizer               Precompiled
    remove_extra_whitespaces                      Strip, Replace(" {2,}" → " ")
    add_dummy_prefix, escape_whitespaces          Prepend("▁"), Replace(" " → "▁")
    scores of BPE pieces                          merges, best score first, every split of a piece
    user-defined symbols in BPE                   cut out before the merges
    <unk> and control pieces (<s>, </s>)          renamed <text:ID>, so that a literal "<s>" stays text

What may still differ: two splits of a unigram model that are equally likely (one library adds in float32, the other in
float64; such a tie is no reason to refuse), a literal "<0x41>" in text of a unigram model with byte fallback, and rare
composed characters, which the character maps cut differently. On 648,142 lines of program text, with 16,000 pieces and
byte fallback, 1 line differed for BPE and 110 for unigram. `Vocabulary.spell` checks each text, so none passes unseen.
"""

import random
import re
from collections.abc import Iterable

import tokenizers
from sentencepiece import sentencepiece_model_pb2 as proto
from tokenizers import Regex, decoders, models, normalizers, pre_tokenizers

from hocket.errors import InputError
from hocket.vocab.text import SentencePieceTokenizer

UNIGRAM, BPE = 1, 2
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, BYTE = 1, 2, 3, 4, 6
SPACE = "▁"
PROBES = (
    "", " ", "hello", " hello", "hello ", "two  spaces   three", "a\tb\nc\r\nd", "Hello, World! 123 4567.89", "...",
    "grüße aus köln", "你好，世界", "こんにちは", "안녕하세요", "привет мир", "مرحبا بالعالم", "नमस्ते", "ﬁne ½ ① Ⅷ ㎏",
    "e\u0301 combined", "🙂👍🏽 emoji", "zero\u200bwidth", "no\u00a0break", "\u3000wide", "<s> </s> <unk>", "▁ ?!",
    "a" * 50, "x y z " * 10, "ALL CAPS and CamelCase_snake", "http://example.org/?q=1&r=2", "\u0000\u0001",
)  # fmt: skip
N_PIECES, N_MIXTURES = 2000, 1000
ROUNDING = 1e-6
"""Relative precision of a sum in float32."""


def convert_sentencepiece(text: SentencePieceTokenizer) -> tokenizers.Tokenizer:
    """The same tokenizer in the other library.

    Raises:
        InputError: the model is neither unigram nor BPE, or a string was found with other ids.
    """
    model = proto.ModelProto.FromString(text.serialized())  # pyright: ignore[reportAttributeAccessIssue]
    kind, spec = model.trainer_spec.model_type, model.trainer_spec
    if kind not in (UNIGRAM, BPE) or spec.treat_whitespace_as_suffix or not model.normalizer_spec.escape_whitespaces:
        raise InputError(
            "this sentencepiece model cannot be written as a tokenizer.json: only unigram and BPE models with "
            "whitespace before the word can"
        )
    tokenizer = tokenizers.Tokenizer(_unigram(model) if kind == UNIGRAM else _bpe(model))
    carriage_return_is_space = text.encode("a\rb") == text.encode("a b")
    tokenizer.normalizer = _normalizer(model.normalizer_spec, carriage_return_is_space)
    if kind == BPE and _symbols(model):
        pattern = Regex("|".join(re.escape(symbol) for symbol in _symbols(model)))
        tokenizer.pre_tokenizer = pre_tokenizers.Split(pattern, "isolated")
    tokenizer.decoder = _decoder(model)
    strings = probes([p.piece for p in model.pieces if p.type in (NORMAL, USER_DEFINED)])
    compare(text, tokenizer, strings, [p.score for p in model.pieces] if kind == UNIGRAM else [])
    return tokenizer


def _names(model) -> list[str]:
    """Pieces in the order of their ids; what no text is encoded to has a name that no text has."""
    return [f"<text:{i}>" if p.type in (CONTROL, UNKNOWN) else p.piece for i, p in enumerate(model.pieces)]


def _unknown(model) -> int:
    return next(i for i, p in enumerate(model.pieces) if p.type == UNKNOWN)


def _unigram(model) -> models.Unigram:
    normal = [p.score for p in model.pieces if p.type == NORMAL] or [0.0]
    least, most = min(normal), max(normal)

    def score(piece) -> float:
        if piece.type == USER_DEFINED:  # so high that no other way of splitting wins
            return len(piece.piece) * most - 0.1
        return piece.score if piece.type == NORMAL else least

    scored = [(name, score(p)) for name, p in zip(_names(model), model.pieces, strict=True)]
    return models.Unigram(scored, unk_id=_unknown(model), byte_fallback=model.trainer_spec.byte_fallback)


def _bpe(model) -> models.BPE:
    names = _names(model)
    vocabulary = {name: i for i, name in enumerate(names)}
    scores = {p.piece: p.score for p in model.pieces if p.type == NORMAL}
    ranked = sorted((p for p in scores if len(p) > 1), key=lambda piece: -scores[piece])
    merges = [
        (piece[:cut], piece[cut:])
        for piece in ranked
        for cut in range(1, len(piece))
        if piece[:cut] in scores and piece[cut:] in scores
    ]
    return models.BPE(
        vocabulary,
        merges,
        unk_token=names[_unknown(model)],
        fuse_unk=True,
        byte_fallback=model.trainer_spec.byte_fallback,
        ignore_merges=bool(_symbols(model)),  # a symbol that was cut out has no merges of its own
    )


def _symbols(model) -> list[str]:
    """User-defined symbols, the longest first."""
    return sorted((p.piece for p in model.pieces if p.type == USER_DEFINED), key=len, reverse=True)


def _normalizer(spec, carriage_return_is_space: bool) -> normalizers.Normalizer:
    steps: list[normalizers.Normalizer] = []
    if carriage_return_is_space:  # Precompiled takes "\r\n" for one character
        steps.append(normalizers.Replace("\r", " "))
    if spec.precompiled_charsmap:
        steps.append(normalizers.Precompiled(spec.precompiled_charsmap))
    if spec.remove_extra_whitespaces:
        steps += [normalizers.Replace(Regex("^ +| +$"), ""), normalizers.Replace(Regex(" {2,}"), " ")]
    if spec.add_dummy_prefix:
        steps.append(normalizers.Prepend(SPACE))
    return normalizers.Sequence([*steps, normalizers.Replace(" ", SPACE)])


def _decoder(model) -> decoders.Decoder:
    steps = [decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse()]
    if model.normalizer_spec.add_dummy_prefix:
        steps.append(decoders.Strip(" ", 1, 0))
    return decoders.Sequence(steps)


def probes(pieces: list[str]) -> Iterable[str]:
    """Strings to compare on: scripts and whitespace, the model's own pieces, and random chains of those."""
    draw = random.Random(0)
    yield from PROBES
    yield from (piece.replace(SPACE, " ") for piece in draw.sample(pieces, min(N_PIECES, len(pieces))))
    for _ in range(N_MIXTURES if pieces else 0):
        yield "".join(draw.choices(pieces, k=draw.randint(2, 12))).replace(SPACE, " ")


def compare(
    text: SentencePieceTokenizer, tokenizer: tokenizers.Tokenizer, strings: Iterable[str], scores: list[float]
) -> None:
    """Refuses a conversion that gives other ids for one of the strings, unless they are as likely.

    Args:
        text, tokenizer: the two that should agree.
        strings: on what.
        scores: log-likelihood of each id of a unigram model; empty for BPE, where nothing is a tie.
    """
    for string in strings:
        expected, found = text.encode(string), tokenizer.encode(string, add_special_tokens=False).ids
        if expected != found and not _tied(expected, found, scores):
            raise InputError(
                "this sentencepiece model cannot be written as a tokenizer.json with the same ids: "
                f"{string[:60]!r} is {expected[:12]} in sentencepiece and {found[:12]} there"
            )


def _tied(a: list[int], b: list[int], scores: list[float]) -> bool:
    """Whether two ways of splitting the same string are equally likely, to the precision of float32."""
    if not scores:
        return False
    first, second = (sum(scores[i] for i in ids) for ids in (a, b))
    return abs(first - second) <= ROUNDING * max(abs(first), abs(second))
