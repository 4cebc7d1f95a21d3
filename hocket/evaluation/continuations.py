"""How well a model continues speech it has not heard, beside what its codec makes of the truth.

Held-out clips are cut after a prompt. Three kinds of what comes next are heard by the same judges:

    original       the recording itself, where its file is at hand
    resynthesis    the recording, encoded and decoded: what a perfect model of this codec would give
    continuation   what the model samples, once for each seed, up to the length of the original

    dnsmos         overall quality guessed without a reference (1 to 5); of passages of speech
    similarity     cosine of the speaker embeddings of the prompt's recording and of what comes next
    copied_codes   the share of equal codes in the training window that is nearest to any of its windows
    copied_sound   the mean distance (dB) of log-mel frames to the nearest one; less is nearer

A model that recites shows in the last two as continuations that lie nearer to the training clips than any held-out
recording does (`Summary.beyond`). Training clips are heard through the codec, as continuations are.

Shapes: S samples, T frames, K levels, M mel bands.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import mean, stdev

import numpy as np
import torch

from hocket.codec import Codec, Codes, read_audio, resample
from hocket.codec.learning.losses import mel_filters
from hocket.data.corpus import Example
from hocket.errors import InputError
from hocket.evaluation.copying import Nearest, TrainingFrames, nearest_by_codes, nearest_by_spectrum
from hocket.evaluation.judges import RATE, Heard, Judge
from hocket.inference import Generation, Generator, Request, Sampling
from hocket.inference.request import Progress

ORIGINAL, RESYNTHESIS, CONTINUATION = "original", "resynthesis", "continuation"
KINDS = (ORIGINAL, RESYNTHESIS, CONTINUATION)
SCORES = ("dnsmos", "similarity", "wer", "copied_codes", "copied_sound")
AUDIO = "audio"
MEL_WINDOW, MEL_HOP, MEL_BANDS = 1024, 320, 40
LOUD = 10 ** (-45 / 20)
"""Root mean square of what counts as heard, of full scale."""
BATCH = 16


@dataclass(frozen=True, kw_only=True)
class Passage:
    """What comes after a prompt."""

    clip: str
    kind: str
    seed: int | None
    """Of a continuation."""
    prompt_S: np.ndarray
    """The prompt's recording, float32 at 16 kHz; through the codec where its file is not at hand."""
    wav_S: np.ndarray
    """Float32 at 16 kHz."""
    codes_TK: np.ndarray | None
    """None for recordings."""
    text: str | None = None
    """What is to be said in it."""
    ended: bool = True
    """The model ended it itself."""

    @property
    def seconds(self) -> float:
        return len(self.wav_S) / RATE


@dataclass(frozen=True, kw_only=True)
class Rated:
    """A passage as its judges have it. A judge that has nothing to go by gives no score."""

    passage: Passage
    scores: dict[str, float]
    copies: dict[str, Nearest] = field(default_factory=dict)
    """What it is nearest to, by "codes" and by "sound"."""


@dataclass(frozen=True, kw_only=True)
class Summary:
    """One kind of passages: means, their standard errors, and how many passages they cover."""

    kind: str
    n: int
    seconds: float
    means: dict[str, tuple[float, float, int]]
    """By score. Word errors `wer` (%) are those of all words together, with no error of their own."""
    beyond: dict[str, int]
    """Passages that are nearer to the training clips than any resynthesis, by "codes" and by "sound"."""


@dataclass(frozen=True, kw_only=True)
class Excerpts:
    """Where held-out clips are cut."""

    prompt_seconds: float = 3.0
    least_seconds: float = 2.0
    """What a clip must have after the prompt."""
    most_seconds: float = 4.0
    """How much of it is compared."""

    def frames(self, codec: Codec) -> tuple[int, int, int]:
        rate = float(codec.frame_rate)
        return tuple(round(s * rate) for s in (self.prompt_seconds, self.least_seconds, self.most_seconds))  # type: ignore[return-value]


def choose(held_out: Sequence[Example], codec: Codec, excerpts: Excerpts) -> list[Example]:
    """The clips that are long enough. InputError where there are none."""
    prompt, least, _ = excerpts.frames(codec)
    chosen = [example for example in held_out if len(example.streams[AUDIO]) >= prompt + least]
    if not chosen:
        raise InputError(
            f"no held-out clip has {excerpts.least_seconds:g} s after a prompt of {excerpts.prompt_seconds:g} s: "
            "ask for shorter ones"
        )
    return chosen


