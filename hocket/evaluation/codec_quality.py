"""How good codecs sound: several codecs at several numbers of levels, on the same recordings, beside the originals.

Each recording is read at the codec's own rate, encoded once, decoded from each prefix of the levels, taken to 16 kHz
and moved back by the codec's lag, which is measured first; then the judges hear it. Everything runs on one thread, so
that speeds compare. A codec without a decoder gives the use of its codebooks and its speed of encoding.

Shapes: S samples, T codec frames, K levels.
"""

import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch

from hocket.codec import Codec, Codes, load_codec, resample
from hocket.data import BadAudio
from hocket.errors import InputError
from hocket.evaluation.judges import RATE, Heard, Judge, Scores, find_judges
from hocket.evaluation.recordings import Recording, read_recordings

LAG_RECORDINGS = 8
MOST_LAG, LEAST_LAG = 1600, 16  # samples at 16 kHz that are looked through; fewer than the least are no lag
ALIKE = 0.5  # correlation of the loudness below which input and output tell nothing of a lag
ENVELOPE = 80  # samples at 16 kHz that an envelope averages over

Progress = Callable[[int, int], None]
Variant = tuple[str | None, int | None]
"""A codec's name and a number of levels; both None for the originals."""


@dataclass
class Trial:
    """One codec under test and what was counted so far."""

    codec: Codec
    levels: list[int]
    lag: int = 0  # samples at 16 kHz by which its output comes late
    encode_seconds: float = 0.0
    decode_seconds: float = 0.0  # of one decoding of everything, averaged over the prefixes
    audio_seconds: float = 0.0
    counts: list[torch.Tensor] = field(default_factory=list)  # how often each entry of each level was used

    def encode(self, wav_S: torch.Tensor) -> Codes:
        """Codes of a recording at the codec's rate; counts them."""
        started = time.perf_counter()
        codes = self.codec.encode(wav_S, self.codec.input_rate)
        tokens_TK = codes.tokens_BTK[0].cpu()
        self.encode_seconds += time.perf_counter() - started
        self.audio_seconds += len(wav_S) / self.codec.input_rate
        for count, tokens_T in zip(self.counts, tokens_TK.unbind(dim=1), strict=True):
            count += torch.bincount(tokens_T, minlength=len(count))
        return codes

    def decode(self, codes: Codes, levels: int) -> torch.Tensor:
        """All frames' audio at 16 kHz, mono, from a prefix of the levels."""
        started = time.perf_counter()
        wav = self.codec.decode(replace(codes.prefix(levels), n_samples_B=None))[0].cpu()
        self.decode_seconds += (time.perf_counter() - started) / len(self.levels)
        return resample(wav if wav.ndim == 1 else wav.mean(dim=0), self.codec.sample_rate, RATE)

    def facts(self) -> dict[str, Any]:
        """What is said of the codec as a whole: identity, lag, speeds, and each level's use."""
        return {
            "identity": self.codec.identity.to_dict(),
            "lag_ms": self.lag / RATE * 1000,
            "encode_times_real_time": round(self.audio_seconds / self.encode_seconds, 1),
            "decode_times_real_time": round(self.audio_seconds / self.decode_seconds, 1) if self.levels else None,
            "frames": int(self.counts[0].sum()),
            "entries_used": [round(float((count > 0).float().mean()), 4) for count in self.counts],
            "perplexity": [round(perplexity(count), 1) for count in self.counts],
        }


def evaluate_named(
    names: list[str],
    sources: list[str],
    *,
    levels: str | None = None,
    split: str | None = None,
    limit: int | None = None,
    whisper: str | None = None,
    device: str = "cpu",
    on_progress: Progress | None = None,
) -> dict[str, Any]:
    """As `evaluate_codecs`, of codecs and sources by name, with `left_out`: a sentence on each judge not to be had.

    `levels` are numbers with commas between them. Raises InputError for what cannot be read or loaded.
    """
    counts = read_levels(levels) if levels else None
    recordings, rejected = read_recordings(sources, split, limit)
    judges, left_out = find_judges(whisper)
    codecs: dict[str, Codec] = {}
    for name in names:
        codec = load_codec(name).to(device)
        codecs[name if codec.identity.name in codecs else codec.identity.name] = codec
    result = evaluate_codecs(codecs, recordings, judges, counts, on_progress)
    return result | {"rejected": rejected + result["rejected"], "left_out": left_out}


