import io
from pathlib import Path

import pytest
from rich.console import Console

from hocket.codec import read_audio
from hocket.demo import next_commands, run_demo
from hocket.evaluation.runs import Sample, read_run
from hocket.evaluation.scores import beats_baselines, score_run

FAST = [
    "model=tiny",
    "training=tiny",
    "training.steps=2",
    "training.engine=accelerate",
    "training.tensorboard=false",
    "inference.seconds=0.4",
    "data.batch_steps=512",
]


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    folder = tmp_path_factory.mktemp("somewhere with spaces") / "runs" / "demo"
    console = Console(width=200, record=True, file=io.StringIO())
    return run_demo(folder, overrides=FAST, console=console), console.export_text()


def test_the_demo_leaves_a_page_and_what_to_listen_to(demo):
    result, said = demo
    names = {path.name for path in result.folder.iterdir()}
    wavs = {"prompt.wav", "continuation.wav", "original.wav", "resynthesis.wav", "prompt-and-continuation.wav"}
    assert wavs | {"report.html", "sample.json", "scores.json", "latest"} <= names
    assert result.report.as_uri() in said
    assert "unigram" in said


def test_original_and_resynthesis_cover_the_same_span(demo):
    folder = demo[0].folder
    durations = {
        name: len(read_audio(folder / f"{name}.wav")[0]) / 16_000 for name in ("original", "resynthesis", "prompt")
    }
    assert durations == {
        "original": pytest.approx(2.4),
        "resynthesis": pytest.approx(2.4),
        "prompt": pytest.approx(2.0),
    }


def test_running_again_gives_the_same_sample(demo, capsys):
    folder = demo[0].folder
    before = (folder / "continuation.wav").read_bytes()
    assert run_demo(folder, overrides=FAST, console=Console(quiet=True)).signal == 0
    assert "is finished" in capsys.readouterr().err
    assert (folder / "continuation.wav").read_bytes() == before


def test_it_suggests_three_commands(demo):
    commands = [command.split() for command in next_commands("runs/demo", 400)]
    assert [command[1] for command in commands] == ["generate", "train", "train"]
    assert all(Path(command[0]).name == "hocket" for command in commands)
    assert all(f"hocket {command[1]}" in demo[1] for command in commands)


@pytest.mark.slow
def test_the_full_demo_beats_counting(tmp_path):
    folder = tmp_path / "runs" / "demo"
    run_demo(folder, console=Console(quiet=True))
    scores = score_run(read_run(folder))
    assert beats_baselines(scores) == (scores.levels, True)
    sample = Sample.load(folder)
    assert sample is not None
    assert sample.seconds >= 2
