"""Every hostile input is either tokenised or named with its reason: nothing is lost, nothing hangs, nothing crashes."""

import json
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path, PurePosixPath
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from energy_codec import EnergyCodec
from hostile import CASES, NO_TORCHCODEC, NOT_AUDIO, Case, encoded, noise

from hocket.data import Corpus, read_rejected, tokenize
from hocket.data.clips import Clip, HeldAudio, Rejected, RemoteAudio
from hocket.data.decoding import decode, probe
from hocket.data.preparing import Preparation, Segment, StreamAudio, prepare
from hocket.data.sources import open_source
from hocket.data.sources.folders import AUDIO_SUFFIXES
from hocket.data.words import Word
from hocket.errors import InputError

STREAMS = [StreamAudio("audio", None, 8000, 0.02)]


def outcome(clip: Clip) -> str:
    (item,) = prepare(clip, STREAMS, Preparation())
    if isinstance(item, Rejected):
        assert "\n" not in item.reason
        return item.reason
    wav_S = item.waves["audio"]
    assert wav_S.dtype == np.float32
    assert np.isfinite(wav_S).all()
    assert len(wav_S) == pytest.approx(item.duration * 8000, abs=1.5)
    return "ok"


def check(got: str, expect: str) -> None:
    assert (got == "ok") == (expect == "ok"), got
    if expect != "ok":
        with pytest.raises(InputError, match=expect):
            raise InputError(got)


def test_there_are_many_kinds():
    assert len(CASES) >= 170
    assert len({case.file for case in CASES}) == len({case.name for case in CASES}) == len(CASES)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name.encode("unicode_escape").decode())
def test_files(case: Case, tmp_path: Path):
    path = case.write(tmp_path)
    check(outcome(Clip(id="x", name="x", audio=path)), case.expect)


@pytest.mark.parametrize("case", [case for case in CASES if isinstance(case.make, bytes)], ids=lambda case: case.name)
def test_bytes_without_a_name(case: Case):
    assert isinstance(case.make, bytes)
    check(outcome(Clip(id="x", name="x", audio=HeldAudio(case.make))), case.expect)


CLIPS: dict[str, tuple[dict[str, Any], str]] = {
    "behind the end": ({"start": 9.0}, "lies outside its file of 0.500 s"),
    "at the end": ({"start": 0.5}, "lies outside"),
    "ends behind the end": ({"end": 3.0}, r"the clip \(start 0 s, end 3 s\) lies outside its file"),
    "ends a little behind": ({"end": 0.55}, "ok"),
    "ends before it starts": ({"start": 0.4, "end": 0.2}, "lies outside"),
    "ends where it starts": ({"start": 0.2, "end": 0.2}, "lies outside"),
    "negative start": ({"start": -1.0}, "lies outside"),
    "NaN as start": ({"start": float("nan")}, "its start and end are nan and None; give seconds"),
    "infinite end": ({"end": float("inf")}, "give seconds"),
    "a few ms": ({"start": 0.1, "end": 0.101}, "too short"),
    "no such channel": ({"channel": 2}, "channel 2 is asked for"),
    "negative channel": ({"channel": -1}, "channel -1 is asked for"),
    "the only channel": ({"channel": 0}, "ok"),
    "a word behind the end": ({"words": (Word(text="a", start=5.0, end=6.0),)}, 'the word "a" is said at 5 s'),
    "a word at NaN": ({"words": (Word(text="a", start=float("nan"), end=6.0),)}, 'the word "a" is said at nan s'),
    "stated longer": ({"seconds": 100.0}, "ok"),
}


@pytest.mark.parametrize("name", CLIPS)
def test_clips(name: str, tmp_path: Path):
    known, expect = CLIPS[name]
    (tmp_path / "a.wav").write_bytes(encoded())
    check(outcome(Clip(id="x", name="x", audio=tmp_path / "a.wav", **known)), expect)


SOURCES = {
    "nothing there": (Path("nowhere/a.wav"), "there is no file"),
    "a name with a zero byte": (Path("a\0.wav"), "cannot be opened"),
    "a name that is too long": (Path("x" * 5000 + ".wav"), "cannot be opened"),
    "an unknown kind of URL": (RemoteAudio("gopher://a/b.wav"), "cannot be fetched"),
    "a file that is not in memory": (RemoteAudio("memory://no/b.wav"), "cannot be fetched"),
}


