"""The aggregations of the official scripts, against scores computed by hand; formats that are read and refused."""

import csv
from pathlib import Path

import pytest

from hocket.errors import InputError
from hocket.evaluation.likelihood.tasks import TASKS, Judged, Pair, find_task
from hocket.evaluation.likelihood.tasks.salmon import CONSISTENCY, PARTS

LEXICAL = ("id", "filename", "voice", "frequency", "word", "phones", "length", "correct")
SYNTACTIC = ("id", "filename", "voice", "type", "subtype", "transcription", "correct")
VERDICTS = {1.0: (-1.0, -2.0), 0.5: (-2.0, -2.0), 0.0: (-3.0, -2.0)}


def judged(score: float, number: int, **facts) -> Judged:
    good, bad = VERDICTS[score]
    pair = Pair(id=str(number), good=Path("good.wav"), bad=Path("bad.wav"), facts=facts)
    return Judged(pair=pair, good=good, bad=bad)


def values(name: str, some: list[Judged]) -> dict[str, tuple[float, int]]:
    return {key: (pytest.approx(m.value), m.n) for key, m in find_task(name).count(some).items()}  # pyright: ignore[reportReturnType]


def touch(folder: Path, *names: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).write_bytes(b"")


def write_gold(folder: Path, columns: tuple[str, ...], rows: list[tuple]) -> None:
    """gold.csv and a file for each of its rows."""
    touch(folder, *(f"{row[columns.index('filename')]}.wav" for row in rows))
    with (folder / "gold.csv").open("w", newline="") as file:
        csv.writer(file).writerows([columns, *rows])


def test_swuggy_is_a_mean_over_voices_then_over_words():
    words = [  # item, frequency, length, scores by voice
        ("0", 0, 4, (1.0, 0.0)),
        ("1", 3, 4, (0.5,)),
        ("2", 4, 5, (1.0, 1.0, 0.0)),
        ("3", 5, 5, (1.0,)),
        ("4", 500, 9, (0.5, 1.0)),
        ("5", None, 9, (0.0,)),
    ]
    some = [
        judged(score, 10 * i + v, item=item, voice=f"v{v}", frequency=frequency, length=length)
        for i, (item, frequency, length, scores) in enumerate(words)
        for v, score in enumerate(scores)
    ]
    assert values("swuggy", some) == {
        "all": ((0.5 + 0.5 + 2 / 3 + 1 + 0.75 + 0) / 6, 6),
        "in_vocab": ((0.5 + 2 / 3 + 1 + 0.75) / 4, 4),
        "oov": (0.5, 1),
        "frequency 1-5": ((0.5 + 2 / 3) / 2, 2),
        "frequency 6-20": (1.0, 1),  # the official bounds put a word seen five times here
        "frequency >100": (0.75, 1),
        "length 4": (0.5, 2),
        "length 5": ((2 / 3 + 1) / 2, 2),
        "length 9": (0.375, 2),
    }


def test_sblimp_is_a_mean_over_pairs_whatever_their_type():
    pairs = [("a", "x", (1.0,)), ("a", "y", (1.0, 0.5)), ("a", "z", (0.0,)), ("b", "x", (0.0, 0.0, 1.0))]
    some = [
        judged(score, 10 * i + v, item=f"{kind}/{item}", voice=str(v), type=kind, subtype="s")
        for i, (kind, item, scores) in enumerate(pairs)
        for v, score in enumerate(scores)
    ]
    assert values("sblimp", some) == {
        "all": ((1 + 0.75 + 0 + 1 / 3) / 4, 4),
        "type a": ((1 + 0.75 + 0) / 3, 3),
        "type b": (1 / 3, 1),
    }


@pytest.mark.parametrize("name", ["storycloze", "topic-storycloze"])
def test_storycloze_counts_a_tie_as_half(name):
    assert values(name, [judged(score, i) for i, score in enumerate((1.0, 1.0, 0.5, 0.0))]) == {"accuracy": (0.625, 4)}


def test_salmon_is_a_mean_over_tasks_not_over_pairs():
    shares = dict.fromkeys(PARTS, (1.0,)) | {"rir_consistency": (1.0, 0.0, 0.0, 0.0), "bg_alignment": (0.5, 0.0)}
    some = [judged(score, 0, part=part) for part, scores in shares.items() for score in scores]
    found = values("salmon", some)
    assert list(found) == ["all", "consistency", "alignment", *PARTS]
    assert found["all"] == ((6 + 0.25 + 0.25) / 8, 12)
    assert found["consistency"] == ((5 + 0.25) / 6, 9)
    assert found["alignment"] == ((1 + 0.25) / 2, 3)
    assert found["rir_consistency"] == (0.25, 4)
    assert len(CONSISTENCY) == 6


def test_intervals_are_over_items_and_hold_the_value():
    measure = find_task("storycloze").count([judged(float(i % 3 > 0), i) for i in range(60)])["accuracy"]
    assert measure.low is not None
    assert measure.high is not None
    assert 0.5 < measure.low < measure.value < measure.high < 0.8


# --- formats ----------------------------------------------------------------------------------------------------------


