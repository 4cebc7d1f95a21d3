"""Rows of manifests: what is bad is named and the rest goes on; words come with their times; files may be remote."""

import gzip
import json
import pickle
from pathlib import Path

import fsspec
import pytest
from recordings import write_noise

from hocket.data.clips import Clip, Rejected, RemoteAudio
from hocket.data.sources import open_source, read_clips
from hocket.data.words import Word
from hocket.errors import InputError

WORDS = [{"word": "Hello", "start": 0.1, "end": 0.3}, {"text": "you.", "start_time": 0.4, "end_time": 0.6}]


def write_rows(path: Path, *rows: dict | str | bytes) -> Path:
    lines = [
        row if isinstance(row, bytes) else (row if isinstance(row, str) else json.dumps(row)).encode() for row in rows
    ]
    path.write_bytes(b"".join(line + b"\n" for line in lines))
    return path


def rejected(src: str | Path) -> list[Rejected]:
    return [item for item in open_source(src) if isinstance(item, Rejected)]


def clips(src: str | Path) -> list[Clip]:
    return [item for item in open_source(src) if isinstance(item, Clip)]


def test_bad_rows_are_named_and_the_rest_goes_on(tmp_path):
    rows = [{"audio": "a.wav"}, "{oops", {"audio": "b.wav", "start": 2, "end": 1}, {"audio": "c.wav", "split": "x"},
            {"id": "no-audio"}, {"audio": "d.wav"}]  # fmt: skip
    manifest = write_rows(tmp_path / "m.jsonl", *rows)
    source = open_source(manifest)
    assert [item.id for item in source] == ["a", "m:2", "m:3", "m:4", "no-audio", "d"]
    assert source.n_clips == 6
    bad = rejected(manifest)
    assert [item.audio for item in bad] == ["m.jsonl, line 2", "b.wav", "c.wav", "m.jsonl, line 5"]
    reasons = ["is not valid JSON", "before it starts", 'unknown split "x"', "names no audio file"]
    for item, line, reason in zip(bad, (2, 3, 4, 5), reasons, strict=True):
        assert f"{manifest}, line {line}," in item.reason
        assert reason in item.reason


def test_a_source_is_lazy_and_begins_anew(tmp_path):
    source = open_source(write_rows(tmp_path / "m.jsonl", *({"audio": f"{i}.wav"} for i in range(100))))
    first = next(iter(source))
    assert first == next(iter(source))
    assert list(source) == list(source)
    assert pickle.loads(pickle.dumps(list(source))) == list(source)


def test_lines_that_are_no_text(tmp_path):
    manifest = write_rows(
        tmp_path / "m.jsonl", {"audio": "a.wav"}, b'{"audio": "\xff.wav"}', r'{"audio": "\ud800.wav"}'
    )
    assert [item.reason for item in rejected(manifest)] == [f"{manifest}, line {i}, is not UTF-8 text" for i in (2, 3)]
    for suffix in ("jsonl", "csv"):
        binary = write_noise(tmp_path / "a.flac", 0.2).rename(tmp_path / f"x.{suffix}")
        with pytest.raises(InputError, match="is not UTF-8 text"):
            list(open_source(binary))


def test_bad_rows_of_a_table(tmp_path):
    (tmp_path / "m.csv").write_bytes(b'audio,text\na.wav,Hi\nb.wav,one,two\nc.wav,"open\nd.wav,\xff\n')
    assert [item.id for item in clips(tmp_path / "m.csv")] == ["a"]
    (tmp_path / "h.csv").write_bytes(b'audio,"te"xt\na.wav,Hi\n')
    with pytest.raises(InputError, match="line 1, is not valid CSV"):
        list(open_source(tmp_path / "h.csv"))
    (tmp_path / "n.csv").write_bytes(b"audio,text\na.wav,Hi\nb.wav,one,two\nc.wav,\xff\nd.wav,Ho\n")
    assert [item.id for item in clips(tmp_path / "n.csv")] == ["a", "d"]
    assert ["line 3, has not the 2 columns" in item.reason for item in rejected(tmp_path / "n.csv")] == [True, False]


def test_repeated_ids_name_the_first_place(tmp_path):
    names = ["a", "b", "c", "a", "c", "b", "a"]
    manifest = write_rows(tmp_path / "m.jsonl", "", *({"audio": f"{name}.wav"} for name in names))
    assert [item.id for item in clips(manifest)] == ["a", "b", "c"]
    places = [(5, "a", 2), (6, "c", 4), (7, "b", 3), (8, "a", 2)]
    assert [item.reason for item in rejected(manifest)] == [
        f'{manifest}, line {line}, has the id "{id}" that {manifest}, line {first}, has already; ids name one clip'
        for line, id, first in places
    ]


def test_a_packed_manifest(tmp_path):
    with gzip.open(tmp_path / "m.jsonl.gz", "wt") as file:
        file.write('{"audio": "a.wav", "duration": 1.5, "channel": 1}\n')
    (clip,) = read_clips(tmp_path / "m.jsonl.gz")
    assert (clip.audio, clip.seconds, clip.channel) == (tmp_path / "a.wav", 1.5, 1)