@pytest.mark.parametrize("name", SOURCES)
def test_places(name: str):
    audio, expect = SOURCES[name]
    check(outcome(Clip(id="x", name="x", audio=audio)), expect)


LINES: dict[str, tuple[bytes, str]] = {
    "good": (b'{"audio": "../audio/same1.wav", "id": "l1"}', "ok"),
    "the same audio again": (b'{"audio": "../audio/same1.wav", "id": "l2"}', "ok"),
    "the same id again": (b'{"audio": "../audio/same2.wav", "id": "l1"}', 'has the id "l1"'),
    "no JSON": (b"{oops", "not valid JSON"),
    "half a line": (b'{"audio": "../audio/same', "not valid JSON"),
    "a list": (b"[1, 2]", "no JSON object"),
    "a number": (b"7", "no JSON object"),
    "null": (b"null", "no JSON object"),
    "text": (b"audio.wav hello", "not valid JSON"),
    "no UTF-8": (b'{"audio": "\xff.wav"}', "not UTF-8"),
    "half a character": (rb'{"audio": "\ud800.wav"}', "not UTF-8"),
    "very deep": (b"[" * 100_000, "not valid JSON"),
    "no audio": (b'{"id": "l3", "speaker": "x"}', "names no audio file"),
    "audio misspelt": (b'{"id": "l4", "adio": "a.wav", "text": "hi"}', "names no audio file"),
    "audio a number": (b'{"id": "l5", "audio": 5}', "names no audio file"),
    "audio null": (b'{"id": "l6", "audio": null, "text": "hi"}', "names no audio file"),
    "audio a list": (b'{"id": "l7", "audio": ["a.wav"]}', "names no audio file"),
    "audio absent": (b'{"id": "l8", "audio": "nowhere.wav"}', "no file"),
    "audio a folder": (b'{"id": "l9", "audio": "../audio"}', "folder"),
    "text alone": (b'{"id": "l10", "text": "only text"}', "ok"),
    "text a list": (b'{"id": "l11", "audio": "../audio/same1.wav", "text": ["a"]}', "for text"),
    "text a number": (b'{"id": "l12", "audio": "../audio/same1.wav", "text": 42}', "ok"),
    "start negative": (b'{"id": "l13", "audio": "../audio/same1.wav", "start": -1}', "seconds, 0 or more"),
    "start NaN": (b'{"id": "l14", "audio": "../audio/same1.wav", "start": NaN}', "seconds, 0 or more"),
    "start a word": (b'{"id": "l15", "audio": "../audio/same1.wav", "start": "soon"}', "seconds, 0 or more"),
    "end infinite": (b'{"id": "l16", "audio": "../audio/same1.wav", "end": Infinity}', "seconds, 0 or more"),
    "end before start": (b'{"id": "l17", "audio": "../audio/same1.wav", "start": 2, "end": 1}', "before it starts"),
    "end behind the file": (b'{"id": "l18", "audio": "../audio/same1.wav", "end": 99}', "lies outside"),
    "duration a list": (b'{"id": "l19", "audio": "../audio/same1.wav", "duration": []}', "seconds, 0 or more"),
    "split unknown": (b'{"id": "l20", "audio": "../audio/same1.wav", "split": "mine"}', "unknown split"),
    "channel a word": (b'{"id": "l21", "audio": "../audio/same1.wav", "channel": "left"}', "for channel"),
    "channel absent": (b'{"id": "l22", "audio": "../audio/same1.wav", "channel": 4}', "channel 4 is asked for"),
    "words broken": (b'{"id": "l23", "audio": "../audio/same1.wav", "words": [{"word": "a"}]}', "should be like"),
    "words backwards": (
        b'{"id": "l24", "audio": "../audio/same1.wav", "words": [{"word": "a", "start": 0.3, "end": 0.1}]}',
        "from 0.3 to 0.1",
    ),
    "words late": (
        b'{"id": "l25", "audio": "../audio/same1.wav", "words": [{"word": "a", "start": 7, "end": 8}]}',
        "is said at 7 s",
    ),
    "blank line": (b"   ", "nothing"),
}


