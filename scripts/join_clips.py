"""Makes sequences out of short clips: spoken digits become "three one four", in one voice.

    python scripts/join_clips.py DIGITS joined --held-out '_1[5-9]$' --n 6000 --clips 1 5 --speaker
    hocket tokenize joined CORPUS

SRC is any source of clips with text. Each sequence joins clips of one speaker, drawn evenly over texts and then over
the clips of that text, with silence of random length before and between them. DST gets FLAC files and a manifest.jsonl
with text, speaker, split, the ids of the clips and when each of them starts. The same arguments give the same bytes.

Clips whose id matches `--held-out` make the sequences of "valid", all others those of "train": no sequence mixes the
two, and only those of "train" are played faster or slower (`--speed`, by resampling) and louder or softer (`--gain`).
"""

import argparse
import json
import re
import sys
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import soxr

from hocket.data.clips import Clip
from hocket.data.sources import read_clips
from hocket.errors import InputError

Voices = dict[str, dict[str, list[Clip]]]
"""Clips by speaker and text."""


@dataclass(frozen=True)
class Joined:
    """Clips of one speaker in a row."""

    speaker: str
    clips: list[Clip]
    starts: list[float]  # seconds
    wav_S: np.ndarray

    def row(self, id: str, split: str, file: str, options: argparse.Namespace) -> dict:
        texts = [(clip.text or "").strip() for clip in self.clips]
        name = f"{self.speaker}: " if options.speaker else ""
        return {
            "id": id,
            "audio": file,
            "duration": round(len(self.wav_S) / options.sample_rate, 4),
            "text": name + " ".join(texts),
            "speaker": self.speaker,
            "split": split,
            "clips": [clip.id for clip in self.clips],
            "starts": [round(start, 4) for start in self.starts],
        }


def read_voices(src: str, held_out: str) -> dict[str, Voices]:
    """Clips with text by split, speaker and text."""
    try:
        pattern = re.compile(held_out)
    except re.error as error:
        raise InputError(f"--held-out {held_out!r} is no regular expression: {error}") from None
    splits: dict[str, Voices] = {split: defaultdict(lambda: defaultdict(list)) for split in ("train", "valid")}
    for clip in read_clips(src):
        if clip.audio is not None and clip.text:
            split = "valid" if pattern.search(clip.id) else "train"
            splits[split][clip.speaker or "speaker"][clip.text.strip()].append(clip)
    for split, voices in splits.items():
        if not voices:
            raise InputError(f"--held-out {held_out!r} leaves no clip with text of {src} for {split}")
    return splits


def join(voices: Voices, rng: np.random.Generator, options: argparse.Namespace, vary: bool) -> Joined:
    """One sequence; `vary` changes its speed and loudness."""
    speaker = sorted(voices)[rng.integers(len(voices))]
    texts = sorted(voices[speaker])
    n_clips = int(rng.integers(options.clips[0], options.clips[1], endpoint=True))
    clips = []
    for text in rng.choice(texts, n_clips):
        found = voices[speaker][text]
        clips.append(found[rng.integers(len(found))])
    rate = options.sample_rate
    speed = rng.uniform(*options.speed) if vary else 1.0
    gain = 10 ** (rng.uniform(*options.gain) / 20) if vary else 1.0
    pieces, starts, n_samples = [], [], 0
    for number, clip in enumerate(clips):
        silence = np.zeros(int(rng.uniform(*(options.gap if number else options.lead)) * rate), np.float32)
        wav_S = gain * clip.read(rate).numpy()
        if vary:
            wav_S = soxr.resample(wav_S, rate * speed, rate)
        starts.append((n_samples + len(silence)) / rate)
        pieces += [silence, wav_S]
        n_samples += len(silence) + len(wav_S)
    return Joined(speaker, clips, starts, np.clip(np.concatenate(pieces), -1, 1))


def write(options: argparse.Namespace) -> list[dict]:
    splits = read_voices(options.src, options.held_out)
    options.dst.mkdir(parents=True, exist_ok=True)
    rows = []
    for split, n in (("train", options.n), ("valid", options.n_valid)):
        for number in range(n):
            rng = np.random.default_rng([options.seed, split == "valid", number])
            sequence = join(splits[split], rng, options, vary=split == "train")
            id = f"{split}-{number:06d}"
            soundfile.write(options.dst / f"{id}.flac", sequence.wav_S, options.sample_rate, "PCM_16")
            rows.append(sequence.row(id, split, f"{id}.flac", options))
    lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in rows]
    (options.dst / "manifest.jsonl").write_text("".join(lines), encoding="utf-8")
    return rows


def report(rows: list[dict]) -> str:
    lines = []
    for split in ("train", "valid"):
        mine = [row for row in rows if row["split"] == split]
        hours = sum(row["duration"] for row in mine) / 3600
        used = {clip for row in mine for clip in row["clips"]}
        lines.append(f"{split}: {len(mine)} sequences of {len(used)} clips, {hours:.2f} h")
    return "\n".join(lines)


def pair(parser: argparse.ArgumentParser, name: str, default: tuple, kind: type, text: str) -> None:
    parser.add_argument(name, nargs=2, type=kind, default=default, metavar=("LEAST", "MOST"), help=text)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("src")
    parser.add_argument("dst", type=Path)
    parser.add_argument("--held-out", required=True, metavar="PATTERN", help="ids of the clips kept for valid")
    parser.add_argument("--n", type=int, default=6000, help="sequences of train")
    parser.add_argument("--n-valid", type=int, default=200, help="sequences of valid")
    parser.add_argument("--speaker", action="store_true", help='begin each text with the speaker: "ann: one two"')
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--sample-rate", type=int, default=16000)
    pair(parser, "--clips", (1, 5), int, "clips of a sequence")
    pair(parser, "--lead", (0.0, 0.1), float, "seconds of silence before the first clip")
    pair(parser, "--gap", (0.05, 0.3), float, "seconds of silence between two")
    pair(parser, "--speed", (0.9, 1.1), float, "of what is for training")
    pair(parser, "--gain", (-4.0, 4.0), float, "decibels, of what is for training")
    try:
        print(report(write(parser.parse_args(arguments))))
    except InputError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
