"""Comparisons of made-up runs: what is read, grouped, ranked, interpolated and written."""

import csv
import dataclasses
import html
import json
import re

import pytest
from made_runs import CODEC, evaluate, evaluation, likelihood, make_run, measure

from hocket.errors import InputError
from hocket.evaluation.comparison import compare_runs
from hocket.evaluation.comparison.axes import AXES, DERIVED, LOGGED, common_end, interpolate, track
from hocket.evaluation.comparison.charts import looks
from hocket.evaluation.comparison.groups import compare_at, group_runs, hold, trace
from hocket.evaluation.comparison.page import compare, page_context
from hocket.evaluation.comparison.paired import Clip, clip_by_clip
from hocket.evaluation.comparison.subject import label_runs, read_subjects
from hocket.evaluation.comparison.words import bits, count, duration, flops, number, percent
from hocket.evaluation.runs import read_run

STEPS, FLOPS, AUDIO = AXES


def groups_of(*runs):
    return group_runs([held for subject in read_subjects(runs) if (held := hold(subject))])


def get(found):
    """What is there."""
    assert found is not None
    return found


def names(group):
    return [held.subject.label for held in group.members]


@pytest.mark.parametrize(("x", "wanted"), [(0, None), (10, 200.0), (15, 190.0), (25, 175.0), (30, 170.0), (31, None)])
def test_values_between_points_are_linear_and_none_lies_beyond(x, wanted):
    assert interpolate([(10, 200.0), (20, 180.0), (30, 170.0)], x) == wanted


def test_the_largest_common_x_leaves_out_lines_that_end_before_others_begin():
    lines = {"a": [(10, 1.0), (20, 1.0)], "b": [(5, 1.0), (15, 1.0)], "late": [(30, 1.0)], "none": []}
    assert common_end(lines) == (15, ["none", "late"])
    assert common_end({"a": [(1, 1.0)], "b": [(2, 1.0)]})[0] is None


def test_work_and_audio_are_read_from_the_metrics_or_summed_up_from_speeds(tmp_path):
    logged = read_run(make_run(tmp_path / "logged", work=4e9))
    derived = read_run(make_run(tmp_path / "derived", work=4e9, logged=False))
    for axis, at_15 in ((FLOPS, 60e9), (AUDIO, 30.0)):
        assert (get(track(logged, axis)).source, get(track(derived, axis)).source) == (LOGGED, DERIVED)
        assert get(track(logged, axis)).at(15) == pytest.approx(at_15)
        assert get(track(derived, axis)).at(15) == pytest.approx(at_15)
        assert get(track(logged, axis)).at(31) is None


def test_equal_steps_and_equal_work_can_differ(tmp_path):
    """`dear` does twice the work a step: at equal work it stands where it was at half the steps."""
    runs = [
        make_run(tmp_path / "cheap", (200.0, 180.0, 170.0)),
        make_run(tmp_path / "dear", (190.0, 175.0, 165.0), work=2e9),
    ]
    traces = [get(trace(subject, hold(subject))) for subject in read_subjects(runs)]
    at = {axis.key: get(compare_at(traces, axis)) for axis in AXES}
    found = {
        key: (equal.x, [(one.held.subject.label, value) for one, value in equal.values]) for key, equal in at.items()
    }
    assert found["step"] == (30, [("dear", 165.0), ("cheap", 170.0)])
    assert found["flops"] == (30e9, [("cheap", 170.0), ("dear", pytest.approx(182.5))])
    assert found["audio_seconds"] == (60.0, [("dear", 165.0), ("cheap", 170.0)])


def test_masked_runs_have_a_point_for_each_evaluation(tmp_path):
    run = make_run(tmp_path / "masked", (0.0, 0.0, 0.0))
    for step, total in ((20, 190.0), (30, 180.0)):
        evaluate(run, step=step, objective="masked", likelihood=likelihood(total, draws=8))
    (subject,) = read_subjects([run])
    assert get(trace(subject, hold(subject))).line == [(20, 190.0), (30, 180.0)]


@pytest.mark.parametrize(
    ("other", "reason"),
    [
        ({"codec": CODEC | {"hop": 320, "name": "finer"}}, r"another codec \(finer, not made\)"),
        ({"levels": 3}, "3 levels, not 4"),
        ({"given": ("audio[:2]",)}, r"given audio\[:2\], not nothing"),
        ({"stream": "semantic"}, 'the stream "semantic"'),
        ({"likelihood": likelihood(150.0, data="other")}, "scored on other data"),
    ],
)
def test_runs_under_other_conditions_are_not_ranked_and_the_reason_is_said(tmp_path, other, reason):
    runs = [evaluate(make_run(tmp_path / name)) for name in ("delay", "flatten")]
    runs.append(evaluate(make_run(tmp_path / "odd"), **other))
    assert [names(group) for group in groups_of(*runs)] == [["delay", "flatten"], ["odd"]]
    written = compare_runs(runs, tmp_path / "out")
    assert len(written.groups) == 2
    assert "odd stands beside without a rank" in " ".join(written.lead)
    assert re.search(reason, html.unescape(written.page.read_text()))


