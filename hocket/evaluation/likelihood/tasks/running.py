"""Runs a paired task: read, encode, score, compare, count.

Every recording is scored once, whatever the number of pairs that it is in, and recordings of the same content are one:
they tie. With a file of items a killed run goes on: TASK.files.jsonl keeps the nats of the recordings as they come,
TASK.jsonl the pairs with their verdicts, written when all are known.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from hocket.data import Clip
from hocket.errors import InputError, did_you_mean
from hocket.evaluation.items import Items
from hocket.evaluation.likelihood.codes import content_hash, make_corpus
from hocket.evaluation.likelihood.scorer import BATCH_STEPS, Progress, Scorer, weights_of
from hocket.evaluation.likelihood.tally import NORMALISATIONS, Score
from hocket.evaluation.likelihood.tasks import salmon, storycloze, zerospeech
from hocket.evaluation.likelihood.tasks.pairs import Judged, Pair, TaskKind, judge
from hocket.evaluation.results import Task
from hocket.model import Model
from hocket.vocab import ALIGNED_TEXT, TEXT

TASKS: dict[str, TaskKind] = {
    kind.name: kind
    for kind in (zerospeech.SWUGGY, zerospeech.SBLIMP, storycloze.SPOKEN, storycloze.TOPIC, salmon.SALMON)
}


def find_task(name: str) -> TaskKind:
    """The task of a name. InputError where there is none."""
    if name not in TASKS:
        raise InputError(f'there is no paired task "{name}"{did_you_mean(name, TASKS)} (there are {", ".join(TASKS)})')
    return TASKS[name]


def run_task(
    model: Model,
    name: str,
    folder: str | Path,
    *,
    batch_steps: int = BATCH_STEPS,
    clips: int | None = None,
    normalisation: str | None = None,
    seed: int = 0,
    codecs: Mapping[str, str] | None = None,
    cache: Path | None = None,
    items: Path | None = None,
    weights: str | None = None,
    on_progress: Progress | None = None,
) -> Task:
    """How often a model finds the true one of two recordings likelier.

    Args:
        name: swuggy, sblimp, storycloze, topic-storycloze or salmon.
        folder: where the task lies, as it is published.
        batch_steps: grid steps of a forward pass.
        clips: so many items (words, sentences, stories; of SALMon so many a task), drawn from the seed; all unless
            given.
        normalisation: "sum", "mean" or "frame"; that of the official evaluation, "mean", unless given.
        codecs, cache: as `make_corpus`.
        items: file that keeps the verdicts, items/TASK.jsonl; scores of recordings are kept beside it.
        weights: hash of the weights, found here unless given.

    Raises:
        InputError: the folder is none of the task's, recordings are missing or cannot be read, or a stream that the
            model needs cannot be had.
    """
    kind = find_task(name)
    how = normalisation or kind.normalisation
    if how not in NORMALISATIONS:
        raise InputError(f'there is no normalisation "{how}"{did_you_mean(how, NORMALISATIONS)}')
    pairs = choose(kind, kind.read(Path(folder)), clips, seed)
    weights = weights or (weights_of(model) if items else "")
    files = items.with_suffix(".files.jsonl") if items else None
    scores = _score_files(model, pairs, batch_steps, codecs, cache, files, weights, on_progress)
    judged = [judge(pair, scores[pair.good], scores[pair.bad], how) for pair in pairs]
    _keep(judged, items, {"task": name, "folder": str(folder), "normalisation": how, "weights": weights})
    return Task(name=name, metrics=kind.count(judged), normalisation=how, folder=str(folder))


def choose(kind: TaskKind, pairs: Sequence[Pair], n: int | None, seed: int) -> list[Pair]:
    """The pairs of so many items of each part, drawn from the seed; more have the fewer among them."""
    if n is None:
        return list(pairs)
    if n < 1:
        raise InputError(f"the number of items must be at least 1, not {n}")
    kept: set[tuple] = set()
    for part in dict.fromkeys(pair.facts.get(kind.part) for pair in pairs):
        there = list(dict.fromkeys(_item(kind, pair) for pair in pairs if pair.facts.get(kind.part) == part))
        kept |= {there[i] for i in np.random.default_rng(seed).permutation(len(there))[:n]}
    return [pair for pair in pairs if _item(kind, pair) in kept]


def _item(kind: TaskKind, pair: Pair) -> tuple:
    return pair.facts.get(kind.part), pair.facts.get(kind.item, pair.id)


def _score_files(
    model: Model,
    pairs: Sequence[Pair],
    batch_steps: int,
    codecs: Mapping[str, str] | None,
    cache: Path | None,
    items: Path | None,
    weights: str,
    on_progress: Progress | None,
) -> dict[Path, Score]:
    """The score of every recording."""
    reads_text = bool({TEXT, ALIGNED_TEXT} & set(model.layout.streams))
    texts = {pair.good: pair.good_text for pair in pairs} | {pair.bad: pair.bad_text for pair in pairs}
    clips: dict[str, Clip] = {}
    key_of: dict[Path, str] = {}
    for path, text in texts.items():
        clip = Clip(id=path.name, name=str(path), audio=path, text=text)
        key = content_hash(clip) + (f"/{text}" if reads_text else "")
        key_of[path] = clips.setdefault(key, Clip(id=key, name=str(path), audio=path, text=text)).id
    corpus = make_corpus(model, list(clips.values()), codecs=codecs, cache=cache)
    scored = Scorer(model, corpus, batch_steps=batch_steps).score(
        items=items, weights=weights or None, on_progress=on_progress
    )
    by_key = {score.id: score for score in scored}
    return {path: by_key[key] for path, key in key_of.items()}


def _keep(judged: Sequence[Judged], path: Path | None, settings: dict[str, str]) -> None:
    kept = Items(path, settings)
    for one in judged:
        if one.pair.id not in kept:
            kept.add(one.pair.id, **one.row())
