"""How far the judges of generated speech can be trusted: what they make of recordings whose words and voices are known.

    python scripts/check_judges.py prompts.jsonl ljspeech.jsonl --whisper FOLDER --n 60

For each source of clips with text: word errors of the first N by Whisper's normaliser, as `hocket evaluate` counts
them, and with nothing but letters and apostrophes left, since figures differ by that alone. Over all sources: the
cosine of Resemblyzer's speaker embeddings within a speaker and between two. Half a second a clip on one core.
"""

import argparse
import itertools
import re
import sys
from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from hocket.errors import InputError
from hocket.evaluation.bootstrap import bootstrap, bootstrap_ratio
from hocket.evaluation.generation import Utterance, count_errors, find_normaliser, of_source, open_recogniser
from hocket.evaluation.generation.normalising import Normaliser
from hocket.evaluation.generation.voices import Resemblyzer, compare

RATE = 16000
VOICE_SECONDS = (3.0, 8.0)
"""Clips of this length tell voices."""

LETTERS = Normaliser("letters alone", lambda text: " ".join(re.sub(r"[^a-z' ]", "", text.casefold()).split()))


def say_words(source: str, whisper: str, n: int) -> list[str]:
    """Word and character errors of the first clips with text."""
    chosen = [one for one in of_source(source) if one.text][:n]
    if not chosen:
        raise InputError(f'"{source}" has no clips with text')
    recogniser = open_recogniser(whisper)
    heard = [recogniser.transcribe([one.read(RATE).numpy()], one.language)[0] for one in chosen]
    lines = []
    for normaliser in (find_normaliser("en"), LETTERS):
        pairs = zip(chosen, heard, strict=True)
        errors = [count_errors(one.text, found, normaliser, one.id) for one, found in pairs]
        words = bootstrap_ratio([e.wrong_words for e in errors], [e.words for e in errors], scale=100)
        letters = bootstrap_ratio([e.wrong_characters for e in errors], [e.characters for e in errors], scale=100)
        mean = bootstrap([100 * e.wrong_words / e.words for e in errors])
        lines.append(
            f"{source}, {len(chosen)} clips, {normaliser.name}: WER {words.value:.2f} % ({words.low:.1f} to "
            f"{words.high:.1f}), mean of clips {mean.value:.2f} %, CER {letters.value:.2f} %"
        )
    return lines


def say_voices(sources: Sequence[str], n: int) -> str:
    """Similarity within and between speakers, of so many clips of each."""
    by_speaker: dict[str, list[Utterance]] = defaultdict(list)
    low, high = VOICE_SECONDS
    for one in itertools.chain.from_iterable(of_source(source) for source in sources):
        if one.speaker and low <= one.seconds <= high:
            by_speaker[one.speaker].append(one)
    judge = Resemblyzer()
    voices = {
        name: [judge.embed(one.read(RATE).numpy()) for one in own[:: max(1, len(own) // n)][:n]]
        for name, own in by_speaker.items()
    }
    same = [compare(*pair) for own in voices.values() for pair in itertools.combinations(own, 2)]
    other = [compare(*pair) for a, b in itertools.combinations(voices.values(), 2) for pair in itertools.product(a, b)]
    said = []
    for name, found in (("same", same), ("another", other)):
        values = [value for value in found if value is not None]
        said.append(
            f"{name} speaker {np.mean(values):.3f} ± {np.std(values):.3f} ({len(values)} pairs)" if values else ""
        )
    return "similarity: " + ", ".join(filter(None, said))


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sources", nargs="+")
    parser.add_argument("--whisper", required=True, help="a folder for faster-whisper")
    parser.add_argument("--n", type=int, default=60, help="clips of each source whose words are compared")
    parser.add_argument("--voices", type=int, default=8, help="clips of each speaker whose voices are compared")
    options = parser.parse_args(arguments)
    try:
        for source in options.sources:
            print("\n".join(say_words(source, options.whisper, options.n)), flush=True)
        print(say_voices(options.sources, options.voices))
    except InputError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
