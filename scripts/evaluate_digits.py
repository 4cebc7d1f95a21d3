"""Measures a checkpoint that recognises and speaks short clips, all of them held out.

    python scripts/evaluate_digits.py runs/digits/best DIGITS --held-out '_1[5-9]$' --whisper WHISPER

Recognition: every clip that is held out, alone, as it is; the words alone count, not the speaker's name before them.
Speech: `--n` sequences of `--clips` held-out clips in a row, joined as scripts/join_clips.py does; the model is given
their text and voice, and of `--best-of` attempts keeps the one whose text it hears best itself. Beside it what Whisper
hears in the joined clips themselves and in what the codec makes of them.
"""

import argparse
import json
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import soundfile
import torch

from hocket.codec import resample
from hocket.data.joining import NOBODY, Joined, Joining, Voices, join_clips, read_voices
from hocket.errors import InputError
from hocket.evaluation.hearing import Tally, listen, recognise, resynthesise, speak
from hocket.evaluation.judges import RATE, open_whisper
from hocket.inference import Generator, Sampling
from hocket.model import load_model

MOST_TOKENS = 24
SECONDS_A_CLIP = 1.2
"""Speech is cut after so long a clip."""


def judge_recognition(generator: Generator, voices: Voices) -> tuple[Tally, dict]:
    """All clips alone; the count, and what else is told of them."""
    clips = [clip for texts in voices.values() for found in texts.values() for clip in found]
    wavs = [clip.read(RATE).numpy() for clip in clips]
    tally, confused, voice = Tally(), Counter(), 0
    for clip, text in zip(clips, recognise(generator, wavs, RATE, MOST_TOKENS), strict=True):
        name, _, words = text.rpartition(": ")
        voice += name == (clip.speaker or NOBODY)
        if not tally.add(clip.text or "", words):
            confused[f"{clip.text} as {words}"] += 1
    by_voice = {"speaker_named": voice} if voice else {}
    return tally, by_voice | {"confused": dict(confused.most_common(5))}


def draw_sequences(voices: Voices, options: argparse.Namespace) -> list[Joined]:
    joining = Joining(clips=tuple(options.clips))
    return [join_clips(voices, joining, np.random.default_rng([options.seed, number])) for number in range(options.n)]


def judge_speech(generator: Generator, voices: Voices, options: argparse.Namespace) -> tuple[dict[str, Tally], dict]:
    """The model beside originals and codec, by what Whisper hears."""
    sequences, hears = draw_sequences(voices, options), open_whisper(options.whisper)
    texts, originals = [one.text for one in sequences], [one.wav_S for one in sequences]
    asked = [f"{one.speaker}: {one.text}" if options.speaker else one.text for one in sequences]
    upper = {"audio[1:]": {"temperature": options.upper_temperature}}
    rows = upper if generator.model.layout.streams["audio"] > 1 else {}
    sampling = Sampling(temperature=options.temperature, top_k=options.top_k, top_p=options.top_p, rows=rows)
    spoken = speak(generator, asked, SECONDS_A_CLIP * options.clips[1], sampling, options.seed, options.best_of)
    codec = generator.model.codec
    sounds = {
        "originals": originals,
        "codec": at_whispers_rate(resynthesise(codec, originals, RATE), codec.sample_rate),
        "model": at_whispers_rate(spoken, codec.sample_rate),
    }
    tallies = {}
    for name, wavs in sounds.items():
        tallies[name], transcripts = listen(lambda wav_S: hears(wav_S, "en") or "", texts, wavs)
        if options.out:
            keep(options.out / name, texts, wavs, transcripts)
    lasting = {name: float(np.mean([len(wav_S) / RATE for wav_S in wavs])) for name, wavs in sounds.items()}
    return tallies, {"seconds": lasting}


def at_whispers_rate(wavs: list[np.ndarray], rate: int) -> list[np.ndarray]:
    return [resample(torch.from_numpy(wav_S), rate, RATE).numpy() for wav_S in wavs]


def keep(folder: Path, texts: list[str], wavs: list[np.ndarray], transcripts: list[str]) -> None:
    """The sounds and what was heard in them, to listen to."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, wav_S in enumerate(wavs):
        soundfile.write(folder / f"{number:03d}.wav", wav_S, RATE, "PCM_16")
    rows = [{"text": text, "heard": heard} for text, heard in zip(texts, transcripts, strict=True)]
    (folder / "heard.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def run(options: argparse.Namespace) -> dict:
    held_out = read_voices(options.src, options.held_out)["valid"]
    generator = Generator(load_model(options.checkpoint))
    began = time.process_time()
    recognition, more = judge_recognition(generator, held_out)
    result = {"recognition": recognition.to_dict() | more | {"cpu_seconds": time.process_time() - began}}
    print(f"recognition   {recognition}")
    if options.whisper:
        tallies, more = judge_speech(generator, held_out, options)
        for name, tally in tallies.items():
            print(f"{name:<12}  {tally}")
        result |= {name: tally.to_dict() for name, tally in tallies.items()} | more
        against = tallies["originals"]
        ratios = {
            "items": tallies["model"].accuracy / against.accuracy,
            "words": tallies["model"].word_accuracy / against.word_accuracy,
        }
        result["model_to_originals"] = ratios
        print(f"model to originals: {100 * ratios['items']:.0f} % of items, {100 * ratios['words']:.0f} % of words")
    return result


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("src")
    parser.add_argument("--held-out", required=True, metavar="PATTERN", help="ids of the clips kept out of training")
    parser.add_argument(
        "--whisper", help="folder of a Whisper model converted for faster-whisper; recognition alone without"
    )
    parser.add_argument(
        "--speaker", action=argparse.BooleanOptionalAction, default=True, help="name the voice in the text"
    )
    parser.add_argument("--n", type=int, default=60, help="sequences to speak")
    parser.add_argument("--clips", nargs=2, type=int, default=(3, 5), metavar=("LEAST", "MOST"))
    parser.add_argument("--best-of", type=int, default=32, help="attempts, of which the model hears one best itself")
    parser.add_argument("--temperature", type=float, default=1.0)
    parser.add_argument("--upper-temperature", type=float, default=0.0, help="of the levels above the first")
    parser.add_argument("--top-k", type=int, default=0)
    parser.add_argument("--top-p", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="folder for the sounds and what was heard")
    parser.add_argument("--json", type=Path, help="file for all numbers")
    try:
        options = parser.parse_args(arguments)
        result = run(options)
        if options.json:
            options.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    except InputError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
