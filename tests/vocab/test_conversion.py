"""Sentencepiece models as tokenizers of the other library."""

import pytest

from hocket.errors import InputError
from hocket.vocab.conversion import compare, convert_sentencepiece

STRINGS = ["please hold  the line", "grüße\r\n你好 🙂", " <s> <unk> </s>", "e\u0301 ﬁne", "", "a [x] b<sep>hold"]


@pytest.mark.parametrize("model_type", ["unigram", "bpe"])
@pytest.mark.parametrize("byte_fallback", [False, True])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"normalization_rule_name": "identity", "add_dummy_prefix": False},
        {"remove_extra_whitespaces": False},
        {"user_defined_symbols": ["<sep>", "[x]"]},
    ],
)
def test_ids_are_equal(train_sentencepiece, model_type, byte_fallback, options):
    size = 340 if byte_fallback or model_type == "bpe" else 60
    text = train_sentencepiece(model_type=model_type, vocab_size=size, byte_fallback=byte_fallback, **options)
    tokenizer = convert_sentencepiece(text)
    for string in STRINGS:
        assert tokenizer.encode(string).ids == text.encode(string)


@pytest.mark.parametrize("options", [{"model_type": "word"}, {"treat_whitespace_as_suffix": True}])
def test_other_kinds_are_refused(train_sentencepiece, options):
    with pytest.raises(InputError, match="only unigram and BPE models"):
        convert_sentencepiece(train_sentencepiece(vocab_size=60, **options))


def test_a_difference_is_refused_unless_it_is_a_tie(train_sentencepiece):
    unigram = train_sentencepiece(vocab_size=60)
    other = convert_sentencepiece(train_sentencepiece(model_type="bpe", vocab_size=340))
    with pytest.raises(InputError, match="with the same ids: 'please'"):
        compare(unigram, other, ["please"], [])
    compare(unigram, other, ["please"], [0.0] * 340)
