"""Paired tasks from files to shares: tiny sets, ties, chosen items, going on after a kill."""

import shutil
from dataclasses import replace

import pytest

from hocket.codec import load_codec
from hocket.data import read_clips
from hocket.errors import InputError
from hocket.evaluation.likelihood import TASKS, make_tiny_task, run_task
from hocket.evaluation.likelihood.tasks.running import choose
from hocket.interleave import Stage, load_layout
from hocket.model import Model
from hocket.vocab import Vocabulary
from tests.conftest import TINY

HEADLINE = {"swuggy": "all", "sblimp": "all", "storycloze": "accuracy", "topic-storycloze": "accuracy", "salmon": "all"}


@pytest.fixture(scope="module")
def model():
    codec = load_codec("bundled", levels=2)
    vocabulary = Vocabulary.build(None, {"audio": codec.codebook_sizes[:2]})
    stage = Stage(name="", layout=load_layout("Delay(audio)", levels=2))
    return Model.build(replace(TINY, context=256), vocabulary, stage, codec.identity).eval()


@pytest.fixture(scope="module")
def clips():
    return sorted(read_clips("bundled"), key=lambda clip: clip.seconds or 0)[:12]


@pytest.fixture(scope="module")
def folders(clips, tmp_path_factory):
    """A tiny set of each task."""
    root = tmp_path_factory.mktemp("tasks")
    return {name: make_tiny_task(name, clips, root / name, n=2 if name == "salmon" else 3) for name in TASKS}


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.mark.parametrize("name", TASKS)
def test_every_task_is_run_from_its_files(name, model, folders, cache, tmp_path):
    path = tmp_path / "items" / f"{name}.jsonl"
    found = run_task(model, name, folders[name], cache=cache, items=path)
    assert next(iter(found.metrics)) == HEADLINE[name]
    assert all(0 <= measure.value <= 1 for measure in found.metrics.values())
    assert (found.name, found.normalisation, found.folder) == (name, "mean", str(folders[name]))
    assert path.read_text().count("\n") > len(found.metrics) / 2
    again = run_task(model, name, folders[name], cache=cache, items=path, batch_steps=1)
    assert again == found


def test_a_killed_task_goes_on(model, folders, cache, tmp_path):
    path = tmp_path / "items" / "storycloze.jsonl"
    whole = run_task(model, "storycloze", folders["storycloze"], cache=cache, batch_steps=1)

    class Killed(Exception):
        pass

    def kill(done: float, total: float) -> None:
        if done >= 2:
            raise Killed

    with pytest.raises(Killed):
        run_task(model, "storycloze", folders["storycloze"], cache=cache, items=path, batch_steps=1, on_progress=kill)
    kept = (tmp_path / "items" / "storycloze.files.jsonl").read_text()
    assert kept.count("\n") > 2
    assert run_task(model, "storycloze", folders["storycloze"], cache=cache, items=path, batch_steps=1) == whole
    assert (tmp_path / "items" / "storycloze.files.jsonl").read_text().startswith(kept)
    assert path.read_text().count("\n") == 1 + 3


def test_recordings_of_the_same_content_tie(model, folders, cache, tmp_path):
    folder = tmp_path / "story"
    shutil.copytree(folders["storycloze"], folder)
    shutil.copy(folder / "0_0_correct.wav", folder / "1_0_incorrect.wav")
    path = tmp_path / "pairs.jsonl"
    run_task(model, "storycloze", folder, cache=cache, items=path)
    lines = path.read_text().splitlines()[1:]
    assert sum('"score": 0.5' in line for line in lines) == 1


def test_normalisations_are_told_apart(model, folders, cache):
    found = {
        how: run_task(model, "sblimp", folders["sblimp"], cache=cache, normalisation=how) for how in ("sum", "frame")
    }
    assert [task.normalisation for task in found.values()] == ["sum", "frame"]
    with pytest.raises(InputError, match=r'no normalisation "men" .did you mean "mean"'):
        run_task(model, "sblimp", folders["sblimp"], cache=cache, normalisation="men")


def test_items_are_chosen_whole_and_by_part(folders):
    words = TASKS["swuggy"].read(folders["swuggy"])
    few = choose(TASKS["swuggy"], words, 2, seed=0)
    assert len({pair.facts["item"] for pair in few}) == 2
    assert len(few) == 4  # both voices of each
    assert {pair.id for pair in few} <= {pair.id for pair in choose(TASKS["swuggy"], words, 3, seed=0)}
    samples = choose(TASKS["salmon"], TASKS["salmon"].read(folders["salmon"]), 1, seed=0)
    assert len({pair.facts["part"] for pair in samples}) == len(samples) == 8
    with pytest.raises(InputError, match="at least 1"):
        choose(TASKS["salmon"], samples, 0, seed=0)


def test_tiny_sets_are_the_same_for_a_seed_and_need_enough_clips(clips, folders, tmp_path):
    again = make_tiny_task("sblimp", clips, tmp_path / "again", n=3)
    for path in sorted(again.rglob("*.wav")):
        assert path.read_bytes() == (folders["sblimp"] / path.relative_to(again)).read_bytes()
    with pytest.raises(InputError, match="20 items need 21 clips"):
        make_tiny_task("sblimp", clips, tmp_path / "many", n=20)
    with pytest.raises(InputError, match='no paired task "blimp" to make'):
        make_tiny_task("blimp", clips, tmp_path / "none")
