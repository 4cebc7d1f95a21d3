"""sWUGGY and sBLIMP of the ZeroSpeech challenge 2021: true words and sentences against false ones.

sWUGGY asks whether a word that exists is likelier than one that does not but sounds as if it could, sBLIMP whether a
grammatical sentence is likelier than an ungrammatical one (Nguyen et al., 2020, arXiv:2011.11588). The score of a pair
is averaged over voices first, then over pairs; both follow zerospeech2021/{lexical,syntactic,leaderboard}.py and their
successors in zerospeech/benchmarks.

    FOLDER/lexical/dev/gold.csv     id, filename, voice, frequency, word, phones, length, correct
    FOLDER/lexical/dev/NAME.wav
    FOLDER/syntactic/dev/gold.csv   id, filename, voice, type, subtype, transcription, correct

    all                  mean over pairs                         of sWUGGY, also:
    in_vocab             pairs whose word LibriSpeech has        frequency 1 or more
    oov                  pairs whose word it has not             frequency 0
    frequency 1-5 …      bands [1, 5), [5, 20), [20, 100) and from 100 on, under their official names
    length 3 …           by the number of phones
    type agreement …     of sBLIMP, by the kind of error

`test` is read like `dev` where its gold.csv is at hand.
"""

import csv
import math
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hocket.errors import InputError
from hocket.evaluation.bootstrap import bootstrap
from hocket.evaluation.likelihood.tasks.pairs import Judged, Pair, TaskKind, check_files, find_folder
from hocket.evaluation.results import Measure

GOLD = "gold.csv"
BANDS = (("oov", 0, 1), ("1-5", 1, 5), ("6-20", 5, 20), ("21-100", 20, 100), (">100", 100, math.inf))
"""Names of the official script, and its bounds: from the first up to, not including, the second."""
LEXICAL = ("id", "filename", "voice", "frequency", "word", "length", "correct")
SYNTACTIC = ("id", "filename", "voice", "type", "subtype", "transcription", "correct")
ITEM = "item"


def read_swuggy(folder: Path) -> list[Pair]:
    """Pairs of words and non-words. InputError where the folder is no lexical set."""

    def facts(row: dict[str, str]) -> dict[str, Any]:
        return {
            "item": row["id"],
            "voice": row["voice"],
            "frequency": _number(row["frequency"]),
            "length": _number(row["length"]),
        }

    return _read(folder, "lexical", LEXICAL, "word", facts)


def read_sblimp(folder: Path) -> list[Pair]:
    """Pairs of sentences. InputError where the folder is no syntactic set."""

    def facts(row: dict[str, str]) -> dict[str, Any]:
        kind = {name: row[name] for name in ("voice", "type", "subtype")}
        return {"item": f"{row['type']}/{row['subtype']}/{row['id']}"} | kind

    return _read(folder, "syntactic", SYNTACTIC, "transcription", facts)


def count_swuggy(judged: Sequence[Judged]) -> dict[str, Measure]:
    """Scores over all pairs, known and unknown words, bands of frequency, and lengths."""
    scores, facts = _by_item(judged)
    frequencies = [one["frequency"] for one in facts]
    found = {"all": bootstrap(scores)}
    found |= _where("in_vocab", scores, [f is not None and f >= 1 for f in frequencies])
    for name, low, high in BANDS:
        label = name if name == "oov" else f"frequency {name}"
        found |= _where(label, scores, [f is not None and low <= f < high for f in frequencies])
    return found | _by("length", scores, facts)


def count_sblimp(judged: Sequence[Judged]) -> dict[str, Measure]:
    """Scores over all pairs, and by type of error."""
    scores, facts = _by_item(judged)
    return {"all": bootstrap(scores)} | _by("type", scores, facts)


