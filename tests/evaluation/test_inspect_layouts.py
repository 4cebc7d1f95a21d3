"""`hocket inspect` of layouts: rates, the first frame, comparisons, options."""

import io
import json
from fractions import Fraction

import pytest
from rich.console import Console
from typer.testing import CliRunner

from hocket.cli import app
from hocket.errors import InputError
from hocket.evaluation.clock import Clock, parse_rate, parse_rates
from hocket.evaluation.inspect import inspect_all, inspect_layouts
from hocket.evaluation.layout_facts import view_layout
from hocket.interleave import layout_names

MIMI = Clock(codec="mimi", levels=8)


def first(name, clock=MIMI, stage=0):
    return view_layout(name, clock).stages[stage].first_frame


def printed(*things, **options):
    console = Console(width=120, file=io.StringIO())
    inspect_all(list(things), console, **options)
    return console.file.getvalue()  # pyright: ignore[reportAttributeAccessIssue]


@pytest.mark.parametrize(
    ("name", "steps", "seconds", "after"),
    [
        ("moshi", 2, 0.16, ()),  # 160 ms, as the paper says
        ("acoustic-delay-2", 3, 0.24, ()),
        ("delay", 8, 0.64, ()),
        ("flatten", 8, 0.08, ()),
        ("partial-flatten", 2, 0.08, ()),
        ("hibiki", 28, 2.24, ()),
        ("tts-delay", 8, 0.64, ("text",)),
        ("s2st", 8, 0.08, ("source",)),
        ("audiolm-stages/fine", 4, 0.08, ("audio[:4]",)),
        ("glm4voice", 14, None, ()),
        ("coarse-first", None, None, ()),
        ("soundstorm", None, None, ()),
        ("examples/chunks.py:Chunks(audio, size=4)", 29, 0.29, ()),
    ],
)
def test_when_the_first_frame_is_ready(name, steps, seconds, after):
    found = first(name)
    assert found is not None
    assert (found.steps, found.after) == (steps, after)
    assert found.seconds == (None if seconds is None else pytest.approx(seconds))


def test_spans_decide_the_first_frame_of_spiritlm():
    assert first("spiritlm") is None


@pytest.mark.parametrize("name", [name for name in layout_names() if name != "dia"])
def test_every_preset_has_facts(name):
    facts = inspect_layouts([name], MIMI)[0]
    json.dumps(facts)
    for stage in facts.get("stages", [facts]):
        assert stage["steps_per_second"] > 0
        assert stage["seconds_in_context"][512] == round(512 / stage["steps_per_second"], 2)
        assert "bos" in stage["drawing"]


def test_a_cascade_shows_each_stage_with_what_it_trains():
    text = printed("valle")
    assert "valle/ar" in text
    assert "levels, bidirectional attention, parallel head" in text
    assert "text, audio[:1]" in text


def test_a_stage_can_be_named():
    assert inspect_layouts(["valle/nar"], MIMI)[0]["objective"] == "levels"
    with pytest.raises(InputError, match=r'no stage "nr".*"nar"'):
        inspect_layouts(["valle/nr"])


def test_several_layouts_are_compared():
    lines = printed("delay", "flatten", clock=MIMI).splitlines()
    rows = [line.split() for line in lines if line.startswith(("delay  ", "flatten  "))]
    assert ["8", "12.5", "100", "163.84"] in [row[1:5] for row in rows]
    assert ["1", "100", "100", "20.48"] in [row[1:5] for row in rows]


def test_rates_by_stream_reach_the_layout():
    clock = Clock(frame_rates={"semantic": Fraction(25), "audio": Fraction(50)})
    facts = inspect_layouts(["soundstorm"], clock)[0]
    assert facts["steps_per_second"] == 50
    assert "Repeat(semantic[:1], 2)" in facts["layout"]


def test_a_layout_that_does_not_fit_is_refused_in_one_sentence():
    with pytest.raises(InputError, match='layout "dia" does not fit') as caught:
        inspect_layouts(["dia"])
    assert "\n" not in str(caught.value)


def test_levels_beyond_the_codec_are_refused():
    with pytest.raises(InputError, match="levels 1 to 8"):
        inspect_layouts(["delay"], Clock(levels=9))


@pytest.mark.parametrize("text", ["semantic", "semantic=", "=25", "semantic=fast", "semantic=0"])
def test_malformed_rates_are_refused(text):
    with pytest.raises(InputError, match="Hz"):
        parse_rates(text)


def test_rates_are_exact():
    assert parse_rate("12.5") == parse_rate("25/2") == Fraction(25, 2)


def test_a_rate_of_no_stream_is_refused():
    with pytest.raises(InputError, match=r'"semantik".*"semantic"'):
        inspect_layouts(["soundstorm"], Clock(frame_rates={"semantik": Fraction(25)}))


def test_options_of_layouts_are_for_layouts_only():
    with pytest.raises(InputError, match="no layout"):
        inspect_all(["bundled"], clock=MIMI)


def test_of_nothing_the_presets_are_listed():
    assert [row["name"] for row in inspect_all([])["layouts"]] == layout_names()
    assert "glm4voice" in printed()


def test_the_command_draws_to_a_file(tmp_path):
    file = tmp_path / "a.svg"
    command = ["inspect", "delay", "valle", "--codec", "mimi", "--levels", "8", "--svg", str(file), "--json"]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    assert len(json.loads(result.stdout)["things"]) == 2
    assert "valle/nar" in file.read_text()


def test_a_terminal_gets_colours():
    console = Console(width=100, file=io.StringIO(), force_terminal=True, color_system="truecolor")
    inspect_layouts(["delay"], console=console)
    assert "\x1b[38;2;26;26;26;48;2;" in console.file.getvalue()  # pyright: ignore[reportAttributeAccessIssue]


def test_a_rate_may_be_of_a_stream_that_is_only_matched():
    clock = Clock(frame_rates={"semantic": Fraction(25), "audio": Fraction(50)})
    facts = inspect_layouts(["Repeat(semantic, audio)"], clock)
    assert "Repeat(semantic[:1], 2)" in str(facts)