def test_words_are_paired_by_item_and_voice(tmp_path):
    rows = [
        (1, "aa", "A", 7, "brick", "b r ik", 5, 1),
        (1, "ab", "B", 7, "brick", "b r ik", 5, 1),
        (1, "ac", "B", "", "blick", "b l ik", 5, 0),
        (1, "ad", "A", "", "blick", "b l ik", 5, 0),
    ]
    write_gold(tmp_path / "lexical" / "dev", LEXICAL, rows)
    pairs = find_task("swuggy").read(tmp_path)
    assert [(p.good.name, p.bad.name, p.facts["voice"]) for p in pairs] == [
        ("aa.wav", "ad.wav", "A"),
        ("ab.wav", "ac.wav", "B"),
    ]
    assert pairs[0].facts == {"item": "1", "voice": "A", "frequency": 7, "length": 5}
    assert (pairs[0].good_text, pairs[0].bad_text) == ("brick", "blick")
    assert find_task("swuggy").read(tmp_path / "lexical" / "dev") == pairs
    (tmp_path / "lexical" / "dev" / "ad.wav").unlink()
    with pytest.raises(InputError, match=r'1 of 4 recordings are missing, ".*ad\.wav" first'):
        find_task("swuggy").read(tmp_path)


def test_sentences_are_items_within_their_type(tmp_path):
    kinds = [("a", "s"), ("b", "s")]
    rows = [(0, f"{t}{c}", "A", t, s, "words", c) for t, s in kinds for c in (0, 1)]
    write_gold(tmp_path, SYNTACTIC, rows)
    pairs = find_task("sblimp").read(tmp_path)
    assert [(p.good.name, p.facts["item"]) for p in pairs] == [("a1.wav", "a/s/0"), ("b1.wav", "b/s/0")]
    with pytest.raises(InputError, match=r'gold\.csv has no column "frequency"'):
        find_task("swuggy").read(tmp_path)


@pytest.mark.parametrize(
    ("rows", "sentence"),
    [
        ([(1, "a", "A", 1, "x", "x", 1, 1)], '1 true and 0 false recordings of item "1" in voice "A"'),
        ([(1, "a", "A", 1, "x", "x", 1, "yes")], 'line 2 has correct="yes"'),
        ([], "holds no pair"),
        ([(1, "a", "A", "often", "x", "x", 1, 1), (1, "b", "A", "nan", "x", "x", 1, 0)], 'has "often" where a number'),
    ],
)
def test_a_gold_file_that_does_not_pair_is_refused(rows, sentence, tmp_path):
    write_gold(tmp_path, LEXICAL, rows)
    with pytest.raises(InputError, match=sentence):
        find_task("swuggy").read(tmp_path)


def test_stories_are_paired_by_name_or_by_number(tmp_path):
    touch(tmp_path / "tSC", "0_7_correct.wav", "1_7_incorrect.wav", "10_5_correct.wav", "11_5_incorrect.wav")
    pairs = find_task("topic-storycloze").read(tmp_path)
    assert {(p.good.name, p.bad.name) for p in pairs} == {
        ("0_7_correct.wav", "1_7_incorrect.wav"),
        ("10_5_correct.wav", "11_5_incorrect.wav"),
    }
    touch(tmp_path / "plain", "0_a.wav", "1_b.wav", "10_c.wav", "11_d.wav")
    plain = find_task("storycloze").read(tmp_path / "plain")
    assert [(p.good.name, p.bad.name) for p in plain] == [("0_a.wav", "1_b.wav"), ("10_c.wav", "11_d.wav")]
    (tmp_path / "tSC" / "1_7_incorrect.wav").unlink()
    with pytest.raises(InputError, match=r'1 of 2 stories lack a version, that of ".*0_7_correct\.wav" first'):
        find_task("topic-storycloze").read(tmp_path)
    (tmp_path / "plain" / "11_d.wav").unlink()
    with pytest.raises(InputError, match="number 11 is missing"):
        find_task("storycloze").read(tmp_path / "plain")


def test_the_first_of_a_sample_is_the_true_one(tmp_path):
    for part in PARTS:
        touch(tmp_path / part, "sample_0_0.wav", "sample_0_1.wav", "sample_12_0.wav", "sample_12_1.wav")
    pairs = find_task("salmon").read(tmp_path)
    assert len(pairs) == 16
    assert (pairs[1].id, pairs[1].good.name, pairs[1].bad.name) == (
        f"{PARTS[0]}/12",
        "sample_12_0.wav",
        "sample_12_1.wav",
    )
    (tmp_path / PARTS[3] / "sample_12_1.wav").unlink()
    with pytest.raises(InputError, match="1 of 2 samples lack a false recording"):
        find_task("salmon").read(tmp_path)
    for path in (tmp_path / PARTS[3]).iterdir():
        path.unlink()
    with pytest.raises(InputError, match=f'1 of SALMon\'s 8 tasks are missing, ".*{PARTS[3]}" first'):
        find_task("salmon").read(tmp_path)


@pytest.mark.parametrize("name", TASKS)
def test_a_folder_of_something_else_is_refused(name, tmp_path):
    with pytest.raises(InputError, match="does not hold"):
        find_task(name).read(tmp_path)
    with pytest.raises(InputError, match="there is no folder"):
        find_task(name).read(tmp_path / "gone")


def test_an_unknown_task_is_named_with_the_known_ones():
    with pytest.raises(InputError, match=r'no paired task "swugy" .did you mean "swuggy"'):
        find_task("swugy")