def _read(folder: Path, subset: str, columns: Sequence[str], text: str, facts: Any) -> list[Pair]:
    below = (f"{subset}/dev", "dev", f"{subset}/test", "test")
    what = f"the {subset} set of ZeroSpeech 2021 ({subset}/dev/gold.csv and its wav files)"
    found = find_folder(folder, below, lambda path: (path / GOLD).is_file(), what)
    rows = _read_gold(found / GOLD, columns)
    pairs = []
    for good, bad in _match(rows, facts, found / GOLD):
        told = facts(good)
        pairs.append(
            Pair(
                id=f"{told['item']}/{good['voice']}/{good['filename']}",
                good=_wav(found, good),
                bad=_wav(found, bad),
                good_text=good[text] or None,
                bad_text=bad[text] or None,
                facts=told,
            )
        )
    check_files(pairs, found)
    return pairs


def _read_gold(path: Path, columns: Sequence[str]) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        missing = [name for name in columns if name not in (reader.fieldnames or ())]
        if missing:
            raise InputError(f'{path} has no column "{missing[0]}"; it should have {", ".join(columns)}')
        rows = list(reader)
    for number, row in enumerate(rows, 2):
        if row["correct"] not in ("0", "1"):
            raise InputError(f'{path} line {number} has correct="{row["correct"]}", which should be 0 or 1')
    return rows


def _match(rows: Sequence[dict[str, str]], facts: Any, path: Path) -> list[tuple[dict[str, str], dict[str, str]]]:
    """The true and the false of each item and voice; several of one voice in the order of the file."""
    held: dict[tuple[str, str], tuple[list, list]] = defaultdict(lambda: ([], []))
    for row in rows:
        held[facts(row)["item"], row["voice"]][int(row["correct"])].append(row)
    for (item, voice), (bad, good) in held.items():
        if len(bad) != len(good):
            raise InputError(
                f'{path} has {len(good)} true and {len(bad)} false recordings of item "{item}" in voice "{voice}", '
                "which should be as many"
            )
    return [both for bad, good in held.values() for both in zip(good, bad, strict=True)]


def _wav(folder: Path, row: dict[str, str]) -> Path:
    name = row["filename"]
    return folder / (name if name.endswith(".wav") else f"{name}.wav")


def _number(value: str) -> int | None:
    """A count as the file has it; None where it is left open. InputError where it is none."""
    try:
        return None if not value.strip() or math.isnan(float(value)) else int(float(value))
    except (ValueError, OverflowError) as error:
        raise InputError(f'{GOLD} has "{value}" where a number should be') from error


def _by_item(judged: Sequence[Judged]) -> tuple[np.ndarray, list[Any]]:
    """The mean score of each item over its voices, and what its true recording is."""
    scores, facts = defaultdict(list), {}
    for one in judged:
        item = one.pair.facts[ITEM]
        scores[item].append(one.score)
        facts.setdefault(item, one.pair.facts)
    return np.array([np.mean(values) for values in scores.values()]), list(facts.values())


def _where(name: str, scores: np.ndarray, chosen: Sequence[bool]) -> dict[str, Measure]:
    """The mean of some items under a name, where there are any."""
    some = scores[np.array(chosen, bool)]
    return {name: bootstrap(some)} if len(some) else {}


def _by(fact: str, scores: np.ndarray, facts: Sequence[Any]) -> dict[str, Measure]:
    values = [one[fact] for one in facts]
    found: dict[str, Measure] = {}
    for value in sorted({value for value in values if value is not None}):
        found |= _where(f"{fact} {value}", scores, [one == value for one in values])
    return found


SWUGGY = TaskKind(
    name="swuggy",
    title="sWUGGY",
    source="Nguyen et al., 2020, arXiv:2011.11588; zerospeech/zerospeech2021",
    read=read_swuggy,
    count=count_swuggy,
    item=ITEM,
)
SBLIMP = TaskKind(
    name="sblimp",
    title="sBLIMP",
    source="Nguyen et al., 2020, arXiv:2011.11588; zerospeech/zerospeech2021",
    read=read_sblimp,
    count=count_sblimp,
    item=ITEM,
)
