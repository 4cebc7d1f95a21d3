"""`hocket codecs` and `hocket codec ...` at the command line."""

import json

import numpy as np
import pytest
import soundfile

from hocket.codec import load_codec
from hocket.codec.catalogue import CATALOGUE
from tests.test_cli_inputs import RATE, errors, run


@pytest.fixture
def speech_folder(tmp_path):
    random = np.random.default_rng(0)
    for index in range(12):
        samples = random.normal(0, 0.1, RATE).astype(np.float32)
        (tmp_path / "speech").mkdir(exist_ok=True)
        soundfile.write(tmp_path / "speech" / f"{index}.wav", samples, RATE)
    return tmp_path / "speech"


def test_codecs_lists_every_codec_with_exact_rates(monkeypatch, capsys):
    code, stdout, _ = run(monkeypatch, capsys, "codecs", "--json")
    rows = {row["name"]: row for row in json.loads(stdout)["codecs"]}
    assert code == 0
    assert list(rows) == ["bundled", *(entry.short for entry in CATALOGUE)]
    assert rows["dac-44khz"]["frame_rate"] == "11025/128"
    assert rows["bundled"]["kbit_per_second"] == 2
    assert rows["mimi"]["tokens_in_30_s"] == 375 * 32


def test_codecs_at_fewer_levels(monkeypatch, capsys):
    _, stdout, _ = run(monkeypatch, capsys, "codecs", "mimi", "--levels", "8", "--json")
    (row,) = json.loads(stdout)["codecs"]
    assert row["kbit_per_second"] == pytest.approx(1.1)
    assert row["seconds_in_4096_tokens"] == pytest.approx(40.96)
    _, stdout, _ = run(monkeypatch, capsys, "codecs", "mimi", "--levels", "8")
    assert "mimi" in stdout
    assert "12.50" in stdout


def test_train_makes_a_codec_and_says_so_in_one_object(speech_folder, tmp_path, monkeypatch, capsys):
    arguments = ["--steps", 2, "--adversarial-steps", 1, "--levels", 2, "--entries", 8, "--batch", 2, "--json"]
    code, stdout, _ = run(monkeypatch, capsys, "codec", "train", speech_folder, "--out", tmp_path / "run", *arguments)
    result = json.loads(stdout)
    assert code == 0
    assert (result["steps"], result["adversarial_steps"], result["n_held_out"]) == (2, 1, 1)
    assert load_codec(result["folder"]).codebook_sizes == (8, 8)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["codec", "train", "nowhere", "--out", "run"], "no file or folder"),
        (["codec", "train", "bundled", "--out", "run", "--start", "bundld"], 'did you mean "bundled"'),
        (["codec", "train", "bundled", "--out", "run", "--split", "none.json"], "none.json"),
        (["codec", "fit-units", "bundled", "--extractor", "hubert:no/such/folder", "--out", "run"], "no folder"),
        (["codec", "evaluate", "bundled", "nowhere"], "no file or folder"),
        (["codec", "evaluate", "bundled", "bundled", "--levels", "9"], "levels 1 to 8"),
        (["codecs", "mimmi"], 'did you mean "mimi"'),
        (["tokenize", "bundled", "corpus", "--device", "cuda:99"], "cpu always can"),
    ],
)
def test_bad_input_gets_one_sentence(arguments, sentence, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    code, _, stderr = run(monkeypatch, capsys, *arguments)
    assert code == 1
    assert len(errors(stderr)) == 1
    assert sentence in errors(stderr)[0]
    assert "Traceback" not in stderr
