"""`hocket compare`: what is printed and what is written."""

import json
import shutil

import pytest
import yaml

from hocket import cli


@pytest.fixture
def hocket(tmp_path, monkeypatch, capsys):
    """Runs the command in a folder with two runs; exit code, stdout and stderr."""
    for name, total in (("delay", 170.0), ("flatten", 165.0)):
        folder = tmp_path / "runs" / name
        folder.mkdir(parents=True)
        (folder / "config.yaml").write_text(yaml.safe_dump({"name": name, "data": {"corpus": "speech"}}))
        row = {"step": 10, "valid/loss": 2.0, "valid/audio.0": 2.0, "valid_bits/total": total}
        (folder / "metrics.jsonl").write_text(json.dumps(row) + "\n")
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        monkeypatch.setattr("sys.argv", ["hocket", "compare", *arguments])
        with pytest.raises(SystemExit) as exit_info:
            cli.main()
        captured = capsys.readouterr()
        return exit_info.value.code, captured.out, captured.err

    return run


def test_it_says_which_is_lowest_and_where_the_page_is(hocket, tmp_path):
    code, out, _ = hocket("runs/delay", "runs/flatten")
    assert code == 0
    assert "flatten needs the fewest bits" in out
    assert "page: compare/compare.html" in out
    assert sorted(path.name for path in (tmp_path / "compare").iterdir()) == [
        "compare.html",
        "comparison.csv",
        "summary.csv",
    ]


def test_json_is_one_object(hocket):
    code, out, _ = hocket("runs", "--out", "there", "--json")
    found = json.loads(out)
    assert code == 0
    assert found["page"] == "there/compare.html"
    assert [member["run"] for member in found["groups"][0]["members"]] == ["flatten", "delay"]
    assert {record["run"] for record in found["records"]} == {"delay", "flatten"}


def test_bad_input_is_one_sentence(hocket, tmp_path):
    (tmp_path / "runs" / "delay" / "metrics.jsonl").write_text("")
    for arguments, wanted in (
        (["nowhere"], '"nowhere" is no run folder'),
        (["runs"], '"runs/delay" has neither metrics nor an evaluation'),
    ):
        code, out, err = hocket(*arguments)
        assert (code, out) == (1, "")
        assert wanted in err
        assert err.count("\n") == 1
    shutil.rmtree(tmp_path / "runs" / "delay")
    assert hocket("runs")[0] == 0