@pytest.fixture
def corner(tmp_path: Path) -> Path:
    """All hostile files in one folder, and a manifest of them and of hostile lines in another."""
    audio, lists = tmp_path / "audio", tmp_path / "lists"
    audio.mkdir()
    lists.mkdir()
    written = [case.write(audio) for case in CASES]
    rows = [{"audio": f"../audio/{path.name}", "id": f"c{i}"} for i, path in enumerate(written) if is_text(path.name)]
    lines = [*(json.dumps(row).encode() for row in rows), *(line for line, _ in LINES.values())]
    (lists / "m.jsonl").write_bytes(b"\n".join(lines) + b"\n")
    return tmp_path


def is_text(name: str) -> bool:
    try:
        return bool(name.encode())
    except UnicodeEncodeError:
        return False


def test_a_folder_of_them(corner: Path, codec: EnergyCodec):
    dst = corner / "corpus"
    card = tokenize(corner / "audio", dst, codec)
    rows = [example.audio for example in Corpus.open(dst)]
    rejected = read_rejected(dst)
    assert (card.n_examples, card.n_rejected) == (len(rows), len(rejected))
    there = [path for path in (corner / "audio").iterdir() if path.suffix.lower() in AUDIO_SUFFIXES]
    assert max(Counter([*rows, *(item.audio for item in rejected)]).values()) == 1
    assert len(rows) + len(rejected) == len(there) == len(CASES)
    assert all(item.reason for item in rejected)
    fine = {case.file for case in CASES if case.expect == "ok" and isinstance(case.file, str)}
    stems = Counter(PurePosixPath(path.name).stem for path in there)
    assert {name for name in fine if stems[PurePosixPath(name).stem] == 1} <= set(rows)
    assert set(rows) & {case.file for case in CASES} <= fine


def test_a_manifest_of_them(corner: Path, codec: EnergyCodec):
    dst = corner / "corpus"
    tokenize(corner / "lists" / "m.jsonl", dst, codec)
    rows = [example.id for example in Corpus.open(dst)]
    reasons = {item.id: item.reason for item in read_rejected(dst)}
    for i, case in enumerate(CASES):
        if isinstance(case.file, str):
            check("ok" if f"c{i}" in rows else reasons[f"c{i}"], case.expect)
    n_lines = len([case for case in CASES if isinstance(case.file, str)]) + len(LINES) - 1
    assert len(rows) + len(read_rejected(dst)) == n_lines


@pytest.mark.parametrize("name", LINES)
def test_lines_of_a_manifest(name: str, tmp_path: Path, codec: EnergyCodec):
    line, expect = LINES[name]
    (tmp_path / "audio").mkdir()
    (tmp_path / "lists").mkdir()
    for file in ("same1.wav", "same2.wav"):
        (tmp_path / "audio" / file).write_bytes(encoded())
    lines = [LINES["good"][0], line] if name != "good" else [line]
    (tmp_path / "lists" / "m.jsonl").write_bytes(b"\n".join(lines))
    tokenize(tmp_path / "lists" / "m.jsonl", tmp_path / "corpus", codec)
    rejected = read_rejected(tmp_path / "corpus")
    assert len(Corpus.open(tmp_path / "corpus")) + len(rejected) == len(lines) - (expect == "nothing")
    if rejected:
        check(rejected[0].reason, expect)
    else:
        assert expect in ("ok", "nothing")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("bom.jsonl", b'\xef\xbb\xbf{"audio": "a.wav"}\n'),
        ("crlf.jsonl", b'{"audio": "a.wav"}\r\n\r\n'),
        ("no-newline.jsonl", b'{"audio": "a.wav"}'),
        ("bom.csv", b"\xef\xbb\xbfaudio,text\na.wav,Hi\n"),
        ("crlf.csv", b"audio,text\r\na.wav,Hi\r\n"),
        ("crlf.tsv", b"audio\ttext\r\na.wav\tHi\r\n"),
    ],
)
def test_manifests_as_editors_save_them(name: str, content: bytes, tmp_path: Path):
    (tmp_path / "a.wav").write_bytes(encoded())
    (tmp_path / name).write_bytes(content)
    (clip,) = list(open_source(tmp_path / name))
    assert isinstance(clip, Clip)
    assert outcome(clip) == "ok"


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("utf16.jsonl", '{"audio": "a.wav"}\n'.encode("utf-16"), "is not UTF-8 text"),
        ("utf16.csv", "audio,text\na.wav,Hi\n".encode("utf-16"), "is not UTF-8 text"),
        ("empty.jsonl", b"", "has no rows"),
        ("blank.jsonl", b"\n \n\n", "has no rows"),
        ("header.csv", b"audio,text\n", "has no rows"),
        ("wav.jsonl", encoded(), "is not UTF-8 text|not valid JSON"),
    ],
)
def test_manifests_that_are_none(name: str, content: bytes, words: str, tmp_path: Path, codec: EnergyCodec):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=words):
        tokenize(tmp_path / name, tmp_path / "corpus", codec)
    assert not (tmp_path / "corpus").exists()