def test_losses_on_other_speech_are_not_drawn_beside(tmp_path):
    runs = [evaluate(make_run(tmp_path / name)) for name in ("delay", "flatten")]
    found = compare([*runs, evaluate(make_run(tmp_path / "odd"), likelihood=likelihood(150.0, data="other"))])
    shown = page_context(found, [], tmp_path, 0)
    drawn = {end.look.label for _, charts in shown["level_axes"] for chart in charts for end in chart.ends}
    assert drawn == {"delay", "flatten"}
    assert shown["loss_notes"][-1] == "odd: scored on other speech, so not drawn beside these."


def test_overlapping_intervals_are_not_called_better_and_others_are(tmp_path):
    runs = [make_run(tmp_path / name) for name in ("low", "near", "far")]
    for run, total in zip(runs, (170.0, 175.0, 190.0), strict=True):
        evaluate(run, total, half=4.0)
    (group,) = groups_of(*runs)
    low, near, far = group.members
    assert [group.is_more(held) for held in (near, far)] == [False, True]
    assert group.standing(low) == "lowest"
    assert group.standing(near) == "+2.9 %, not told apart"
    assert group.standing(far) == "+11.8 %, more"
    lead = compare_runs(runs, tmp_path / "out").lead[0]
    assert "low needs the fewest bits" in lead
    assert "near (+2.9 %): the difference may be chance" in lead
    assert "far (+11.8 %) needs more" in lead


def test_the_same_clips_tell_apart_what_overlapping_intervals_do_not(tmp_path):
    """Clips differ by hundreds of bits, the models by eight on each: four seconds a clip make two bits a second."""
    spread = {f"clip-{i}": 600.0 + 37 * (i % 7) for i in range(20)}
    runs = [make_run(tmp_path / name) for name in ("low", "high")]
    evaluate(runs[0], 170.0, clip_bits=spread)
    evaluate(runs[1], 172.0, clip_bits={name: value + 8 + (-1) ** i for i, (name, value) in enumerate(spread.items())})
    (group,) = groups_of(*runs)
    difference = get(group.difference(group.members[1]))
    assert difference.value == pytest.approx(2.0)
    assert 1.7 < get(difference.low) < 2.0 < get(difference.high) < 2.3
    assert group.is_more(group.members[1]) is True


def test_other_clips_are_not_compared_clip_by_clip():
    one = {"a": Clip(10.0, 1.0), "b": Clip(12.0, 1.0)}
    assert clip_by_clip(one, {"a": Clip(11.0, 1.0), "c": Clip(12.0, 1.0)}) is None
    assert clip_by_clip(one, {"a": Clip(11.0, 1.0), "b": Clip(12.0, 2.0)}) is None
    assert clip_by_clip({}, {}) is None


def test_bounds_are_said_and_never_called_worse(tmp_path):
    exact, masked, joint = (make_run(tmp_path / name) for name in ("exact", "masked", "joint"))
    evaluate(exact, 170.0)
    evaluate(masked, objective="masked", likelihood=likelihood(250.0, draws=8))
    found = likelihood(300.0)
    evaluate(joint, likelihood=dataclasses.replace(found, bits=found.bits | {"semantic": measure(60.0)}))
    (group,) = groups_of(exact, masked, joint)
    assert names(group) == ["exact", "masked", "joint"]
    assert [held.is_most for held in group.members] == [False, True, True]
    written = compare_runs([exact, masked, joint], tmp_path / "out")
    assert "upper bounds only, so not called worse" in written.lead[0]
    page = written.page.read_text()
    assert "≤ 250.0" in page
    assert "its total names the semantic stream too" in page


def test_what_another_seed_does_is_said(tmp_path):
    settings = {"data": {"corpus": "speech"}, "interleave": {"layout": "delay"}}
    runs = [
        make_run(tmp_path / name, (last,), config=settings | {"training": {"seed": seed, "lr": rate}})
        for name, last, seed, rate in (("one", 200.0, 0, 1), ("again", 201.0, 1, 1), ("other", 220.0, 1, 2))
    ]
    lead = compare_runs(runs, tmp_path / "out").lead
    assert lead[1] == "What another seed does: one and again differ in the seed alone and lie 0.50 % apart."


def test_figures_without_an_interval_are_not_called_better(tmp_path):
    runs = [make_run(tmp_path / "a"), make_run(tmp_path / "b", (210.0, 190.0, 180.0))]
    (group,) = groups_of(*runs)
    assert [held.source for held in group.members] == ["metrics.jsonl"] * 2
    assert group.is_more(group.members[1]) is None
    assert "without intervals, so none is called better" in compare_runs(runs, tmp_path / "out").lead[0]


def test_runs_of_other_corpora_without_an_evaluation_are_not_ranked(tmp_path):
    runs = [make_run(tmp_path / "a"), make_run(tmp_path / "b", config={"data": {"corpus": "units"}})]
    assert len(groups_of(*runs)) == 2
    assert "No two of these runs may be ranked" in compare_runs(runs, tmp_path / "out").lead[0]


