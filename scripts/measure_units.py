"""How much do units tell about words? Units of a Whisper encoder against units of MFCC, same clips, same k.

    python scripts/measure_units.py align SPEECH --whisper FOLDER --out aligned.pt
    python scripts/measure_units.py table aligned.pt --clusters 100 500

SPEECH is a folder, a manifest or "bundled", with texts; FOLDER holds a Whisper model converted for CTranslate2 with its
tokenizer.json (the extra "units"). `align` forces the known text onto the audio by the decoder's cross-attention and
keeps each frame's word and features. `table` fits centroids on two clips of three and measures on the third: words and,
spread evenly over each word's frames, letters that are said at least `--least` times there; frames of punctuation are
left out. Chance gives every spoken word the label of another one. "scaled" divides each feature by its standard
deviation, without which k-means looks at the few of largest variance.

The times come from the same network as one of the two kinds of units; both are measured with the same times.

Shapes: S samples, T frames, D feature width, N frames of all clips.
"""

import argparse
import itertools
import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer

from hocket.codec.units import mutual_information, nearest, open_extractor
from hocket.codec.units.clusters import cluster
from hocket.data import read_clips

PIECE = 100  # mel frames a second, which the aligner counts in
WORD = re.compile(r"[^a-z0-9']")
HELD_OUT_EVERY = 3
SHUFFLES = 5


def spoken_words(pieces: list[str]) -> list[tuple[str, int]]:
    """Words and the number of token pieces each has; punctuation stands by itself as ""."""
    groups: list[list[str]] = []
    for piece in pieces:
        text = piece.replace("\u0120", " ")
        inside = groups and not text.startswith(" ") and bool(WORD.sub("", text.lower()))
        if inside and WORD.sub("", "".join(groups[-1]).lower()):
            groups[-1].append(text)
        else:
            groups.append([text])
    return [(WORD.sub("", "".join(group).lower()), len(group)) for group in groups]


def align(whisper: Any, tokenizer: Tokenizer, encoded: Any, text: str, n_frames: int) -> list[str]:
    """The word at each of `n_frames` frames of 20 ms, "" between words."""
    tokens = tokenizer.encode(" " + " ".join(text.split()), add_special_tokens=False)
    start = tokenizer.token_to_id("<|startoftranscript|>")
    result = whisper.align(encoded, [start], [tokens.ids], min(2 * n_frames, 30 * PIECE))[0]
    pairs = np.array(result.alignments)
    begins = pairs[np.concatenate([[True], np.diff(pairs[:, 0]) > 0]), 1]
    labels, first = [""] * n_frames, 0
    for word, n_pieces in spoken_words(tokens.tokens):
        end = begins[first + n_pieces] if first + n_pieces < len(begins) else n_frames
        for frame in range(begins[first], min(end, n_frames)):
            labels[frame] = word
        first += n_pieces
    return labels


