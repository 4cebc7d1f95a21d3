"""A checkpoint measured part by part: what is kept, what is measured again, what goes on after a kill."""

import dataclasses
import io
import json
import shutil
from pathlib import Path

import pytest
from rich.console import Console

from hocket.data import Corpus
from hocket.errors import InputError
from hocket.evaluation import evaluating
from hocket.evaluation.evaluating import evaluate
from hocket.evaluation.evaluation_tables import print_evaluation
from hocket.evaluation.generation import Panel
from hocket.evaluation.results import Evaluation, Heard, Level, Likelihood, Measure, Task, find_evaluations
from hocket.evaluation.suites import SUITES, Settings, find_suite, find_tasks, parse_parts
from hocket.evaluation.targets import find_targets, kept_steps, open_held_out, with_recordings
from hocket.model import load_model
from tests.evaluable import make_run

HEARD = ("likelihood", "generation")
SETTINGS = Settings(only=HEARD, prompt_seconds=1.0, clips=3)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("evaluating"))


@pytest.fixture
def run(made):
    """The run as it was made: with the checkpoints of steps 2 and 4, and no evaluation."""
    before = {path: path.read_bytes() for path in made.rglob("*") if path.is_file()}
    yield made
    shutil.rmtree(made)
    for path, content in before.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


@pytest.fixture
def judge(monkeypatch):
    """Stands in for all judges: says how loud a sound is, counts its calls, and is killed at one of them."""

    class Judge:
        calls, killed_at = 0, 0

        def __call__(self, wav_S):
            self.calls += 1
            if self.calls == self.killed_at:
                raise KeyboardInterrupt
            return float(abs(wav_S).mean())

    loudness = Judge()
    panel = Panel(qualities={"dnsmos": loudness})
    monkeypatch.setattr(evaluating, "find_panel", lambda **given: (panel, ["no words are heard"]))
    return loudness


def measure(run, settings=SETTINGS, **options) -> Evaluation:
    return evaluate(find_targets(run)[0], settings, **options)


def test_an_evaluation_is_written_and_read(run, judge):
    found = measure(run)
    assert find_evaluations(run) == {4: found}
    assert found.likelihood is not None
    assert found.likelihood.n == 3
    assert [(one.protocol, one.kind, one.n) for one in found.heard] == [
        ("continuation", "original", 3),
        ("continuation", "resynthesis", 3),
        ("continuation", "model", 3),
    ]
    for clip in found.clips:
        assert set(clip.wavs) == {"prompt", "model", "original", "resynthesis"}
        assert all((run / "evaluation/4" / wav).is_file() for wav in clip.wavs.values())
    assert "no words are heard" in found.left_out
    assert (found.name, found.step, found.suite, found.levels) == ("tiny", 4, "quick", 8)


def test_a_finished_one_returns_at_once(run, judge, monkeypatch):
    first = measure(run)
    for name in ("score_corpus", "run_continuation", "find_panel", "time_generation"):
        monkeypatch.setattr(evaluating, name, None)
    assert measure(run) == first
    assert measure(run, dataclasses.replace(SETTINGS, only=("likelihood",))) == first


@pytest.mark.parametrize("killed_at", [1, 5])
def test_a_killed_one_goes_on_to_the_same_result(run, judge, killed_at):
    whole = measure(run)
    shutil.rmtree(run / "evaluation")
    judge.calls, judge.killed_at = 0, killed_at
    with pytest.raises(KeyboardInterrupt):
        measure(run)
    likelihood = (run / "evaluation/4/items/likelihood.jsonl").read_text()
    judge.killed_at = 0
    again = measure(run)
    assert dataclasses.replace(again, date=whole.date) == whole
    assert (run / "evaluation/4/items/likelihood.jsonl").read_text() == likelihood


def test_other_settings_measure_again_what_they_change(run, judge, monkeypatch):
    first = measure(run)
    monkeypatch.setattr(evaluating, "score_corpus", None)
    second = measure(run, dataclasses.replace(SETTINGS, prompt_seconds=1.2))
    assert second.likelihood == first.likelihood
    assert second.heard != first.heard


