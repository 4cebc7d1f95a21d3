"""Word times by recognition: a clip's own words take over the times of those heard, and a killed job goes on."""

import json
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import datasets
import numpy as np
import pytest
from recordings import write_noise

from hocket.data.alignment import Aligned, align, in_order, match_words
from hocket.data.sources import read_clips
from hocket.data.words import Word
from hocket.errors import InputError


def heard(*words: tuple[str, float, float]) -> list[Word]:
    return [Word(text=text, start=start, end=end) for text, start, end in words]


def times(text: str, *words: tuple[str, float, float], seconds: float = 2.0) -> list[tuple[str, float, float]]:
    return [(word.text, word.start, word.end) for word in match_words(text, heard(*words), seconds)[0]]


@dataclass
class Listener:
    """Hears "this is" in everything, evenly spaced, and remembers how often it was asked."""

    words: Sequence[str] = ("This", "is")
    n_calls: int = 0
    languages: list[str | None] = field(default_factory=list)

    def __call__(self, wav_T: np.ndarray, language: str | None) -> list[Word]:
        self.n_calls += 1
        self.languages.append(language)
        assert wav_T.dtype == np.float32
        step = len(wav_T) / 16000 / max(len(self.words), 1)
        return [Word(text=word, start=i * step, end=(i + 1) * step) for i, word in enumerate(self.words)]


