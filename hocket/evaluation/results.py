"""What an evaluation found, as plain values: what `hocket evaluate` writes and `hocket compare` reads.

    RUN/evaluation/STEP/evaluation.json     an `Evaluation`
    RUN/evaluation/STEP/items/NAME.jsonl    one line an item (a clip, a pair): what the means are made of
    RUN/evaluation/STEP/samples/*.wav       what can be heard

Numbers that are means over items are `Measure`s with their 95 % interval; what was not measured is not there, and
`left_out` says why.
"""

import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from hocket.errors import InputError

EVALUATION_FOLDER, EVALUATION_FILE = "evaluation", "evaluation.json"
FORMAT = 1
ORIGINAL, RESYNTHESIS, MODEL = "original", "resynthesis", "model"
"""Kinds of sound that the same judges hear: the recording, what the codec makes of it (the ceiling), the model."""


@dataclass(frozen=True, kw_only=True)
class Measure:
    """A number, and where it lies with 95 % confidence."""

    value: float
    low: float | None = None
    high: float | None = None
    n: int = 0
    """Items behind it."""

    @property
    def half(self) -> float | None:
        """Half of the interval."""
        return None if self.low is None or self.high is None else (self.high - self.low) / 2


@dataclass(frozen=True, kw_only=True)
class Level:
    """The cells of one block."""

    nats: float
    """Sum of -ln p(code | its block)."""
    tokens: int

    @property
    def mean(self) -> float:
        """Nats per token."""
        return self.nats / self.tokens


@dataclass(frozen=True, kw_only=True)
class Likelihood:
    """What the model needs to name held-out audio (design: "Bits")."""

    corpus: str
    split: str
    data: str
    """Fingerprint of what was scored, so that only equal sets are compared."""
    n: int
    """Examples."""
    frames: int
    """Of the main stream."""
    seconds: float
    bits: dict[str, Measure]
    """Per second of audio: "audio" (the main stream), "structure", further predicted streams by name, "total"."""
    levels: dict[str, Level]
    """By block: audio.0, audio.1 …, semantic.0, text."""
    normalised: dict[str, Measure]
    """Nats, all predicted cells, mean over examples: "sum", of an example; "mean", per token; "frame", per frame."""
    draws: int | None = None
    """Of masked objectives: the bits are an upper bound, from so many masks of each level; None where exact."""
    bound: Measure | None = None
    """Of masked objectives: the total, with the interval that is due to the masks alone."""


@dataclass(frozen=True, kw_only=True)
class Task:
    """A paired task: how often the true one of two is the likelier one."""

    name: str
    """swuggy, sblimp, storycloze, topic-storycloze, salmon."""
    metrics: dict[str, Measure]
    """Shares from 0 to 1 by the names of the official script, the headline number first."""
    normalisation: str
    """"sum", "mean" or "frame"."""
    folder: str


@dataclass(frozen=True, kw_only=True)
class Heard:
    """One kind of sound under one protocol."""

    protocol: str
    """continuation, tts, recognition."""
    kind: str
    """original, resynthesis or model."""
    n: int
    metrics: dict[str, Measure]
    """By column: wer (%), cer (%), wer_mean (per utterance), cer_mean, similarity, dnsmos, utmos, perplexity,
    auto_bleu, seconds, …"""


@dataclass(frozen=True, kw_only=True)
class Clip:
    """One held-out clip to listen to."""

    id: str
    protocol: str
    text: str | None = None
    """What is said in the recording, or is to be said."""
    wavs: dict[str, str] = field(default_factory=dict)
    """File below the evaluation's folder by kind: prompt, model, original, resynthesis."""
    transcripts: dict[str, str] = field(default_factory=dict)
    """What a recogniser heard, by kind."""
    seam: float | None = None
    """Seconds of prompt that the wavs of model, original and resynthesis begin with."""


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """All that was found about one checkpoint."""

    name: str
    checkpoint: str
    step: int | None
    weights: str
    """Hash of the weights."""
    suite: str
    """quick or full; both by name where parts were measured by different ones."""
    hocket: str
    date: str
    hardware: str
    layout: str
    objective: str
    attention: str
    head: str
    given: tuple[str, ...] = ()
    """Streams that the model is given and never predicts."""
    stream: str
    """The main stream."""
    levels: int
    n_parameters: int
    codec: dict[str, Any]
    context_seconds: float
    settings: dict[str, Any] = field(default_factory=dict)
    """By part (likelihood, speed, generation, tasks): of data, sampling, judges, and what else decides its numbers."""
    likelihood: Likelihood | None = None
    tasks: tuple[Task, ...] = ()
    heard: tuple[Heard, ...] = ()
    speed: dict[str, float] = field(default_factory=dict)
    """Units in the names: generation_audio_seconds_per_second, generation_steps_per_second, first_audio_ms,
    memory_gib, scoring_tokens_per_second …"""
    clips: tuple[Clip, ...] = ()
    left_out: tuple[str, ...] = ()
    """One sentence about each thing that was not measured."""
    parts: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """The parts that are finished, each with its share of `left_out`."""

    suites: dict[str, str] = field(default_factory=dict)
    """The suite by which each part was measured."""

    def save(self, folder: Path) -> Path:
        """Write evaluation.json, whole or not at all; its path."""
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / EVALUATION_FILE
        aside = path.with_suffix(".writing")
        aside.write_text(json.dumps({"format": FORMAT} | asdict(self), indent=1) + "\n", encoding="utf-8")
        os.replace(aside, path)
        return path

    @classmethod
    def load(cls, folder: Path) -> "Evaluation":
        """Read evaluation.json. InputError where it is none."""
        path = folder / EVALUATION_FILE
        try:
            stored = json.loads(path.read_text(encoding="utf-8"))
            if stored.pop("format") != FORMAT:
                raise InputError(f"{path} is of another format than {FORMAT}: evaluate the checkpoint again")
            return cls(
                **stored
                | {
                    "given": tuple(stored["given"]),
                    "likelihood": _likelihood(stored["likelihood"]),
                    "tasks": tuple(Task(**one | {"metrics": _measures(one["metrics"])}) for one in stored["tasks"]),
                    "heard": tuple(Heard(**one | {"metrics": _measures(one["metrics"])}) for one in stored["heard"]),
                    "clips": tuple(Clip(**one) for one in stored["clips"]),
                    "left_out": tuple(stored["left_out"]),
                    "parts": {name: tuple(said) for name, said in stored.get("parts", {}).items()},
                }
            )
        except (OSError, json.JSONDecodeError, KeyError, TypeError) as error:
            raise InputError(f"{path} is no evaluation of hocket's ({error}): evaluate the checkpoint again") from error


def find_evaluations(run_folder: Path) -> dict[int, Evaluation]:
    """The evaluations of a run by step, ascending."""
    found = sorted((run_folder / EVALUATION_FOLDER).glob(f"*/{EVALUATION_FILE}"))
    read = {int(path.parent.name): Evaluation.load(path.parent) for path in found if path.parent.name.isdigit()}
    return dict(sorted(read.items()))


def _measures(stored: dict[str, dict]) -> dict[str, Measure]:
    return {name: Measure(**one) for name, one in stored.items()}


def _likelihood(stored: dict[str, Any] | None) -> Likelihood | None:
    if stored is None:
        return None
    levels = {name: Level(**one) for name, one in stored["levels"].items()}
    parts: dict[str, Any] = {"levels": levels} | {key: _measures(stored[key]) for key in ("bits", "normalised")}
    parts["bound"] = Measure(**stored["bound"]) if stored.get("bound") else None
    return Likelihood(**stored | parts)
