"""What `hocket inspect` says of a corpus, draws of its durations and lets be heard of a row."""

import io
import json
import xml.dom.minidom

import numpy as np
import pytest
import soundfile
from rich.console import Console
from typer import Typer
from typer.testing import CliRunner

from hocket.cli import app
from hocket.cli_data import import_codes as import_codes_command
from hocket.codec import CodecIdentity, load_codec
from hocket.data import Corpus, Rejected, Word
from hocket.data.importing import import_codes
from hocket.data.shards import Row
from hocket.data.tokenizing.workspace import Job, Workspace
from hocket.errors import InputError
from hocket.evaluation.corpus_facts import Sample, group_reasons
from hocket.evaluation.inspect import inspect, inspect_all

UNITS = CodecIdentity(name="units", revision="1", weight_hash="u", sample_rate=16_000, hop=640, codebook_sizes=(100,))


def build(folder, streams, n_rows=6):
    """A corpus of some rows of random codes, half with words, of which one was rejected."""
    rng = np.random.default_rng(0)
    work = Workspace(folder, Job(streams=streams, source="made", source_fingerprint="0", settings={"trim": True}))
    work.start()
    rows = [
        Row(
            id=f"row-{i}",
            streams={
                name: rng.integers(0, codec.codebook_sizes[0], (25 * (i + 1), codec.levels)).astype(np.uint16)
                for name, codec in streams.items()
            },
            text=f"number {i}",
            words=[Word(text="number", start=0.0, end=0.5)] if i % 2 else [],
            language="en" if i else "de",
            split="valid" if i == 0 else "train",
            recording=f"row-{i}",
            duration=i + 1.0 if streams else 0.0,
            audio=f"{i}.wav",
        )
        for i in range(n_rows)
    ]
    work.commit(0, rows, [Rejected(id="bad", audio="bad.wav", reason="the file is empty (0 bytes)")], 7, "0")
    work.finish()
    return folder


def text_of(folder, **options):
    console = Console(width=140, record=True, file=io.StringIO())
    facts = inspect_all([str(folder)], console, **options)
    return json.loads(json.dumps(facts)), console.export_text()


def test_several_streams(tmp_path):
    audio = load_codec("bundled", 4).identity
    facts, text = text_of(build(tmp_path / "c", {"audio": audio, "user": audio, "semantic": UNITS}))
    assert [len(stream["levels"]) for stream in facts["streams"].values()] == [4, 4, 1]
    assert all(stream["n_frames"] == 25 * 21 for stream in facts["streams"].values())
    assert (facts["words"], facts["aligned"], facts["languages"]) == (3, 3, {"de": 1, "en": 5})
    assert facts["duration_counts"][:4] == [0, 1, 2, 3]
    for said in (
        "stream semantic",
        "stream user",
        "1 de, 5 en",
        "3, 3 words",
        "trim=True",
        "bad.wav: the file is empty",
    ):
        assert said in text


def test_text_alone(tmp_path):
    folder = build(tmp_path / "c", {})
    facts, text = text_of(folder)
    assert (facts["streams"], facts["texts"], facts["letters"]) == ({}, 6, 48)
    assert "Durations" not in text
    with pytest.raises(InputError, match="holds no audio, so there are no durations to draw"):
        inspect_all([str(folder)], svg=tmp_path / "a.svg")
    with pytest.raises(InputError, match="is text alone, so no row can be decoded"):
        inspect_all([str(folder)], sample=Sample(wav=tmp_path / "a.wav"))


