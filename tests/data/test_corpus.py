"""A corpus is a mapped view of its files, and a folder that is no whole corpus is refused."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from energy_codec import EnergyCodec

from hocket.data import Corpus, Settings, describe, tokenize
from hocket.data.shards import Row, Shard, shard_bytes
from hocket.data.words import Word
from hocket.errors import InputError


@pytest.fixture
def built(folder, tmp_path, codec) -> Path:
    tokenize(folder, tmp_path / "corpus", codec, settings=Settings(batch_seconds=1.0, shard_seconds=1.5))
    return tmp_path / "corpus"


def test_codes_are_a_view_of_the_file(built):
    corpus = Corpus.open(built)
    first, again = corpus[2].streams["audio"], corpus[2].streams["audio"]
    assert first.dtype == np.uint16
    assert first.shape[1] == 3
    assert np.shares_memory(first, again)
    assert not first.flags.writeable
    assert any(np.shares_memory(first, codes_SK) for codes_SK, _ in corpus.blocks())


def test_lengths_are_those_of_the_codes(built):
    corpus = Corpus.open(built)
    assert corpus.lengths["audio"].dtype == np.int64
    assert corpus.lengths["audio"].tolist() == [len(example.streams["audio"]) for example in corpus]


def test_splits_part_the_corpus(built):
    corpus = Corpus.open(built)
    train, valid, test = (corpus.split(name) for name in ("train", "valid", "test"))
    assert len(train) + len(valid) == 6
    assert len(valid) == 1
    assert len(test) == 0
    assert {example.split for example in train} == {"train"}
    assert train.lengths["audio"].tolist() == [len(example.streams["audio"]) for example in train]
    assert corpus.card.splits["train"].n_examples == len(train)
    with pytest.raises(InputError, match=r'no split "vaild" \(did you mean "valid"\?\)'):
        corpus.split("vaild")


def test_texts(built):
    corpus = Corpus.open(built)
    assert list(corpus.texts()) == ["This is a.", "This is c.", "This is more/f."]
    assert sorted([*corpus.texts("train"), *corpus.texts("valid")]) == sorted(corpus.texts())


def test_indices_behave_like_a_list(built):
    corpus = Corpus.open(built)
    assert corpus[-1].id == "more/f"
    with pytest.raises(IndexError):
        corpus[6]


def test_statistics_count_every_code(built):
    corpus = Corpus.open(built)
    for view in (corpus, corpus.split("train"), corpus.split("test")):
        codes_SK = np.concatenate([np.zeros((0, 3), np.uint16), *(example.streams["audio"] for example in view)])
        found = describe(view)
        assert found.streams["audio"].n_frames == len(codes_SK)
        assert sum(found.duration_counts) == found.n_examples == len(view)
        assert found.hours == pytest.approx(sum(example.duration for example in view) / 3600)
        assert [level.used for level in found.streams["audio"].levels] == [
            len(np.unique(codes_SK[:, k])) for k in range(3)
        ]


def test_entropy_of_equal_frequencies_is_the_logarithm_of_their_number(tmp_path, built):
    found = describe(Corpus.open(built)).streams["audio"].levels
    assert all(0 <= level.entropy_bits <= math.log2(level.size) for level in found)


def test_shard_of_no_rows_can_be_read(tmp_path):
    (tmp_path / "x.arrow").write_bytes(shard_bytes([], {"audio": 4, "user": 2}))
    shard = Shard.map(tmp_path / "x.arrow")
    assert len(shard) == 0
    assert [shard.block(name)[0].shape for name in ("audio", "user")] == [(0, 4), (0, 2)]


def test_shard_keeps_large_codes(tmp_path):
    codes_TK = np.array([[65535, 0], [1, 2]], np.uint16)
    words = (Word(text="é", start=0.1, end=0.25),)
    row = Row(
        id="x",
        streams={"audio": codes_TK},
        text="é",
        words=words,
        split="train",
        recording="x",
        duration=1.5,
        audio="x",
    )
    (tmp_path / "x.arrow").write_bytes(shard_bytes([row, row], {"audio": 2}))
    shard = Shard.map(tmp_path / "x.arrow")
    np.testing.assert_array_equal(shard.codes_TK("audio", 1), codes_TK)
    assert (shard.value(1, "text"), shard.words(1)) == ("é", words)


def test_fewer_levels_on_request(built):
    whole, cut = Corpus.open(built), Corpus.open(built, levels=2)
    np.testing.assert_array_equal(cut[1].streams["audio"], whole[1].streams["audio"][:, :2])
    np.testing.assert_array_equal(cut.codes("audio", 1), whole.codes("audio", 1)[:, :2])
    np.testing.assert_array_equal(cut.gather("audio", np.array([4, 1])), whole.gather("audio", np.array([4, 1]))[:, :2])
    assert cut.streams["audio"].levels == 2
    with pytest.raises(InputError, match="levels 1 to 3"):
        Corpus.open(built, levels=4)


def test_many_examples_at_once(built):
    corpus = Corpus.open(built).split("train")
    indices = np.array([3, 0, 2])
    codes = [corpus[i].streams["audio"] for i in indices]
    np.testing.assert_array_equal(corpus.gather("audio", indices), np.concatenate(codes))
    start, stop = np.array([1, 0, 2]), np.array([4, 0, 5])
    parts = [codes_TK[a:b] for codes_TK, a, b in zip(codes, start, stop, strict=True)]
    np.testing.assert_array_equal(corpus.gather("audio", indices, start, stop), np.concatenate(parts))
    assert corpus.codes("audio", 3).data_ptr() == corpus.codes("audio", 3).data_ptr()


def test_a_corpus_behind_a_url(folder, built, codec, tmp_path, monkeypatch):
    monkeypatch.setenv("HOCKET_CACHE", str(tmp_path / "cache"))
    card = tokenize(folder, "memory://corpora/noise", codec, settings=Settings(batch_seconds=1.0, shard_seconds=1.5))
    corpus = Corpus.open("memory://corpora/noise")
    assert corpus.card == card
    np.testing.assert_array_equal(corpus[4].streams["audio"], Corpus.open(built)[4].streams["audio"])
    with pytest.raises(InputError, match='no corpus "memory://corpora/other"'):
        Corpus.open("memory://corpora/other")


def test_another_codec_is_refused_with_both_names(built):
    Corpus.open(built, EnergyCodec().identity)
    with pytest.raises(InputError, match=r'is of codec "energy" .*, not of codec "other"'):
        Corpus.open(built, EnergyCodec("other").identity)


def test_a_folder_that_is_no_corpus(tmp_path):
    with pytest.raises(InputError, match="there is no corpus"):
        Corpus.open(tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"is no corpus \(it has no corpus.json\)"):
        Corpus.open(tmp_path)
    (tmp_path / "corpus.json").write_text(json.dumps({"name": "something else"}))
    with pytest.raises(InputError, match="is not the card of a hocket corpus"):
        Corpus.open(tmp_path)


def test_a_damaged_corpus(built):
    shard = next(built.glob("data-00001*"))
    content = shard.read_bytes()
    shard.write_bytes(content[:-10])
    with pytest.raises(InputError, match=r"is damaged: data-00001.arrow has .* bytes instead of"):
        Corpus.open(built)
    shard.write_bytes(b"\0" * len(content))
    with pytest.raises(InputError, match=r"is damaged: .* is no Arrow stream"):
        Corpus.open(built)[3]
    shard.unlink()
    with pytest.raises(InputError, match="is missing"):
        Corpus.open(built)
