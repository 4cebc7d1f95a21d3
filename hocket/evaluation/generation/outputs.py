"""Sounds and texts of a protocol on disk: what is there is not made again, what should be there and is not is an error.

    items/continuation-made.jsonl            one line an output
    samples/continuation-CLIP-model-0.wav    what it says, at the codec's rate

Batches are always the same ones, and one of which anything is missing is made anew as a whole: an evaluation that goes
on after a kill makes what an uninterrupted one makes.

Shapes: S samples.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hocket.codec import read_audio, write_audio
from hocket.errors import InputError
from hocket.evaluation.generation.utterances import Utterance
from hocket.evaluation.items import Items
from hocket.evaluation.judges import RATE

ITEMS, SAMPLES = "items", "samples"
PROMPT = "prompt"
SILENCE = 0.1
"""Seconds of silence in the file of a model that ended before it said anything: files without samples have no sound
that a judge or a player could open."""


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """An output that a protocol asks for."""

    id: str
    """Names its file."""
    utterance: Utterance
    kind: str
    seed: int | None = None


@dataclass(frozen=True, kw_only=True)
class Made:
    """What came out: sound, or text."""

    wav_S: torch.Tensor | None = None
    sample_rate: int = RATE
    seam: float = 0.0
    """Seconds of prompt that it begins with."""
    ended: bool | None = None
    """The model ended it itself."""
    transcript: str | None = None
    """Of a model that recognises: what it wrote."""


@dataclass(frozen=True, kw_only=True)
class Output:
    """An output on disk."""

    id: str
    utterance: str
    kind: str
    seed: int | None
    wav: str | None
    """Below the evaluation's folder."""
    seconds: float
    """Without the prompt."""
    seam: float
    ended: bool | None
    transcript: str | None
    digest: str
    """Of the utterance."""


Make = Callable[[Sequence[Wanted]], Sequence[Made]]
Tell = Callable[[int], None]
"""Told how many more are done."""


class Outputs:
    """The outputs of one protocol.

    Args:
        folder: of the evaluation.
        settings: plain values that decide what comes out.
    """

    def __init__(self, folder: Path, protocol: str, settings: dict[str, Any]):
        self.folder, self.protocol = folder, protocol
        self._items = Items(folder / ITEMS / f"{protocol}-made.jsonl", settings)

    def name(self, utterances: Sequence[Utterance], kind: str, seeds: Sequence[int | None] = (None,)) -> list[Wanted]:
        """An output of this kind for each utterance and seed."""
        wanted, stems = [], _stems(utterances)
        for one in utterances:
            for seed in seeds:
                tail = kind if seed is None else f"{kind}-{seed}"
                wanted.append(Wanted(id=f"{stems[one.id]}-{tail}", utterance=one, kind=kind, seed=seed))
        return wanted

    def fill(self, wanted: Sequence[Wanted], make: Make, batch: int, tell: Tell = lambda n: None) -> list[Output]:
        """All of them, in order; those that are not there are made, in batches."""
        for first in range(0, len(wanted), batch):
            some = wanted[first : first + batch]
            if not all(self._is_there(one) for one in some):
                for one, made in zip(some, make(some), strict=True):
                    self._keep(one, made)
            tell(len(some))
        return self.read(wanted)

    def read(self, wanted: Sequence[Wanted]) -> list[Output]:
        """All of them. InputError, with the first one's name, where some are missing."""
        missing = [one.id for one in wanted if not self._is_there(one)]
        if missing:
            raise InputError(
                f"{len(missing)} of {len(wanted)} outputs of {self.protocol} are missing in {self.folder}, first "
                f'"{missing[0]}": evaluate again'
            )
        return [Output(**self._items[one.id]) for one in wanted]

    def _is_there(self, wanted: Wanted) -> bool:
        if wanted.id not in self._items or self._items[wanted.id]["digest"] != wanted.utterance.digest:
            return False
        wav = self._items[wanted.id]["wav"]
        return wav is None or (self.folder / wav).is_file()

    def _keep(self, wanted: Wanted, made: Made) -> None:
        wav, seconds = None, 0.0
        if made.wav_S is not None:
            wav, wav_S = f"{SAMPLES}/{self.protocol}-{wanted.id}.wav", _mono(made.wav_S)
            seconds = len(wav_S) / made.sample_rate - made.seam
            silence_S = torch.zeros(round(SILENCE * made.sample_rate))
            write_audio(self.folder / wav, wav_S if len(wav_S) else silence_S, made.sample_rate)
        facts = {"utterance": wanted.utterance.id, "kind": wanted.kind, "seed": wanted.seed, "wav": wav}
        facts |= {"seconds": seconds, "seam": made.seam, "ended": made.ended, "transcript": made.transcript}
        self._items.add(wanted.id, **facts, digest=wanted.utterance.digest)


def hear(folder: Path, output: Output) -> np.ndarray:
    """An output's sound at 16 kHz, the prompt that it begins with included."""
    assert output.wav is not None
    return read_audio(folder / output.wav, RATE)[0].numpy()


def after_prompt(wav_S: np.ndarray, output: Output) -> np.ndarray:
    """The part of it that the prompt does not hold."""
    return wav_S[round(output.seam * RATE) :]


def plain(settings: Any) -> Any:
    """A dataclass of settings, or None, as plain values."""
    return None if settings is None else asdict(settings)


def _mono(wav: torch.Tensor) -> torch.Tensor:
    return wav if wav.ndim == 1 else wav.mean(dim=0)


def _stems(utterances: Sequence[Utterance]) -> dict[str, str]:
    """Ids as they can stand in names of files; a number makes those that look alike different."""
    stems: dict[str, str] = {}
    for one in utterances:
        stem = re.sub(r"[^\w.-]+", "_", one.id)[-100:]
        taken = set(stems.values())
        stems[one.id] = next(
            s for s in (stem, *(f"{stem}~{n}" for n in range(2, len(utterances) + 2))) if s not in taken
        )
    return stems
