"""`hocket generate`: files, rows of a batch, what is kept and what is refused."""

import dataclasses
import json

import numpy as np
import pytest
import soundfile

from hocket import cli
from hocket.codec import load_codec
from hocket.interleave import load_layout, load_scheme
from hocket.model import Model, ModelConfig
from hocket.vocab import Vocabulary, train_bpe

RATE, CONTEXT = 16000, 120


def save_model(folder, layout, codec, context):
    sizes = {"audio": codec.codebook_sizes}
    has_text = "text" in layout.streams if hasattr(layout, "streams") else "text" in layout.layout.streams
    vocabulary = Vocabulary.build(
        train_bpe(["one two three"], 256) if has_text else None, sizes, {"audio": codec.identity.fingerprint}
    )
    config = ModelConfig(dim=16, n_layers=1, n_heads=2, n_kv_heads=2, ffn_dim=16, context=context)
    Model.build(config, vocabulary, layout, codec.identity).save(folder)
    return folder


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    """Tiny untrained models that speak the bundled codec: one continues, one speaks, one recognises, one fills in."""
    codec, folder = load_codec("bundled"), tmp_path_factory.mktemp("checkpoints")
    layouts = {
        "continues": load_layout("delay", levels=8),
        "speaks": dataclasses.replace(load_scheme("tts-delay", levels=8).stage(), given=("text",)),
        "recognises": load_scheme("asr", levels=8).stage(),
        "fills": load_scheme("magnet", levels=8).stage(),
    }
    context = {"recognises": 400}
    return {n: save_model(folder / n, x, codec, context=context.get(n, CONTEXT)) for n, x in layouts.items()}


@pytest.fixture
def here(tmp_path, monkeypatch):
    noise = np.random.default_rng(0).normal(0, 0.1, RATE).astype(np.float32)
    soundfile.write(tmp_path / "a.wav", noise, RATE)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def hocket(here, monkeypatch, capsys):
    """Runs one command; exit code, stdout and the lines of errors."""

    def run(*arguments):
        monkeypatch.setattr("sys.argv", ["hocket", *map(str, arguments)])
        with pytest.raises(SystemExit) as exit_info:
            cli.main()
        captured = capsys.readouterr()
        assert "Traceback" not in captured.err
        errors = [line for line in captured.err.splitlines() if line.startswith("error: ")]
        return int(exit_info.value.code or 0), captured.out, errors

    return run


def write_rows(path, *rows):
    path.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows) + "\n")


def test_sound_codes_and_settings_lie_side_by_side(hocket, here, checkpoints):
    code, out, _ = hocket("generate", checkpoints["continues"], "--prompt", "a.wav", "--seconds", 0.6, "--out", "b.wav")
    assert code == 0
    assert "1.00 s of prompt" in out
    assert "x real time" in out
    settings = json.loads((here / "b.json").read_text())
    codes = np.load(here / "b.npy")
    assert codes.dtype == np.uint16
    assert len(codes) == round((settings["prompt_seconds"] + settings["generated_seconds"]) * 25)
    assert soundfile.info(here / "b.wav").frames == len(codes) * 640
    assert settings["asked"]["sampling"]["top_p"] == 0.95
    assert settings["asked"]["weights"] == str(checkpoints["continues"])
    assert settings["mean_log_probability"] < 0
    assert settings["asked"]["codec"] == load_codec("bundled").identity.name


def test_n_makes_several_and_continuation_only_leaves_the_prompt_out(hocket, here, checkpoints):
    arguments = ("--prompt", "a.wav", "--seconds", 0.4, "-n", 3, "--continuation-only", "--out", "c.wav", "--json")
    code, out, _ = hocket("generate", checkpoints["continues"], *arguments)
    outputs = json.loads(out)["outputs"]
    assert code == 0
    assert [item["seed"] for item in outputs] == [0, 1, 2]
    for item in outputs:
        assert soundfile.info(item["wav"]).duration == pytest.approx(item["generated_seconds"])
    assert not np.array_equal(*(np.load(item["codes"]["audio"]) for item in outputs[:2]))


def test_a_batch_equals_its_rows_alone(hocket, here, checkpoints):
    write_rows(
        here / "rows.jsonl",
        {"id": "long", "prompt": "a.wav", "seconds": 1.2, "seed": 5},
        {"id": "short", "seconds": 0.4, "seed": 6, "temperature": 0.5},
        {"prompt": "a.wav", "prompt_seconds": 0.2, "seconds": 0.4},
    )
    assert hocket("generate", checkpoints["continues"], "--batch", "rows.jsonl", "--out", "made")[0] == 0
    alone = ("--prompt", "a.wav", "--seconds", 1.2, "--seed", 5, "--out", "alone.wav")
    assert hocket("generate", checkpoints["continues"], *alone)[0] == 0
    assert np.array_equal(np.load(here / "alone.npy"), np.load(here / "made/long.npy"))
    assert json.loads((here / "made/short.json").read_text())["asked"]["sampling"]["temperature"] == 0.5
    assert (here / "made/0003.wav").exists()


