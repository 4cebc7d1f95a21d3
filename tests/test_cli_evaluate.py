"""`hocket evaluate`: what it prints and writes, what it refuses, and how it goes on."""

import json
import os
import shutil
import signal

import pytest

from hocket import cli
from hocket.evaluation import evaluating
from tests.evaluable import make_run

LIKELIHOOD = ("--only", "likelihood", "--clips", 3)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run with the checkpoints of steps 2 and 4."""
    return make_run(tmp_path_factory.mktemp("evaluated"))


@pytest.fixture
def run(trained):
    yield trained
    shutil.rmtree(trained / "evaluation", ignore_errors=True)


@pytest.fixture
def hocket(monkeypatch, capsys):
    """Runs one command; exit code, stdout, and stderr."""

    def run(*arguments):
        monkeypatch.setattr("sys.argv", ["hocket", *map(str, arguments)])
        with pytest.raises(SystemExit) as exit_info:
            cli.main()
        captured = capsys.readouterr()
        assert "Traceback" not in captured.err
        return int(exit_info.value.code or 0), captured.out, captured.err

    return run


def test_one_json_object_is_what_is_written(hocket, run):
    code, out, err = hocket("evaluate", run, *LIKELIHOOD, "--json")
    assert code == 0
    found, written = json.loads(out), json.loads((run / "evaluation/4/evaluation.json").read_text())
    assert found.pop("folder") == str(run / "evaluation/4")
    assert found == {key: value for key, value in written.items() if key != "format"}
    assert found["likelihood"]["n"] == 3
    assert "likelihood: 100 %" in err


def test_a_table_is_printed(hocket, run):
    code, out, _ = hocket("evaluate", run, "--only", "likelihood,tasks", "--clips", 3, "--step", 2)
    assert code == 0
    for part in ("tiny, step 2", "3 clips of", "bits per second", "audio.7", "Left out", "--tasks FOLDER"):
        assert part in out
    assert (run / "evaluation/2/items/likelihood.jsonl").is_file()


def test_every_kept_checkpoint_is_scored(hocket, run):
    code, out, _ = hocket("evaluate", run, "--all-steps", "--clips", 3, "--json")
    assert code == 0
    evaluations = json.loads(out)["evaluations"]
    assert [one["step"] for one in evaluations] == [2, 4]
    assert len({one["likelihood"]["data"] for one in evaluations}) == 1
    assert all(set(one["parts"]) == {"likelihood"} for one in evaluations)


def test_recordings_are_encoded_and_a_model_stands_alone(hocket, run, tmp_path, monkeypatch):
    monkeypatch.setenv("HOCKET_CACHE", str(tmp_path / "cache"))
    shutil.copytree(run / "checkpoints/4/model", tmp_path / "model")
    command = ("evaluate", tmp_path / "model", "--only", "likelihood")
    code, out, _ = hocket(*command, "--audio", run.parent / "recordings/manifest.jsonl", "--json")
    found = json.loads(out)
    assert code == 0
    assert (found["step"], found["folder"]) == (None, str(tmp_path / "model/evaluation/0"))
    assert (found["likelihood"]["n"], found["likelihood"]["split"]) == (6, "all")
    code, _, err = hocket(*command)
    assert code == 1
    assert "knows no corpus: name one with --corpus FOLDER, or recordings with --audio FOLDER" in err


def test_a_stopped_one_says_how_to_go_on(hocket, run, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr(evaluating, "score_corpus", lambda *args, **more: os.kill(os.getpid(), signal.SIGTERM))
        code, _, err = hocket("evaluate", run, *LIKELIHOOD)
    assert code == 128 + signal.SIGTERM
    assert "stopped by SIGTERM; what is finished is kept, and the same command goes on" in err
    assert hocket("evaluate", run, *LIKELIHOOD)[0] == 0


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--suite", "huge"), 'there is no suite "huge": it is quick or full'),
        (("--only", "speed,likelyhood"), 'no part "likelyhood": they are likelihood, speed, generation, tasks'),
        (("--step", 3), "keeps no checkpoint of step 3: it has 2, 4"),
        (("--step", 4, "--all-steps"), "say --step N or --all-steps, not both"),
        (("--corpus", "nowhere"), "nowhere"),
        (("--corpus", "a", "--audio", "b"), "say --corpus or --audio, not both"),
        (("--whisper", "a", "--asr", "b"), "say --whisper or --asr, not both"),
        (("--split", "test"), "has no examples in its split test"),
        (("--tasks", "nowhere"), '"nowhere" is no folder: --tasks is the folder that the tasks'),
        (("--salmon", "nowhere"), 'there is no folder "nowhere" of salmon'),
        (("--codec", "semantic"), "--codec semantic is none: write NAME=FOLDER"),
        (("--guidance", "three", "--only", "speed"), "--guidance takes numbers"),
        (("--temperature", -1), "temperature must be 0"),
        (("--whisper", "nowhere", "--only", "generation"), 'no folder "nowhere"'),
    ],
)
def test_bad_settings_get_a_sentence(hocket, run, arguments, sentence):
    code, _, err = hocket("evaluate", run, *arguments)
    errors = [line for line in err.splitlines() if line.startswith("error: ")]
    assert code == 1
    assert len(errors) == 1
    assert sentence in errors[0]
