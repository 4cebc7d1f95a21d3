"""The tokenising job: what it writes, what it refuses, and that a killed job ends as if it had not been killed."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
import soundfile
import torch
from energy_codec import EnergyCodec
from recordings import write_noise

from hocket.data import (
    BadAudio,
    Corpus,
    Preparation,
    Settings,
    StreamCodec,
    read_clips,
    read_rejected,
    tokenize,
)
from hocket.data.tokenizing import reading
from hocket.errors import InputError

SMALL: dict[str, Any] = {"settings": Settings(batch_seconds=1.0, shard_seconds=1.5)}


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_rows_carry_what_is_known(folder, tmp_path, codec):
    card = tokenize(folder, tmp_path / "corpus", codec, **SMALL)
    corpus = Corpus.open(tmp_path / "corpus")
    assert [example.id for example in corpus] == ["a", "b", "c", "d", "more/e", "more/f"]
    assert corpus[0].text == "This is a."
    assert corpus[1].text is None
    assert corpus[5].audio == "more/f.wav"
    assert corpus[0].duration == pytest.approx(0.3)
    assert (card.n_examples, card.n_texts, card.n_rejected, len(card.shards)) == (6, 3, 0, 4)
    assert card.seconds == pytest.approx(sum(0.3 + 0.17 * i for i in range(6)))
    assert card == corpus.card


def test_codes_are_those_of_each_clip_alone(folder, tmp_path, codec):
    tokenize(folder, tmp_path / "corpus", codec, **SMALL)
    for clip, example in zip(read_clips(folder), Corpus.open(tmp_path / "corpus"), strict=True):
        wav_T = clip.read(8000)
        alone = codec.encode(wav_T[None], 8000, torch.tensor([len(wav_T)]))
        np.testing.assert_array_equal(example.streams["audio"], alone.tokens_BTK[0])


def test_same_settings_give_the_same_bytes(folder, tmp_path, codec):
    tokenize(folder, tmp_path / "one", codec, **SMALL)
    tokenize(folder, tmp_path / "two", codec, **SMALL)
    assert files(tmp_path / "one") == files(tmp_path / "two")


def test_datasets_opens_it(folder, tmp_path, codec):
    tokenize(folder, tmp_path / "corpus", codec, **SMALL)
    loaded = datasets.load_from_disk(str(tmp_path / "corpus"))
    assert isinstance(loaded, datasets.Dataset)
    assert loaded.column_names[:4] == ["id", "codes", "text", "words"]
    assert loaded[3]["codes"] == Corpus.open(tmp_path / "corpus")[3].streams["audio"].tolist()
    assert loaded[1]["text"] is None


def make_bad(folder: Path) -> list[str]:
    """Put one clip of each bad kind into the folder; the words that should name what is wrong, by file name order."""
    (folder / "x1.wav").write_text("I am no sound.")
    (folder / "x2.wav").touch()
    write_noise(folder / "x3.wav", seconds=0.010)
    soundfile.write(folder / "x4.wav", np.zeros(4000), 8000)
    soundfile.write(folder / "x5.wav", np.full(4000, np.inf, np.float32), 8000, subtype="FLOAT")
    (folder / "x6.wav").symlink_to(folder / "gone.wav")
    return ["not audio", "empty", "too short: it lasts 10 ms", "silent", "not finite", "which is not there"]


def test_bad_clips_are_named_and_counted(folder, tmp_path, codec):
    words = make_bad(folder)
    write_noise(folder / "stereo.wav", seconds=0.4, rate=48000, channels=2)
    card = tokenize(folder, tmp_path / "corpus", codec, **SMALL)
    rejected = read_rejected(tmp_path / "corpus")
    assert (card.n_examples, card.n_rejected) == (7, 6)
    assert [item.audio for item in rejected] == [f"x{i}.wav" for i in range(1, 7)]
    assert all(word in item.reason for word, item in zip(words, rejected, strict=True))


@pytest.mark.parametrize("number", range(6))
def test_one_bad_file_leaves_nothing_behind(folder, tmp_path, codec, number):
    word = make_bad(folder)[number]
    dst = tmp_path / "new" / "corpus"
    with pytest.raises(InputError, match=word) as error:
        tokenize(write_one(tmp_path, folder / f"x{number + 1}.wav"), dst, codec)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "new").exists()


def write_one(tmp_path: Path, file: Path) -> Path:
    manifest = tmp_path / "one.csv"
    manifest.write_text(f"audio\n{file}\n")
    return manifest


@pytest.mark.parametrize("bad", ["x1.wav", "x4.wav"])
def test_strict_stops_at_a_bad_clip(folder, tmp_path, codec, bad):
    make_bad(folder)
    for other in set(folder.glob("x*.wav")) - {folder / bad}:
        other.unlink()
    with pytest.raises(BadAudio, match=bad):
        tokenize(folder, tmp_path / "corpus", codec, strict=True, **SMALL)
    said: list[str] = []
    tokenize(folder, tmp_path / "corpus", codec, notify=said.append, **SMALL)
    assert "going on" in said[0]
    with pytest.raises(BadAudio, match=bad):
        tokenize(folder, tmp_path / "corpus", codec, strict=True, **SMALL)


def test_an_empty_folder_that_was_there_stays(folder, tmp_path, codec):
    soundfile.write(tmp_path / "silence.wav", np.zeros(4000), 8000)
    (tmp_path / "corpus").mkdir()
    with pytest.raises(InputError, match="silent"):
        tokenize(tmp_path / "silence.wav", tmp_path / "corpus", codec)
    assert list((tmp_path / "corpus").iterdir()) == []


def test_done_is_done(folder, tmp_path, codec):
    said: list[str] = []
    card = tokenize(folder, tmp_path / "corpus", codec, notify=said.append)
    before = files(tmp_path / "corpus")
    assert tokenize(folder, tmp_path / "corpus", codec, notify=said.append) == card
    assert files(tmp_path / "corpus") == before
    assert len(said) == 1
    assert "already done" in said[0]


def test_another_corpus_is_not_touched(folder, tmp_path, codec):
    dst = tmp_path / "corpus"
    tokenize(folder, dst, codec)
    before = files(dst)
    with pytest.raises(InputError, match=r'is of codec "energy".*, not of codec "other"'):
        tokenize(folder, dst, EnergyCodec("other"))
    with pytest.raises(InputError, match=r"batch_seconds=60.0.*, not batch_seconds=1.0"):
        tokenize(folder, dst, codec, settings=Settings(batch_seconds=1.0))
    text, audio = (folder / "a.txt").read_text(), (folder / "a.wav").read_bytes()
    (folder / "a.txt").write_text("Something else.")
    with pytest.raises(InputError, match=r"was made from the clips of .*, not those of"):
        tokenize(folder, dst, codec)
    (folder / "a.txt").write_text(text)
    (folder / "a.wav").write_bytes(audio + audio[-1000:])  # another recording under the same name
    with pytest.raises(InputError, match=r"was made from the clips of .*, not those of"):
        tokenize(folder, dst, codec)
    assert files(dst) == before


def test_a_folder_of_something_else_is_not_touched(folder, tmp_path, codec):
    with pytest.raises(InputError, match="is not empty and holds no corpus"):
        tokenize(folder, folder, codec)
    with pytest.raises(InputError, match="is a file; a corpus is a folder"):
        tokenize(folder, folder / "a.wav", codec)


def test_progress_counts_seconds_of_audio(folder, tmp_path, codec):
    make_bad(folder)
    seen: list[tuple[float, float]] = []
    tokenize(folder, tmp_path / "corpus", codec, on_progress=lambda *now: seen.append(now), **SMALL)
    assert seen[0][0] == 0
    assert seen[-1][0] == pytest.approx(seen[-1][1])
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)


JOB = """
import sys
from energy_codec import EnergyCodec
from hocket.data import Settings, tokenize
settings = Settings(batch_seconds=1.0, shard_seconds=1.5)
tokenize(sys.argv[1], sys.argv[2], EnergyCodec(seconds=float(sys.argv[3])), settings=settings)
"""


def start_job(src: Path, dst: Path, seconds: float) -> subprocess.Popen:
    path = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    command = [sys.executable, "-c", JOB, str(src), str(dst), str(seconds)]
    return subprocess.Popen(command, env={**os.environ, "PYTHONPATH": path})


def wait_for(path: Path, job: subprocess.Popen) -> None:
    deadline = time.monotonic() + 60
    while not path.exists():
        assert job.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_killed_job_goes_on_and_ends_the_same(folder, tmp_path, codec):
    tokenize(folder, tmp_path / "whole", codec, **SMALL)
    dst = tmp_path / "corpus"
    job = start_job(folder, dst, seconds=0.5)
    wait_for(dst / ".tokenizing" / "00001.json", job)
    job.send_signal(signal.SIGKILL)
    job.wait()
    with pytest.raises(InputError, match="is unfinished"):
        Corpus.open(dst)
    finished = {path.name: path.stat().st_mtime_ns for path in dst.glob("data-0000[01]*")}
    said: list[str] = []
    tokenize(folder, dst, codec, notify=said.append, **SMALL)
    assert files(dst) == files(tmp_path / "whole")
    assert {name: (dst / name).stat().st_mtime_ns for name in finished} == finished
    assert len(finished) == 2
    assert "after 2 finished shards" in said[0]


def test_an_unfinished_corpus_of_another_codec_is_refused(folder, tmp_path, codec):
    class Killed(Exception):
        pass

    def kill(done: float, total: float) -> None:
        if done > 1.5:
            raise Killed

    with pytest.raises(Killed):
        tokenize(folder, tmp_path / "corpus", codec, on_progress=kill, **SMALL)
    with pytest.raises(InputError, match=r'is of codec "energy".*, not of codec "other"'):
        tokenize(folder, tmp_path / "corpus", EnergyCodec("other"), **SMALL)
    tokenize(folder, tmp_path / "corpus", codec, **SMALL)
    assert len(Corpus.open(tmp_path / "corpus")) == 6


def test_a_torn_shard_is_made_again(folder, tmp_path, codec):
    tokenize(folder, tmp_path / "whole", codec, **SMALL)
    job = start_job(folder, tmp_path / "corpus", seconds=0.5)
    wait_for(tmp_path / "corpus" / ".tokenizing" / "00000.json", job)
    job.kill()
    job.wait()
    shutil.copy(folder / "a.wav", tmp_path / "corpus" / "data-00003.arrow")
    tokenize(folder, tmp_path / "corpus", codec, **SMALL)
    assert files(tmp_path / "corpus") == files(tmp_path / "whole")


def test_a_long_recording_is_cut_in_parts(tmp_path, codec, monkeypatch):
    """What is too long for a block is handed on in parts; every piece is there once and in its place."""
    write_noise(tmp_path / "long.wav", seconds=130.0)
    settings = Settings(batch_seconds=8.0, preparation=Preparation(cut_seconds=4.0))
    card = tokenize(tmp_path / "long.wav", tmp_path / "whole", codec, settings=settings)
    monkeypatch.setattr(reading, "BLOCK_SECONDS", 10.0)
    tokenize(tmp_path / "long.wav", tmp_path / "parts", codec, settings=settings)
    assert files(tmp_path / "parts") == files(tmp_path / "whole")
    assert card.n_examples >= 33
    assert card.seconds == pytest.approx(130)
    assert {example.recording for example in Corpus.open(tmp_path / "parts")} == {"long"}


def test_words_belong_to_the_stream_of_their_channel(tmp_path, codec):
    write_noise(tmp_path / "a.wav", seconds=1.0, channels=2)
    words = [{"text": "hello", "start": 0.1, "end": 0.3, "stream": "audio"}]
    words.append({"text": "yes", "start": 0.5, "end": 0.6, "stream": "user"})
    (tmp_path / "m.jsonl").write_text(json.dumps({"audio": "a.wav", "words": words}) + "\n")
    streams = {"left": StreamCodec(codec, 0), "right": StreamCodec(codec, 1), "units": StreamCodec(codec, 0)}
    card = tokenize(tmp_path / "m.jsonl", tmp_path / "corpus", streams)
    example = Corpus.open(tmp_path / "corpus")[0]
    assert [(word.text, word.stream) for word in example.words] == [("hello", "left"), ("yes", "right")]
    np.testing.assert_array_equal(example.streams["left"], example.streams["units"])
    assert not np.array_equal(example.streams["left"], example.streams["right"])
    assert list(card.streams) == ["left", "right", "units"]


def test_text_alone(tmp_path):
    (tmp_path / "texts.jsonl").write_text('{"text": "One two."}\n{"text": ""}\n{"text": "Three."}\n')
    card = tokenize(tmp_path / "texts.jsonl", tmp_path / "corpus", None)
    assert (card.n_examples, card.n_rejected, card.seconds) == (2, 1, 0.0)
    assert list(Corpus.open(tmp_path / "corpus").texts()) == ["One two.", "Three."]
