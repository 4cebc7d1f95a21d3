import io
import json

import numpy as np
import pytest
import torch
from rich.console import Console

from hocket.codec import write_audio
from hocket.errors import InputError
from hocket.evaluation.inspect import inspect


@pytest.fixture
def console():
    return Console(width=100, record=True, file=io.StringIO())


@pytest.mark.parametrize("thing", ["delay", "Flatten(audio)", "tts-delay", "bundled"])
def test_names_and_expressions(thing, console):
    facts = inspect(thing, console)
    assert json.loads(json.dumps(facts))["name"] == thing
    assert len(console.export_text().splitlines()) > 4


def test_a_layout_says_what_it_costs():
    facts = inspect("Flatten(audio)")
    assert facts["steps_per_second"] == 200
    assert facts["tokens_per_second"] == 200
    assert facts["seconds_in_context"][512] == 2.56


@pytest.mark.parametrize(
    ("name", "kind"), [("tiny", "run"), ("tiny/checkpoints/4", "model"), ("bundled-corpus", "corpus")]
)
def test_folders(runs_folder, console, name, kind):
    facts = inspect(runs_folder / name, console)
    assert facts["kind"] == kind
    json.dumps(facts)
    assert "bundled" in console.export_text()


def test_a_corpus_shows_the_use_of_its_codebooks(runs_folder):
    facts = inspect(runs_folder / "bundled-corpus")
    assert len(facts["streams"]["audio"]["levels"]) == 8
    assert sum(facts["duration_counts"]) == facts["examples"]
    assert facts["splits"]["valid"]["n_examples"] == 15


def test_an_audio_file_says_how_many_codes_it_has(tmp_path, console):
    path = tmp_path / "a.wav"
    write_audio(path, torch.from_numpy(np.zeros(48_000, np.float32)), 48_000)
    facts = inspect(path, console)
    assert (facts["codec_frames"], facts["codec_tokens"]) == (25, 200)


@pytest.mark.parametrize("thing", ["no-such-thing", ""])
def test_unknown_things_are_refused_in_one_sentence(thing):
    with pytest.raises(InputError, match="cannot inspect") as caught:
        inspect(thing) if thing else inspect("tests")
    assert "\n" not in str(caught.value)
