"""Spoken and topic StoryCloze: a story of four sentences with its true fifth against another.

The false ending of spoken StoryCloze is the one of the written benchmark and needs common sense to be found out; that
of topic StoryCloze is drawn from the other stories (Hassid et al., 2023, arXiv:2305.13009; slp-rl/SpokenStoryCloze).
The share of stories whose true version is likelier, ties counted as half, is SlamKit's `storycloze`.

    FOLDER/0_STORY_correct.wav, FOLDER/1_STORY_incorrect.wav …      as published: the story tells what belongs together
    FOLDER/0_….wav, FOLDER/1_….wav                                  or the number alone: even is true, the next is false

FOLDER is the unpacked `sSC` or `tSC`, or the folder that holds it.
"""

import re
from collections.abc import Sequence
from pathlib import Path

from hocket.errors import InputError
from hocket.evaluation.bootstrap import bootstrap
from hocket.evaluation.likelihood.tasks.pairs import Judged, Pair, TaskKind, check_files, find_folder
from hocket.evaluation.results import Measure

NAMED = re.compile(r"(?P<number>\d+)_(?P<story>.+)_(?P<which>correct|incorrect)")
NUMBERED = re.compile(r"(?P<number>\d+)(_.*)?")
FOLDERS = {"storycloze": ("sSC", "sStoryCloze"), "topic-storycloze": ("tSC", "tStoryCloze")}
SOURCE = "Hassid et al., 2023, arXiv:2305.13009; slp-rl/SpokenStoryCloze, slp-rl/slamkit"


def read_spoken(folder: Path) -> list[Pair]:
    """Pairs of spoken StoryCloze. InputError where the folder holds none."""
    return _read(folder, "storycloze")


def read_topic(folder: Path) -> list[Pair]:
    """Pairs of topic StoryCloze. InputError where the folder holds none."""
    return _read(folder, "topic-storycloze")


def count(judged: Sequence[Judged]) -> dict[str, Measure]:
    """The share of stories whose true version is likelier."""
    return {"accuracy": bootstrap([one.score for one in judged])}


def _read(folder: Path, name: str) -> list[Pair]:
    what = f"StoryCloze ({FOLDERS[name][0]}/NUMBER_STORY_correct.wav and …_incorrect.wav)"
    found = find_folder(folder, FOLDERS[name], lambda path: any(path.glob("*.wav")), what)
    files = sorted(found.glob("*.wav"))
    named = {path: NAMED.fullmatch(path.stem) for path in files}
    pairs = _by_story(files, found) if all(named.values()) else _by_number(files, found)
    check_files(pairs, found)
    return pairs


def _by_story(files: Sequence[Path], folder: Path) -> list[Pair]:
    stories: dict[str, dict[str, Path]] = {}
    for path in files:
        match = NAMED.fullmatch(path.stem)
        assert match
        held = stories.setdefault(match["story"], {})
        if match["which"] in held:
            raise InputError(f'"{path}" is the second {match["which"]} version of story "{match["story"]}"')
        held[match["which"]] = path
    halves = [held for held in stories.values() if len(held) < 2]
    if halves:
        only = next(iter(halves[0].values()))
        raise InputError(f'{len(halves)} of {len(stories)} stories lack a version, that of "{only}" first')
    return [Pair(id=story, good=held["correct"], bad=held["incorrect"]) for story, held in stories.items()]


def _by_number(files: Sequence[Path], folder: Path) -> list[Pair]:
    numbered = {path: NUMBERED.fullmatch(path.stem) for path in files}
    odd = [path for path, match in numbered.items() if not match]
    if odd:
        raise InputError(f'"{odd[0]}" is not named as StoryCloze is: NUMBER_STORY_correct.wav or NUMBER_….wav')
    by_number: dict[int, Path] = {}
    for path, match in numbered.items():
        assert match
        if int(match["number"]) in by_number:
            raise InputError(f'"{path}" and "{by_number[int(match["number"])]}" have the same number')
        by_number[int(match["number"])] = path
    for number in by_number:
        if number ^ 1 not in by_number:
            raise InputError(f'"{by_number[number]}" has no other version: number {number ^ 1} is missing')
    order = sorted(by_number)
    return [Pair(id=str(n), good=by_number[n], bad=by_number[n + 1]) for n in order[::2]]


SPOKEN = TaskKind(name="storycloze", title="spoken StoryCloze", source=SOURCE, read=read_spoken, count=count)
TOPIC = TaskKind(name="topic-storycloze", title="topic StoryCloze", source=SOURCE, read=read_topic, count=count)