def read_levels(levels: str) -> list[int]:
    try:
        counts = [int(count) for count in levels.split(",")]
    except ValueError:
        counts = []
    if not counts or min(counts) < 1:
        raise InputError(f'levels must be numbers from 1 up with commas between them, such as 8,4, not "{levels}"')
    return list(dict.fromkeys(counts))


def evaluate_codecs(
    codecs: dict[str, Codec],
    recordings: list[Recording],
    judges: dict[str, Judge],
    levels: list[int] | None = None,
    on_progress: Progress | None = None,
) -> dict[str, Any]:
    """Plain values: `codecs` (facts by name), `rows` of scores by set, group, codec and levels, and `rejected`.

    `levels`: numbers of levels to decode; a codec leaves out those that it has not. Without, all of them and half.
    Raises InputError where nothing is left to judge.
    """
    with one_thread():
        trials = {name: start_trial(codec, levels) for name, codec in codecs.items()}
        for name, trial in trials.items():
            if trial.levels:
                trials[name] = replace(fresh(trial), lag=find_lag(trial, recordings[:LAG_RECORDINGS]))
        scores: dict[Variant, list[Scores]] = defaultdict(list)
        judged, rejected = [], []
        for index, recording in enumerate(recordings):
            try:
                found = judge_recording(recording, trials, judges)
            except BadAudio as error:
                rejected.append(str(error))
                continue
            judged.append(recording)
            for variant, own in found.items():
                scores[variant].append(own)
            if on_progress:
                on_progress(index + 1, len(recordings))
    if not judged:
        raise InputError("there is no recording to judge" + (f": {rejected[0]}" if rejected else ""))
    return {
        "recordings": len(judged),
        "audio_seconds": round(next(iter(trials.values())).audio_seconds, 1),
        "rejected": rejected,
        "codecs": {name: trial.facts() for name, trial in trials.items()},
        "rows": list(make_rows(judged, scores, trials)),
    }


