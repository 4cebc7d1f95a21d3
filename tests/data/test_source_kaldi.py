"""Kaldi data directories and Lhotse cut sets list clips with their texts, speakers, spans and word times."""

import gzip
import json

import kaldiio
import numpy as np
import pytest
import soundfile
from lhotse import CutSet, MonoCut, MultiCut, Recording, SupervisionSegment
from lhotse.supervision import AlignmentItem
from recordings import write_noise

from hocket.data.clips import Clip, Rejected
from hocket.data.sources import open_source, read_clips
from hocket.data.sources.kaldi import ArkAudio
from hocket.data.words import Word
from hocket.errors import InputError


def write_tables(folder, **tables: str):
    folder.mkdir(exist_ok=True)
    for name, content in tables.items():
        (folder / name.replace("_", ".")).write_text(content)
    return folder


def test_a_data_directory(folder, tmp_path):
    data = write_tables(
        tmp_path / "data",
        wav_scp=f"r1 {folder}/a.wav\nr2 cat {folder}/b.wav |\nr3 flac -c -d -s {folder}/c.wav |\n",
        text="r1 Hello there.\nr3\n",
        utt2spk="r1 anna\nr2 bert\n",
        spk2lang="anna en\n",
        utt2dur="r1 0.3\n",
        ctm="r1 1 0.1 0.1 Hello\n",
    )
    first, second, third = read_clips(data)
    assert (first.id, first.text, first.speaker, first.language) == ("r1", "Hello there.", "anna", "en")
    assert (first.seconds, first.words) == (0.3, (Word(text="Hello", start=0.1, end=0.2),))
    assert (second.speaker, second.text, third.text) == ("bert", None, None)
    assert [clip.audio for clip in (first, second, third)] == [folder / name for name in ("a.wav", "b.wav", "c.wav")]
    assert read_clips(data / "wav.scp") == [first, second, third]
    assert open_source(data).n_clips == 3


def test_segments(folder, tmp_path):
    data = write_tables(
        tmp_path / "data",
        wav_scp=f"talk {folder}/d.wav\n",
        segments="u1 talk 0.1 0.4\nu2 talk 0.4 -1\nu3 other 0 1\nu4 talk 1 0.5\nu5 talk\nu6 talk x 1\n",
        text="u1 One.\n",
        utt2lang="u1 en\n",
        ctm="talk 1 0.15 0.1 One.\nu2 1 0.05 0.1 Two.\n",
    )
    one, two, *bad = open_source(data)
    assert isinstance(one, Clip)
    assert isinstance(two, Clip)
    assert (one.text, one.language, one.start, one.end, one.seconds) == ("One.", "en", 0.1, 0.4, 0.3)
    assert (two.start, two.end, two.text) == (0.4, None, "Two.")
    assert [(word.text, word.start) for clip in (one, two) for word in clip.words] == [("One.", 0.05), ("Two.", 0.05)]
    reasons = [item.reason for item in bad if isinstance(item, Rejected)]
    wanted = ['does not name "other"', "ends (0.5 s) before", "is no segment", 'has "x" for the start']
    assert all(part in reason for part, reason in zip(wanted, reasons, strict=True))
    assert all(f"segments, line {line}," in reason for line, reason in zip(range(3, 7), reasons, strict=True))


@pytest.mark.parametrize("command", ["sox a.wav -t wav - |", "cat a.wav b.wav |", "rm -rf x |", "flac a.wav |", "|"])
def test_commands_are_not_run(tmp_path, command):
    (bad,) = open_source(write_tables(tmp_path / "data", wav_scp=f"r1 {command}\n"))
    assert isinstance(bad, Rejected)
    assert "commands are not run" in bad.reason
    assert "wav.scp, line 1," in bad.reason


def test_audio_in_an_ark(tmp_path):
    rng = np.random.default_rng(0)
    waves = {f"u{i}": rng.integers(-3000, 3000, 800 + 100 * i).astype(np.int16) for i in range(3)}
    scp = tmp_path / "wav.scp"
    with kaldiio.WriteHelper(f"ark,scp:{tmp_path}/w.ark,{scp}") as writer:
        for id, wave in waves.items():
            writer(id, (8000, wave))
    for clip, (id, wave) in zip(read_clips(tmp_path), waves.items(), strict=True):
        assert clip.id == id
        np.testing.assert_array_equal(clip.read(8000).numpy() * 2**15, wave)


def test_whole_files_in_an_ark(tmp_path):
    wave = np.random.default_rng(0).integers(-3000, 3000, 800).astype(np.int16)
    with kaldiio.WriteHelper(f"ark,scp:{tmp_path}/w.ark,{tmp_path}/wav.scp", write_function="soundfile") as writer:
        writer("held", (wave, 8000))
    soundfile.write(tmp_path / "x.flac", wave, 8000)
    (tmp_path / "f.ark").write_bytes(b"flac " + (tmp_path / "x.flac").read_bytes())
    with (tmp_path / "wav.scp").open("a") as scp:
        scp.write(f"flac {tmp_path}/f.ark:5\n")
    held, flac = read_clips(tmp_path / "wav.scp")
    np.testing.assert_array_equal(held.read(8000).numpy() * 2**15, wave)
    np.testing.assert_array_equal(flac.read(8000).numpy() * 2**15, wave)


