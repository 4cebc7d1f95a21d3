"""From scores of examples to what is said about a corpus: bits per second of audio, levels, nats an example.

    bits["audio"]       codes of the main stream            sum of nats / ln 2 / seconds of audio
    bits["structure"]   choices of block, ends, switches    the same, of all streams
    bits["semantic"]    codes of each further stream that is predicted, by its name
    bits["total"]       all of these: whatever the model predicts is in it

Intervals are those of a bootstrap over examples: bits and seconds of an example are drawn together. A stream that is
given is nowhere; where the main stream is given (recognition) there is no "audio".

They compare layouts and models at the same codec, levels, conditioning and context, on the same examples; across codecs
they stand only beside resynthesis quality, without ranking.
"""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from hocket.data import Corpus, Mixture
from hocket.errors import InputError
from hocket.evaluation.bootstrap import bootstrap, bootstrap_ratio
from hocket.evaluation.likelihood.measuring import DRAWS
from hocket.evaluation.likelihood.scorer import BATCH_STEPS, Progress, Scorer, block_order
from hocket.evaluation.likelihood.tally import FRAME, NORMALISATIONS, Score, add_up
from hocket.evaluation.results import Level, Likelihood, Measure
from hocket.model import Model

AUDIO, STRUCTURE, TOTAL = "audio", "structure", "total"
STUDENT_95 = 2.365  # for 8 draws


def score_corpus(
    model: Model,
    corpus: Corpus | Mixture,
    *,
    name: str | None = None,
    split: str = "all",
    batch_steps: int = BATCH_STEPS,
    missing: str = "refuse",
    clips: int | None = None,
    seed: int = 0,
    items: Path | None = None,
    weights: str | None = None,
    on_progress: Progress | None = None,
) -> Likelihood:
    """What a model needs to name the examples of a corpus; usually those of one split.

    Args:
        corpus: the examples: `Corpus.open(folder).split("valid")`.
        name, split: what the result says that was scored.
        batch_steps: grid steps of a forward pass.
        missing: "refuse", "keep" or "drop" examples that lack a stream of the layout.
        clips: so many examples, drawn from the seed; all unless given.
        items: file that keeps the scores of examples as they come; the same call goes on from it.
        weights: hash of the weights, found here unless given.

    Raises:
        InputError: as `Scorer`; or there is no audio in what is scored.
    """
    scorer = Scorer(model, corpus, batch_steps=batch_steps, missing=missing, seed=seed)
    chosen = scorer.choose(clips)
    scores = scorer.score(chosen, items=items, weights=weights, on_progress=on_progress)
    folder = scorer.mixture.folder if name is None else name
    return summarise(model, scores, corpus=folder, split=split, data=scorer.fingerprint(chosen))


def summarise(model: Model, scores: Sequence[Score], *, corpus: str, split: str, data: str) -> Likelihood:
    """Scores of examples as one result. InputError where they hold no audio."""
    seconds = sum(score.seconds for score in scores)
    if not seconds:
        raise InputError(
            f'"{corpus}" ({split}) has no audio to count the bits of: {len(scores)} examples of text alone'
        )
    totals = add_up(scores)
    levels = {
        block: Level(nats=totals[block].codes, tokens=totals[block].tokens)
        for block in block_order(model)
        if block in totals and totals[block].tokens
    }
    is_bound = model.stage.objective == "masked"
    return Likelihood(
        corpus=corpus,
        split=split,
        data=data,
        n=len(scores),
        frames=sum(score.frames for score in scores),
        seconds=seconds,
        bits=_bits(model, scores),
        levels=levels,
        normalised=_normalised(scores),
        draws=DRAWS if is_bound else None,
        bound=bound_of(scores) if is_bound else None,
    )


def bound_of(scores: Sequence[Score]) -> Measure:
    """Total bits per second of a masked model, with the interval that is due to the draws of masks alone (Student)."""
    seconds = sum(score.seconds for score in scores)
    drawn = np.array([score.drawn for score in scores]).sum(axis=0) / math.log(2) / seconds
    half = STUDENT_95 * float(drawn.std(ddof=1)) / math.sqrt(len(drawn))
    value = float(drawn.mean())
    return Measure(value=value, low=value - half, high=value + half, n=len(scores))


def split_nats(score: Score, stream: str) -> dict[str, float]:
    """Nats of an example by what they are of: "audio" (codes of the main stream), further streams, "structure"."""
    nats = {STRUCTURE: 0.0}
    for block, tally in score.blocks.items():
        name = block.partition(".")[0]
        nats[STRUCTURE] += tally.structure
        if tally.tokens:
            part = AUDIO if name == stream else name
            nats[part] = nats.get(part, 0.0) + tally.codes
    return nats


def _bits(model: Model, scores: Sequence[Score]) -> dict[str, Measure]:
    parts = [split_nats(score, model.main_stream) for score in scores]
    names = dict.fromkeys(name for nats in parts for name in nats)
    ordered = sorted(names, key=lambda name: (name != AUDIO, name != STRUCTURE))
    seconds, scale = [score.seconds for score in scores], 1 / math.log(2)
    columns = {name: [nats.get(name, 0.0) for nats in parts] for name in ordered}
    columns[TOTAL] = [sum(nats.values()) for nats in parts]
    return {name: bootstrap_ratio(values, seconds, scale=scale) for name, values in columns.items()}


def _normalised(scores: Sequence[Score]) -> dict[str, Measure]:
    found = {}
    for how in NORMALISATIONS:
        some = [score for score in scores if score.frames or how != FRAME]
        found[how] = bootstrap([score.by(how) for score in some])
    return found
