"""How fast a model generates and scores, and the memory that it takes: medians of several runs after one to warm up.

    generation_audio_seconds_per_second           sound by time, one document alone
    generation_steps_per_second                   steps, or passes over the document, by time
    …_batch_8                                     the same, eight documents together
    first_audio_ms                                until the first samples, the prompt's steps included
    first_audio_streams                           1: they come before the end; 0: they come with the whole
    memory_gib                                    most that the process holds (CPU), or that torch holds (GPU)
    scoring_tokens_per_second                     predicted cells by time, packed documents; of one mask, where masked

Documents are noise of a fixed length (3 s of sound after a prompt of 1 s, less where the context holds less), and no
end is drawn before, so that models compare whatever they say. Codes become sound within the time. Of models that only
recognise, the sound is what they hear. What a process holds includes its libraries, some 0.4 GiB.

Shapes: T frames, K levels, N steps.
"""

import os
import resource
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch

from hocket.data import Batch, Corpus, Example, Mixture, one_pass
from hocket.errors import InputError
from hocket.inference import Generator, Request, Sampling
from hocket.inference.asking import RECOGNITION, SPEECH
from hocket.inference.examples import request_like
from hocket.inference.guidance import Guidance
from hocket.inference.masking import MaskSampling
from hocket.model import Model
from hocket.training.objectives import Masking, Objective, loading_options, predicted_levels
from hocket.vocab import ALIGNED_TEXT, TEXT

SECONDS, PROMPT_SECONDS = 3.0, 1.0
WORDS = "one two three four five six seven eight nine ten"
TOKENS_PER_SECOND = 8
"""Text that a recogniser writes at most."""
STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
GIB = 2**30
Report = Callable[[float, float], None]


@dataclass(frozen=True, kw_only=True)
class SpeedSettings:
    """How generation is timed."""

    runs: int = 3
    batch: int = 8
    """Documents of the larger batch; 1 leaves it out."""
    seconds: float = SECONDS
    prompt_seconds: float = PROMPT_SECONDS
    sampling: Sampling = field(default_factory=Sampling)
    guidance: Guidance | None = None
    masks: MaskSampling | None = None


def hardware(device: torch.device | str) -> str:
    """What computes: "NVIDIA H200", "AMD EPYC, 1 of 2 threads"."""
    device = torch.device(device)
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else 'CPU'}, {torch.get_num_threads()} of {os.cpu_count()} threads"


def time_generation(
    generator: Generator, settings: SpeedSettings, on_progress: Report | None = None
) -> tuple[dict[str, float], list[str]]:
    """Speed, latency and memory of generation, and a sentence about each thing that is left out."""
    tell, left_out = on_progress or (lambda done, total: None), []
    requests = [_request(generator, settings, seed) for seed in range(settings.batch)]
    clock = _Clock(generator, settings)
    total = (settings.runs + 1) * (2 + (settings.batch > 1))
    done = 0

    def repeat(measure: Callable[[], tuple[float, ...]]) -> list[tuple[float, ...]]:
        nonlocal done
        runs = []
        for _ in range(settings.runs + 1):
            runs.append(measure())
            done += 1
            tell(done, total)
        return runs[1:]  # the first one warms up

    memory = _Memory(generator.model.device)
    found = _rates(repeat(lambda: clock.whole(requests[:1])))
    if generator.is_heard and generator.tasks[0] != RECOGNITION:
        streams = generator.model.codec.streams_decoding and not generator.in_place
        firsts = repeat(lambda: clock.first_audio(requests[0], streams))
        found["first_audio_ms"] = 1000 * median(seconds for seconds, _ in firsts)
        found["first_audio_streams"] = median(is_early for _, is_early in firsts)
    else:
        left_out.append("the time to the first sound is left out: the model makes no sound by itself")
    found["memory_gib"] = memory.peak / GIB
    if settings.batch > 1:
        together = _rates(repeat(lambda: clock.whole(requests)))
        found |= {f"{name}_batch_{settings.batch}": value for name, value in together.items()}
    return found, left_out


class _Clock:
    """Times one generation."""

    def __init__(self, generator: Generator, settings: SpeedSettings):
        self._generator, self._settings = generator, settings
        self._is_text = generator.tasks[0] == RECOGNITION

    def whole(self, requests: list[Request]) -> tuple[float, ...]:
        """Seconds of time, seconds of audio, steps."""
        steps, how = [], {"guidance": self._settings.guidance, "masks": self._settings.masks}
        began = time.perf_counter()
        made = self._generator.generate_batch(requests, self._settings.sampling, lambda *now: steps.append(now), **how)
        wall = time.perf_counter() - began
        rate = float(self._generator.model.codec_identity.frame_rate)
        heard = [max(map(len, request.given.values())) / rate for request in requests] if self._is_text else []
        return wall, sum(heard or [item.seconds for item in made]), len(steps)

    def first_audio(self, request: Request, streams: bool) -> tuple[float, ...]:
        """Seconds until there is sound, and whether more came after it."""
        if not streams:
            return self.whole([request])[0], 0.0
        began = time.perf_counter()
        for chunk in self._generator.stream(request, self._settings.sampling, guidance=self._settings.guidance):
            if chunk.wav_T.shape[-1]:
                return time.perf_counter() - began, float(not chunk.is_last)
        return time.perf_counter() - began, 0.0


