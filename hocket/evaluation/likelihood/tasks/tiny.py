"""Tiny sets in the formats of the paired tasks, made of any speech: to try a command, and for tests.

The true recording is a clip; the false one is the same clip with its pieces in another order (a word or sentence that
is none), with the end of another clip (a story that ends otherwise, a speaker who changes), or with noise from the
middle on (a background that changes). So a model of speech can beat chance on them, and a number on them says nothing
else: they hold no words that do not exist, no grammar and no stories.

    make_tiny_task("swuggy", read_clips("bundled"), folder, n=20)

Deterministic by seed.

Shapes: T samples.
"""

import csv
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch

from hocket.codec.audio import write_audio
from hocket.data import Clip
from hocket.errors import InputError
from hocket.evaluation.likelihood.tasks.salmon import PARTS

SAMPLE_RATE = 16000
PIECE_SECONDS = 0.12
VOICES = ("A", "B")
FREQUENCIES = (0, 3, 12, 40, 500)  # one of each official band
TYPES = ("agreement", "binding", "ellipsis")
Waves = Sequence[np.ndarray]


def make_tiny_task(name: str, clips: Sequence[Clip], folder: str | Path, *, n: int = 16, seed: int = 0) -> Path:
    """Write a set of `n` items (of SALMon `n` a task) in the format of a task; the folder.

    Raises:
        InputError: there is no such task, or fewer clips than are needed.
    """
    makers: dict[str, Callable[[Waves, list[str], Path, np.random.Generator], None]] = {
        "swuggy": _make_swuggy,
        "sblimp": _make_sblimp,
        "storycloze": _make_story,
        "topic-storycloze": _make_story,
        "salmon": _make_salmon,
    }
    if name not in makers:
        raise InputError(f'there is no paired task "{name}" to make (there are {", ".join(makers)})')
    long = [clip for clip in clips if clip.audio is not None and (clip.seconds or 1.0) >= 4 * PIECE_SECONDS]
    if len(long) < n + 1:
        raise InputError(f"{n} items need {n + 1} clips of half a second or more, and there are {len(long)}")
    rng, folder = np.random.default_rng(seed), Path(folder)
    chosen = [long[i] for i in rng.permutation(len(long))[: n + 1]]
    waves = [clip.read(SAMPLE_RATE).numpy() for clip in chosen]
    makers[name](waves, [clip.text or clip.id for clip in chosen], folder, rng)
    return folder


def _shuffled(wav_T: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The pieces of a clip in another order."""
    n_pieces = max(4, round(len(wav_T) / SAMPLE_RATE / PIECE_SECONDS))
    pieces = np.array_split(wav_T, n_pieces)
    return np.concatenate([pieces[i] for i in rng.permutation(n_pieces)])


def _with_other_end(wav_T: np.ndarray, other_T: np.ndarray) -> np.ndarray:
    """The first half of a clip, then the second half of another, as far as the clip goes."""
    half = len(wav_T) // 2
    return np.concatenate([wav_T[:half], np.resize(other_T[len(other_T) // 2 :], len(wav_T) - half)])


def _with_noise(wav_T: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A clip whose second half lies in white noise of its own level."""
    noise_T = rng.standard_normal(len(wav_T)).astype(np.float32) * (wav_T.std() + 1e-4)
    noise_T[: len(wav_T) // 2] = 0
    return wav_T + noise_T


def _write(path: Path, wav_T: np.ndarray) -> None:
    write_audio(path, torch.from_numpy(np.asarray(wav_T, np.float32)), SAMPLE_RATE)


def _write_gold(path: Path, rows: Sequence[dict]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def _make_swuggy(waves: Waves, texts: list[str], folder: Path, rng: np.random.Generator) -> None:
    """Clips against their pieces in another order; the second voice is the first, quieter."""
    rows, home = [], folder / "lexical" / "dev"
    for number, wav_T in enumerate(waves[:-1]):
        for voice, spoken_T in zip(VOICES, (wav_T, 0.5 * wav_T), strict=True):
            for correct, heard_T in ((1, spoken_T), (0, _shuffled(spoken_T, rng))):
                name = f"w{number:04d}{voice}{correct}"
                _write(home / f"{name}.wav", heard_T)
                word = texts[number] if correct else texts[number][::-1]
                row = {"id": number, "filename": name, "voice": voice, "frequency": FREQUENCIES[number % 5]}
                rows.append(row | {"word": word, "phones": word, "length": 3 + number % 4, "correct": correct})
    _write_gold(home / "gold.csv", rows)


def _make_sblimp(waves: Waves, texts: list[str], folder: Path, rng: np.random.Generator) -> None:
    """Clips against their pieces in another order, of three types."""
    rows, home = [], folder / "syntactic" / "dev"
    for number, wav_T in enumerate(waves[:-1]):
        for correct, heard_T in ((1, wav_T), (0, _shuffled(wav_T, rng))):
            name = f"s{number:04d}{correct}"
            _write(home / f"{name}.wav", heard_T)
            kind = {"type": TYPES[number % 3], "subtype": "pieces"}
            row = {"id": number, "filename": name, "voice": VOICES[0]} | kind
            rows.append(row | {"transcription": texts[number], "correct": correct})
    _write_gold(home / "gold.csv", rows)


def _make_story(waves: Waves, texts: list[str], folder: Path, rng: np.random.Generator) -> None:
    """Clips against their first half with the pieces of another clip's end."""
    for number, wav_T in enumerate(waves[:-1]):
        false_T = _with_other_end(wav_T, _shuffled(waves[number + 1], rng))
        _write(folder / f"{2 * number}_{number}_correct.wav", wav_T)
        _write(folder / f"{2 * number + 1}_{number}_incorrect.wav", false_T)


def _make_salmon(waves: Waves, texts: list[str], folder: Path, rng: np.random.Generator) -> None:
    """Clips against such with noise from the middle on (backgrounds, rooms) or with another clip's end (the others)."""
    for part in PARTS:
        for number, wav_T in enumerate(waves[:-1]):
            is_background = part.startswith(("bg", "rir"))
            false_T = _with_noise(wav_T, rng) if is_background else _with_other_end(wav_T, waves[number + 1])
            _write(folder / part / f"sample_{number}_0.wav", wav_T)
            _write(folder / part / f"sample_{number}_1.wav", false_T)
