"""Whether a model that recognises and speaks does: what it writes beside what was said, what is heard beside its text.

    recognition   recording → model → words                          beside the words that are said in it
    speech        words → model → codec → Whisper → words            beside the words that were asked for
      originals   recording → Whisper → words                        the most that can be expected
      codec       recording → codec → codec → Whisper → words        what the codec alone costs

Speech is judged by a recogniser that never saw the model, so its own errors are in every line: what counts is a line
beside those below it. Words are compared after `spell`: lower case, digits as words, and those of their homophones that
Whisper likes to write ("for", "to"). An item is right if all of its words are; words are counted by edit distance.

Shares come with the 95 % interval of Wilson (1927), which holds for few items and for shares near 1.

Shapes: S samples.
"""

import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import torch

from hocket.codec import Codec
from hocket.inference import Generator, Sampling
from hocket.vocab import TEXT

DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
HOMOPHONES = {"oh": "zero", "won": "one", "to": "two", "too": "two", "for": "four", "fore": "four", "ate": "eight"}
NORMAL = 1.96
"""Standard deviations of a 95 % interval."""
MOST_ATTEMPTS = 512
"""Documents that are sampled at once."""
BATCH = 50
"""Recordings that go through the model together."""

Listener = Callable[[np.ndarray], str]
"""What is heard in samples at 16 kHz."""


@dataclass
class Tally:
    """Items that came out right, and words that came out wrong."""

    n: int = 0
    right: int = 0
    words: int = 0
    wrong: int = 0
    """Substituted, left out and put in, at most as many as an item has words: Whisper at times repeats one for ever."""

    def add(self, said: str, found: str) -> bool:
        """Counts one item; whether it is right."""
        expected, words = spell(said), spell(found)
        self.n, self.words = self.n + 1, self.words + len(expected)
        self.right += expected == words
        self.wrong += min(edit_distance(expected, words), len(expected))
        return expected == words

    @property
    def accuracy(self) -> float:
        """Share of the items that are right."""
        return self.right / self.n

    @property
    def word_accuracy(self) -> float:
        """Share of the words that are right; 1 - word error rate."""
        return 1 - self.wrong / self.words

    def interval(self) -> tuple[float, float]:
        """Of `accuracy`."""
        return wilson(self.right, self.n)

    def __str__(self) -> str:
        low, high = self.interval()
        items = f"{self.right} of {self.n} right, {100 * self.accuracy:.1f} % ({100 * low:.1f} to {100 * high:.1f})"
        return f"{items}; word error rate {100 * (1 - self.word_accuracy):.1f} %, {self.wrong} of {self.words} words"

    def to_dict(self) -> dict:
        return asdict(self) | {"accuracy": self.accuracy, "interval": self.interval(), "wer": 1 - self.word_accuracy}


def spell(text: str) -> list[str]:
    """Words in lower case, digits spelled, homophones of digits as the digit."""
    spelled = re.sub(r"\d", lambda digit: f" {DIGITS[int(digit[0])]} ", text.casefold())
    words: list[str] = re.findall(r"[^\W_]+", spelled.replace("'", ""))
    return [HOMOPHONES.get(word, word) for word in words]


def edit_distance(expected: Sequence[str], found: Sequence[str]) -> int:
    """Fewest words to put in, leave out and replace (Levenshtein, 1966)."""
    row = list(range(len(found) + 1))
    for i, wanted in enumerate(expected, start=1):
        before, row[0] = row[0], i
        for j, word in enumerate(found, start=1):
            before, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, before + (wanted != word))
    return row[-1]


def wilson(right: int, n: int) -> tuple[float, float]:
    """The 95 % interval of a share (Wilson, 1927)."""
    square, share = NORMAL**2 / n, right / n
    middle, half = share + square / 2, NORMAL * math.sqrt((share * (1 - share) + square / 4) / n)
    return (middle - half) / (1 + square), (middle + half) / (1 + square)


def recognise(
    generator: Generator,
    wavs: Sequence[np.ndarray],
    sample_rate: int,
    most_tokens: int,
    sampling: Sampling | None = None,
    beams: int = 1,
) -> list[str]:
    """What the model writes for recordings, the most probable tokens unless `sampling` says otherwise.

    Args:
        most_tokens: where a text is cut that has not ended.
        beams: above 1, the likeliest text that a beam search of this width finds.
    """
    texts, sampling = [], sampling or Sampling(temperature=0)
    for some in _batches(wavs):
        requests = [
            generator.request(torch.from_numpy(wav_S), sample_rate=sample_rate, task="recognition") for wav_S in some
        ]
        for request in requests:
            request.limits[TEXT] = min(most_tokens, request.limits[TEXT])
        texts += [made.text or "" for made in generator.generate_batch(requests, sampling, beams=beams)]
    return texts


def speak(
    generator: Generator, texts: Sequence[str], seconds: float, sampling: Sampling, seed: int = 0, best_of: int = 1
) -> list[np.ndarray]:
    """Texts as the model speaks them, float32 at the codec's rate; each has a seed of its own.

    Args:
        seconds: where speech is cut that has not ended.
        best_of: attempts at each, of which the model keeps the one that it hears best itself.
    """
    wavs = []
    for some in _batches(list(enumerate(texts)), max(1, MOST_ATTEMPTS // best_of)):
        requests = [generator.request(text=text, seconds=seconds, seed=seed + i, task="tts") for i, text in some]
        wavs += [made.wav_T.numpy() for made in generator.generate_batch(requests, sampling, best_of=best_of)]
    return wavs


@torch.inference_mode()
def resynthesise(codec: Codec, wavs: Iterable[np.ndarray], sample_rate: int) -> list[np.ndarray]:
    """Recordings as the codec renders them, float32 at its rate."""
    return [codec.decode(codec.encode(torch.from_numpy(wav_S)[None], sample_rate))[0].numpy() for wav_S in wavs]


def listen(listener: Listener, texts: Sequence[str], wavs: Sequence[np.ndarray]) -> tuple[Tally, list[str]]:
    """What is heard in recordings of texts: the count, and the transcripts."""
    tally, transcripts = Tally(), [listener(wav_S) for wav_S in wavs]
    for text, transcript in zip(texts, transcripts, strict=True):
        tally.add(text, transcript)
    return tally, transcripts


def _batches(items: Sequence, size: int = BATCH) -> list[Sequence]:
    return [items[first : first + size] for first in range(0, len(items), size)]
