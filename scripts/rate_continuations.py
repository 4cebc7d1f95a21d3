"""Rates a model's continuations of held-out clips beside the recordings and their resynthesis, and looks for copies.

    python scripts/rate_continuations.py runs/continuation CORPUS --n 4 --wavs out/

Each held-out clip that is long enough is cut after 3 s; the model continues it, once for each seed, up to the length of
the clip or 4 s. Judges are DNSMOS and the similarity of speakers; one that is not installed is left out, by name. For
every continuation the nearest window of 1 s in all training clips is looked up, by codes and by sound, and beside it
the same for the held-out clips themselves. CORPUS is what the model was trained on, with its held-out clips.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import torch

from hocket.codec import write_audio
from hocket.data import Corpus
from hocket.errors import InputError
from hocket.evaluation.continuations import (
    RATE,
    RESYNTHESIS,
    CopyCheck,
    Excerpts,
    Rated,
    choose,
    continue_clips,
    rate,
    summarise,
    table,
    true_passages,
)
from hocket.evaluation.judges import find_judges
from hocket.inference import Generator, Sampling
from hocket.model import load_model

JUDGES = ("dnsmos", "similarity")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", help="a run, one of its checkpoints, or a model folder")
    parser.add_argument("corpus")
    parser.add_argument("--n", type=int, default=4, help="continuations of each clip")
    parser.add_argument("--prompt-seconds", type=float, default=3.0)
    parser.add_argument("--least-seconds", type=float, default=2.0, help="what a clip has after its prompt, at least")
    parser.add_argument("--seconds", type=float, default=4.0, help="what is compared of it, at most")
    parser.add_argument("--temperature", type=float, default=0.9)
    parser.add_argument("--top-p", type=float, default=0.95)
    parser.add_argument("--window-seconds", type=float, default=1.0, help="of the search for copies")
    parser.add_argument("--wavs", type=Path, help="write all passages to this folder")
    parser.add_argument("--json", type=Path, help="write all numbers to this file")
    return parser.parse_args()


def collect(options: argparse.Namespace) -> tuple[list[Rated], list[str]]:
    """All passages, rated, and the ids of the training clips."""
    corpus, generator = Corpus.open(options.corpus), Generator(load_model(options.checkpoint))
    codec = generator.model.codec
    excerpts = Excerpts(
        prompt_seconds=options.prompt_seconds, least_seconds=options.least_seconds, most_seconds=options.seconds
    )
    examples = choose(corpus.split("valid"), codec, excerpts)
    passages = true_passages(codec, examples, excerpts)
    prompts = {one.clip: one.prompt_S for one in passages if one.kind == RESYNTHESIS}
    sampling = Sampling(temperature=options.temperature, top_p=options.top_p)
    passages += continue_clips(generator, examples, prompts, excerpts, options.n, sampling, on_step=tell)
    judges, left_out = find_judges()
    print(
        "\n".join(sentence for sentence in left_out if "DNSMOS" in sentence or "speaker" in sentence), file=sys.stderr
    )
    copies = CopyCheck(corpus.split("train"), codec, options.window_seconds)
    wanted = {name: judges[name] for name in JUDGES if name in judges}
    rated = []
    for number, passage in enumerate(passages, start=1):
        rated.append(rate(passage, wanted, copies))
        tell(number, len(passages))
    return rated, copies.ids


def tell(done: int, of: int) -> None:
    print(f"\r{done} of {of}", end="\n" if done == of else "", file=sys.stderr, flush=True)


def print_nearest(rated: Sequence[Rated], ids: Sequence[str], measure: str, most: int = 5) -> None:
    """The passages that lie nearest to training clips."""
    near = sorted((one for one in rated if measure in one.copies), key=lambda one: -one.copies[measure].score)
    for one in near[:most]:
        passage, nearest = one.passage, one.copies[measure]
        seed = "" if passage.seed is None else f" seed {passage.seed}"
        place = f"{ids[nearest.clip]} at frame {nearest.clip_frame}"
        print(f"{measure}: {passage.kind} of {passage.clip}{seed}, {nearest.score:.3f}, {place}")


def row(one: Rated, ids: Sequence[str]) -> dict:
    passage = one.passage
    facts = {"clip": passage.clip, "kind": passage.kind, "seed": passage.seed, "seconds": passage.seconds}
    copies = {name: asdict(nearest) | {"clip": ids[nearest.clip]} for name, nearest in one.copies.items()}
    return facts | {"ended": passage.ended, "scores": one.scores, "copies": copies}


def write_wavs(rated: Sequence[Rated], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for one in rated:
        passage = one.passage
        seed = "" if passage.seed is None else f"-{passage.seed}"
        name = f"{passage.clip.replace('/', '_')}-{passage.kind}{seed}"
        wav_S = torch.cat([torch.from_numpy(passage.prompt_S.copy()), torch.from_numpy(passage.wav_S.copy())])
        write_audio(folder / f"{name}.wav", wav_S, RATE)


def main() -> None:
    options = parse()
    try:
        rated, ids = collect(options)
    except InputError as error:
        sys.exit(f"error: {error}")
    summaries = summarise(rated)
    print(table(summaries))
    for measure in ("codes", "sound"):
        print_nearest(rated, ids, measure)
    if options.wavs:
        write_wavs(rated, options.wavs)
    if options.json:
        rows = [row(one, ids) for one in rated]
        report = {"summary": [asdict(one) for one in summaries], "passages": rows}
        options.json.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