def test_what_is_no_audio_in_an_ark(tmp_path):
    with kaldiio.WriteHelper(f"ark,scp:{tmp_path}/w.ark,{tmp_path}/wav.scp", write_function="pickle") as writer:
        writer("u0", np.zeros(3))
    (clip,) = read_clips(tmp_path)
    assert isinstance(clip.audio, ArkAudio)
    with pytest.raises(OSError, match="holds no audio at byte"):
        clip.audio.file()


def test_relative_paths(folder, tmp_path, monkeypatch):
    data = write_tables(tmp_path / "data", wav_scp="r1 audio/a.wav\nr2 near.wav\n")
    write_noise(data / "near.wav", 0.3)
    monkeypatch.chdir(tmp_path)
    assert [clip.probe() for clip in read_clips(data)] == [0.3, 0.3]


def test_bad_tables(tmp_path):
    (tmp_path / "wav.scp").write_bytes(b"r1 \xff\n")
    with pytest.raises(InputError, match=r"wav\.scp is not UTF-8"):
        list(open_source(tmp_path))
    with pytest.raises(InputError, match="has no utterances"):
        list(open_source(write_tables(tmp_path / "data", wav_scp="\n")))


@pytest.fixture
def stereo(tmp_path):
    wav_TC = np.stack([np.full(8000, 0.25), np.full(8000, -0.5)], axis=1)
    soundfile.write(tmp_path / "stereo.wav", wav_TC, 8000)
    return Recording.from_file(tmp_path / "stereo.wav")


def supervision(
    recording: Recording, id: str, channel: int, text: str, start: float = 0.0, **more
) -> SupervisionSegment:
    words = [AlignmentItem(word, start + 0.1 * i, 0.1) for i, word in enumerate(text.split())]
    return SupervisionSegment(id, recording.id, start, 0.5, channel, text, alignment={"word": words}, **more)


@pytest.mark.parametrize("name", ["cuts.jsonl", "cuts.jsonl.gz", "other.jsonl"])
def test_cuts(tmp_path, stereo, name):
    own = supervision(stereo, "s1", 0, "one two", language="en", speaker="anna")
    more = supervision(stereo, "s2", 0, "three", start=0.5, language="en", speaker="bert")
    whole = MonoCut("c1", 0.0, 1.0, 1, supervisions=[supervision(stereo, "s0", 1, "right")], recording=stereo)
    part = MonoCut("c2", 0.25, 0.5, 0, supervisions=[own, more], recording=stereo)
    both = MultiCut("c3", 0.0, 1.0, [0, 1], recording=stereo,
                    supervisions=[own, supervision(stereo, "s4", 1, "too", start=0.2)])  # fmt: skip
    CutSet.from_cuts([whole, part, both]).to_file(tmp_path / name)
    one, two, three = read_clips(tmp_path / name)
    assert (one.id, one.text, one.channel, one.start, one.end, one.seconds) == ("c1", "right", 1, None, None, 1.0)
    assert one.words == (Word(text="right", start=0.0, end=0.1),)
    assert (two.text, two.speaker, two.language, two.channel) == ("one two three", None, "en", 0)
    assert (two.start, two.end, two.seconds) == (0.25, 0.75, 0.5)
    assert [word.text for word in two.words] == ["one", "two"]
    assert three.channel is None
    assert {(word.text, word.stream) for word in three.words} == {("one", "audio"), ("two", "audio"), ("too", "user")}
    assert open_source(tmp_path / name).n_clips == 3


def test_a_folder_with_a_cut_set(tmp_path, stereo):
    CutSet.from_cuts([MonoCut("c1", 0.0, 1.0, 0, recording=stereo)]).to_file(tmp_path / "cuts.jsonl.gz")
    assert [clip.id for clip in read_clips(tmp_path)] == ["c1"]


def test_cuts_that_are_refused(tmp_path, stereo):
    cut = MonoCut("c1", 0.0, 1.0, 0, recording=stereo)
    piped = stereo.to_dict() | {"sources": [{"type": "command", "channels": [0, 1], "source": "sox"}]}
    split = stereo.to_dict() | {"sources": [{"type": "file", "channels": [i], "source": f"{i}.wav"} for i in range(2)]}
    rows = [
        cut.append(cut).to_dict() | {"id": "mixed"},
        MonoCut("bare", 0.0, 1.0, 0).to_dict(),
        cut.perturb_speed(1.1).to_dict() | {"id": "fast"},
        cut.to_dict() | {"id": "piped", "recording": piped},
        MultiCut("split", 0.0, 1.0, [0, 1], recording=Recording.from_dict(split)).to_dict(),
        {"type": "MonoCut", "id": "torn", "start": 0.0},
    ]
    with gzip.open(tmp_path / "cuts.jsonl.gz", "wt") as file:
        file.writelines(json.dumps(row, default=str) + "\n" for row in rows)
        file.write("{\n")
    bad = {item.id: item.reason for item in open_source(tmp_path / "cuts.jsonl.gz") if isinstance(item, Rejected)}
    wanted = {
        "mixed": "is a MixedCut",
        "bare": "has no recording",
        "fast": "transforms its recording",
        "piped": 'of the type "command"',
        "split": "do not lie in one file",
        "torn": "is not a cut that lhotse reads",
        "cuts:7": "is not valid JSON",
    }
    assert list(bad) == list(wanted)
    assert all(wanted[id] in reason and "cuts.jsonl.gz, line" in reason for id, reason in bad.items())
