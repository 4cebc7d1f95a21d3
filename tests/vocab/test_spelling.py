"""Ids as strings, and the exported tokenizer that reads them."""

import numpy as np
import pytest
import tokenizers
import transformers
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, decoders, models, pre_tokenizers

from hocket.errors import InputError
from hocket.vocab import HuggingFaceTokenizer, Vocabulary, export_tokenizer, timestamps, train_bpe
from tests.vocab.conftest import TEXTS


def word_tokenizer():
    """Marks words with a space before them, but not after another token; brings a `<bos>` of its own."""
    words = ["<unk>", "<bos>", "▁please", "▁hold", "please", "hold", "▁", *"pleashod"]
    tokenizer = tokenizers.Tokenizer(models.BPE({w: i for i, w in enumerate(words)}, [], unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    tokenizer.decoder = decoders.Metaspace(prepend_scheme="first")
    tokenizer.add_special_tokens([AddedToken("<bos>", special=True, normalized=False)])
    tokenizer.enable_truncation(3)
    return HuggingFaceTokenizer(tokenizer)


@pytest.fixture(scope="module", params=["none", "bpe", "words", "unigram", "sentencepiece bpe"])
def vocabulary(request, train_sentencepiece):
    makers = {
        "none": lambda: None,
        "bpe": lambda: train_bpe(TEXTS, 300),
        "words": word_tokenizer,
        "unigram": lambda: train_sentencepiece(vocab_size=60),
        "sentencepiece bpe": lambda: train_sentencepiece(vocab_size=330, model_type="bpe", byte_fallback=True),
    }
    text = makers[request.param]()
    grown = Vocabulary.build(
        text, {"audio": [16] * 3}, text_rows=text.size + 3 if text else None, tokens={"time": timestamps(1.0, 0.5)}
    )
    return grown.grow(share={"user": "audio"}, reserved={"image": 8})


@pytest.fixture(scope="module")
def exported(vocabulary, tmp_path_factory):
    folder = export_tokenizer(vocabulary, tmp_path_factory.mktemp("exported"))
    return transformers.AutoTokenizer.from_pretrained(folder)


def mixture(vocabulary, seed=0):
    """Audio, text, audio, text, markers: a flat layout."""
    draw = np.random.default_rng(seed)

    def audio():
        return vocabulary.ids("audio", draw.integers(0, 16, (3, 3))).ravel().tolist()

    def text(words):
        return vocabulary.encode_text(words) if vocabulary.text else []

    ids = [vocabulary.id("<bos>"), *text("please hold"), vocabulary.id("<to.audio>"), *audio()]
    return [*ids, *text("hold"), *audio(), vocabulary.id("<time.0.5>"), vocabulary.id("<end.audio>")]


def test_every_id_has_a_spelling_that_both_read(vocabulary, exported):
    first = vocabulary.text.size if vocabulary.text else 0
    ids = list(range(first, vocabulary.size))
    string = vocabulary.spell(ids, strict=True)
    assert vocabulary.read(string) == ids
    assert exported.encode(string, add_special_tokens=False) == exported.encode(string) == ids
    assert all(vocabulary.read(vocabulary.spell([i])) == [i] for i in range(vocabulary.size))
    assert len(exported) == vocabulary.size


def test_a_flat_layout_is_a_string(vocabulary, exported):
    for seed in range(20):
        ids = mixture(vocabulary, seed)
        string = vocabulary.spell(ids, strict=True)
        assert exported.encode(string, add_special_tokens=False) == vocabulary.read(string) == ids


@given(st.data())
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
def test_any_ids_come_back(vocabulary, exported, data):
    ids = data.draw(st.lists(st.integers(0, vocabulary.size - 1), max_size=30))
    string = vocabulary.spell(ids)
    assert vocabulary.read(string) == ids
    if "<text:" not in string:
        assert exported.encode(string, add_special_tokens=False) == ids


@given(st.text(max_size=30))
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
def test_any_text_comes_back(vocabulary, text):
    if vocabulary.text:
        ids = [vocabulary.id("<none>"), *vocabulary.encode_text(text), vocabulary.id("<bos>")]
        assert vocabulary.read(vocabulary.spell(ids)) == ids


def test_literal_tokens_in_text_stay_text(bpe):
    vocabulary = Vocabulary.build(bpe, {"audio": [4]})
    for text in ("say <bos>", "<audio.0:3>", "<audio.0:9>", "<text:5>"):
        ids = vocabulary.encode_text(text)
        assert vocabulary.read(vocabulary.spell(ids)) == ids
        with pytest.raises(InputError, match="cannot be spelled"):
            vocabulary.spell(ids, strict=True)


def test_names_that_the_text_model_has_are_spelled_otherwise():
    vocabulary = Vocabulary.build(word_tokenizer(), {"audio": [4]})
    assert vocabulary.spell([1, vocabulary.id("<bos>")]) == "<bos><hocket.bos>"
    assert len(vocabulary.encode_text("hold hold hold hold hold")) > 3


@pytest.mark.parametrize(
    ("string", "sentence"),
    [
        ("<audio.0:4>", "codes go from 0 to 3"),
        ("<audio.0:03>", "no code of audio.0"),
        ("<user.0:3>", "written <audio.0:3>"),
        ("<bos>hello<bos>", '"hello" is no token of this vocabulary, which has no text'),
        ("<text:0>", "has 0 text ids"),
    ],
)
def test_strings_that_mean_nothing_are_refused(string, sentence):
    with pytest.raises(InputError, match=sentence):
        Vocabulary.build(None, {"audio": [4]}, share={"user": "audio"}).read(string)


def test_ids_outside_are_refused_and_so_is_a_vocabulary_s_folder(tmp_path, bpe):
    vocabulary = Vocabulary.build(bpe, {"audio": [4]})
    with pytest.raises(InputError, match="outside the vocabulary"):
        vocabulary.spell([vocabulary.size])
    vocabulary.save(tmp_path)
    with pytest.raises(InputError, match="choose another folder"):
        export_tokenizer(vocabulary, tmp_path)


def test_gaps_in_the_text_model_are_refused():
    gapped = tokenizers.Tokenizer(models.WordLevel({"a": 0, "b": 5}, unk_token="a"))
    vocabulary = Vocabulary.build(HuggingFaceTokenizer(gapped), {"audio": [4]})
    assert vocabulary["special"].start == 6
    with pytest.raises(InputError, match="leaves gaps among its 6 ids"):
        vocabulary.spell([0])


def test_skipping_special_tokens_leaves_text_and_codes(bpe, tmp_path):
    vocabulary = Vocabulary.build(bpe, {"audio": [4]})
    tokenizer = transformers.PreTrainedTokenizerFast.from_pretrained(export_tokenizer(vocabulary, tmp_path))
    ids = tokenizer.encode("<bos>please hold<audio.0:3><end.audio>")
    assert tokenizer.decode(ids, skip_special_tokens=True) == "please hold<audio.0:3>"
    assert tokenizer.bos_token_id == vocabulary.id("<bos>")
