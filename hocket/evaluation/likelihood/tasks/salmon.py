"""SALMon: does a model notice when the speaker, the feeling, the room or the background of a recording changes?

In the consistency tasks half of the false recording has another speaker, gender, sentiment, background or room than the
rest; in the alignment tasks what is said does not fit its sentiment or background (Maimon, Roth and Adi, 2024,
arXiv:2409.07437). The share of pairs whose true recording is likelier, ties counted as half, is reported for each of
the eight tasks as slp-rl/salmon's salmon.py does.

    FOLDER/speaker_consistency/sample_0_0.wav      true: the first of a sample by name
    FOLDER/speaker_consistency/sample_0_1.wav      false

    all            mean over the tasks             consistency, alignment: mean over the tasks of that kind
"""

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path

from hocket.errors import InputError
from hocket.evaluation.bootstrap import bootstrap, bootstrap_ratio
from hocket.evaluation.likelihood.tasks.pairs import Judged, Pair, TaskKind, check_files, find_folder
from hocket.evaluation.results import Measure

CONSISTENCY = (
    "sentiment_consistency",
    "speaker_consistency",
    "gender_consistency",
    "bg_domain_consistency",
    "bg_all_consistency",
    "rir_consistency",
)
ALIGNMENT = ("sentiment_alignment", "bg_alignment")
PARTS = (*CONSISTENCY, *ALIGNMENT)
"""In the order of the paper's table: background in-domain and random, then the room."""
SAMPLE = re.compile(r"sample_(?P<number>\d+)_.*")
PART = "part"


def read(folder: Path) -> list[Pair]:
    """Pairs of all eight tasks. InputError where one is missing."""

    def is_root(path: Path) -> bool:
        return any((path / part).is_dir() for part in PARTS)

    found = find_folder(folder, ("salmon_benchmark", "salmon"), is_root, f"SALMon ({PARTS[0]}/sample_0_0.wav …)")
    missing = [part for part in PARTS if not any((found / part).glob("*.wav"))]
    if missing:
        raise InputError(f'{len(missing)} of SALMon\'s {len(PARTS)} tasks are missing, "{found / missing[0]}" first')
    pairs = [pair for part in PARTS for pair in _read_part(found / part, part)]
    check_files(pairs, found)
    return pairs


def count(judged: Sequence[Judged]) -> dict[str, Measure]:
    """The share of each task, and means over tasks."""
    by_part = {part: [one.score for one in judged if one.pair.facts[PART] == part] for part in PARTS}
    shares = {part: bootstrap(scores) for part, scores in by_part.items() if scores}
    kinds = {"all": PARTS, "consistency": CONSISTENCY, "alignment": ALIGNMENT}
    found = {name: _mean_of_parts(judged, parts) for name, parts in kinds.items() if shares.keys() & set(parts)}
    return found | shares


def _mean_of_parts(judged: Sequence[Judged], parts: Sequence[str]) -> Measure:
    """The mean over tasks: a pair counts by one over the pairs of its task."""
    some = [one for one in judged if one.pair.facts[PART] in parts]
    sizes = Counter(one.pair.facts[PART] for one in some)
    weights = [1 / sizes[one.pair.facts[PART]] for one in some]
    return bootstrap_ratio([one.score * w for one, w in zip(some, weights, strict=True)], weights)


def _read_part(folder: Path, part: str) -> list[Pair]:
    samples: dict[int, list[Path]] = defaultdict(list)
    for path in sorted(folder.glob("*.wav"), key=str):
        match = SAMPLE.fullmatch(path.stem)
        if not match:
            raise InputError(f'"{path}" is not named as SALMon\'s recordings are: sample_NUMBER_0.wav')
        samples[int(match["number"])].append(path)
    alone = [paths[0] for paths in samples.values() if len(paths) < 2]
    if alone:
        raise InputError(f'{len(alone)} of {len(samples)} samples lack a false recording, that of "{alone[0]}" first')
    return [
        Pair(id=f"{part}/{number}", good=paths[0], bad=paths[1], facts={PART: part})
        for number, paths in sorted(samples.items())
    ]


SALMON = TaskKind(
    name="salmon",
    title="SALMon",
    source="Maimon, Roth and Adi, 2024, arXiv:2409.07437; slp-rl/salmon",
    read=read,
    count=count,
    part=PART,
)
