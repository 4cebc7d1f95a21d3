import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from hocket import cli


def hocket(*arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-m", "hocket", *arguments], capture_output=True, text=True, timeout=120)


def test_help_is_quick():
    start = time.perf_counter()
    assert hocket("--help").returncode == 0
    assert time.perf_counter() - start < 1.5


def test_train_help_lists_recipes_and_examples():
    page = CliRunner().invoke(cli.app, ["train", "--help"]).output
    assert "demo: a small model on the bundled speech" in page
    assert "accelerate launch" in page


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["train", "demoo"], 'error: there is no recipe "demoo" (did you mean "demo"?)\n'),
        (["train", "demo", "model.dmi=3"], 'error: there is no key "model.dmi" (did you mean "model.dim"?)\n'),
        (["generate", "nowhere"], "error: nowhere is no hocket checkpoint: there is no such folder; "),
    ],
)
def test_bad_input_is_one_line_and_exit_1(arguments, sentence, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["hocket", *arguments])
    with pytest.raises(SystemExit, match="1"):
        cli.main()
    shown = capsys.readouterr()
    assert shown.err.startswith(sentence) or shown.err.endswith(sentence)
    assert "Traceback" not in shown.err
    assert shown.out == ""


def test_only_the_first_process_speaks(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["hocket", "train", "demoo"])
    monkeypatch.setenv("RANK", "1")
    with pytest.raises(SystemExit, match="1"):
        cli.main()
    assert capsys.readouterr().err == ""


def test_json_is_one_object_on_stdout(monkeypatch, capsys):
    monkeypatch.setattr("hocket.training.run_recipe", lambda *given: _Result(given))
    monkeypatch.setattr("hocket.evaluation.report.build_report", lambda folder: folder / "report.html")
    monkeypatch.setattr("dataclasses.asdict", lambda result: {"given": list(result.given)})
    monkeypatch.setattr(sys, "argv", ["hocket", "train", "tiny", "a=1", "--fresh", "--json"])
    with pytest.raises(SystemExit, match="0"):
        cli.main()
    assert json.loads(capsys.readouterr().out) == {"given": ["tiny", ["a=1"], True]}


def test_a_sweep_ends_with_a_page_that_compares_its_runs(tmp_path, monkeypatch, capsys):
    short = ["training.steps=2", "training.engine=accelerate", "training.tensorboard=false"]
    monkeypatch.setattr(
        sys,
        "argv",
        ["hocket", "train", "tiny", "-m", "interleave=delay,parallel", f"output={tmp_path}/two", *short, "--json"],
    )
    with pytest.raises(SystemExit, match="0"):
        cli.main()
    found = json.loads(capsys.readouterr().out)
    assert [Path(run["folder"]).name for run in found["runs"]] == ["0", "1"]
    assert Path(found["comparison"]) == tmp_path / "two-sweep" / "compare.html"
    assert "<audio" not in Path(found["comparison"]).read_text()
    assert (tmp_path / "two-sweep" / "summary.csv").read_text().count("\n") == 3


class _Result:
    signal = 0
    summary = ""
    folder = Path("runs/tiny")

    def __init__(self, given):
        self.given = given
