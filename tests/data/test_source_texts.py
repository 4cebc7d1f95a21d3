"""Text without sound: lines of .txt files, and rows with text and no column of audio."""

import gzip
import json

import fsspec
import pytest

from hocket.data.clips import BadAudio, Clip, Rejected
from hocket.data.sources import open_source, read_clips
from hocket.errors import InputError


def test_a_text_has_a_document_a_line(tmp_path):
    (tmp_path / "t.txt").write_bytes("One.\n\n  Zwei, schön.\n".encode() + b"\xff\n" + b"Four.")
    one, two, bad, four = open_source(tmp_path / "t.txt")
    assert [(item.id, item.text) for item in (one, two, four) if isinstance(item, Clip)] == [
        ("t:1", "One."), ("t:3", "Zwei, schön."), ("t:5", "Four."),
    ]  # fmt: skip
    assert isinstance(bad, Rejected)
    assert bad.reason == f"{tmp_path}/t.txt, line 4, is not UTF-8 text"
    assert open_source(tmp_path / "t.txt").n_clips == 4
    with pytest.raises(BadAudio, match="text without audio"):
        read_clips_of(one).read(8000)


def read_clips_of(item: Clip | Rejected) -> Clip:
    assert isinstance(item, Clip)
    return item


def test_a_folder_of_texts(tmp_path):
    (tmp_path / "deep").mkdir()
    (tmp_path / "a.txt").write_text("One.\n")
    with gzip.open(tmp_path / "deep" / "b.txt.gz", "wt") as file:
        file.write("Two.\nThree.\n")
    clips = read_clips(tmp_path)
    assert [(clip.id, clip.text) for clip in clips] == [("a:1", "One."), ("deep/b:1", "Two."), ("deep/b:2", "Three.")]
    assert [clip.name for clip in clips] == ["a.txt, line 1", "deep/b.txt.gz, line 1", "deep/b.txt.gz, line 2"]


def test_rows_of_text(tmp_path):
    rows = [{"text": "One.", "language": "en"}, {"text": "Two.", "id": "x"}, {"text": "Oops.", "audoi": "a.wav"},
            {"text": "Null.", "audio": None}]  # fmt: skip
    (tmp_path / "m.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    one, two, oops, null = open_source(tmp_path / "m.jsonl")
    assert (one, two) == (
        Clip(id="m:1", name="m.jsonl, line 1", audio=None, text="One.", language="en"),
        Clip(id="x", name="m.jsonl, line 2", audio=None, text="Two."),
    )
    assert all(isinstance(item, Rejected) and "names no audio file" in item.reason for item in (oops, null))


def test_text_behind_a_url():
    fsspec.filesystem("memory").pipe("/texts/a.txt", b"One.\nTwo.\n")
    assert [clip.text for clip in read_clips("memory://texts/a.txt")] == ["One.", "Two."]
    assert [clip.text for clip in read_clips("memory://texts")] == ["One.", "Two."]


def test_an_empty_text(tmp_path):
    (tmp_path / "t.txt").write_text("\n\n")
    with pytest.raises(InputError, match="has no lines"):
        read_clips(tmp_path / "t.txt")