def aligned_clips(src: str, folder: Path, most: int | None) -> Iterator[dict[str, Any]]:
    """Features and labels of every clip with a text, of at most 30 s."""
    whisper: Any = open_extractor("whisper-ct2", folder)
    mfcc, tokenizer = open_extractor("mfcc", None), Tokenizer.from_file(str(folder / "tokenizer.json"))
    clips = [clip for clip in read_clips(src) if clip.text][:most]
    for number, clip in enumerate(clips):
        wav_S = torch.from_numpy(np.asarray(clip.read(16000)))
        if len(wav_S) > 30 * 16000:
            continue
        encoded = whisper.net.encode(whisper.storage.from_array(whisper._mels(wav_S).numpy()), to_cpu=True)
        n_frames = -(-len(wav_S) // whisper.hop)
        features_TD = torch.from_numpy(np.array(encoded, dtype=np.float32))[0, :n_frames]
        labels = align(whisper.net, tokenizer, encoded, clip.text or "", n_frames)
        yield {"id": clip.id, "labels": labels, "whisper": features_TD.half(), "mfcc": mfcc.features(wav_S)}
        if number % 50 == 49:
            print(f"{number + 1} of {len(clips)} clips", flush=True)


def as_letters(labels: list[str]) -> list[str]:
    """Each word's letters spread evenly over its frames."""
    letters = []
    for word, group in itertools.groupby(labels):
        n_frames = len(list(group))
        letters += [word[frame * len(word) // n_frames] if word else "" for frame in range(n_frames)]
    return letters


def labelled_frames(clips: list[list[str]], least: int) -> tuple[torch.Tensor, list[str], torch.Tensor]:
    """Of the clips' frames in a row: which count, their labels, and the number of the spoken word each is in."""
    labels = [label for clip in clips for label in ["", *clip]]
    begins = [label != before for before, label in zip(["", *labels], labels, strict=False)]
    said = Counter(label for label, begin in zip(labels, begins, strict=True) if begin)
    real = torch.tensor([place for clip in clips for place in [False] + [True] * len(clip)])
    kept = torch.tensor([bool(label) and said[label] >= least for label in labels])
    segments_N = torch.tensor(begins).cumsum(0)
    named = [label for label, keep in zip(labels, (real & kept).tolist(), strict=True) if keep]
    return kept[real], named, segments_N[real & kept]


def rows_of(clips: list[dict[str, Any]], clusters: list[int], least: int, seed: int) -> Iterator[dict[str, Any]]:
    held_out, fitted = clips[::HELD_OUT_EVERY], [clip for n, clip in enumerate(clips) if n % HELD_OUT_EVERY]
    words = [clip["labels"] for clip in held_out]
    labelled = {"word": labelled_frames(words, least), "letter": labelled_frames([*map(as_letters, words)], least)}
    for key in ("mfcc", "whisper"):
        fit_ND, test_ND = (torch.cat([clip[key].float() for clip in part]) for part in (fitted, held_out))
        for name, scale_D in ((key, torch.ones(fit_ND.shape[1])), (f"{key} scaled", fit_ND.std(dim=0))):
            for k in clusters:
                units_N = nearest(test_ND / scale_D, cluster(fit_ND / scale_D, k, seed))
                for kind, (kept_N, labels, segments_N) in labelled.items():
                    yield row_of(units_N[kept_N], labels, segments_N) | {"features": name, "clusters": k, "of": kind}


def row_of(units_N: torch.Tensor, labels: list[str], segments_N: torch.Tensor) -> dict[str, Any]:
    """Chance is the mean of several shuffles, its spread their standard deviation."""
    found = [mutual_information(units_N, labels, segments_N, seed) for seed in range(SHUFFLES)]
    chances = torch.tensor([each.chance for each in found])
    counted = asdict(found[0]) | {"chance": float(chances.mean()), "chance_spread": float(chances.std())}
    return counted | {"spoken": len(segments_N.unique())}


def print_table(rows: list[dict[str, Any]]) -> None:
    for kind, group in itertools.groupby(sorted(rows, key=lambda row: row["of"]), key=lambda row: row["of"]):
        print_part(kind, list(group))


def print_part(kind: str, rows: list[dict[str, Any]]) -> None:
    first = rows[0]
    print(f"{kind}: {first['frames']} held-out frames, {first['spoken']} spoken, {first['labels']} different, ", end="")
    print(f"entropy {first['label_entropy']:.2f} bits")
    heads = ("features", "k", "used", "H(unit)", "I", "chance", "spread", "above", "purity")
    print("{:<15}{:>5}{:>6}{:>9}{:>8}{:>8}{:>8}{:>8}{:>8}".format(*heads))
    for row in rows:
        shared, chance = row["mutual_information"], row["chance"]
        print(
            f"{row['features']:<15}{row['clusters']:>5}{row['units']:>6}{row['unit_entropy']:>9.2f}{shared:>8.3f}"
            f"{chance:>8.3f}{row['chance_spread']:>8.3f}{shared - chance:>8.3f}{row['purity']:>8.3f}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    aligning = commands.add_parser("align")
    aligning.add_argument("src")
    aligning.add_argument("--whisper", type=Path, required=True)
    aligning.add_argument("--out", type=Path, required=True)
    aligning.add_argument("--most", type=int)
    table = commands.add_parser("table")
    table.add_argument("aligned", type=Path)
    table.add_argument("--clusters", type=int, nargs="+", default=[100, 500])
    table.add_argument("--least", type=int, default=5)
    table.add_argument("--seed", type=int, default=0)
    table.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.command == "align":
        torch.save(list(aligned_clips(options.src, options.whisper, options.most)), options.out)
        return
    rows = list(rows_of(torch.load(options.aligned), options.clusters, options.least, options.seed))
    print_table(rows)
    if options.json:
        options.json.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