def test_parts_of_two_suites_say_which(run, judge):
    measure(run, dataclasses.replace(SETTINGS, only=("generation",)))
    found = measure(run, dataclasses.replace(SETTINGS, only=("likelihood",), suite=SUITES["full"]))
    assert found.suites == {"generation": "quick", "likelihood": "full"}
    assert found.suite == "quick and full"
    assert found.heard


def test_other_weights_start_everything_over(run, judge):
    measure(run)
    weights = run / "checkpoints/4/model/model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    found = measure(run, dataclasses.replace(SETTINGS, only=("likelihood",)))
    assert found.heard == ()
    assert set(found.parts) == {"likelihood"}
    assert not (run / "evaluation/4/samples").exists()


def test_fresh_measures_again(run, judge):
    measure(run)
    before = judge.calls
    measure(run, fresh=True)
    assert judge.calls == 2 * before


def test_what_makes_no_sound_is_left_out(run, judge, monkeypatch):
    monkeypatch.setattr(evaluating, "protocols_of", lambda maker: ())
    found = measure(run, dataclasses.replace(SETTINGS, only=("generation", "tasks")))
    assert found.heard == ()
    assert [sentence.partition(" ")[0] for sentence in found.left_out] == ["generation", "the"]
    assert "--tasks FOLDER" in found.left_out[1]


def test_what_fits_no_clip_is_left_out(run, judge):
    found = measure(run, dataclasses.replace(SETTINGS, only=("generation",), longest=2.2))
    assert found.heard == ()
    sentence = "continuation is left out: none of 4 utterances lasts 2 to 2.2 s"
    assert any(said.startswith(sentence) and "--longest" in said for said in found.left_out)


# --- checkpoints and data ---------------------------------------------------------------------------------------------


def test_a_checkpoint_is_found_by_run_step_and_folder(run, tmp_path):
    newest = find_targets(run)[0]
    assert (newest.step, newest.folder) == (4, run / "evaluation/4")
    assert find_targets(run, step=2)[0].folder == run / "evaluation/2"
    assert [one.step for one in find_targets(run, all_steps=True)] == [2, 4]
    assert [one.folder.name for one in find_targets(run, all_steps=True, out=tmp_path / "out")] == ["2", "4"]
    for folder in (run / "checkpoints/2", run / "checkpoints/2/model"):
        (inside,) = find_targets(folder)
        assert (inside.step, inside.name, inside.folder) == (2, "tiny", run / "evaluation/2")
    shutil.copytree(run / "checkpoints/4/model", tmp_path / "alone")
    (alone,) = find_targets(tmp_path / "alone")
    assert (alone.step, alone.run, alone.folder) == (None, None, tmp_path / "alone/evaluation/0")


@pytest.mark.parametrize(
    ("place", "options", "sentence"),
    [
        ("nowhere", {}, r'there is no folder ".*nowhere" to evaluate'),
        ("tiny", {"step": 3}, r"keeps no checkpoint of step 3: it has 2, 4$"),
        ("tiny", {"step": 4, "all_steps": True}, r"--step N or --all-steps, not both"),
        ("tiny/checkpoints/4", {"step": 4}, r"is one checkpoint: --step and --all-steps are for a run folder"),
        ("corpus", {}, r"is no hocket checkpoint"),
    ],
)
def test_a_checkpoint_that_is_not_there_gets_a_sentence(run, place, options, sentence):
    with pytest.raises(InputError, match=sentence):
        find_targets(run.parent / place, **options)


def test_a_run_without_checkpoints_has_nothing_to_evaluate(run):
    shutil.rmtree(run / "checkpoints")
    with pytest.raises(InputError, match="no checkpoint to evaluate yet"):
        find_targets(run)


def test_held_out_speech_must_be_there_and_fit(run, make_model):
    (target,) = find_targets(run)
    model = load_model(target.model_folder)
    assert len(open_held_out(target, model, None, "valid"))
    corpus = str(run.parent / "corpus")
    with pytest.raises(InputError, match=r"has no examples in its split test \(it has .* in train, .* in valid\)"):
        open_held_out(target, model, corpus, "test")
    with pytest.raises(InputError, match='no split "dev"'):
        open_held_out(target, model, corpus, "dev")
    with pytest.raises(InputError, match=r'is of codec "bundled" .* the model of codec "fake"'):
        open_held_out(target, make_model("Delay(audio)"), corpus, "valid")
    (run.parent / "corpus").rename(run.parent / "moved")
    with pytest.raises(InputError, match=r'corpus of the run "tiny" cannot be opened .*--corpus FOLDER'):
        open_held_out(target, model, None, "valid")
    (run.parent / "moved").rename(run.parent / "corpus")
    with pytest.raises(InputError, match=r"knows no corpus: name one with --corpus FOLDER"):
        open_held_out(dataclasses.replace(target, run=None), model, None, "valid")