def true_passages(codec: Codec, examples: Sequence[Example], excerpts: Excerpts) -> list[Passage]:
    """The resynthesis of each clip and, where its file can be read, the recording."""
    prompt, _, most = excerpts.frames(codec)
    passages = []
    for example in examples:
        codes_TK = example.streams[AUDIO][: prompt + most].astype(np.int64)
        wav_S = decode(codec, codes_TK)
        cut = round(prompt * codec.hop * RATE / codec.sample_rate)
        recording_S = read_recording(example, len(wav_S))
        prompt_S = (wav_S if recording_S is None else recording_S)[:cut]
        made = Passage(
            clip=example.id,
            kind=RESYNTHESIS,
            seed=None,
            prompt_S=prompt_S,
            wav_S=wav_S[cut:],
            codes_TK=codes_TK[prompt:],
        )
        if recording_S is not None:
            passages.append(replace(made, kind=ORIGINAL, wav_S=recording_S[cut:], codes_TK=None))
        passages.append(made)
    return passages


def continue_clips(
    generator: Generator,
    examples: Sequence[Example],
    prompts: dict[str, np.ndarray],
    excerpts: Excerpts,
    n: int,
    sampling: Sampling,
    on_step: Progress | None = None,
) -> list[Passage]:
    """`n` continuations of each clip by seeds 0 to n - 1, each at most as long as the clip.

    None is shorter than what a clip must have after the prompt: judges of voices need some seconds.

    Args:
        prompts: by clip, the prompt as judges hear it.
    """
    codec = generator.model.codec
    prompt, least, most = excerpts.frames(codec)
    asked: list[tuple[Example, Request]] = []
    for example in examples:
        codes_TK = example.streams[AUDIO].astype(np.int64)
        limits = {AUDIO: min(len(codes_TK), prompt + most)}
        request = Request(prompts={AUDIO: codes_TK[:prompt]}, limits=limits, least={AUDIO: prompt + least})
        asked += [(example, replace(request, seed=seed)) for seed in range(n)]
    passages = []
    for first in range(0, len(asked), BATCH):
        batch = asked[first : first + BATCH]
        made = generator.generate_batch([request for _, request in batch], sampling)
        for (example, request), item in zip(batch, made, strict=True):
            passages.append(_passage(example.id, request.seed, prompts[example.id], item))
        if on_step:
            on_step(len(passages), len(asked))
    return passages


def _passage(clip: str, seed: int, prompt_S: np.ndarray, item: Generation) -> Passage:
    wav_S = resample(item.wav_T, item.sample_rate, RATE).numpy()
    return Passage(
        clip=clip,
        kind=CONTINUATION,
        seed=seed,
        prompt_S=prompt_S,
        wav_S=wav_S,
        codes_TK=item.codes_TK,
        ended=item.ended,
    )


class CopyCheck:
    """Nearest training clips, by the codes of the first levels and by sound.

    Args:
        training: clips that the model was trained on; all are decoded here.
        window_seconds: of the windows that are compared; shorter passages have no neighbours.
        levels: levels whose codes are compared.
    """

    def __init__(self, training: Sequence[Example], codec: Codec, window_seconds: float = 1.0, levels: int = 2):
        self.ids = [example.id for example in training]
        codes = [example.streams[AUDIO] for example in training]
        self._codes = TrainingFrames([codes_TK[:, :levels] for codes_TK in codes])
        self._mels = TrainingFrames([log_mels(decode(codec, codes_TK.astype(np.int64))) for codes_TK in codes])
        self._levels, self._hop = levels, round(codec.hop * RATE / codec.sample_rate)
        self._window_seconds = window_seconds

    def __call__(self, passage: Passage) -> dict[str, Nearest]:
        found = {"sound": self._by_sound(passage.wav_S)}
        if passage.codes_TK is not None:
            found["codes"] = self._by_codes(passage.codes_TK, passage.wav_S)
        return {name: nearest for name, nearest in found.items() if nearest is not None}

    def _by_codes(self, codes_TK: np.ndarray, wav_S: np.ndarray) -> Nearest | None:
        window = round(self._window_seconds * RATE / self._hop)
        heard_T = is_heard(wav_S, self._hop, len(codes_TK))
        return nearest_by_codes(codes_TK[:, : self._levels], self._codes, window, heard_T)

    def _by_sound(self, wav_S: np.ndarray) -> Nearest | None:
        mel_TM, window = log_mels(wav_S), round(self._window_seconds * RATE / MEL_HOP)
        return nearest_by_spectrum(mel_TM, self._mels, window, is_heard(wav_S, MEL_HOP, len(mel_TM)))


def rate(passage: Passage, judges: dict[str, Judge], copies: CopyCheck | None = None) -> Rated:
    """A passage before judges: `dnsmos`, `similarity` to the prompt, word errors where its text is known."""
    found = copies(passage) if copies else {}
    scores = {f"copied_{name}": abs(nearest.score) for name, nearest in found.items()}
    heard = Heard(passage.prompt_S, passage.wav_S, passage.text)
    for judge in judges.values():
        scores |= judge(heard)
    return Rated(passage=passage, scores=scores, copies=found)


