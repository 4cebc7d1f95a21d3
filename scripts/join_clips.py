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
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import soundfile

from hocket.data.joining import Joined, Joining, join_clips, read_voices
from hocket.errors import InputError


def row(joined: Joined, id: str, split: str, file: str, options: argparse.Namespace) -> dict:
    return {
        "id": id,
        "audio": file,
        "duration": round(len(joined.wav_S) / options.sample_rate, 4),
        "text": f"{joined.speaker}: {joined.text}" if options.speaker else joined.text,
        "speaker": joined.speaker,
        "split": split,
        "clips": [clip.id for clip in joined.clips],
        "starts": [round(start, 4) for start in joined.starts],
    }


def write(options: argparse.Namespace) -> list[dict]:
    ranges = {name: tuple(getattr(options, name)) for name in ("clips", "lead", "gap")}
    plain = Joining(sample_rate=options.sample_rate, **ranges)
    varied = replace(plain, speed=tuple(options.speed), gain=tuple(options.gain))
    splits = read_voices(options.src, options.held_out)
    options.dst.mkdir(parents=True, exist_ok=True)
    rows = []
    for split, joining, n in (("train", varied, options.n), ("valid", plain, options.n_valid)):
        for number in range(n):
            rng = np.random.default_rng([options.seed, split == "valid", number])
            joined = join_clips(splits[split], joining, rng)
            id = f"{split}-{number:06d}"
            soundfile.write(options.dst / f"{id}.flac", joined.wav_S, options.sample_rate, "PCM_16")
            rows.append(row(joined, id, split, f"{id}.flac", options))
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
