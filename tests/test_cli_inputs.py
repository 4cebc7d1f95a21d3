"""Bad input at the command line: one sentence, a non-zero exit, nothing left behind; odd but good input works."""

import numpy as np
import pytest
import soundfile

from hocket import cli
from hocket.codec import load_codec
from hocket.interleave import load_layout
from hocket.model import Model, ModelConfig
from hocket.vocab import Vocabulary

RATE = 16000


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """A tiny untrained model that speaks the bundled codec, with a context of four seconds."""
    codec = load_codec("bundled")
    vocabulary = Vocabulary.build(None, {"audio": codec.codebook_sizes}, {"audio": codec.identity.fingerprint})
    config = ModelConfig(dim=16, n_layers=1, n_heads=2, n_kv_heads=2, ffn_dim=16, context=100)
    folder = tmp_path_factory.mktemp("checkpoint")
    Model.build(config, vocabulary, load_layout("delay", levels=8), codec.identity).save(folder)
    return folder


@pytest.fixture
def recordings(tmp_path, monkeypatch):
    noise = np.random.default_rng(0).normal(0, 0.1, (RATE * 6, 2)).astype(np.float32)
    (tmp_path / "text.wav").write_text("these are words, not samples")
    (tmp_path / "empty.wav").write_bytes(b"")
    soundfile.write(tmp_path / "blink.wav", noise[:160, 0], RATE)
    soundfile.write(tmp_path / "long.wav", noise[:, 0], RATE)
    soundfile.write(tmp_path / "stereo.wav", noise, 48000)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(monkeypatch, capsys, *arguments) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of one `hocket` command."""
    monkeypatch.setattr("sys.argv", ["hocket", *map(str, arguments)])
    with pytest.raises(SystemExit) as exit_info:
        cli.main()
    captured = capsys.readouterr()
    return int(exit_info.value.code or 0), captured.out, captured.err


def errors(stderr: str) -> list[str]:
    return [line for line in stderr.splitlines() if line.startswith("error: ")]


BAD_PROMPTS = {
    "missing.wav": "does not exist",
    "text.wav": "cannot be read as audio",
    "empty.wav": "is empty",
    "blink.wav": "blink.wav lasts 0.010 s, which is less than one frame",
}


@pytest.mark.parametrize(("name", "sentence"), BAD_PROMPTS.items())
def test_generate_refuses_a_bad_prompt(recordings, checkpoint, monkeypatch, capsys, name, sentence):
    code, _, stderr = run(monkeypatch, capsys, "generate", checkpoint, "--prompt", name, "--out", "out/x.wav")
    assert code == 1
    assert len(errors(stderr)) == 1
    assert sentence in errors(stderr)[0]
    assert "Traceback" not in stderr
    assert not (recordings / "out").exists()


@pytest.mark.parametrize(("name", "sentence"), BAD_PROMPTS.items())
def test_tokenize_refuses_what_holds_no_usable_clip(recordings, monkeypatch, capsys, name, sentence):
    code, _, stderr = run(monkeypatch, capsys, "tokenize", name, "corpus")
    assert code == 1
    assert len(errors(stderr)) == 1
    assert name in errors(stderr)[0]
    assert not (recordings / "corpus").exists()


@pytest.mark.parametrize("folder", ["nowhere", "."])
def test_a_folder_that_is_no_checkpoint(recordings, monkeypatch, capsys, folder):
    code, _, stderr = run(monkeypatch, capsys, "generate", folder, "--out", "x.wav")
    assert code == 1
    assert "is no hocket checkpoint" in errors(stderr)[0]
    assert not (recordings / "x.wav").exists()


def test_stereo_at_48_khz_is_mixed_down_and_resampled(recordings, checkpoint, monkeypatch, capsys):
    arguments = ["--prompt", "stereo.wav", "--seconds", "0.4", "--out", "x.wav"]
    code, _, _ = run(monkeypatch, capsys, "generate", checkpoint, *arguments)
    assert code == 0
    info = soundfile.info("x.wav")
    assert (info.samplerate, info.channels) == (RATE, 1)
    assert 2.0 <= info.duration <= 2.4
    assert np.load("x.npy").shape == (round(info.duration * 25), 8)


def test_a_prompt_longer_than_the_context_is_continued_from_its_last_part(recordings, checkpoint, monkeypatch, capsys):
    arguments = ["--prompt", "long.wav", "--seconds", "0.4", "--out", "x.wav"]
    code, _, _ = run(monkeypatch, capsys, "generate", checkpoint, *arguments)
    assert code == 0
    assert 6.0 <= soundfile.info("x.wav").duration <= 6.4


def test_the_same_seed_writes_the_same_wav(recordings, checkpoint, monkeypatch, capsys):
    for name, seed in (("a.wav", 3), ("b.wav", 3), ("c.wav", 4)):
        code, _, _ = run(
            monkeypatch, capsys, "generate", checkpoint, "--seconds", "1", "--seed", seed, "--out", name, "--json"
        )
        assert code == 0
    a, b, c = ((recordings / name).read_bytes() for name in ("a.wav", "b.wav", "c.wav"))
    assert a == b
    assert a != c
