"""Runs a cascade on held-out clips and rates what comes out beside the recordings and their resynthesis.

    python scripts/rate_cascades.py audiolm.yaml CORPUS continue --whisper FOLDER --wavs out/audiolm
    python scripts/rate_cascades.py soundstorm.yaml CORPUS revoice --whisper FOLDER
    python scripts/rate_cascades.py valle.yaml CORPUS speak --prompt en/conf-kicked --whisper FOLDER

    continue   goes on from the first 3 s of clips that are long enough, for as long as they are, 4 s at most
    revoice    is given the semantic units of whole clips and makes their audio (`given: [semantic]` in the file)
    speak      says the texts of clips, in the voice of --prompt, a clip whose text is said before them

Judges: DNSMOS; the speaker's similarity to the prompt or, where there is none, to the clip; words that Whisper hears
wrongly where the text is known. CORPUS has the held-out clips, with text and units.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hocket.codec import resample, write_audio
from hocket.codec.base import Codec
from hocket.data import Corpus
from hocket.data.corpus import Example
from hocket.errors import InputError
from hocket.evaluation.continuations import (
    AUDIO,
    CONTINUATION,
    ORIGINAL,
    RATE,
    RESYNTHESIS,
    Excerpts,
    Passage,
    choose,
    decode,
    rate,
    read_recording,
    summarise,
    table,
    true_passages,
)
from hocket.evaluation.judges import find_judges
from hocket.inference import Generation, Sampling
from hocket.inference.pipeline import Pipeline, PipelineRequest

JUDGES = ("dnsmos", "similarity", "wer")
SEMANTIC = "semantic"
SHORTEST, LONGEST = 1.5, 8.0  # seconds of the clips that are made anew
SECONDS_A_WORD, SECONDS_MORE = 0.6, 2.0  # at most, when a text is spoken


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pipeline", help="a pipeline file, or checkpoints separated by commas")
    parser.add_argument("corpus")
    parser.add_argument("task", choices=("continue", "revoice", "speak"))
    parser.add_argument("--n", type=int, default=1, help="seeds for each clip")
    parser.add_argument("--prompt", help="of speak: the clip whose voice is taken")
    parser.add_argument("--temperature", type=float, default=0.8)
    parser.add_argument("--top-p", type=float, default=0.95)
    parser.add_argument("--whisper", help="a folder of a Whisper model converted for faster-whisper")
    parser.add_argument("--wavs", type=Path, help="write what comes out to this folder")
    parser.add_argument("--json", type=Path, help="write all numbers to this file")
    return parser.parse_args()


def whole_clips(codec: Codec, examples: Sequence[Example]) -> list[Passage]:
    """Recording and resynthesis of whole clips; each is its own prompt."""
    passages = []
    for example in examples:
        codes_TK = example.streams[AUDIO].astype(np.int64)
        wav_S = decode(codec, codes_TK)
        recording_S = read_recording(example, len(wav_S))
        prompt_S = wav_S if recording_S is None else recording_S
        made = Passage(
            clip=example.id,
            kind=RESYNTHESIS,
            seed=None,
            prompt_S=prompt_S,
            wav_S=wav_S,
            codes_TK=codes_TK,
            text=example.text,
        )
        passages += [made] if recording_S is None else [replace(made, kind=ORIGINAL, wav_S=recording_S), made]
    return passages


def requests_of(
    task: str, pipeline: Pipeline, examples: Sequence[Example], prompt: Example | None, excerpts: Excerpts, seed: int
) -> list[PipelineRequest]:
    """What is asked of the cascade for each clip."""
    requests = []
    asked: dict[str, Any]
    for example in examples:
        if task == "continue":
            rest = min(example.duration - excerpts.prompt_seconds, excerpts.most_seconds)
            asked = {"prompt": example.audio, "prompt_seconds": excerpts.prompt_seconds, "seconds": rest}
        elif task == "revoice":
            asked = {"streams": {SEMANTIC: example.streams[SEMANTIC]}}
        else:
            words = len((example.text or "").split())
            asked = {"text": example.text, "seconds": SECONDS_A_WORD * words + SECONDS_MORE}
            if prompt:
                asked |= {"prompt": prompt.audio, "prompt_text": prompt.text}
        requests.append(pipeline.request(seed=seed, **asked))
    return requests


def heard_samples(item: Generation) -> np.ndarray:
    return resample(item.wav_T, item.sample_rate, RATE).numpy()


def collect(options: argparse.Namespace) -> list[Passage]:
    pipeline, corpus, excerpts = Pipeline.open(options.pipeline), Corpus.open(options.corpus), Excerpts()
    codec, valid = pipeline.codecs.open(AUDIO), corpus.split("valid")
    prompt = next((example for example in valid if example.id == options.prompt), None)
    if options.prompt and prompt is None:
        raise InputError(f'no held-out clip is named "{options.prompt}"')
    if options.task == "continue":
        examples = choose(valid, codec, excerpts)
        passages = true_passages(codec, examples, excerpts)
    else:
        examples = [
            e for e in valid if SHORTEST <= e.duration <= LONGEST and e is not prompt and e.id != options.prompt
        ]
        passages = whole_clips(codec, examples)
    truth = {one.clip: one for one in passages if one.kind == RESYNTHESIS}
    sampling = Sampling(temperature=options.temperature, top_p=options.top_p)
    for seed in range(options.n):
        asked = requests_of(options.task, pipeline, examples, prompt, excerpts, seed)
        for example, request in zip(examples, asked, strict=True):
            item = pipeline.generate_batch([request], sampling)[0]
            own = truth[example.id]
            made = replace(own, kind=CONTINUATION, seed=seed, wav_S=heard_samples(item), codes_TK=item.codes_TK)
            passages.append(replace(made, ended=item.ended))
            print(f"{example.id}: {made.seconds:.1f} s in {item.wall_seconds:.1f} s", file=sys.stderr)
    return passages


def main() -> None:
    options = parse()
    try:
        passages = collect(options)
        judges, left_out = find_judges(options.whisper)
    except InputError as error:
        sys.exit(f"error: {error}")
    print("\n".join(left_out), file=sys.stderr)
    wanted = {name: judges[name] for name in JUDGES if name in judges}
    rated = [rate(passage, wanted) for passage in passages if len(passage.wav_S)]
    print(table(summarise(rated)))
    if options.wavs:
        options.wavs.mkdir(parents=True, exist_ok=True)
        for passage in passages:
            seed = "" if passage.seed is None else f"-{passage.seed}"
            name = f"{passage.clip.replace('/', '_')}-{passage.kind}{seed}.wav"
            write_audio(options.wavs / name, torch.from_numpy(passage.wav_S.copy()), RATE)
    if options.json:
        rows = [
            {"clip": one.passage.clip, "kind": one.passage.kind, "seed": one.passage.seed, "text": one.passage.text}
            | {"seconds": one.passage.seconds, "ended": one.passage.ended, "scores": one.scores}
            for one in rated
        ]
        report = {"summary": [asdict(one) for one in summarise(rated)], "passages": rows}
        options.json.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