def rows(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_own_words_take_the_times_of_those_heard():
    words, n_words, n_matched = match_words("“Hello,” you!", heard(("hello", 0.1, 0.4), ("You.", 0.5, 0.9)), 2.0)
    assert words == (Word(text="“Hello,”", start=0.1, end=0.4), Word(text="you!", start=0.5, end=0.9))
    assert (n_words, n_matched) == (2, 2)


def test_words_without_a_match_lie_between_their_neighbours():
    words = times("a bb cccc d", ("a", 0.1, 0.3), ("d", 0.9, 1.0))
    assert words == [("a", 0.1, 0.3), ("bb", 0.3, 0.5), ("cccc", 0.5, 0.9), ("d", 0.9, 1.0)]


def test_misheard_words_share_the_time_of_what_was_heard_instead():
    assert times("a John d", ("a", 0.1, 0.2), ("jon", 0.4, 0.6), ("d", 0.9, 1.0))[1] == ("John", 0.4, 0.6)
    heard_otherwise = ("eighteen", 0.3, 0.6), ("sixtyfive", 0.6, 1.0)
    assert times("in 1865 he", ("in", 0.0, 0.2), *heard_otherwise, ("he", 1.2, 1.4))[1] == ("1865", 0.3, 1.0)


def test_words_at_the_edges():
    assert times("x a y", ("a", 0.5, 1.0)) == [("x", 0.0, 0.5), ("a", 0.5, 1.0), ("y", 1.0, 2.0)]


def test_words_that_were_heard_too_much_are_dropped():
    assert times("a b", ("um", 0.0, 0.2), ("a", 0.3, 0.4), ("uh", 0.4, 0.5), ("b", 0.6, 0.7)) == [
        ("a", 0.3, 0.4), ("b", 0.6, 0.7),
    ]  # fmt: skip


def test_dashes_take_no_time_and_do_not_count():
    words, n_words, n_matched = match_words("a — b", heard(("a", 0.1, 0.3), ("b", 0.5, 0.7)), 1.0)
    assert words[1] == Word(text="—", start=0.3, end=0.3)
    assert (n_words, n_matched) == (2, 2)


def test_times_are_in_order_and_inside():
    words = in_order(heard(("a", 0.5, 0.4), ("b", 0.2, 0.6), ("c", 0.9, 3.0), ("d", 2.5, 2.6)), 1.0)
    assert [(word.start, word.end) for word in words] == [(0.5, 0.5), (0.5, 0.6), (0.9, 1.0), (1.0, 1.0)]


def test_a_folder_becomes_a_manifest(folder):
    (folder / "x.wav").mkdir()
    result = align(folder, folder / "timed.jsonl", Listener())
    written = rows(folder / "timed.jsonl")
    assert [row["id"] for row in written] == ["a", "b", "c", "d", "more/e", "more/f"]
    assert written[0] == {
        "id": "a", "audio": "a.wav", "text": "This is a.", "matched": 0.6667,
        "words": [{"text": "This", "start": 0.0, "end": 0.15}, {"text": "is", "start": 0.15, "end": 0.3},
                  {"text": "a.", "start": 0.3, "end": 0.3}],
    }  # fmt: skip
    assert "matched" not in written[1]
    assert written[1]["text"] == "This is"
    assert (result.n_clips, result.n_words, result.n_matched) == (6, 9 + 0, 6)
    assert result.matched == pytest.approx(2 / 3)
    assert [bad.id for bad in result.rejected] == ["x"]
    report = json.loads((folder / "timed.jsonl.report.json").read_text())
    assert (report["n_clips"], report["n_matched"], report["rejected"][0]["id"]) == (6, 6, "x")


def test_the_manifest_is_a_source(folder, tmp_path):
    align(folder, tmp_path / "out" / "timed.jsonl", Listener(), language="en")
    before, after = read_clips(folder), read_clips(tmp_path / "out" / "timed.jsonl")
    assert [clip.id for clip in after] == [clip.id for clip in before]
    assert [clip.audio for clip in after] == [clip.audio for clip in before]
    assert [word.text for word in after[0].words] == ["This", "is", "a."]
    assert after[0].language == "en"


def test_parts_and_words_that_are_there_stay(folder):
    manifest = [
        {"audio": "d.wav", "start": 0.2, "end": 0.6, "channel": 0, "language": "de", "speaker": "s", "split": "valid"},
        {"audio": "d.wav", "id": "timed", "words": [{"text": "hi", "start": 0.1, "end": 0.2, "stream": "user"}]},
    ]
    (folder / "m.jsonl").write_text("".join(json.dumps(row) + "\n" for row in manifest))
    listener = Listener()
    align(folder / "m.jsonl", folder / "timed.jsonl", listener)
    part, timed = read_clips(folder / "timed.jsonl")
    assert (part.start, part.end, part.channel, part.language, part.speaker, part.split) == (
        0.2, 0.6, 0, "de", "s", "valid",
    )  # fmt: skip
    assert part.words[1].end == 0.4
    assert timed.words == (Word(text="hi", start=0.1, end=0.2, stream="user"),)
    assert listener.languages == ["de"]


def test_clips_that_cannot_be_used_are_named(folder, tmp_path):
    (folder / "b.wav").write_bytes(b"no sound")
    audio = {"bytes": (folder / "a.wav").read_bytes(), "path": None}
    features = datasets.Features({"audio": {"bytes": datasets.Value("binary"), "path": datasets.Value("string")}})
    datasets.Dataset.from_dict({"audio": [audio]}, features=features).save_to_disk(str(tmp_path / "saved"))
    (tmp_path / "t.txt").write_text("Text alone.\n")
    reasons = {
        folder: "is not audio|cannot be read",
        tmp_path / "saved": "no file of its own",
        tmp_path / "t.txt": "text without audio",
    }
    for i, (src, reason) in enumerate(reasons.items()):
        (bad,) = align(src, tmp_path / f"{i}.jsonl", Listener()).rejected
        assert any(part in bad.reason for part in reason.split("|"))
    silent = align(folder, tmp_path / "silent.jsonl", Listener(words=()))
    assert silent.n_clips == 0
    assert "no word was recognised" in silent.rejected[0].reason


def test_a_killed_job_goes_on(folder):
    whole, part = folder / "whole.jsonl", folder / "part.jsonl"
    expected = align(folder, whole, Listener())
    (folder / "part.jsonl.report.json").write_bytes((folder / "whole.jsonl.report.json").read_bytes())
    content = whole.read_bytes()
    for cut in (0, 10, len(content) // 2, len(content) - 1, len(content)):
        part.write_bytes(content[:cut])
        listener = Listener()
        result = align(folder, part, listener)
        assert part.read_bytes() == content
        assert listener.n_calls == 6 - content[:cut].count(b"\n")
        assert result == Aligned(**{**vars(expected), "n_kept": content[:cut].count(b"\n")})


def test_another_job_is_refused(folder, tmp_path):
    align(folder, tmp_path / "t.jsonl", Listener())
    with pytest.raises(InputError, match="was not made with this language"):
        align(folder, tmp_path / "t.jsonl", Listener(), language="en")
    with pytest.raises(InputError, match="was not made with this source"):
        align(folder / "a.wav", tmp_path / "t.jsonl", Listener())
    (tmp_path / "t.jsonl").write_text("{}\n")
    with pytest.raises(InputError, match="no row of an alignment"):
        align(folder, tmp_path / "t.jsonl", Listener())
    (tmp_path / "mine.jsonl").write_text("{}\n")
    with pytest.raises(InputError, match="was not made with this source"):
        align(folder, tmp_path / "mine.jsonl", Listener())
    for name in ("manifest.jsonl", "wav.scp"):
        with pytest.raises(InputError, match="would take the place of the source"):
            align(folder, folder / name, Listener())
    with pytest.raises(InputError, match="is a folder"):
        align(folder, tmp_path, Listener())


def test_progress(folder, tmp_path):
    seen = []
    align(folder, tmp_path / "t.jsonl", Listener(), on_progress=lambda done, total: seen.append((done, total)))
    assert seen == [(i, 6) for i in range(1, 7)]


def test_without_the_library(folder, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "faster_whisper", None)
    with pytest.raises(InputError, match=r"hocket\[eval\]"):
        align(folder, tmp_path / "t.jsonl", "tiny.en")


def test_models_that_are_none(folder, tmp_path):
    pytest.importorskip("faster_whisper")
    with pytest.raises(InputError, match="there is no folder"):
        align(folder, tmp_path / "t.jsonl", tmp_path / "nowhere")
    with pytest.raises(InputError, match="no Whisper model that faster-whisper can load"):
        align(folder, tmp_path / "t.jsonl", folder)


@pytest.mark.slow
@pytest.mark.skipif("HOCKET_WHISPER" not in os.environ, reason="HOCKET_WHISPER names no folder of a Whisper model")
def test_real_speech(tmp_path):
    lines = [clip for clip in read_clips("bundled") if clip.text and clip.probe() > 3][:8]
    (tmp_path / "m.jsonl").write_text(
        "".join(json.dumps({"id": clip.id, "audio": str(clip.audio), "text": clip.text}) + "\n" for clip in lines)
    )
    result = align(tmp_path / "m.jsonl", tmp_path / "t.jsonl", os.environ["HOCKET_WHISPER"], language="en")
    assert result.n_clips == 8
    assert result.matched is not None
    assert result.matched > 0.8
    for clip in read_clips(tmp_path / "t.jsonl"):
        starts = [word.start for word in clip.words]
        assert starts == sorted(starts)
        assert clip.words[-1].end <= clip.probe() + 1e-3


def test_other_languages_are_refused_by_name(tmp_path):
    def english_only(wav_T: np.ndarray, language: str | None) -> list[Word]:
        raise InputError(f'the model "x" does not know the language "{language}"')

    write_noise(tmp_path / "a.wav", 0.3)
    (bad,) = align(tmp_path, tmp_path / "t.jsonl", english_only, language="de").rejected
    assert bad.reason == 'the model "x" does not know the language "de"'