def test_durations_are_drawn_the_same_each_time(tmp_path):
    folder = build(tmp_path / "c", {"semantic": UNITS})
    for name in ("a.svg", "b.svg", "c.png"):
        facts, text = text_of(folder, svg=tmp_path / name)
        assert facts["durations"] == str(tmp_path / name)
        assert f"durations drawn in {tmp_path / name}" in text
    drawn = (tmp_path / "a.svg").read_text()
    assert "train: 5, 0.3 min" in drawn
    assert xml.dom.minidom.parseString(drawn)
    assert (tmp_path / "b.svg").read_text() == drawn
    assert (tmp_path / "c.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(InputError, match=r"pictures are .svg, .png or .pdf"):
        inspect_all([str(folder)], svg=tmp_path / "a.wav")


@pytest.mark.parametrize("row", [None, "row-0"])
def test_a_row_can_be_heard(tmp_path, row):
    folder = build(tmp_path / "c", {"audio": load_codec("bundled", 4).identity})
    facts, text = text_of(folder, sample=Sample(wav=tmp_path / "a.wav", row=row))
    wav, rate = soundfile.read(tmp_path / "a.wav")
    expected = row or "row-1"
    assert facts["sample"]["id"] == expected
    assert (rate, len(wav)) == (16_000, 16_000 * (1 + int(expected[-1])))
    assert f'row "{expected}", {len(wav) / rate:.2f} s of the stream audio' in text


def test_a_row_that_is_not_there_and_a_codec_that_is_another(tmp_path):
    folder = str(build(tmp_path / "c", {"audio": load_codec("bundled", 4).identity}))
    with pytest.raises(InputError, match='has no row "x"'):
        inspect_all([folder], sample=Sample(wav=tmp_path / "a.wav", row="x"))
    other = str(build(tmp_path / "other", {"audio": UNITS}))
    with pytest.raises(InputError, match=r'is of codec "units" .*, not of codec "bundled" .*'):
        inspect_all([other], sample=Sample(wav=tmp_path / "a.wav", codec="bundled"))
    with pytest.raises(InputError, match=r'is of codec "units" .*; say where it is by --codec'):
        inspect_all([other], sample=Sample(wav=tmp_path / "a.wav"))


@pytest.mark.parametrize("options", [{"frames": 4}, {"things": ["delay"]}])
def test_options_of_other_things_are_refused(tmp_path, options):
    folder = str(build(tmp_path / "c", {"semantic": UNITS}))
    things = [folder, *options.pop("things", [])]
    with pytest.raises(InputError, match="of one corpus"):
        inspect_all(things, svg=tmp_path / "a.svg", **options)
    with pytest.raises(InputError, match="of one corpus"):
        inspect_all(["delay"], sample=Sample(wav=tmp_path / "a.wav"))


def test_reasons_that_differ_in_numbers_and_names_are_one():
    reasons = (
        [f'level {i} holds {i}.5 in "{i}.wav"' for i in range(5)] + ["empty"] + [f"kind {'x' * i}" for i in range(9)]
    )
    rejected = [Rejected(id=str(i), audio=f"{i}.wav", reason=reason) for i, reason in enumerate(reasons)]
    grouped = group_reasons(rejected, most=3)
    assert grouped[0] == {"reason": reasons[0], "count": 5, "example": "0.wav"}
    assert [entry["count"] for entry in grouped] == [5, 1, 1, 8]
    assert group_reasons([]) == []


def test_import_and_inspect_from_the_command_line(tmp_path):
    codes = np.random.default_rng(0).integers(0, 1024, (8, 50))
    (tmp_path / "codes").mkdir()
    np.save(tmp_path / "codes/a.npy", codes)
    np.save(tmp_path / "codes/b.npy", codes - 1024)
    run, importing = CliRunner().invoke, Typer()
    importing.command()(import_codes_command)
    made = run(importing, [str(tmp_path / "codes"), str(tmp_path / "c"), "--codec", "bundled", "--json"])
    assert made.exit_code == 0, made.output
    assert json.loads(made.stdout)["n_rejected"] == 1
    shown = run(app, ["inspect", str(tmp_path / "c"), "--wav", str(tmp_path / "a.wav"), "--codec", "bundled", "--json"])
    assert json.loads(shown.stdout)["sample"]["seconds"] == 2.0
    assert inspect(tmp_path / "c")["reasons"][0]["example"] == "b.npy"
    with pytest.raises(InputError, match="--row says which row"):
        run(app, ["inspect", str(tmp_path / "c"), "--row", "a"], catch_exceptions=False)
    assert Corpus.open(tmp_path / "c")[0].duration == 2.0
    import_codes(tmp_path / "codes", tmp_path / "c", load_codec("bundled").identity)
