"""Sequences of clips: whole clips of one speaker with silence between, held-out ones by themselves."""

import hashlib
import json
import runpy
from pathlib import Path

import numpy as np
import pytest
import soundfile

from hocket.data import read_clips
from hocket.data.joining import Joining, join_clips, read_voices
from hocket.errors import InputError

SCRIPT = Path(__file__).parents[2] / "scripts" / "join_clips.py"
RATE = 16000


@pytest.fixture
def takes(tmp_path: Path) -> Path:
    """Two speakers say two words four times, each clip of one constant value; take 3 is to be held out."""
    rows = []
    for number in range(16):
        word, speaker, take = number % 2, number // 2 % 2, number // 4
        value = (number + 1) / 40
        soundfile.write(tmp_path / f"{number}.wav", np.full(1600 + 160 * number, value), RATE, "FLOAT")
        rows.append({"id": f"{word}_{'ab'[speaker]}_{take}", "audio": f"{number}.wav",
                     "text": ("yes", "no")[word], "speaker": "ab"[speaker]})  # fmt: skip
    (tmp_path / "m.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path / "m.jsonl"


def value_of(clip_id: str) -> float:
    word, speaker, take = clip_id.split("_")
    return (int(word) + 2 * "ab".index(speaker) + 4 * int(take) + 1) / 40


def test_clips_are_whole_of_one_speaker_and_where_they_are_said_to_be(takes):
    voices = read_voices(str(takes), "_3$")["train"]
    for number in range(20):
        joined = join_clips(voices, Joining(clips=(1, 4), gap=(0.1, 0.2)), np.random.default_rng(number))
        assert {clip.speaker for clip in joined.clips} == {joined.speaker}
        assert joined.text == " ".join(clip.text or "" for clip in joined.clips)
        heard = np.zeros_like(joined.wav_S)
        for clip, start in zip(joined.clips, joined.starts, strict=True):
            first = round(start * RATE)
            heard[first : first + len(clip.read(RATE))] = value_of(clip.id)
        assert np.allclose(joined.wav_S, heard, atol=1e-6)


def test_speed_and_gain_change_length_and_loudness(takes):
    voices = read_voices(str(takes), "_3$")["train"]
    plain = Joining(clips=(3, 3), lead=(0, 0), gap=(0, 0))
    faster = Joining(clips=(3, 3), lead=(0, 0), gap=(0, 0), speed=(1.25, 1.25), gain=(-6.0, -6.0))
    before, after = (join_clips(voices, joining, np.random.default_rng(1)) for joining in (plain, faster))
    assert before.clips == after.clips
    assert len(after.wav_S) == pytest.approx(len(before.wav_S) / 1.25, abs=3)
    assert np.median(after.wav_S) == pytest.approx(np.median(before.wav_S) * 10**-0.3, rel=0.05)


def test_every_length_holds_as_many_clips(takes):
    voices = read_voices(str(takes), "_3$")["train"]
    rng = np.random.default_rng(0)
    lengths = np.array([len(join_clips(voices, Joining(clips=(1, 3)), rng).clips) for _ in range(600)])
    shares = [(lengths == n).sum() * n / lengths.sum() for n in (1, 2, 3)]
    assert np.allclose(shares, 1 / 3, atol=0.06)


def test_held_out_clips_are_in_no_sequence_of_train(takes, tmp_path, capsys):
    def run(name: str) -> int:
        arguments = [takes, tmp_path / name, "--held-out", "_3$", "--n", 30, "--n-valid", 10, "--speaker"]
        return runpy.run_path(str(SCRIPT))["main"]([str(argument) for argument in arguments])

    assert run("one") == run("two") == 0
    assert "train: 30 sequences of 12 clips" in capsys.readouterr().out
    hashes = [
        {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in (tmp_path / name).iterdir()}
        for name in ("one", "two")
    ]
    assert hashes[0] == hashes[1]
    rows = [json.loads(line) for line in (tmp_path / "one" / "manifest.jsonl").read_text().splitlines()]
    assert {clip.endswith("_3") for row in rows if row["split"] == "valid" for clip in row["clips"]} == {True}
    assert {clip.endswith("_3") for row in rows if row["split"] == "train" for clip in row["clips"]} == {False}
    assert all(row["text"].startswith(f"{row['speaker']}: ") for row in rows)
    clips = list(read_clips(str(tmp_path / "one" / "manifest.jsonl")))
    assert [clip.split for clip in clips] == ["train"] * 30 + ["valid"] * 10


@pytest.mark.parametrize(
    ("held_out", "sentence"),
    [("(", "is no regular expression"), ("nothing", "is left for valid"), ("", "is left for train")],
)
def test_patterns_that_leave_nothing_are_refused(takes, held_out, sentence):
    with pytest.raises(InputError, match=sentence):
        read_voices(str(takes), held_out)


@pytest.mark.parametrize("setting", [{"clips": (0, 2)}, {"clips": (3, 2)}, {"gap": (-1, 0)}, {"speed": (0, 1)}])
def test_ranges_go_from_the_least_to_the_most(setting):
    with pytest.raises(InputError, match="goes from the least to the most"):
        Joining(**setting)
