"""Every preset layout trains from the bundled speech, with nothing else to prepare."""

import json
import time
from pathlib import Path

import pytest
import yaml

from hocket.data import Corpus, Mixture
from hocket.data.sources import BUNDLED
from hocket.errors import InputError
from hocket.evaluation.runs import open_corpus, read_run
from hocket.resources import config_folder
from hocket.training import bundled, run_recipe

PRESETS = {
    path.stem: [stage["name"] for stage in yaml.safe_load(path.read_text()).get("stages", [])] or [None]
    for path in sorted((config_folder() / "interleave").glob("*.yaml"))
}
STAGES = [(preset, stage) for preset, stages in PRESETS.items() for stage in stages]
DIA = "interleave.layout='Concat(Text(text), Delay(audio, [0, 8, 9, 10, 11, 12, 13, 14]))'"
"""The layout of `dia` is for 9 levels, one more than the bundled codec has."""
ONE_STAGE = ("spiritlm", "speech-text", "soundstorm", "moshi", "hibiki", "csm")
FAST = [*((preset, None) for preset in ONE_STAGE), ("bark", "fine")]


def train(folder: Path, preset: str, stage: str | None, *more: str):
    name = f"{preset}-{stage}" if stage else preset
    given = [f"interleave={preset}", f"output={folder / name}", "training.engine=accelerate", *more]
    given += ["training.tensorboard=false", *([f"interleave.stage={stage}"] if stage else [])]
    return run_recipe("tiny", [*given, DIA] if preset == "dia" else given)


def few_clips(folder: Path, patch: pytest.MonkeyPatch) -> None:
    """Puts 60 short clips in the place of the bundled speech, and three dialogues."""
    rows = [json.loads(line) for line in BUNDLED.read_text().splitlines()]
    short = [row for row in rows if row["duration"] < 4]
    kept = [row for row in short if row["split"] == "valid"] + [row for row in short if row["split"] == "train"][:50]
    manifest = folder / "few.jsonl"
    manifest.write_text("".join(json.dumps(row | {"audio": str(BUNDLED.parent / row["audio"])}) + "\n" for row in kept))
    patch.setattr(bundled, "BUNDLED", str(manifest))
    patch.setattr(bundled, "DIALOGUES", {"train": 3, "valid": 1})


@pytest.fixture
def few(tmp_path, monkeypatch) -> Path:
    """The folder of runs, with a bundled speech of 60 short clips."""
    few_clips(tmp_path, monkeypatch)
    return tmp_path / "runs"


def test_one_preset_of_each_kind_trains(few):
    for preset, stage in FAST:
        result = train(few, preset, stage, "training.steps=2", "training.save_every=2", "data.batch_steps=512")
        assert result.metrics["valid/loss"] > 0
    made = {folder.name for folder in few.iterdir() if folder.name.startswith("bundled-")}
    assert made == {"bundled-words", "bundled-audio-user", "bundled-target-source", "bundled-sources"}
    words = Corpus.open(few / "bundled-words")
    assert {name: codec.frame_rate for name, codec in words.streams.items()} == {"audio": 25, "semantic": 25}
    assert words.card.counts.n_aligned == len(words)
    assert isinstance(opened := open_corpus(read_run(few / "moshi")), Corpus | Mixture)
    assert set(opened.levels) == {"audio", "user"}


def test_what_stands_in_is_said_and_made_once(few, capsys):
    train(few, "moshi", None, "training.steps=1", "data.batch_steps=512")
    assert "dialogues are mixed from clips of one voice, and word times are spread evenly" in capsys.readouterr().err
    folder = few / "bundled-audio-user"
    assert '"word_times": "spread"' in (few / "bundled-sources" / "dialogues" / "manifest.jsonl").read_text()
    before = (folder / "corpus.json").stat().st_mtime_ns
    train(few, "cocktail", None, "training.steps=1", "data.batch_steps=512")
    assert "making" not in capsys.readouterr().err
    assert (folder / "corpus.json").stat().st_mtime_ns == before


def test_both_sides_of_a_dialogue_speak(few):
    rows = [json.loads(line) for line in bundled.write_dialogues(few / "dialogues").read_text().splitlines()]
    assert all({word["stream"] for word in row["words"]} == {"audio", "user"} for row in rows)
    assert {row["split"] for row in rows} == {"train", "valid"}


def test_a_layout_for_more_levels_says_so(few):
    with pytest.raises(InputError, match="names no levels of a stream that has 8"):
        run_recipe("tiny", ["interleave=dia", f"output={few / 'dia'}"])


@pytest.mark.slow
def test_every_stage_of_every_preset_trains(tmp_path):
    """Writes which ran, and how long that took, into table.md beside the runs."""
    lines = ["| layout | corpus | loss | seconds |", "|---|---|---|---|"]
    for preset, stage in STAGES:
        start = time.monotonic()
        result = train(tmp_path, preset, stage, "training.steps=4")
        name, corpus = preset + (f", {stage}" if stage else ""), open_corpus(read_run(result.folder))
        assert result.steps == 4
        seconds = time.monotonic() - start
        lines.append(f"| {name} | {Path(corpus.folder).name} | {result.metrics['loss']:.3f} | {seconds:.0f} |")
    (tmp_path / "table.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))
    assert len(lines) == 2 + len(STAGES)
