"""Drawings in text and SVG: every preset, and some by hand."""

import re
from fractions import Fraction
from xml.etree import ElementTree

import numpy as np
import pytest

from hocket.interleave import draw_stages_svg, draw_svg, draw_text, layout_names, load_layout, load_scheme
from hocket.interleave.sheet import Sheet

RATES = dict.fromkeys(["aligned_text", "audio", "user", "source", "target", "left", "right"], Fraction(50))
RATES["semantic"] = Fraction(25)


def plans_of(name, levels):
    """A short example of each stage of a preset."""
    for stage in load_scheme(name, levels, RATES).stages:
        streams = stage.layout.streams
        lengths = {stream: 3 if stream == "semantic" else 6 for stream in streams}
        spans = [(stream, 0, 3) for stream in streams] if stage.layout.span_nodes() else None
        yield stage.layout.plan(lengths, given=stage.given, spans=spans)


def elements(svg, tag):
    return ElementTree.fromstring(svg).findall(f".//{{http://www.w3.org/2000/svg}}{tag}")


@pytest.mark.parametrize("levels", [5, 8, 9, 32])
@pytest.mark.parametrize("name", layout_names())
def test_every_preset_is_drawn_whole(name, levels):
    if name == "dia" and levels != 9:
        pytest.skip("needs 9 levels")
    for plan in plans_of(name, levels):
        assert len(elements(draw_svg(plan), "rect")) == plan.source_TR.size
        lines = draw_text(plan).splitlines()
        assert len(lines) == plan.n_rows + 1
        assert len({len(line) for line in lines}) == 1
        plain = re.sub(r"\x1b\[[0-9;]*m", "", draw_text(plan, colour=True))
        assert plain.split() == draw_text(plan).split()


def test_an_svg_stands_alone_and_says_what_it_is():
    svg = draw_svg(load_layout("delay", 2).plan({"audio": 2}), title="two < three")
    assert elements(svg, "title")[0].text == "two < three"
    assert not re.search(r"href|url\(|<style| id=", svg)


def test_stages_stand_one_below_the_other():
    plans = [(f"valle/{i}", plan) for i, plan in enumerate(plans_of("valle", 5))]
    svg = draw_stages_svg(plans, "valle")
    assert len(elements(svg, "rect")) == sum(plan.source_TR.size for _, plan in plans)
    assert [text.text for text in elements(svg, "text") if str(text.text).startswith("valle")] == ["valle/0", "valle/1"]


def test_a_flat_row_reads_frame_and_level():
    assert draw_text(load_layout("flatten", 2).plan({"audio": 2})).splitlines() == [
        "step     0    1    2    3    4    5",
        "audio  bos  0.0  0.1  1.0  1.1  end",
    ]


def test_a_row_names_all_that_it_holds():
    assert draw_text(load_layout("Concat(Text(text), Delay(audio))", 2).plan({"text": 2, "audio": 2})).splitlines() == [
        "step             0    1    2    3    4    5    6",
        "text, audio.0  bos   t0   t1  end   a0   a1  end",
        "audio.1          .    .    .    .    .    0    1",
    ]


def test_copies_stand_in_brackets_and_given_rows_have_a_star():
    layout = load_layout("Stack(Lead(Repeat(semantic, 2), 1), Parallel(audio))", {"semantic": 1, "audio": 2})
    assert draw_text(layout.plan({"semantic": 2, "audio": 4}, given=["semantic"])).splitlines() == [
        "step         0    1    2    3    4    5    6",
        "semantic*  bos    0  (0)    1  (1)  end    .",
        "audio.0      .    .    0    1    2    3  end",
        "audio.1      .    .    0    1    2    3    .",
    ]


def test_markers_and_switches_are_short():
    layout = load_layout('Concat(Marker("<task.transcribe>"), Alternate(text, semantic[:1], spans="turn"))')
    drawn = draw_text(layout.plan({"text": 1, "semantic": 2}, spans=[("text", 0, 1), ("semantic", 0, 2)]))
    assert drawn.split()[-8:] == ["bos", "trans…", "to.t", "t0", "to.s", "s0", "s1", "end"]


def test_the_end_of_a_leader_that_is_not_level_0_names_no_level():
    assert Sheet(load_layout("Delay(audio, [1, 0])", 2).plan({"audio": 2})).names == ["audio.0", "audio.1"]


def test_low_grids_go_on_below_and_high_ones_leave_out_the_middle():
    flat = draw_text(load_layout("flatten", 2).plan({"audio": 6}), width=40).splitlines()
    assert [line.split()[0] for line in flat] == ["step", "audio"] * 2 + (["step", "audio"] if len(flat) > 4 else [])
    assert max(map(len, flat)) <= 40
    high = draw_text(load_layout("delay", 8).plan({"audio": 60}), width=60).splitlines()
    assert len(high) == 9
    assert "…" in high[0]
    assert high[0].split()[-1] == "67"


def test_a_window_says_how_many_steps_follow():
    drawn = draw_text(load_layout("parallel", 1).plan({"audio": 9}), 3, first_step=2)
    assert drawn.splitlines()[0].split() == ["step", "2", "3", "4"]
    assert drawn.splitlines()[-1] == "… 6 more steps"


def test_cells_can_read_codes():
    codes_TK = np.array([[100, 200], [101, 201]])
    drawn = draw_text(load_layout("parallel", 2).plan({"audio": 2}), codes={"audio": codes_TK})
    assert drawn.splitlines()[1].split() == ["audio.0", "bos", "100", "101", "end"]


def test_what_a_prompt_forces_is_outlined():
    plan = load_layout("delay", 2).plan({"audio": 4})
    outlined = [rect for rect in elements(draw_svg(plan, known={"audio": 3}), "rect") if rect.get("stroke")]
    assert len(outlined) == 6


def test_given_cells_are_hatched_once_each():
    plan = load_layout("Concat(Text(text), Parallel(audio))", 2).plan({"text": 3, "audio": 2}, given=["text"])
    assert draw_svg(plan).count('stroke-opacity="0.2"') == 4  # three tokens and the end
    assert "never predicted" in draw_svg(plan)


def test_an_empty_document_is_drawn():
    plan = load_layout("delay", 2).plan({"audio": 0}, ended=())
    assert "bos" in draw_text(plan)
    assert len(elements(draw_svg(plan), "rect")) == 2