def start_trial(codec: Codec, levels: list[int] | None) -> Trial:
    if not codec.can_decode:
        return fresh(Trial(codec, []))
    wanted = levels or sorted({codec.levels, codec.levels // 2 or 1}, reverse=True)
    own = [count for count in wanted if 1 <= count <= codec.levels]
    if not own:
        raise InputError(
            f'codec "{codec.identity.name}" has levels 1 to {codec.levels}; none of {", ".join(map(str, wanted))} is'
        )
    return fresh(Trial(codec, own))


def fresh(trial: Trial) -> Trial:
    """The same trial with nothing counted."""
    counts = [torch.zeros(size, dtype=torch.int64) for size in trial.codec.codebook_sizes]
    return Trial(trial.codec, trial.levels, trial.lag, counts=counts)


def judge_recording(recording: Recording, trials: dict[str, Trial], judges: dict[str, Judge]) -> dict[Variant, Scores]:
    """What all judges say of the original and of each codec's outputs."""
    original_S = recording.read(RATE)

    def judge(output_S: torch.Tensor) -> Scores:
        heard = Heard(original_S.numpy(), output_S.numpy(), recording.text, recording.language)
        return {name: value for judge in judges.values() for name, value in judge(heard).items()}

    found: dict[Variant, Scores] = {(None, None): judge(original_S)}
    for name, trial in trials.items():
        codes = trial.encode(recording.read(trial.codec.input_rate))
        for levels in trial.levels:
            found[name, levels] = judge(aligned(trial.decode(codes, levels), trial.lag, len(original_S)))
    return found


def find_lag(trial: Trial, recordings: list[Recording]) -> int:
    """Samples at 16 kHz by which the codec's output comes after its input, by the loudness of several recordings."""
    total = np.zeros(2 * MOST_LAG + 1)
    for recording in recordings:
        try:
            original_S, wav_S = recording.read(RATE), recording.read(trial.codec.input_rate)
        except BadAudio:  # named where it is judged
            continue
        output_S = trial.decode(trial.encode(wav_S), max(trial.levels))
        total += correlations(envelope(original_S), envelope(output_S))
    lag = int(total.argmax()) - MOST_LAG
    is_clear = total.max() >= ALIKE * len(recordings) and abs(lag) >= LEAST_LAG
    return lag if is_clear else 0


def envelope(wav_S: torch.Tensor) -> np.ndarray:
    """The loudness around each sample, its mean taken away, of unit length."""
    loud_S = np.convolve(wav_S.abs().numpy(), np.full(ENVELOPE, 1 / ENVELOPE), mode="same")
    centred_S = loud_S - loud_S.mean()
    return centred_S / max(float(np.linalg.norm(centred_S)), 1e-9)


def correlations(original_S: np.ndarray, output_S: np.ndarray) -> np.ndarray:
    """How well the output, moved back by -MOST_LAG to MOST_LAG samples, fits the original."""
    size = len(original_S) + len(output_S) + 2 * MOST_LAG
    product = np.fft.irfft(np.fft.rfft(output_S, size) * np.fft.rfft(original_S, size).conj(), size)
    return np.concatenate([product[-MOST_LAG:], product[: MOST_LAG + 1]])


def aligned(output_S: torch.Tensor, lag: int, n_samples: int) -> torch.Tensor:
    """The output moved back by `lag` samples, cut or filled with silence to `n_samples`."""
    moved_S = output_S[lag:] if lag >= 0 else torch.nn.functional.pad(output_S, (-lag, 0))
    return torch.nn.functional.pad(moved_S[:n_samples], (0, max(0, n_samples - len(moved_S))))


def make_rows(
    recordings: list[Recording], scores: dict[Variant, list[Scores]], trials: dict[str, Trial]
) -> Iterator[dict[str, Any]]:
    """For each set, and for each group of sets after its sets, the originals and then every codec and prefix."""
    groups = list(dict.fromkeys(recording.group for recording in recordings))
    for group in groups:
        sets = list(dict.fromkeys(recording.set_name for recording in recordings if recording.group == group))
        for set_name in [*sets, *([None] if group or len(sets) > 1 else [])]:
            chosen = [
                index
                for index, recording in enumerate(recordings)
                if recording.group == group and set_name in (None, recording.set_name)
            ]
            for (name, levels), own in scores.items():
                kbit = (
                    trials[name].codec.identity.with_levels(levels).bits_per_second / 1000 if name and levels else None
                )
                yield {
                    "set": set_name,
                    "group": group,
                    "codec": name,
                    "levels": levels,
                    "kbit_per_second": kbit,
                    "clips": len(chosen),
                } | mean_scores([own[index] for index in chosen])


def mean_scores(rows: list[Scores]) -> dict[str, Any]:
    """`scores`: means over clips, word errors in percent of all words; `covers`: the clips that each has heard."""
    covers = {name: sum(name in row for row in rows) for name in dict.fromkeys(name for row in rows for name in row)}
    totals = {name: sum(row[name] for row in rows if name in row) for name in covers}
    means = {name: total / covers[name] for name, total in totals.items() if name not in ("wrong", "words")}
    if "words" in totals:
        means["wer"] = 100 * totals["wrong"] / totals["words"]
        covers["wer"] = covers["words"]
    rounded = {name: round(value, 4) for name, value in means.items()}
    return {"scores": rounded, "covers": {name: covers[name] for name in means}}


def perplexity(count: torch.Tensor) -> float:
    """2 to the entropy of the entries' use: how many entries would be as varied if all were used alike."""
    share = count[count > 0].double() / count.sum()
    return float(torch.exp(-(share * share.log()).sum()))


@contextmanager
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
