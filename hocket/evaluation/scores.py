"""Scores of a trained model on held-out speech: bits per second of audio, beside the counting baselines.

    audio bits       -log2 p(code | its block)          over all codes
    structure bits   -log2 p(block), -log2 p(<end>)     where a cell may also hold something else than a code
    further streams  text, units, where the layout predicts any
    total            their sum

All are divided by the seconds of audio. They compare layouts and models at the same codec, levels, conditioning and
context, and nothing else. One forward pass over the held-out set (`likelihood.scorer`); masked objectives have no exact
likelihood, so that theirs are a bound with an interval.
"""

import json
import math
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from hocket.data import Corpus, Mixture
from hocket.errors import InputError
from hocket.evaluation.baselines import Baselines, fit_baselines
from hocket.evaluation.likelihood import Scorer, Tally, add_up, summarise
from hocket.evaluation.likelihood.summary import AUDIO, STRUCTURE, TOTAL
from hocket.evaluation.runs import Run, open_corpus
from hocket.interleave import written
from hocket.model import Model, load_model
from hocket.vocab import TEXT

SCORES_FILE = "scores.json"


@dataclass(frozen=True, kw_only=True)
class Bits:
    """Bits per second of held-out audio."""

    audio: float
    structure: float
    further: dict[str, float] = field(default_factory=dict)
    """Of each further stream that the layout predicts: text, semantic, ...."""
    by_level: tuple[float, ...] = ()
    """What the audio bits are made of, level 0 first."""
    seconds: float
    """Seconds of audio scored."""
    interval: float | None = None
    """Of masked objectives: the bits are at most the total, which was estimated so closely (95 %). None if exact."""

    @property
    def total(self) -> float:
        return self.audio + self.structure + sum(self.further.values())

    @property
    def text(self) -> float:
        """Of the text tokens, where the layout predicts any."""
        return self.further.get(TEXT, 0.0)

    def say_total(self, digits: int = 0) -> str:
        """The total for people."""
        exact = f"{self.total:,.{digits}f}"
        return exact if self.interval is None else f"at most {exact} ± {self.interval:,.{digits}f}"


@dataclass(frozen=True, kw_only=True)
class Scores:
    """What the report and `hocket inspect` say about a checkpoint without loading it again."""

    step: int
    weights: str
    """Hash of the weights that were scored."""
    n_parameters: int
    layout: str
    stream: str = "audio"
    """The stream that is scored: `audio`, or the layout's first stream of codes."""
    levels: int
    objective: str = "next-token"
    codec: dict[str, Any]
    context: int
    context_seconds: float
    train_hours: float
    valid_seconds: float
    bits: Bits
    baselines: Baselines
    losses: dict[str, float] = field(default_factory=dict)
    """Held-out nats per cell by block, at this step."""

    @property
    def level_losses(self) -> dict[int, float]:
        """Held-out nats per cell of each level of the stream that is predicted."""
        named = {level: f"{self.stream}.{level}" for level in range(self.levels)}
        return {level: self.losses[block] for level, block in named.items() if block in self.losses}

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as scores.json holds them."""
        return asdict(self) | {"bits": asdict(self.bits) | {"total": self.bits.total}}

    @classmethod
    def from_dict(cls, stored: dict[str, Any]) -> "Scores":
        bits = {key: value for key, value in stored["bits"].items() if key != TOTAL}
        baselines = stored["baselines"] | {"unigram": tuple(stored["baselines"]["unigram"])}
        bits["by_level"] = tuple(bits["by_level"])
        return cls(**stored | {"bits": Bits(**bits), "baselines": Baselines(**baselines)})


def score_run(run: Run) -> Scores:
    """Score the newest checkpoint of a run on its corpus; kept in scores.json until there is a newer one.

    Raises:
        InputError: there is no checkpoint, the corpus is gone, or it has no held-out examples.
    """
    if run.step is None:
        raise InputError(f'the run "{run.folder}" has no checkpoint to score yet')
    kept = read_scores(run.folder)
    if kept and (kept.step, kept.weights) == (run.step, run.fingerprint):
        return kept
    scores = _score(run, load_model(run.folder), open_corpus(run))
    (run.folder / SCORES_FILE).write_text(json.dumps(scores.to_dict(), indent=1) + "\n", encoding="utf-8")
    return scores


def _score(run: Run, model: Model, corpus: Corpus | Mixture) -> Scores:
    valid = corpus.split("valid")
    budget = max(model.config.context, int(run.setting("data.batch_steps") or 0))
    bits, losses = measure_bits(model, valid, batch_steps=budget, missing=run.setting("data.missing") or "refuse")
    stream = model.main_stream
    levels = model.layout.streams[stream]
    return Scores(
        step=run.step or 0,
        weights=run.fingerprint,
        n_parameters=model.n_parameters,
        layout=written(model.layout),
        stream=stream,
        levels=levels,
        objective=model.stage.objective,
        codec=model.codec_identity.to_dict(),
        context=model.config.context,
        context_seconds=model.context_seconds,
        train_hours=float(corpus.split("train").durations.sum()) / 3600,
        valid_seconds=float(valid.durations.sum()),
        bits=bits,
        baselines=fit_baselines(corpus, levels, leading_level(model), stream, ends=not model.stage.in_place),
        losses=losses,
    )


def leading_level(model: Model) -> int:
    """The level of the scored stream whose cells may hold its end."""
    leaf = model.layout.leaders[model.main_stream]
    return leaf.ref.start + leaf.leader


def measure_bits(
    model: Model, valid: Corpus | Mixture, batch_steps: int = 2048, missing: str = "refuse"
) -> tuple[Bits, dict[str, float]]:
    """Bits per second over a corpus (usually the valid split), and nats per cell by block; of a masked model, bounds.

    Raises:
        InputError: the corpus has no examples, or they have no audio.
    """
    scorer = Scorer(model, valid, batch_steps=batch_steps, missing=missing)
    scores = scorer.score()
    found = summarise(model, scores, corpus=str(valid.folder), split="valid", data="")
    totals, main = add_up(scores), model.main_stream
    per_second = {name: measure.value for name, measure in found.bits.items()}
    levels = [totals.get(f"{main}.{k}", Tally()).codes for k in range(model.layout.streams[main])]
    bits = Bits(
        audio=per_second.pop(AUDIO, 0.0),
        structure=per_second.pop(STRUCTURE),
        further={name: value for name, value in per_second.items() if name != TOTAL},
        by_level=tuple(nats / math.log(2) / found.seconds for nats in levels),
        seconds=found.seconds,
        interval=found.bound.half if found.bound else None,
    )
    return bits, {block: tally.nats / tally.cells for block, tally in totals.items()}


def beats_baselines(scores: Scores) -> tuple[int, bool]:
    """At how many levels the held-out loss is below the unigram's, and whether the leader's is below the bigram's."""
    losses, flat = scores.level_losses, scores.baselines
    below = sum(loss < flat.unigram[level] for level, loss in losses.items())
    return below, losses.get(flat.leader, math.inf) < flat.bigram


def read_scores(folder: Path) -> Scores | None:
    """scores.json of a run folder, where there is one; not one of a hocket that counted no further streams."""
    path = folder / SCORES_FILE
    stored = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None
    return Scores.from_dict(stored) if stored and "further" in stored["bits"] else None