def _rates(runs: list[tuple[float, ...]]) -> dict[str, float]:
    return {
        "generation_audio_seconds_per_second": median(audio / wall for wall, audio, _ in runs),
        "generation_steps_per_second": median(steps / wall for wall, _, steps in runs),
    }


def _request(generator: Generator, settings: SpeedSettings, seed: int) -> Request:
    """A request for noise of a fixed length."""
    task, seconds = generator.tasks[0], settings.seconds
    if task == SPEECH and not generator.text_is_given:  # a layout that speaks and recognises
        request = _spoken(generator, seconds, seed)
    else:
        example = make_noise(generator.model, settings.prompt_seconds + seconds, seed)
        request = request_like(generator, example, seconds=seconds, prompt_seconds=settings.prompt_seconds, seed=seed)
    if task == RECOGNITION:
        limit = min(request.limits[TEXT], round(TOKENS_PER_SECOND * (settings.prompt_seconds + seconds)))
        return replace(request, limits=request.limits | {TEXT: limit})
    audio = generator.audio
    is_open = audio in request.limits and audio not in request.given and not generator.in_place
    return replace(request, least={audio: request.limits[audio]}) if audio and is_open else request


def _spoken(generator: Generator, seconds: float, seed: int) -> Request:
    """Words to say, in less time where the context holds no more."""
    while True:
        try:
            return generator.request(text=WORDS, seconds=seconds, seed=seed, task=SPEECH)
        except InputError:
            if seconds < 0.2:
                raise
            seconds /= 2


def make_noise(model: Model, seconds: float, seed: int = 0) -> Example:
    """An example of random codes of every stream of a layout, with a text."""
    rng, streams = np.random.default_rng(seed), {}
    for name, n_levels in model.layout.streams.items():
        if name in (TEXT, ALIGNED_TEXT):
            continue
        codec = model.codec_identities.get(name, model.codec_identity)
        n_frames = max(2, round(seconds * float(codec.frame_rate)))
        sizes = [model.vocabulary[f"{name}.{k}"].size for k in range(n_levels)]
        streams[name] = rng.integers(0, sizes, (n_frames, n_levels)).astype(np.uint16)
    return Example(
        id="noise",
        streams=streams,
        text=WORDS,
        words=(),
        speaker=None,
        language=None,
        split="valid",
        recording="noise",
        start=0.0,
        duration=seconds,
        audio="noise",
    )


# --- scoring ----------------------------------------------------------------------------------------------------------


@torch.inference_mode()
def time_scoring(model: Model, corpus: Corpus | Mixture, batch_steps: int, missing: str, runs: int) -> float:
    """Predicted cells of packed held-out documents a second, median of the runs."""
    model.eval()
    batch = next(_batches(model, corpus, batch_steps, missing)).to(model.device)
    n_cells, times = int((batch.weight_NR > 0).sum()), []
    for _ in range(runs + 1):
        began = time.perf_counter()
        float(model(batch).total)
        times.append(time.perf_counter() - began)
    return n_cells / median(times[1:])


def _batches(model: Model, corpus: Corpus | Mixture, batch_steps: int, missing: str) -> Iterator[Batch]:
    context = model.config.context
    options: dict[str, Any] = {"given": model.given}
    if model.stage.in_place:
        objective = Objective(levels=predicted_levels(model.stage, model.vocabulary), masking=Masking())
        options = loading_options(model.stage, objective)
    return one_pass(
        corpus,
        model.layout,
        model.vocabulary,
        batch_steps=max(batch_steps, context),
        context=context,
        missing=missing,
        **options,
    )


# --- memory -----------------------------------------------------------------------------------------------------------


class _Memory:
    """The most memory held since it was made."""

    def __init__(self, device: torch.device):
        self._device = device
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        elif os.access(CLEAR, os.W_OK):
            CLEAR.write_text("5")  # the peak begins anew

    @property
    def peak(self) -> float:
        """Bytes."""
        if self._device.type == "cuda":
            return torch.cuda.max_memory_allocated(self._device)
        lines = STATUS.read_text().splitlines() if STATUS.is_file() else []
        peaks = [int(line.split()[1]) for line in lines if line.startswith("VmHWM")]
        return 1024.0 * (peaks[0] if peaks else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
