import itertools
import json

import pytest
import sentencepiece
from hypothesis import given
from hypothesis import strategies as st

from hocket.errors import InputError
from hocket.vocab import Vocabulary, load_tokenizer, train_bpe
from tests.vocab.conftest import TEXTS

STREAMS = st.dictionaries(
    st.sampled_from(["audio", "semantic", "user"]), st.lists(st.integers(1, 2000), min_size=1, max_size=9), min_size=1
)


@given(STREAMS)
def test_no_id_means_two_things(streams):
    vocabulary = Vocabulary.build(None, streams)
    edges = [(b.start, b.stop) for b in vocabulary.blocks]
    assert edges[0][0] == 0
    assert all(a[1] == b[0] for a, b in itertools.pairwise(edges))
    assert len(set(vocabulary.specials.values())) == len(vocabulary.specials) == vocabulary["special"].size
    assert len({vocabulary.name_of(i) for i in range(vocabulary.size)}) == vocabulary.size


def test_text_comes_first_and_offsets_follow(bpe):
    vocabulary = Vocabulary.build(bpe, {"audio": [1024, 1024]})
    assert vocabulary["text"].start == 0
    assert vocabulary.offsets("audio") == (vocabulary["audio.0"].start, vocabulary["audio.0"].start + 1024)
    end = vocabulary.id("<end.audio>")
    assert vocabulary.ranges(["audio.0", "<end.audio>"]) == (
        (end, end + 1),
        (vocabulary["audio.0"].start,) * 1 + (vocabulary["audio.0"].stop,),
    )


@pytest.mark.parametrize("text", ["", "mute", "grüße, 你好! \n tab\t", *TEXTS])
def test_bpe_round_trip(bpe, text):
    assert bpe.decode(bpe.encode(text)) == text


def test_sentencepiece_models_load(tmp_path):
    corpus = tmp_path / "corpus.txt"
    corpus.write_text("\n".join(TEXTS))
    sentencepiece.SentencePieceTrainer.Train(
        input=str(corpus), model_prefix=str(tmp_path / "sp"), vocab_size=60, hard_vocab_limit=False, minloglevel=2
    )
    tokenizer = load_tokenizer(tmp_path / "sp.model")
    assert tokenizer.decode(tokenizer.encode("please hold the line")) == "please hold the line"
    Vocabulary.build(tokenizer, {"audio": [8]}).save(tmp_path / "saved")
    assert Vocabulary.load(tmp_path / "saved").encode_text("hold") == tokenizer.encode("hold")


def test_save_and_load_keep_the_fingerprint(tmp_path, bpe):
    vocabulary = Vocabulary.build(bpe, {"audio": [16, 8]}, {"audio": "abc"})
    vocabulary.save(tmp_path)
    loaded = Vocabulary.load(tmp_path)
    assert loaded.fingerprint == vocabulary.fingerprint
    assert loaded.blocks == vocabulary.blocks


def test_fingerprint_sees_codec_sizes_and_text(bpe):
    base = Vocabulary.build(bpe, {"audio": [16, 8]}, {"audio": "abc"})
    others = [
        Vocabulary.build(None, {"audio": [16, 8]}, {"audio": "abc"}),
        Vocabulary.build(bpe, {"audio": [8, 16]}, {"audio": "abc"}),
        Vocabulary.build(bpe, {"audio": [16, 8]}, {"audio": "abd"}),
        Vocabulary.build(train_bpe(TEXTS[:1], 300), {"audio": [16, 8]}, {"audio": "abc"}),
    ]
    assert len({v.fingerprint for v in [base, *others]}) == 5


def test_an_edited_vocabulary_is_refused(tmp_path):
    Vocabulary.build(None, {"audio": [16, 8]}).save(tmp_path)
    path = tmp_path / "vocabulary.json"
    content = json.loads(path.read_text())
    content["parts"][0]["streams"]["audio"][0] = 17
    path.write_text(json.dumps(content))
    with pytest.raises(InputError, match="changed after it was saved"):
        Vocabulary.load(tmp_path)


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: Vocabulary.build(None, {}), "at least one code stream"),
        (lambda: Vocabulary.build(None, {"text": [4]}), "cannot name a code stream"),
        (lambda: Vocabulary.build(None, {"audio": [4, 0]}), "at least one entry"),
        (lambda: Vocabulary.build(None, {"audio": [4]})["audio.1"], 'did you mean "audio.0"'),
        (lambda: Vocabulary.build(None, {"audio": [4]}).id("<end.audoi>"), 'did you mean "<end.audio>"'),
        (lambda: Vocabulary.build(None, {"audio": [4]}).name_of(10**6), "outside the vocabulary"),
        (lambda: Vocabulary.build(None, {"audio": [4]}).encode_text("a"), "no text tokenizer"),
        (lambda: train_bpe(TEXTS, 10), "at least 256"),
        (lambda: load_tokenizer("nowhere.json"), "no text tokenizer at nowhere.json"),
    ],
)
def test_errors_are_one_sentence(call, sentence):
    with pytest.raises(InputError, match=sentence):
        call()


def test_a_file_of_another_kind_is_no_tokenizer(tmp_path):
    for name in ("x.json", "x.model"):
        (tmp_path / name).write_text("hello")
        with pytest.raises(InputError, match="no text tokenizer that can be read"):
            load_tokenizer(tmp_path / name)