def test_runs_of_one_name_get_labels_of_their_own(tmp_path):
    runs = [make_run(tmp_path / parent / "delay") for parent in ("small", "large")] + [make_run(tmp_path / "flatten")]
    assert label_runs(runs) == ["small/delay", "large/delay", "flatten"]
    assert [subject.label for subject in read_subjects(runs)] == ["small/delay", "large/delay", "flatten"]


def test_a_folder_of_runs_stands_for_all_of_them(tmp_path):
    for name in ("delay", "flatten"):
        make_run(tmp_path / "sweep" / name)
    assert [subject.label for subject in read_subjects([tmp_path / "sweep"])] == ["delay", "flatten"]


def test_what_cannot_be_compared_is_refused_in_a_sentence(tmp_path):
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(InputError, match="is no run folder"):
        compare_runs([empty], tmp_path / "out")
    (empty / "config.yaml").write_text("name: empty\n")
    run = make_run(tmp_path / "run")
    with pytest.raises(InputError, match=r'"[^"]*empty" has neither metrics nor an evaluation'):
        compare_runs([run, empty], tmp_path / "out")
    with pytest.raises(InputError, match="is named twice"):
        compare_runs([run, tmp_path / "." / "run"], tmp_path / "out")
    broken = evaluate(make_run(tmp_path / "broken"))
    (broken / "evaluation" / "30" / "evaluation.json").write_text("{}")
    with pytest.raises(InputError, match="is no evaluation of hocket's"):
        compare_runs([broken], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_csv_holds_what_json_holds(tmp_path):
    runs = [evaluate(make_run(tmp_path / "delay"), 170.0), evaluate(make_run(tmp_path / "flatten"), 165.0)]
    written = compare_runs(runs, tmp_path / "out")
    stored = json.loads(json.dumps(written.to_dict()))
    with open(stored["records_csv"], newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(stored["records"]) > 40
    for row, record in zip(rows, stored["records"], strict=True):
        assert row == {key: "" if value is None else str(value) for key, value in record.items()}
    found = {(row["run"], row["metric"], row["step"]): row for row in rows}
    assert float(found["flatten", "bits/total", "30"]["high"]) == 170.0
    assert found["delay", "level/audio.0", "30"]["unit"] == "nats per token"
    assert float(found["delay", "layout/steps_per_second", "30"]["value"]) == 25
    assert float(found["flatten", "layout/steps_per_second", "30"]["value"]) == 100
    assert float(found["delay", "at/flops/bits", ""]["value"]) == 170.0
    with open(stored["summary_csv"], newline="") as file:
        wide = {row["run"]: row for row in csv.DictReader(file)}
    assert wide["flatten"]["layout"] == "Flatten(audio[:4])"
    assert float(wide["flatten"]["bits/total"]) == 165.0
    assert [row["run"] for row in stored["runs"]] == list(wide)


def test_an_evaluation_without_metrics_is_enough(tmp_path):
    runs = [tmp_path / "delay", tmp_path / "flatten"]
    for run in runs:
        run.mkdir()
        (run / "config.yaml").write_text("name: made\n")
        evaluate(run)
    written = compare_runs(runs, tmp_path / "out")
    assert "No metrics.jsonl, so no curves." in written.page.read_text()
    assert evaluation(runs[0]).layout in written.page.read_text()


def test_parts_of_several_suites_are_repeated_by_a_command_each(tmp_path):
    mixed = {"suite": "full and quick", "suites": {"likelihood": "full", "speed": "quick", "generation": "full"}}
    found = compare([evaluate(make_run(tmp_path / "delay"), **mixed), evaluate(make_run(tmp_path / "flatten"))])
    assert page_context(found, ["runs"], tmp_path, 2)["commands"][:3] == [
        f"hocket evaluate {tmp_path}/delay --suite full --only likelihood,generation",
        f"hocket evaluate {tmp_path}/delay --suite quick --only speed",
        f"hocket evaluate {tmp_path}/flatten --suite quick",
    ]


def test_colours_begin_again_and_one_run_can_be_shown_alone(tmp_path):
    subjects = read_subjects([make_run(tmp_path / f"run-{i:02}") for i in range(3)])
    assert [look.number for look in looks(subjects, 2).values()] == [0, 1, 0]
    assert [names(group) for group in compare([tmp_path / "run-00"]).groups] == [["run-00"]]


def test_numbers_have_the_digits_they_deserve():
    assert [number(x) for x in (1742.3, 85.31, 6.283, 0.0412, -3.0, 0)] == [
        "1,742",
        "85.3",
        "6.28",
        "0.041",
        "−3.00",
        "0",
    ]
    assert [percent(x) for x in (0.0214, -0.0004, 0.0, 1e-6)] == ["+2.1 %", "−0.04 %", "0 %", "0 %"]
    assert [bits(1779.46), bits(12345.6)] == ["1,779.5", "12,346"]
    assert [count(7_716_608), count(1.24e9), flops(3.12e14), flops(5)] == ["7.72M", "1.24B", "312 TFLOP", "5 FLOP"]
    assert [duration(x) for x in (4.2, 600, 36000)] == ["4.2 s", "10 min", "10.0 h"]
