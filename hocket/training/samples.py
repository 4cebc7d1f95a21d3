"""Audio while a model trains: how it continues, or speaks, the first held-out examples.

    runs/NAME/samples/STEP-1.wav     the first held-out example: its start, then the model's continuation
                      STEP-2.wav     the second one

What is asked for follows from the layout (`inference/examples.py`): layouts that speak a text are given the example's
text and nothing else, those that recognise write `STEP-1.txt`, those of units alone `STEP-1.npy`. The sampler has a
random generator of its own and the process' is put back, so that a run trains the same with samples and without. The
codec is loaded for the first sample; the average of the weights is what is heard, where there is one. Training waits
meanwhile, about as long as `hocket generate` takes.
"""

import contextlib
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch

from hocket.codec import write_audio
from hocket.data.corpus import Example
from hocket.errors import InputError
from hocket.inference import Generation, Generator, Request, Sampling
from hocket.inference.examples import request_like
from hocket.model import Model
from hocket.training.config import InferenceGroup
from hocket.training.ema import WeightAverage
from hocket.training.engine import Engine
from hocket.training.loop import Callback, Report
from hocket.training.metrics import MetricsFiles
from hocket.vocab import ALIGNED_TEXT, TEXT

SAMPLES = 2


class Samples(Callback):
    """Writes samples every `every` steps and after the last one.

    Args:
        examples: held-out ones; the first few are continued.
        settings: temperature, lengths and seed, as the recipe's group inference holds them.
        folder: the run folder.
    """

    name = "samples"

    def __init__(
        self,
        engine: Engine,
        model: Model,
        examples: Sequence[Example],
        settings: InferenceGroup,
        folder: Path,
        files: MetricsFiles | None,
        every: int,
        average: WeightAverage | None = None,
    ):
        self._engine, self._model, self._settings = engine, model, settings
        self._examples = [examples[i] for i in range(min(SAMPLES, len(examples)))]
        self._folder, self._files, self._every, self._average = folder, files, every, average
        self._can_sample = bool(self._examples)

    def on_start(self, step: int) -> None:
        """Say at once if this layout cannot be sampled."""
        self._can_sample &= self._try(lambda: [self._request(self._generator(), example) for example in self._examples])

    def on_step(self, report: Report) -> None:
        if not self._can_sample or (report.step % self._every and not report.is_last):
            return
        if self._engine.is_main:
            with self._average.applied() if self._average else contextlib.nullcontext():
                self._can_sample = self._try(lambda: self._sample(report.step))

    def _try(self, work: Callable[[], object]) -> bool:
        """Do it, leaving model and random state as they were; say why if it cannot be done."""
        try:
            with _same_random_state(self._engine.device):
                work()
        except InputError as error:
            if self._engine.is_main:
                print(f"no samples will be made: {error}", file=sys.stderr)
            return False
        finally:
            self._model.train()
        return True

    def _generator(self) -> Generator:
        if self._engine.is_sharded:
            raise InputError("no process has whole weights under DeepSpeed's ZeRO stage 3; generate from a checkpoint")
        return Generator(self._model)

    def _request(self, generator: Generator, example: Example) -> Request:
        settings = self._settings
        return request_like(
            generator,
            example,
            seconds=settings.seconds,
            prompt_seconds=settings.prompt_seconds,
            seed=settings.seed,
        )

    def _sample(self, step: int) -> None:
        generator, settings = self._generator(), self._settings
        sampling = Sampling(temperature=settings.temperature, top_k=settings.top_k, top_p=settings.top_p)
        requests = [self._request(generator, example) for example in self._examples]
        items = generator.generate_batch(requests, sampling)
        names = [self._write(f"samples/{step}-{number}", item) for number, item in enumerate(items, 1)]
        if self._files:
            seconds = [round(item.seconds, 3) for item in items]
            ids = [example.id for example in self._examples]
            self._files.write({"step": step, "samples": names, "sample_seconds": seconds, "sampled": ids})

    def _write(self, name: str, item: Generation) -> str:
        """Sound where there is some, else text, else units; the file's name in the run's folder."""
        path = self._folder / name
        if len(item.full_wav_T):
            write_audio(path.with_suffix(".wav"), item.full_wav_T, item.sample_rate)
            return f"{name}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        if {TEXT, ALIGNED_TEXT} & set(item.made):
            path.with_suffix(".txt").write_text(f"{item.text}\n", encoding="utf-8")
            return f"{name}.txt"
        np.save(path.with_suffix(".npy"), item.codes_TK.astype(np.uint16))
        return f"{name}.npy"


@contextlib.contextmanager
def _same_random_state(device: torch.device) -> Iterator[None]:
    """Afterwards, random numbers go on as if nothing had drawn any."""
    numbers = np.random.get_state()
    try:
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            yield
    finally:
        np.random.set_state(numbers)
