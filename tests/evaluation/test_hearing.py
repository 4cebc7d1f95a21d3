"""What is said and what is heard: words as they are compared, counts with intervals, and a model that does both."""

import json
import runpy
from pathlib import Path

import numpy as np
import pytest
import soundfile

from hocket.codec import load_codec
from hocket.data import tokenize
from hocket.evaluation.hearing import (
    DIGITS,
    Tally,
    edit_distance,
    listen,
    recognise,
    resynthesise,
    speak,
    spell,
    wilson,
)
from hocket.inference import Generator, Sampling
from hocket.model import load_model
from hocket.training import run_recipe

SCRIPTS = Path(__file__).parents[2] / "scripts"
RATE = 16000


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (" 7, 4, 9, 8.", "seven four nine eight"),
        ("314", "three one four"),
        ("For, to, oh; Won ate!", "four two zero one eight"),
        ("0.2-897", "zero two eight nine seven"),
        ("Don't", "dont"),
        ("", ""),
    ],
)
def test_words_as_they_are_compared(text, words):
    assert " ".join(spell(text)) == words


@pytest.mark.parametrize(
    ("one", "other", "distance"),
    [("", "", 0), ("a", "", 1), ("", "a b", 2), ("a b c", "a c", 1), ("a b c", "c b a", 2), ("a b", "b a b", 1)],
)
def test_distances_of_words(one, other, distance):
    assert edit_distance(one.split(), other.split()) == distance
    assert edit_distance(other.split(), one.split()) == distance


def test_counts_with_their_interval():
    tally = Tally()
    assert tally.add("three one", "3 1")
    assert not tally.add("three one four", "three four five")
    assert (tally.n, tally.right, tally.words, tally.wrong) == (2, 1, 5, 2)
    assert str(tally) == "1 of 2 right, 50.0 % (9.5 to 90.5); word error rate 40.0 %, 2 of 5 words"
    assert tally.to_dict()["wer"] == pytest.approx(0.4)
    # Newcombe, Statistics in Medicine 1998, table I: 81 of 263
    assert wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=1e-4)


def test_what_is_heard_is_counted_beside_the_texts():
    heard = iter(["1 2", "three"])
    tally, transcripts = listen(lambda wav_S: next(heard), ["one two", "four"], [np.zeros(1), np.zeros(1)])
    assert (tally.right, transcripts) == (1, ["1 2", "three"])


def say(word: int, pitch: float, take: int) -> np.ndarray:
    """A vowel-like sound for each word, in a voice, a little different each time."""
    rng = np.random.default_rng([word, int(pitch), take])
    times = np.arange(round(rng.uniform(0.3, 0.45) * RATE)) / RATE
    pitch *= rng.uniform(0.95, 1.05)
    formants = [(300, 2300), (700, 1100), (500, 1800), (350, 800)][word]
    sound = np.zeros(len(times))
    for harmonic in range(1, int(4000 / pitch)):
        gain = sum(np.exp(-(((harmonic * pitch - f) / 150) ** 2)) for f in formants) + 0.01
        sound += gain * np.sin(2 * np.pi * harmonic * pitch * times + rng.uniform(0, 6))
    envelope = np.minimum(1, np.minimum(times, times[-1] - times) / 0.05)
    return (0.2 * envelope * sound / np.abs(sound).max()).astype(np.float32)


@pytest.fixture(scope="module")
def sounds(tmp_path_factory) -> Path:
    """Four words by two voices, ten takes each."""
    folder, rows = tmp_path_factory.mktemp("sounds"), []
    for word in range(4):
        for voice, pitch in (("low", 110), ("high", 190)):
            for take in range(10):
                name = f"{word}_{voice}_{take}"
                soundfile.write(folder / f"{name}.wav", say(word, pitch, take), RATE)
                rows.append({"id": name, "audio": f"{name}.wav", "text": DIGITS[word], "speaker": voice})
    (folder / "manifest.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


@pytest.mark.slow
def test_a_short_run_of_the_recipe_recognises_and_speaks(sounds, tmp_path, capsys):
    """What was written for spoken digits learns four vowels in a few minutes, and knows takes that it never heard."""
    arguments = [sounds, tmp_path / "joined", "--held-out", "_[89]$", "--n", 600, "--n-valid", 20, "--speaker"]
    assert runpy.run_path(str(SCRIPTS / "join_clips.py"))["main"]([str(a) for a in [*arguments, "--clips", 1, 3]]) == 0
    tokenize(str(tmp_path / "joined"), tmp_path / "corpus", load_codec("bundled"))
    settings = ["model.dim=96", "model.n_layers=3", "model.ffn_dim=256", "training.steps=250", "training.warmup=20"]
    settings += ["training.valid_every=250", "training.save_every=250", "training.tensorboard=false", "codec.levels=3"]
    settings += [f"output={tmp_path / 'run'}", f"data.corpus={tmp_path / 'corpus'}", "training.engine=accelerate"]
    run_recipe("digits", settings)
    capsys.readouterr()
    command = [tmp_path / "run", sounds, "--held-out", "_[89]$", "--json", tmp_path / "found.json"]
    assert runpy.run_path(str(SCRIPTS / "evaluate_digits.py"))["main"]([str(a) for a in command]) == 0
    found = json.loads((tmp_path / "found.json").read_text())["recognition"]
    assert found["n"] == 16
    assert found["accuracy"] >= 0.8
    assert found["speaker_named"] >= 12
    generator = Generator(load_model(tmp_path / "run"))
    texts = ["low: one two", "high: zero"]
    wavs = speak(generator, texts, 2.0, Sampling(temperature=0.5))
    assert all(0 < len(wav_S) <= 2 * RATE for wav_S in wavs)
    assert len(recognise(generator, wavs, RATE, 8)) == 2
    again = resynthesise(generator.model.codec, wavs, RATE)
    assert [len(wav_S) for wav_S in again] == [len(wav_S) for wav_S in wavs]
