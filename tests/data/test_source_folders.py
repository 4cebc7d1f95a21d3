"""Folders of audio: what has the name of audio and is none is named; texts and word times lie beside."""

import os

import pytest
from recordings import write_noise

from hocket.data.clips import Clip, Rejected
from hocket.data.sources import open_source, read_clips
from hocket.data.sources.timings import read_ctm, textgrid_words
from hocket.data.words import Word
from hocket.errors import InputError

LONG_GRID = """File type = "ooTextFile"
Object class = "TextGrid"

xmin = 0
xmax = 1
tiers? <exists>
size = {size}
item []:
"""

TIER = """    item [{number}]:
        class = "IntervalTier"
        name = "{name}"
        xmin = 0
        xmax = 1
        intervals: size = 3
        intervals [1]:
            xmin = 0
            xmax = 0.2
            text = ""
        intervals [2]:
            xmin = 0.2
            xmax = 0.5
            text = "{text}"
        intervals [3]:
            xmin = 0.5
            xmax = 1
            text = "you"
"""

SHORT_GRID = """File type = "ooTextFile"
Object class = "TextGrid"

0
1
<exists>
1
"IntervalTier"
"words"
0
1
2
0
0.25
"über"
0.25
1
""
"""


def grid(**tiers: str) -> bytes:
    """A TextGrid with tiers of two words and a pause each, by name and first word."""
    made = [TIER.format(number=i, name=name, text=text) for i, (name, text) in enumerate(tiers.items(), start=1)]
    return (LONG_GRID.format(size=len(tiers)) + "".join(made)).encode()


def test_what_has_the_name_of_audio_and_is_none(folder):
    (folder / "x.wav").mkdir()
    write_noise(folder / "x.wav" / "inside.wav", 0.3)
    (folder / "gone.wav").symlink_to(folder / "nowhere.wav")
    bad = {item.id: item.reason for item in open_source(folder) if isinstance(item, Rejected)}
    assert bad == {
        "x": '"x.wav" is a folder; it has the name of audio',
        "gone": f'"gone.wav" is a link to "{folder}/nowhere.wav", which is not there',
    }
    assert "x.wav/inside" in {item.id for item in open_source(folder)}
    assert open_source(folder).n_clips == len(list(open_source(folder))) == 9
    with pytest.raises(InputError, match="is a link"):
        read_clips(folder)


def test_bad_text_costs_one_clip(folder):
    (folder / "a.txt").write_bytes(b"\xff\xfe\xff")
    (folder / "b.TextGrid").write_text("no grid")
    (folder / "c.ctm").write_text("c 1 0.1\n")
    bad = {item.id: item.reason for item in open_source(folder) if isinstance(item, Rejected)}
    assert list(bad) == ["a", "b", "c"]
    assert "is not UTF-8" in bad["a"]
    assert "is not a TextGrid that can be read" in bad["b"]
    assert "line 1, has 3 fields" in bad["c"]


def test_times_beside_the_audio(folder):
    (folder / "a.TextGrid").write_bytes(grid(words="hello", phones="h"))
    (folder / "b.ctm").write_text(";; made by hand\nb 1 0.10 0.2 hi 0.9\nb B 0.15 0.1 ho\nb 1 0.3 0.1 <eps>\n")
    a, b, *_ = read_clips(folder)
    assert a.text == "This is a."
    assert a.words == (Word(text="hello", start=0.2, end=0.5), Word(text="you", start=0.5, end=1.0))
    assert b.text == "hi"
    assert b.words == (Word(text="hi", start=0.1, end=0.3), Word(text="ho", start=0.15, end=0.25, stream="user"))


@pytest.mark.parametrize(
    ("names", "streams"),
    [
        (["words"], ["audio"]),
        (["words", "user words"], ["audio", "user"]),
        (["user words", "words"], ["user", "audio"]),
        (["anna - words", "anna - phones", "bert - words"], ["audio", "user"]),
        (["user words"], ["user"]),
    ],
)
def test_tiers_are_streams(names, streams):
    words = textgrid_words(grid(**{name: f"of-{name}" for name in names}), "here")
    firsts = {word.text: word.stream for word in words if word.start == 0.2}
    assert firsts == {f"of-{name}": s for name, s in zip([n for n in names if "words" in n], streams, strict=True)}


