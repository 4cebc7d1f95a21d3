"""`hocket export` and `hocket import-model` at the command line."""

import json

import pytest
import torch
from transformers import AutoModelForCausalLM

from hocket import cli


def run(monkeypatch, capsys, *arguments) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of one `hocket` command."""
    monkeypatch.setattr("sys.argv", ["hocket", *map(str, arguments)])
    with pytest.raises(SystemExit) as end:
        cli.main()
    out, err = capsys.readouterr()
    return int(end.value.code or 0), out, err


def test_an_export_loads(make_model, tmp_path, monkeypatch, capsys):
    model = make_model("Flatten(audio)", softmax="full")
    model.save(tmp_path / "m")
    code, out, _ = run(monkeypatch, capsys, "export", tmp_path / "m", tmp_path / "hf", "--json")
    facts = json.loads(out)
    assert code == 0
    assert facts["architecture"] == "Qwen3ForCausalLM"
    stock = AutoModelForCausalLM.from_pretrained(tmp_path / "hf")
    assert torch.equal(stock.get_parameter("model.embed_tokens.weight"), model.decoder.embedding.weight)


def test_what_cannot_be_done_is_one_sentence(make_model, tmp_path, monkeypatch, capsys):
    make_model("Delay(audio)").save(tmp_path / "m")
    code, out, err = run(monkeypatch, capsys, "export", tmp_path / "m", tmp_path / "hf")
    assert (code, out) == (1, "")
    assert err.startswith("error: Delay(audio")
    assert "has 3 rows a step" in err
    assert len(err.splitlines()) == 1
    code, _, err = run(monkeypatch, capsys, "import-model", tmp_path / "m", tmp_path / "out")
    assert code == 1
    assert "not a CSM" in err
