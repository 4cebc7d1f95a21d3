"""Units fitted to recordings, by function and by command."""

import json

import pytest
import torch
from typer.testing import CliRunner

from hocket.cli import app
from hocket.codec import load_codec, write_audio
from hocket.data.unit_fitting import fit_units
from hocket.errors import InputError


@pytest.fixture
def recordings(tmp_path):
    generator = torch.Generator().manual_seed(0)
    for number in range(3):
        loudness_S = torch.linspace(0.01, 0.5, 16000).roll(4000 * number)
        write_audio(tmp_path / "in" / f"{number}.wav", torch.randn(16000, generator=generator) * loudness_S, 16000)
    return tmp_path / "in"


def test_units_are_fitted_saved_and_loaded(recordings, tmp_path):
    (recordings / "bad.wav").write_bytes(b"no audio at all")
    fitted = fit_units([str(recordings)], "mfcc", 8, tmp_path / "units")
    codec = load_codec(tmp_path / "units")
    assert (fitted.found.clips, fitted.found.frames, fitted.name) == (3, 150, "units")
    assert codec.codebook_sizes == (8,)
    assert [name for name, _ in fitted.rejected] == ["bad.wav"]
    with pytest.raises(InputError, match="exists and is not an empty folder"):
        fit_units([str(recordings)], "mfcc", 8, tmp_path / "units")


def test_the_command_reports_what_fitting_found(recordings, tmp_path):
    options = ["--clusters", "8", "--max-frames", "100", "--out", str(tmp_path / "units"), "--json"]
    result = CliRunner().invoke(app, ["codec", "fit-units", str(recordings), *options])
    assert result.exit_code == 0
    found = json.loads(result.stdout)
    assert (found["clusters"], found["sampled_frames"], found["frames"], found["extractor"]) == (8, 100, 150, "mfcc")
    assert 0 < found["used_clusters"] <= 8
    assert {"inertia", "unit_entropy", "seconds", "explained", "rejected"} <= set(found)