class FakeDecoder:
    """As much of torchcodec's `AudioDecoder` as is used; it hears 0.5 s of noise in everything that is long enough."""

    def __init__(self, source: str | bytes):
        content = Path(source).read_bytes() if isinstance(source, str) else source
        if len(content) < 100:
            raise RuntimeError("Invalid data found when processing input\nmore of it")

    def get_samples_played_in_range(self, start: float, end: float | None) -> SimpleNamespace:
        wav_CS = torch.from_numpy(noise(channels=2).T.astype(np.float32))
        first, last = round(start * 16000), None if end is None else round(end * 16000)
        return SimpleNamespace(data=wav_CS[:, first:last], sample_rate=16000)


def with_torchcodec(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = ModuleType("torchcodec.decoders")
    fake.__dict__["AudioDecoder"] = FakeDecoder
    monkeypatch.setitem(sys.modules, "torchcodec", ModuleType("torchcodec"))
    monkeypatch.setitem(sys.modules, "torchcodec.decoders", fake)


def test_torchcodec_decodes_containers_where_it_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with_torchcodec(monkeypatch)
    (tmp_path / "a.m4a").write_bytes(b"\0\0\0\x20ftypM4A " + bytes(3000))
    clip = Clip(id="x", name="x", audio=tmp_path / "a.m4a")
    held = Clip(id="x", name="x", audio=HeldAudio((tmp_path / "a.m4a").read_bytes()))
    wav_CS, rate = decode(clip)
    assert (wav_CS.shape, rate, outcome(clip), outcome(held)) == ((2, 8000), 16000, "ok", "ok")
    np.testing.assert_array_equal(decode(replace(clip, channel=1, start=0.1, end=0.2))[0], wav_CS[1:, 1600:3200])
    check(outcome(replace(clip, channel=2)), "channel 2 is asked for")
    check(outcome(replace(clip, end=3.0)), r"end 3 s\) lies outside its file of 0.500 s")
    check(outcome(replace(clip, start=3.0)), "holds no samples")
    (tmp_path / "a.m4a").write_bytes(b"\0\0\0\x20ftypM4A ")
    check(outcome(clip), r"it is MP4 or M4A: torchcodec cannot decode it \(Invalid data found when processing input\)$")


def test_a_torchcodec_that_does_not_load_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "torchcodec").mkdir()
    (tmp_path / "torchcodec" / "__init__.py").write_text("raise OSError('libavutil.so: cannot open\\nmore')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "torchcodec", raising=False)
    (tmp_path / "a.webm").write_bytes(b"\x1aE\xdf\xa3" + bytes(3000))
    got = outcome(Clip(id="x", name="x", audio=tmp_path / "a.webm"))
    check(got, r"it is Matroska or WebM: .* torchcodec, which can, does not load \(libavutil.so: cannot open\)$")


def test_reasons_name_torchcodec_only_for_containers():
    assert {case.expect for case in CASES if case.name.startswith("container")} == {NO_TORCHCODEC}
    assert NOT_AUDIO in {case.expect for case in CASES}


def test_all_channels_and_samples_are_kept(tmp_path: Path):
    wav_SC = noise(channels=6)
    clip = Clip(id="x", name="x", audio=HeldAudio(encoded(wav_SC, subtype="FLOAT")))
    wav_CS, rate = decode(clip)
    np.testing.assert_array_equal(wav_CS, wav_SC.T.astype(np.float32))
    assert (rate, probe(clip)) == (16000, 0.5)
    assert isinstance(prepare(clip, STREAMS, Preparation())[0], Segment)
