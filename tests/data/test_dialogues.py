"""Dialogues: words lie where energy is, nothing is lost, channels are silent when not speaking.

Shapes: S samples, 2 channels.
"""

import hashlib
import json
import runpy
from pathlib import Path

import numpy as np
import pytest
import soundfile
from recordings import write_noise

from hocket.data import Corpus, read_clips, tokenize
from hocket.data.clips import Clip
from hocket.data.dialogues import (
    LEVEL,
    Dialogue,
    Timing,
    Utterance,
    heard,
    make_utterance,
    mix_dialogue,
    spread_words,
)
from hocket.data.tokenizing import StreamCodec
from hocket.data.words import Word
from hocket.errors import InputError

Sides = tuple[list[Utterance], list[Utterance]]

SCRIPT = Path(__file__).parents[2] / "scripts" / "mix_dialogues.py"


@pytest.fixture
def sides(tmp_path: Path) -> Sides:
    """Six utterances of each of two speakers: noise with silence around it, some of them short."""
    found: Sides = ([], [])
    for i in range(12):
        seconds = [0.5, 1.0, 2.5, 3.0, 4.0, 0.8][i // 2]
        wav_S = np.pad(0.03 * np.random.default_rng(i).standard_normal(round(8000 * seconds)), (800 + 80 * i, 1600))
        soundfile.write(tmp_path / f"{i}.wav", wav_S, 8000)
        words = (Word(text=f"one{i}", start=0.1 + i / 100, end=0.2 + i / 100),) if i % 4 == 0 else ()
        clip = Clip(id=str(i), name=f"{i}.wav", audio=tmp_path / f"{i}.wav", text=f"one{i} and more", words=words)
        found[i % 2].append(make_utterance(clip, 8000, speaker="ab"[i % 2]))
    return found


def mixed(sides: Sides, seed: int = 0, **settings) -> Dialogue:
    return mix_dialogue(sides[0], sides[1], seed, seconds=40.0, **settings)


def test_utterances_are_brought_to_a_level_and_heard_where_they_sound(sides):
    for utterance in [*sides[0], *sides[1]]:
        begin, end, level = heard(utterance.wav_S, 8000)
        assert level == pytest.approx(LEVEL, rel=0.01)
        assert (begin, end) == pytest.approx((utterance.begin, utterance.end), abs=0.02)
        assert utterance.begin == pytest.approx(0.1 + int(utterance.id) / 100, abs=0.02)


def test_words_without_times_are_spread_and_marked():
    words = spread_words("a bcd ef", 1.0, 4.0)
    assert [(word.text, word.start, word.end) for word in words] == [("a", 1, 1.5), ("bcd", 1.5, 3), ("ef", 3, 4)]


@pytest.mark.parametrize("seed", range(20))
def test_nothing_is_lost_and_nothing_is_added(sides, seed):
    dialogue = mixed(sides, seed)
    left_2S = dialogue.wav_2S.copy()
    for turn in dialogue.turns:
        first, n = round(turn.start * 8000), len(turn.utterance.wav_S)
        np.testing.assert_array_equal(left_2S[turn.channel, first : first + n], turn.utterance.wav_S)
        left_2S[turn.channel, first : first + n] = 0
    assert not left_2S.any()
    assert dialogue.wav_2S.shape == (2, 320000)
    for channel in (0, 1):
        mine = [turn for turn in dialogue.turns if turn.channel == channel]
        assert all(one.stop <= other.start + 1e-9 for one, other in zip(mine, mine[1:], strict=False))
        assert {turn.utterance.speaker for turn in mine} == {"ab"[channel]}


@pytest.mark.parametrize("seed", range(20))
def test_words_lie_where_energy_is(sides, seed):
    wav_2S, words = mixed(sides, seed)
    assert [word.start for word in words] == sorted(word.start for word in words)
    assert {word.stream for word in words} == {"audio", "user"}
    for word in words:
        channel = ("audio", "user").index(word.stream)
        said_S = wav_2S[channel, round(word.start * 8000) : round(word.end * 8000)]
        assert np.sqrt(np.mean(said_S**2)) > 0.5 * LEVEL


def test_same_seed_same_bytes(sides):
    assert mixed(sides, 7).wav_2S.tobytes() == mixed(sides, 7).wav_2S.tobytes()
    assert mixed(sides, 7).words == mixed(sides, 7).words
    assert mixed(sides, 7).wav_2S.tobytes() != mixed(sides, 8).wav_2S.tobytes()


def test_gaps_are_distributed_as_asked(sides):
    gaps = [gap for seed in range(200) for gap in mixed(sides, seed).gaps()]
    assert np.median(gaps) == pytest.approx(0.21, abs=0.08)
    assert 0.2 < np.mean(np.array(gaps) < 0) < 0.4
    slow = Timing(gap_mean=1.5, gap_deviation=0.1, backchannel=0.0, going_on=0.0)
    dialogue = mixed(sides, 0, timing=slow)
    assert all(1.0 < gap <= 2.0 for gap in dialogue.gaps())
    assert dialogue.shares()["overlap"] == 0


def test_backchannels_fall_into_long_turns(sides):
    eager = Timing(backchannel=1.0, going_on=0.0, gap_mean=1.0, gap_deviation=0.0)
    dialogue = mixed(sides, 3, timing=eager)
    inside = [
        one
        for one in dialogue.turns
        if any(turn.channel != one.channel and turn.begin < one.begin and one.end < turn.end for turn in dialogue.turns)
    ]
    assert inside
    assert all(one.end - one.begin <= 1.2 for one in inside)


def test_shares_add_up(sides):
    shares = mixed(sides).shares()
    assert shares["speech"] + shares["silence"] == pytest.approx(1)
    assert shares["own"] + shares["user"] - shares["overlap"] == pytest.approx(shares["speech"])
    assert 0.5 < shares["speech"] < 1


def test_what_cannot_be_mixed(sides, tmp_path):
    with pytest.raises(InputError, match="both sides"):
        mix_dialogue(sides[0], [], 0)
    with pytest.raises(InputError, match="make it longer"):
        mix_dialogue(sides[0], sides[1], 0, seconds=0.5)
    clip = Clip(id="x", name="x", audio=write_noise(tmp_path / "x.wav", 1.0))
    with pytest.raises(InputError, match="text and speaker"):
        make_utterance(clip, 8000)


def run(*arguments: object) -> int:
    script = runpy.run_path(str(SCRIPT))
    return script["main"]([str(argument) for argument in arguments])


@pytest.fixture
def spoken(tmp_path: Path) -> Path:
    """A manifest of noise by four speakers, two of them held out."""
    rows = []
    for i in range(24):
        speaker = "abcd"[i % 4]
        write_noise(tmp_path / f"{i}.wav", 0.5 + i / 10, seed=i)
        rows.append({"audio": f"{i}.wav", "text": f"number {i}", "speaker": speaker,
                     "split": "valid" if speaker in "cd" else "train"})  # fmt: skip
    (tmp_path / "m.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n")
    return tmp_path / "m.jsonl"


def test_the_script_writes_dialogues_that_are_a_source(spoken, tmp_path, capsys):
    assert run(spoken, tmp_path / "one", "--n", 4, "--seconds", 12, "--sample-rate", 8000) == 0
    assert "overlap" in capsys.readouterr().out
    run(spoken, tmp_path / "two", "--n", 4, "--seconds", 12, "--sample-rate", 8000)
    hashes = [
        {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in (tmp_path / name).iterdir()}
        for name in ("one", "two")
    ]
    assert hashes[0] == hashes[1]
    clips = read_clips(tmp_path / "one")
    rows = [json.loads(line) for line in (tmp_path / "one" / "manifest.jsonl").read_text().splitlines()]
    assert len(clips) == 4
    assert {clip.split for clip in clips} == {"train", "valid"}
    for clip, row in zip(clips, rows, strict=True):
        assert {word.stream for word in clip.words} == {"audio", "user"}
        assert clip.text == " ".join(word.text for word in clip.words if word.stream == "audio")
        assert set(row["speakers"]) <= ({"a", "b"} if clip.split == "train" else {"c", "d"})
        assert row["word_times"] == "spread"
        assert [turn["start"] for turn in row["turns"]] == sorted(turn["start"] for turn in row["turns"])
        assert clip.probe() == 12


def test_the_script_needs_two_speakers(folder, tmp_path, capsys):
    assert run(folder, tmp_path / "out") == 1
    said = capsys.readouterr().err
    assert "two speakers" in said
    assert len(said.strip().splitlines()) == 1


def test_a_dialogue_becomes_two_streams(spoken, tmp_path, codec):
    run(spoken, tmp_path / "dialogues", "--n", 2, "--seconds", 12, "--sample-rate", 8000)
    streams = {"audio": StreamCodec(codec, channel=0), "user": StreamCodec(codec, channel=1)}
    tokenize(tmp_path / "dialogues", tmp_path / "corpus", streams)
    for example in Corpus.open(tmp_path / "corpus"):
        assert {word.stream for word in example.words} == set(streams)
        for word in example.words:
            said_TK = np.asarray(example.streams[word.stream])[round(word.start * 50) : round(word.end * 50)]
            assert said_TK.any(axis=1).mean() > 0.9
