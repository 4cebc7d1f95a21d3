"""What the protocols are about: utterances with text, recording, and perhaps codes or a prompt to take the voice from.

    of_corpus(examples)          held-out examples: streams of codes, and the recording where its file is at hand
    of_source("manifest.jsonl")  any source of clips that `hocket tokenize` reads
    of_metalist("meta.lst")      Seed-TTS-eval: utt|prompt text|prompt wav|text, and the true recording as a fifth field

Shapes: S samples, T frames, K levels.
"""

import hashlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch

from hocket.data import Clip, read_clips
from hocket.data.corpus import Example
from hocket.errors import InputError

USER = "user"
"""A stream of the other speaker: the recording holds both."""
PROMPT_SECONDS = (2.0, 6.0)
"""Of a recording whose voice another utterance borrows."""


@dataclass(frozen=True, kw_only=True)
class Utterance:
    """One thing that is said."""

    id: str
    text: str | None = None
    language: str | None = None
    speaker: str | None = None
    recording: Clip | None = None
    """None where it is not at hand."""
    seconds: float = 0.0
    """Of the recording."""
    prompt: Clip | None = None
    """Whose voice is to be taken, for text to speech."""
    prompt_text: str | None = None
    streams: Mapping[str, np.ndarray] = field(default_factory=dict)
    """Codes `[T, K]` of it by stream, where it comes from a corpus."""

    @property
    def digest(self) -> str:
        """Tells it from another of the same id."""
        facts = [self.text, self.prompt_text, round(self.seconds, 4)]
        facts += [str(clip.audio) for clip in (self.recording, self.prompt) if clip]
        codes = b"".join(np.ascontiguousarray(self.streams[name]).tobytes() for name in sorted(self.streams))
        return hashlib.sha256(repr(facts).encode() + codes).hexdigest()[:16]

    def read(self, sample_rate: int) -> torch.Tensor:
        """The recording, `wav_S`. InputError where it cannot be read."""
        assert self.recording is not None
        return self.recording.read(sample_rate)

    def like(self) -> Example:
        """As an example of a corpus, for requests."""
        facts = {"id": self.id, "text": self.text, "speaker": self.speaker, "language": self.language}
        rest = {"words": (), "split": "valid", "recording": self.id, "start": 0.0, "audio": ""}
        return Example(streams=dict(self.streams), duration=self.seconds, **facts, **rest)  # type: ignore[arg-type]


def of_corpus(examples: Sequence[Example]) -> list[Utterance]:
    """Examples of a corpus. Recordings are used where all files are at hand.

    Raises InputError: some of the files are at hand and others are not.
    """
    mixed = any(USER in example.streams for example in examples)
    missing = [example for example in examples if not Path(example.audio).is_file()]
    if missing and len(missing) < len(examples):
        raise InputError(
            f'the recording "{missing[0].audio}" of {missing[0].id} is missing, others of its corpus are not'
        )
    return [
        Utterance(
            id=one.id,
            text=one.text,
            language=one.language,
            speaker=one.speaker,
            recording=None if missing or mixed else _cut(one),
            seconds=one.duration,
            streams=one.streams,
        )
        for one in examples
    ]


def _cut(example: Example) -> Clip:
    end = example.start + example.duration
    return Clip(id=example.id, name=example.audio, audio=Path(example.audio), start=example.start, end=end)


def of_source(source: str | Path) -> list[Utterance]:
    """Clips of a manifest, a folder, or whatever else `hocket tokenize` reads. InputError as of `read_clips`."""
    return [
        Utterance(
            id=clip.id,
            text=clip.text,
            language=clip.language,
            speaker=clip.speaker,
            recording=clip,
            seconds=clip.probe(),
        )
        for clip in read_clips(source)
        if clip.audio is not None
    ]


def of_metalist(path: str | Path, language: str = "en") -> list[Utterance]:
    """Rows of a Seed-TTS-eval list: four fields, or five with the true recording; paths from the list's folder.

    Raises:
        InputError: there is no such file, a row has another number of fields or no text, or names a missing wav.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f'there is no list "{path}": give a meta.lst of Seed-TTS-eval')
    lines = enumerate(path.read_text(encoding="utf-8").splitlines(), start=1)
    found = [_row(line, f"{path}, line {number}", path.parent, language) for number, line in lines if line.strip()]
    if not found:
        raise InputError(f'"{path}" has no rows: a row is utt|prompt text|prompt wav|text')
    twice = [id for id, n in _count(found).items() if n > 1]
    if twice:
        raise InputError(f'{path} has more than one row of "{twice[0]}"')
    return found


def _row(line: str, where: str, folder: Path, language: str) -> Utterance:
    fields = [part.strip() for part in line.split("|")]
    if len(fields) not in (4, 5) or not all(fields):
        raise InputError(f"{where} is no row of a meta.lst: utt|prompt text|prompt wav|text, and perhaps |wav")
    id, prompt_text, prompt, text = fields[:4]
    recording = _clip(fields[4], folder, where) if len(fields) == 5 else None
    return Utterance(
        id=id.removesuffix(".wav"),
        text=text,
        language=language,
        recording=recording,
        seconds=recording.probe() if recording else 0.0,
        prompt=_clip(prompt, folder, where),
        prompt_text=prompt_text,
    )


def _clip(name: str, folder: Path, where: str) -> Clip:
    if not (folder / name).is_file():
        raise InputError(f'{where} names "{name}", which is not there')
    return Clip(id=name, name=name, audio=folder / name)


def _count(utterances: Sequence[Utterance]) -> dict[str, int]:
    counts: dict[str, int] = defaultdict(int)
    for one in utterances:
        counts[one.id] += 1
    return counts


def lend_voices(utterances: Sequence[Utterance]) -> list[Utterance]:
    """Gives each utterance without a prompt the next of its speaker that lasts 2 to 6 s, whole (VALL-E's second task).

    One whose speaker says nothing else of that length stays without.
    """
    lenders: dict[str | None, list[Utterance]] = defaultdict(list)
    for one in utterances:
        if one.recording and one.text and PROMPT_SECONDS[0] <= one.seconds <= PROMPT_SECONDS[1]:
            lenders[one.speaker].append(one)
    places = {one.id: place for place, one in enumerate(utterances)}
    return [_lend(one, lenders[one.speaker], places) if one.prompt is None else one for one in utterances]


def _lend(one: Utterance, lenders: Sequence[Utterance], places: Mapping[str, int]) -> Utterance:
    others = [lender for lender in lenders if lender.id != one.id]
    later = (lender for lender in others if places[lender.id] > places[one.id])
    lender = next(later, others[0] if others else None)
    return replace(one, prompt=lender.recording, prompt_text=lender.text) if lender else one
