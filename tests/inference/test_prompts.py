"""Recordings as prompts: any length, rate and format works, or is refused in one sentence."""

import numpy as np
import pytest
import soundfile
import torch

from hocket.codec import Codec, load_codec
from hocket.errors import InputError
from hocket.inference import Generator
from hocket.interleave import Stage, load_layout
from tests.inference.oracles import build_model

HOP, RATE, LEVELS = 640, 16000, 8


@pytest.fixture(scope="module")
def generator():
    """A tiny model whose 60 steps of context hold 2.1 s of delayed levels."""
    return make("Delay(audio)", load_codec("bundled"))


def make(expression: str, codec: Codec) -> Generator:
    stage = Stage(name="", layout=load_layout(expression, LEVELS))
    model = build_model(stage, codec.identity, n_codes=1024, context=60)
    model.__dict__["codec"] = codec
    return Generator(model)


def tone(seconds: float, rate: int = RATE) -> torch.Tensor:
    return 0.3 * torch.sin(440 * 2 * torch.pi * torch.arange(round(seconds * rate)) / rate)


def check(generator: Generator, prompt, n_frames: int, **arguments) -> None:
    """The prompt is read as so many frames and continued by 5."""
    out = generator.generate(prompt, seconds=0.2, **arguments)
    assert out.prompt_codes_TK.shape == (n_frames, LEVELS)
    assert len(out.codes_TK) == 5 or out.ended
    assert len(out.prompt_wav_T) == n_frames * HOP
    assert len(out.wav_T) == len(out.codes_TK) * HOP
    assert out.full_wav_T.isfinite().all()


@pytest.mark.parametrize(
    ("samples", "n_frames"), [(HOP, 1), (HOP + 1, 1), (2 * HOP - 1, 1), (2 * HOP, 2), (16000, 25), (32000, 50)]
)
def test_whole_frames_of_a_prompt_are_kept(generator, samples, n_frames):
    check(generator, tone(2)[:samples], n_frames)


@pytest.mark.parametrize("rate", [8000, 22050, 24000, 44100, 48000])
def test_prompts_of_any_rate(generator, rate, tmp_path):
    check(generator, tone(0.4, rate), 10, sample_rate=rate)
    soundfile.write(tmp_path / "tone.flac", tone(0.4, rate).numpy(), rate)
    check(generator, tmp_path / "tone.flac", 10)


def test_stereo_and_silence(generator, tmp_path):
    left = tone(0.4).numpy()
    soundfile.write(tmp_path / "stereo.wav", np.stack([left, 0.5 * left], axis=1), RATE)
    check(generator, tmp_path / "stereo.wav", 10)
    mono = generator.request(torch.from_numpy(0.75 * left), seconds=0.2).prompts["audio"]
    stereo = torch.from_numpy(np.stack([left, 0.5 * left]))
    assert np.array_equal(generator.request(stereo, seconds=0.2).prompts["audio"], mono)
    check(generator, stereo, 10)
    check(generator, torch.zeros(RATE // 2), 12)
    check(generator, str(tmp_path / "stereo.wav"), 10)


def test_no_prompt_at_all(generator):
    check(generator, None, 0)


def broken(folder, kind: str):
    if kind == "text":
        (folder / "prompt.wav").write_text("no sound\n")
    if kind == "empty":
        (folder / "prompt.wav").touch()
    if kind == "folder":
        (folder / "prompt.wav").mkdir()
    if kind == "nan":
        soundfile.write(folder / "prompt.wav", np.array([0.1, np.nan] * 1000, np.float32), RATE, subtype="FLOAT")
    return folder / "prompt.wav"


@pytest.mark.parametrize(
    ("kind", "sentence"),
    [
        ("missing", "does not exist"),
        ("text", "cannot be read as audio"),
        ("empty", "is empty"),
        ("folder", "is a folder"),
        ("nan", "NaN or infinite"),
    ],
)
def test_files_that_are_no_prompt(generator, tmp_path, kind, sentence):
    with pytest.raises(InputError, match=sentence) as raised:
        generator.generate(broken(tmp_path, kind), seconds=0.2)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("prompt", "sentence"),
    [
        (torch.zeros(0), "less than one frame"),
        (torch.zeros(HOP - 1), "less than one frame"),
        (tone(0.4).where(torch.arange(6400) != 99, torch.nan), "NaN"),
        (tone(0.4).where(torch.arange(6400) != 99, -torch.inf), "infinite"),
        (torch.zeros(2, 3, 6400), r"waveform of floats \[T\] or \[channels, T\], not float32 of shape \(2, 3, 6400\)"),
        (torch.zeros(()), "waveform of floats"),
        (torch.zeros(6400, dtype=torch.complex64), "not complex64"),
        (torch.zeros(6400, dtype=torch.int16), "not int16"),
    ],
)
def test_waveforms_that_are_no_prompt(generator, prompt, sentence):
    with pytest.raises(InputError, match=sentence) as raised:
        generator.generate(prompt, seconds=0.2)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("rate", [0, -16000, 16000.5])
def test_rates_that_are_none(generator, rate):
    with pytest.raises(InputError, match="rate"):
        generator.generate(tone(0.4), seconds=0.2, sample_rate=rate)


def test_prompts_longer_than_the_context(generator):
    check(generator, tone(4), 100)
    speaks = make("Concat(Text(text), Delay(audio))", generator.model.codec)
    with pytest.raises(
        InputError, match=r"the prompt of 4.0 s is longer than the model's context of 60 steps"
    ) as raised:
        speaks.generate(tone(4), "a", seconds=0.2)
    assert "\n" not in str(raised.value)
    with pytest.raises(InputError, match=r"ask for at most 1\.8 s"):
        speaks.generate(tone(0.2), "a", seconds=2)