def summarise(rated: Sequence[Rated]) -> list[Summary]:
    """A summary of each kind there is."""
    nearest = _nearest_of([one for one in rated if one.passage.kind == RESYNTHESIS])
    summaries = []
    for kind in KINDS:
        own = [one for one in rated if one.passage.kind == kind]
        if not own:
            continue
        names = sorted({name for one in own for name in one.scores})
        means = {name: _mean([one.scores[name] for one in own if name in one.scores]) for name in names}
        if "words" in means:
            means["wer"] = (100 * means["wrong"][0] / means["words"][0], math.nan, means["words"][2])
        beyond = {name: sum(_beyond(one, name, most) for one in own) for name, most in nearest.items()}
        seconds = sum(one.passage.seconds for one in own)
        summaries.append(Summary(kind=kind, n=len(own), seconds=seconds, means=means, beyond=beyond))
    return summaries


def table(summaries: Sequence[Summary]) -> str:
    """Rows of Markdown, one a kind, with the columns that there are scores for."""
    columns = [name for name in SCORES if any(name in one.means for one in summaries)]
    lines = [f"| | passages | seconds | {' | '.join(columns)} | nearer than any held-out |"]
    lines.append("|---" * (len(columns) + 4) + "|")
    for one in summaries:
        cells = [_say(one.means.get(name)) for name in columns]
        beyond = ", ".join(f"{count} by {name}" for name, count in one.beyond.items())
        lines.append(f"| {one.kind} | {one.n} | {one.seconds:.0f} | {' | '.join(cells)} | {beyond} |")
    return "\n".join(lines)


def _say(found: tuple[float, float, int] | None) -> str:
    if found is None:
        return ""
    return f"{found[0]:.1f}" if math.isnan(found[1]) else f"{found[0]:.3f} ± {found[1]:.3f}"


def _nearest_of(rated: Sequence[Rated]) -> dict[str, float]:
    """The best score of each measure of copying."""
    names = {name for one in rated for name in one.copies}
    return {name: max(one.copies[name].score for one in rated if name in one.copies) for name in sorted(names)}


def _beyond(one: Rated, name: str, most: float) -> bool:
    return name in one.copies and one.copies[name].score > most


def _mean(values: Sequence[float]) -> tuple[float, float, int]:
    """Mean, its standard error, and how many values."""
    error = stdev(values) / math.sqrt(len(values)) if len(values) > 1 else math.nan
    return mean(values), error, len(values)


def decode(codec: Codec, codes_TK: np.ndarray) -> np.ndarray:
    """A waveform `[S]` at 16 kHz."""
    return resample(decode_at_own_rate(codec, codes_TK), codec.sample_rate, RATE).numpy()


def decode_at_own_rate(codec: Codec, codes_TK: np.ndarray) -> torch.Tensor:
    """A waveform `[S]`, or `[C, S]` of a codec with channels, at the codec's rate; from as many levels as there are."""
    tokens_1TK = torch.from_numpy(codes_TK)[None].to(codec.device)
    lengths_1 = torch.tensor([len(codes_TK)], device=codec.device)
    return codec.decode(Codes(tokens_1TK, lengths_1, codec.identity.with_levels(codes_TK.shape[1])))[0].cpu()


def read_recording(example: Example, n_samples: int) -> np.ndarray | None:
    """The first samples of a clip at 16 kHz, with silence after its end; None where its file is not at hand."""
    if not Path(example.audio).is_file():
        return None
    wav_S = read_audio(example.audio, RATE)[0].numpy()[round(example.start * RATE) :][:n_samples]
    return np.pad(wav_S, (0, n_samples - len(wav_S)))


def log_mels(wav_S: np.ndarray) -> np.ndarray:
    """Log-mel frames `[T, M]` in dB, one for each 20 ms of a waveform at 16 kHz."""
    n_frames = len(wav_S) // MEL_HOP
    if not n_frames:
        return np.zeros((0, MEL_BANDS), np.float32)
    padded_S = torch.nn.functional.pad(torch.from_numpy(wav_S), (0, MEL_WINDOW))
    frames_TW = padded_S.unfold(0, MEL_WINDOW, MEL_HOP)[:n_frames] * torch.hann_window(MEL_WINDOW)
    power_TF = torch.fft.rfft(frames_TW).abs().square()
    return (10 * torch.log10(power_TF @ mel_filters(RATE, MEL_WINDOW, MEL_BANDS) + 1e-4)).numpy()


def is_heard(wav_S: np.ndarray, hop: int, n_frames: int) -> np.ndarray:
    """Which frames of `hop` samples are louder than -45 dB of full scale, bool [T]."""
    padded_S = np.pad(wav_S, (0, max(0, n_frames * hop - len(wav_S))))[: n_frames * hop]
    return np.sqrt(np.square(padded_S.reshape(n_frames, hop)).mean(axis=1)) > LOUD