@pytest.mark.parametrize(
    "words",
    [
        {"words": WORDS},
        {"words": json.dumps(WORDS)},
        {"words": {"text": ["Hello", "you."], "start": [0.1, 0.4], "end": [0.3, 0.6]}},
        {"segments": [{"text": "Hello", "start": 0, "end": 1, "words": WORDS[:1]}, {"words": WORDS[1:]}]},
        {"words": {"segments": [{"words": WORDS}]}},
    ],
)
def test_words_of_a_row(tmp_path, words):
    (clip,) = read_clips(write_rows(tmp_path / "m.jsonl", {"audio": "a.wav", **words}))
    assert clip.words == (Word(text="Hello", start=0.1, end=0.3), Word(text="you.", start=0.4, end=0.6))
    assert clip.text == "Hello you."


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"words": [{"word": "x", "start": 1}]}, "which should be like"),
        ({"words": [{"word": "x", "start": 1, "end": 0.5}]}, 'has the word "x" from 1 to 0.5 s'),
        ({"words": '[{"word": '}, "words that are not valid JSON"),
        ({"text": ["a", "b"]}, 'has ["a", "b"] for text'),
        ({"channel": "left"}, 'has "left" for channel'),
        ({"duration": "long"}, 'has "long" for duration'),
        ({"textgrid": "no.TextGrid"}, "cannot be read"),
        ({"ctm": "no.ctm"}, "cannot be read"),
    ],
)
def test_bad_facts(tmp_path, row, reason):
    (bad,) = rejected(write_rows(tmp_path / "m.jsonl", {"audio": "a.wav", **row}))
    assert reason in bad.reason


def test_words_without_times_are_none(tmp_path):
    rows = [{"audio": f"{i}.wav", "words": words} for i, words in enumerate([3, ["a", "b"], "a b"])]
    assert [clip.words for clip in read_clips(write_rows(tmp_path / "m.jsonl", *rows))] == [(), (), ()]


def test_manifests_behind_a_url(tmp_path):
    audio = write_noise(tmp_path / "a.flac", 0.4)
    memory = fsspec.filesystem("memory")
    memory.pipe("/rows/wavs/a.flac", audio.read_bytes())
    rows = [{"audio": "wavs/a.flac", "text": "Hi."}, {"audio": "memory://rows/wavs/a.flac", "id": "b"}, "{"]
    memory.pipe("/rows/m.jsonl", write_rows(tmp_path / "m.jsonl", *rows).read_bytes())
    first, second, bad = open_source("memory://rows/m.jsonl")
    assert isinstance(bad, Rejected)
    assert isinstance(first, Clip)
    assert isinstance(second, Clip)
    assert first.audio == second.audio == RemoteAudio("memory://rows/wavs/a.flac")
    assert first.id == "wavs/a"
    assert len(first.read(8000)) == 3200
    assert "line 3, is not valid JSON" in bad.reason
    (clip, *_) = open_source(f"file://{tmp_path}/m.jsonl")
    assert clip.audio == RemoteAudio(f"file://{tmp_path}/wavs/a.flac")


def test_a_folder_behind_a_url(tmp_path):
    memory = fsspec.filesystem("memory")
    content = write_noise(tmp_path / "a.flac", 0.4).read_bytes()
    memory.pipe({"/talks/a.flac": content, "/talks/deep/b.flac": content, "/talks/deep/b.txt": b"Text.\n"})
    memory.pipe({"/talks/.hidden.wav": content, "/talks/deep/b.ctm": b"b 1 0.1 0.2 Text.\n"})
    first, second = read_clips("memory://talks")
    assert (first.id, second.id, second.text) == ("a", "deep/b", "Text.")
    assert second.words == (Word(text="Text.", start=0.1, end=0.3),)
    assert len(second.read(8000)) == 3200
    (alone,) = read_clips("memory://talks/deep/b.flac")
    assert (alone.id, alone.text) == ("b", "Text.")
    assert open_source("memory://talks").n_clips == 2


def test_urls_that_lead_nowhere(tmp_path):
    with pytest.raises(InputError, match="there is no file or folder"):
        open_source("memory://nowhere/m.jsonl")
    with pytest.raises(InputError, match=r'"nosuch://a/m\.jsonl" cannot be opened'):
        open_source("nosuch://a/m.jsonl")


def test_a_file_system_that_does_not_answer(monkeypatch):
    class NoAnswer(Exception):
        """As HTTP libraries raise, no OSError."""

    NoAnswer.__module__ = "httpx.errors"

    def fail(self, path, **kwargs):
        raise NoAnswer("name or service not known")

    monkeypatch.setattr(type(fsspec.filesystem("memory")), "isfile", fail)
    with pytest.raises(InputError, match=r'"memory://far/m\.jsonl" cannot be opened: name or service not known'):
        open_source("memory://far/m.jsonl")