def test_short_and_utf16_grids():
    expected = (Word(text="über", start=0.0, end=0.25),)
    assert textgrid_words(SHORT_GRID.encode(), "here") == expected
    assert textgrid_words(SHORT_GRID.encode("utf-16"), "here") == expected


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (grid(phones="h"), 'no tier of intervals called "words"'),
        (grid(**{"a - words": "x", "b - words": "y", "c - words": "z"}), "has 3 tiers of words"),
        (b"", "is not a TextGrid"),
        (b"\xff\xff\xff", "is not a TextGrid"),
        (grid(words="hello")[:300], "is not a TextGrid"),
    ],
)
def test_bad_grids(content, message):
    with pytest.raises(InputError, match=message):
        textgrid_words(content, "here")


def test_a_part_of_a_file_takes_its_words(folder):
    (folder / "talk.ctm").write_text("d 1 0.1 0.1 one\nd 1 0.3 0.1 two\nd 2 0.35 0.4 too\nd 1 0.7 0.1 three\n")
    rows = ['{"audio": "d.wav", "start": 0.25, "end": 0.6, "ctm": "talk.ctm"}',
            '{"audio": "d.wav", "id": "right", "channel": 1, "ctm": "talk.ctm"}',
            '{"audio": "d.wav", "id": "third", "channel": 2, "ctm": "talk.ctm"}']  # fmt: skip
    (folder / "m.jsonl").write_text("\n".join(rows))
    part, right, third = read_clips(folder / "m.jsonl")
    assert part.words == (Word(text="two", start=0.05, end=0.15), Word(text="too", start=0.1, end=0.35, stream="user"))
    assert part.text == "two"
    assert right.words == (Word(text="too", start=0.35, end=0.75),)
    assert third.words == ()


def test_a_ctm_of_many_recordings(folder):
    (folder / "all.ctm").write_text("a A 0.1 0.1 of-a\nb A 0.1 0.1 of-b\n")
    (folder / "m.jsonl").write_text('{"audio": "a.wav", "ctm": "all.ctm"}\n{"audio": "c.wav", "ctm": "all.ctm"}\n')
    assert [[word.text for word in clip.words] for clip in read_clips(folder / "m.jsonl")] == [["of-a"], []]
    assert list(read_ctm(str(folder / "all.ctm"))) == ["a", "b"]


def test_a_single_file_and_its_words(folder):
    (folder / "a.TextGrid").write_bytes(grid(words="hello"))
    (clip,) = open_source(folder / "a.wav")
    assert isinstance(clip, Clip)
    assert [word.text for word in clip.words] == ["hello", "you"]


def test_names_that_are_no_utf8(tmp_path):
    name = os.fsdecode(b"a\xff.wav")
    write_noise(tmp_path / "x.wav", 0.3).rename(tmp_path / name)
    (clip,) = read_clips(tmp_path)
    assert (clip.id, clip.name) == ("a\\udcff", "a\\udcff.wav")
    assert clip.probe() == 0.3


def test_a_folder_that_cannot_be_listed(folder, monkeypatch):
    scandir = os.scandir

    def refuse(path: str):
        if str(path).endswith("more"):
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    (bad,) = [item for item in open_source(folder) if isinstance(item, Rejected)]
    assert bad == Rejected(id="more/", audio="more/", reason=f'the folder "{folder}/more/" cannot be listed')
    assert open_source(folder).n_clips == 5


def test_a_pipe_is_no_file(tmp_path):
    os.mkfifo(tmp_path / "x.wav")
    (bad,) = open_source(tmp_path)
    assert isinstance(bad, Rejected)
    assert bad.reason == '"x.wav" is no regular file'
