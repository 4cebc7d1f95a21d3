"""What is measured of a checkpoint, and how: the parts, the two suites, and their settings.

    part         what                                                         quick             full
    likelihood   bits per second of held-out audio, nats by level             256 clips         all
    speed        generation alone and in a batch, latency, memory, scoring    3 runs            7 runs
    generation   what the model says, beside recordings and resynthesis       4 clips           all
    tasks        pairs of which one is true; where their folders are given    all pairs         all pairs

Settings that do not change what a part finds (the device, the size of batches) are not among those that decide it.
"""

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hocket.errors import InputError, did_you_mean
from hocket.evaluation.likelihood import TASKS
from hocket.inference import Sampling
from hocket.inference.guidance import Guidance
from hocket.inference.masking import MaskSampling

LIKELIHOOD, SPEED, GENERATION, PAIRS = PARTS = ("likelihood", "speed", "generation", "tasks")
How = Callable[[bool], tuple[Guidance | None, MaskSampling | None]]


@dataclass(frozen=True, kw_only=True)
class Suite:
    """How much is measured."""

    name: str
    scored: int | None
    """Clips whose likelihood is taken; None for all."""
    heard: int | None
    """Clips that are continued, spoken or recognised."""
    runs: int
    """Of which speed is the median."""


SUITES = {
    "quick": Suite(name="quick", scored=256, heard=4, runs=3),
    "full": Suite(name="full", scored=None, heard=None, runs=7),
}


@dataclass(frozen=True, kw_only=True)
class JudgeSettings:
    """Folders of the models that judge what is heard."""

    recogniser: str | None = None
    """Whisper for faster-whisper, or any recogniser of transformers."""
    wavlm: str | None = None
    utmos: str | None = None
    reader: str | None = None
    """A causal language model."""

    @property
    def facts(self) -> dict[str, Any]:
        """What decides their scores: the folders, and which judges are installed."""
        packages = ("resemblyzer", "speechmos", "jiwer")
        installed = [name for name in packages if importlib.util.find_spec(name) is not None]
        return {key: str(value) if value else None for key, value in self.__dict__.items()} | {"installed": installed}


@dataclass(frozen=True, kw_only=True)
class Settings:
    """An evaluation as it was asked for."""

    suite: Suite = SUITES["quick"]
    only: tuple[str, ...] = PARTS
    corpus: str | None = None
    """Instead of the run's own."""
    audio: str | None = None
    """Instead of a corpus: a folder or manifest of recordings, which are encoded."""
    codecs: dict[str, str] = field(default_factory=dict)
    """By stream, where its codec lies, for those that the model cannot name (units)."""
    split: str = "valid"
    clips: int | None = None
    """Instead of the suite's numbers of clips, and of pairs of each task."""
    n: int = 1
    """What is sampled of each clip."""
    prompt_seconds: float = 3.0
    longest: float = 10.0
    """Seconds of the longest clips that are continued."""
    texts: str | None = None
    """Texts to speak, as a meta.lst of Seed-TTS-eval; those of the held-out clips unless given."""
    template: str = "{text}"
    """How the model's texts are written."""
    beams: int = 1
    """Of models that recognise."""
    best_of: int = 1
    """Of models that speak and recognise."""
    seed: int = 0
    sampling: Sampling = field(default_factory=lambda: Sampling(temperature=0.9, top_p=0.95))
    how: How = lambda in_place: (None, None)
    """Guidance and masks for a model that predicts in place, or not."""
    judges: JudgeSettings = field(default_factory=JudgeSettings)
    tasks: dict[str, Path] = field(default_factory=dict)
    """Folders by the names of the paired tasks."""
    batch: int = 8
    """Items made together."""
    batch_steps: int = 4096
    """Steps that are scored together."""
    device: str = "cpu"

    @property
    def scored(self) -> int | None:
        """Clips of the likelihood; None for all."""
        return self.clips or self.suite.scored

    @property
    def heard(self) -> int | None:
        """Clips of each protocol of generation; None for all."""
        return self.clips or self.suite.heard


def find_suite(name: str) -> Suite:
    """InputError where there is none of the name."""
    if name not in SUITES:
        raise InputError(f'there is no suite "{name}": it is {" or ".join(SUITES)}{did_you_mean(name, SUITES)}')
    return SUITES[name]


def parse_parts(text: str | None) -> tuple[str, ...]:
    """ "likelihood,speed" as parts, in their order; all of them where nothing is said."""
    wanted = [name.strip() for name in text.split(",")] if text else list(PARTS)
    for name in wanted:
        if name not in PARTS:
            raise InputError(f'there is no part "{name}": they are {", ".join(PARTS)}{did_you_mean(name, PARTS)}')
    return tuple(name for name in PARTS if name in wanted)


def find_tasks(folder: str | Path | None, named: dict[str, Path | None]) -> dict[str, Path]:
    """Folders of paired tasks by name: those that are named, and those that lie in a folder under their names.

    Raises:
        InputError: a folder is not there, or holds none of the tasks.
    """
    found = {}
    if folder is not None:
        found = {name: Path(folder) / name for name in TASKS if (Path(folder) / name).is_dir()}
        if not found:
            *others, last = TASKS
            state = f"has no folder {', '.join(others)} or {last}" if Path(folder).is_dir() else "is no folder"
            raise InputError(f'"{folder}" {state}: --tasks is the folder that the tasks\' folders lie in')
    found |= {name: Path(path) for name, path in named.items() if path is not None}
    for name, path in found.items():
        if not path.is_dir():
            raise InputError(f'there is no folder "{path}" of {name}')
    return {name: found[name] for name in TASKS if name in found}