def test_rows_that_are_there_are_kept(hocket, here, checkpoints):
    write_rows(here / "rows.jsonl", {"id": "x", "seconds": 0.4}, {"id": "y", "seconds": 0.4, "seed": 1})
    command = ("generate", checkpoints["continues"], "--batch", "rows.jsonl", "--out", "made", "--json")
    hocket(*command)
    (here / "made/y.json").unlink()
    before = (here / "made/x.wav").stat().st_mtime_ns
    summary = json.loads(hocket(*command)[1])
    assert summary["kept"] == ["x"]
    assert [item["name"] for item in summary["outputs"]] == ["y"]
    assert (here / "made/x.wav").stat().st_mtime_ns == before
    assert json.loads(hocket(*command, "--top-k", 5)[1])["kept"] == []
    assert json.loads(hocket(*command, "--top-k", 5, "--fresh")[1])["kept"] == []


def test_the_model_may_not_end_before_the_least_length(hocket, here, checkpoints):
    lengths = ("--seconds", 6, "--min-seconds", 6, "--overlap", 1)  # a context is four seconds
    assert hocket("generate", checkpoints["continues"], *lengths, "--out", "l.wav")[0] == 0
    assert soundfile.info(here / "l.wav").duration == 6


def test_bad_rows_are_named_and_the_others_made(hocket, here, checkpoints):
    write_rows(
        here / "rows.jsonl",
        {"id": "good", "seconds": 0.4},
        "{no json",
        {"id": "lost", "prompt": "nowhere.wav"},
        {"id": "good", "seconds": 0.2},
        {"secunds": 3},
        {"seconds": "three"},
        {"id": "../up"},
        {"text": "words"},
        {"temperature": -1},
        {"id": "huge", "prompt": "a.wav", "seconds": -2},
    )
    code, _, errors = hocket("generate", checkpoints["continues"], "--batch", "rows.jsonl", "--out", "made")
    assert code == 1
    assert (here / "made/good.wav").exists()
    sentences = [
        "rows.jsonl, line 2: this is no JSON",
        'row "lost": audio file "nowhere.wav" does not exist',
        'line 4: the id "good" is taken',
        'line 5: there is no key "secunds" (did you mean "seconds"?)',
        'line 6: "seconds" is a number of seconds, not "three"',
        'line 7: "../up" is no name',
        "has no place for a given text",
        "line 9: temperature must be 0",
        "seconds must be more than 0",
    ]
    assert len(errors) == len(sentences)
    for sentence in sentences:
        assert any(sentence in error for error in errors), sentence
    rejected = [json.loads(line) for line in (here / "made/rejected.jsonl").read_text().splitlines()]
    assert len(rejected) == len(sentences)


def test_recognition_writes_text_and_no_sound(hocket, here, checkpoints):
    for extra in ((), ("--beams", 3)):
        code, out, _ = hocket("generate", checkpoints["recognises"], "--prompt", "a.wav", "--out", "h.txt", *extra)
        assert code == 0
        assert (here / "h.txt").exists()
        assert not (here / "h.wav").exists()
        assert out.startswith("h: ")


def test_speech_with_guidance_and_rows(hocket, here, checkpoints):
    arguments = ("--text", "one two", "--seconds", 1, "--guidance", "3:1", "--row", "audio[1:].top_k=4")
    assert hocket("generate", checkpoints["speaks"], *arguments, "--out", "s.wav")[0] == 0
    settings = json.loads((here / "s.json").read_text())
    assert settings["asked"]["guidance"] == {"scale": 3.0, "end_scale": 1.0, "streams": []}
    assert settings["asked"]["sampling"]["rows"] == {"audio[1:]": {"top_k": 4}}


def test_models_that_predict_in_place(hocket, here, checkpoints):
    arguments = ("--text", "one", "--seconds", 0.8, "--passes", "4,1", "--guidance", "2", "--span", 2)
    assert hocket("generate", checkpoints["fills"], *arguments, "--out", "m.wav")[0] == 0
    settings = json.loads((here / "m.json").read_text())
    assert settings["steps"] == 4 + 7
    assert settings["generated_seconds"] == 0.8


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--out", "x.mp3"), "has the ending '.mp3'"),
        (("-n", 0), "n must be at least 1"),
        (("--row", "audio.0"), "write STREAM.KEY=NUMBER"),
        (("--row", "audio.9.top_k=3"), "audio"),
        (("--row", "audio.0.topk=3"), 'did you mean "top_k"?'),
        (("--guidance", "three"), "--guidance takes numbers"),
        (("--guidance", "3"), "guidance needs a condition"),
        (("--passes", "4"), "it has no masks to set"),
        (("--task", "tts"), "cannot be asked for tts"),
        (("--stream", "user"), "write NAME=FILE.npy"),
        (("--batch", "nowhere.jsonl"), "nowhere.jsonl cannot be read"),
        (("--pipeline", "a,b"), "say what to sample from"),
        (("--dtype", "int8"), "dtype is float32 or bfloat16"),
        (("--beams", 2), "one"),
        (("--best-of", 2), "train interleave=speech-text"),
        (("--min-seconds", 3), "min_seconds must be from 0 to the seconds"),
    ],
)
def test_bad_settings_get_a_sentence(hocket, here, checkpoints, arguments, sentence):
    code, _, errors = hocket("generate", checkpoints["continues"], "--seconds", 0.2, *arguments)
    assert code == 1
    assert len(errors) == 1
    assert sentence in errors[0]
    assert not list(here.glob("*.json"))