def test_the_bundled_speech_is_heard_from_the_package(runs_folder):
    valid = Corpus.open(runs_folder / "bundled-corpus").split("valid")
    assert all(Path(example.audio).is_file() for example in with_recordings(valid))


def test_kept_steps_are_those_with_weights(run):
    (run / "checkpoints/.writing").mkdir()
    assert kept_steps(find_targets(run)[0].run) == [2, 4]  # type: ignore[arg-type]


# --- suites -----------------------------------------------------------------------------------------------------------


def test_parts_suites_and_tasks_are_checked(tmp_path):
    assert parse_parts(None) == ("likelihood", "speed", "generation", "tasks")
    assert parse_parts("tasks, likelihood") == ("likelihood", "tasks")
    assert find_suite("full") is SUITES["full"]
    with pytest.raises(InputError, match=r'no part "speeed".*did you mean "speed"'):
        parse_parts("speeed")
    with pytest.raises(InputError, match='no suite "quik": it is quick or full'):
        find_suite("quik")
    (tmp_path / "all/swuggy").mkdir(parents=True)
    (tmp_path / "stories").mkdir()
    found = find_tasks(tmp_path / "all", {"storycloze": tmp_path / "stories", "salmon": None})
    assert list(found) == ["swuggy", "storycloze"]
    with pytest.raises(InputError, match="has no folder swuggy, sblimp"):
        find_tasks(tmp_path / "stories", {})
    with pytest.raises(InputError, match="is no folder"):
        find_tasks(tmp_path / "nowhere", {})
    with pytest.raises(InputError, match=r'no folder ".*nowhere" of salmon'):
        find_tasks(None, {"salmon": tmp_path / "nowhere"})


# --- what is printed --------------------------------------------------------------------------------------------------


def test_everything_that_is_known_is_printed(run, judge, tmp_path):
    one = Measure(value=0.5, low=0.4, high=0.6, n=20)
    likelihood = Likelihood(
        corpus="speech",
        split="valid",
        data="0",
        n=20,
        frames=500,
        seconds=20.0,
        bits={"audio": Measure(value=812.34, low=800, high=820, n=20), "total": Measure(value=815.0)},
        levels={"audio.0": Level(nats=6.0, tokens=2)},
        normalised={"sum": Measure(value=100.0), "mean": Measure(value=5.0), "frame": Measure(value=40.0)},
        draws=8,
    )
    found = dataclasses.replace(
        measure(run, dataclasses.replace(SETTINGS, only=("tasks",))),
        likelihood=likelihood,
        tasks=(Task(name="swuggy", metrics={"all": one}, normalisation="mean", folder="f"),),
        heard=tuple(
            Heard(protocol="tts", kind=kind, n=20, metrics={"wer": Measure(value=value), "new_one": one})
            for kind, value in (("original", 4.5), ("model", 61.25))
        ),
        speed={"generation_steps_per_second": 120.0, "generation_steps_per_second_batch_8": 30.0, "first_audio_ms": 9},
    )
    console = Console(width=100, record=True, file=io.StringIO())
    print_evaluation(found, tmp_path, console)
    text = console.export_text()
    for line in (
        "20 clips of speech, valid, 20 s; an upper bound, from 8 masks of each level",
        "812.3 ± 10.0",
        "at most 815.0",
        "word errors, %",
        "original (20)",
        "61.2",
        "50.0 ± 10.0",
        "steps, 8 together  30 a second",
        "after 9 ms, with all the rest",
        "new one",
        "- the paired tasks are left out",
    ):
        assert line in text
    assert json.loads(json.dumps(dataclasses.asdict(found)))["speed"]["first_audio_ms"] == 9
