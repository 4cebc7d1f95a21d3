"""Mixtures: how they are written, what they refuse, and their streams as one corpus' streams."""

from pathlib import Path

import numpy as np
import pytest
from corpora import codec_of, random_rows, row_of, write_corpus

from hocket.data import Corpus, Mixture
from hocket.data.loading import parse_mixture
from hocket.errors import InputError

CODEC = codec_of(levels=2)


@pytest.mark.parametrize(
    ("source", "parsed"),
    [
        ("a", [("a", None)]),
        ("a:0.7,b:0.3", [("a", 0.7), ("b", 0.3)]),
        ("s3://bucket/a:0.3, memory://b:2", [("s3://bucket/a", 0.3), ("memory://b", 2.0)]),
        ("s3://bucket/a,C:/corpus", [("s3://bucket/a", None), ("C:/corpus", None)]),
        (["a, b", "c"], [("a, b", None), ("c", None)]),
        (Path("x/y"), [("x/y", None)]),
    ],
)
def test_paths_and_weights(source, parsed):
    assert parse_mixture(source) == parsed


def test_a_folder_with_a_colon_and_a_number_is_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("a:1").mkdir()
    assert parse_mixture("a:1") == [("a:1", None)]
    assert parse_mixture("a:1:2,b:3") == [("a:1", 2.0), ("b", 3.0)]


@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        ("a:0.5,b", 'but none to "b"'),
        ("a,a", 'names the corpus "a" twice'),
        ("a:0,b:1", 'weight of the corpus "a" is 0'),
        ("a,,b", "names no corpus"),
        ("", "names no corpus"),
    ],
)
def test_what_cannot_be_meant_is_refused(source, sentence):
    with pytest.raises(InputError, match=sentence):
        parse_mixture(source)


def make(folder: Path, name: str, lengths, codec=CODEC, texts=False) -> Corpus:
    rows = random_rows(lengths, {"audio": codec}, texts=texts, prefix=name)
    return write_corpus(folder / name, rows, {"audio": codec}, rows_per_shard=2)


def test_a_mixture_is_read_like_a_corpus(tmp_path):
    make(tmp_path, "a", (3, 5, 4))
    make(tmp_path, "b", (6, 2), texts=True)
    write_corpus(tmp_path / "t", [row_of("t0", {}, "hello", split="valid")], {})
    mixture = Mixture.open(",".join(str(tmp_path / name) for name in "abt"))
    assert (len(mixture), len(mixture.split("train")), len(mixture.split("valid"))) == (6, 5, 1)
    assert mixture.lengths["audio"].tolist() == [3, 5, 4, 6, 2, 0]
    assert mixture.has_text.tolist() == [False] * 3 + [True] * 3
    assert mixture.ids(np.array([4, 0, 5])) == ["b1", "a0", "t0"]
    assert [example.id for example in mixture] == ["a0", "a1", "a2", "b0", "b1", "t0"]
    chosen = np.array([3, 1, 5, 4])
    start, stop = np.array([1, 0, 0, 0]), np.array([4, 5, 0, 2])
    wanted = [mixture[3].streams["audio"][1:4], mixture[1].streams["audio"], mixture[4].streams["audio"]]
    assert np.array_equal(mixture.gather("audio", chosen, start, stop), np.concatenate(wanted))


def test_corpora_of_other_codecs_are_refused_with_both_names(tmp_path):
    a, b = make(tmp_path, "a", (3,)), make(tmp_path, "b", (3,), codec_of(levels=2, weights="1"))
    with pytest.raises(InputError, match=r'"audio" of the corpus ".*a" is of codec .* that of ".*b" of codec'):
        Mixture([a, b])
    deep = make(tmp_path, "deep", (3,), codec_of(levels=4))
    assert Mixture.open([str(tmp_path / "a"), str(tmp_path / "deep")], levels=2).levels == {"audio": 2}
    with pytest.raises(InputError, match="need the same codec"):
        Mixture([a, b])
    with pytest.raises(InputError, match="need the same levels: tokenise both with --levels 2"):
        Mixture([a, deep])


def test_a_corpus_is_named_twice_however_it_is_written(tmp_path, monkeypatch):
    make(tmp_path, "a", (3,))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert len(Mixture.open("~/a")) == 1
    with pytest.raises(InputError, match='names the corpus "a" twice'):
        Mixture.open("a,./a")


def test_a_file_is_no_corpus(tmp_path):
    (tmp_path / "a.flac").touch()
    with pytest.raises(InputError, match=r'a\.flac" is a file, no corpus; `hocket tokenize'):
        Mixture.open(str(tmp_path / "a.flac"))


def test_weights_and_a_temperature_exclude_each_other(tmp_path):
    corpora = [make(tmp_path, name, (3,)) for name in "ab"]
    with pytest.raises(InputError, match="weights or a temperature, not both"):
        Mixture(corpora, [1, 2], temperature=2.0)
    with pytest.raises(InputError, match="must be above 0"):
        Mixture(corpora, temperature=0)
