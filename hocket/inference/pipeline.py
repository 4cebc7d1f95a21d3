"""Cascades: several models one after another, each given what those before it made.

    hello.wav ──units──▶ semantic ──▶ semantic ...........        AudioLM: three models, of which the second and third
    hello.wav ──codec──▶ audio    ──▶ coarse   ::::::::::::        go through long recordings in windows
                                  ──▶ fine     ||||||||||||  ──codec──▶ wav

Stages are checkpoints: AudioLM (semantic, coarse, fine), semantic units and SoundStorm, Bark's three, VALL-E's two. How
they chain follows from what each model is given and makes; `cascade.py` refuses those that do not fit together. Memory
is that of the longest window of any stage; what grows with the recording are its codes.

Shapes: T frames or samples, K levels.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import hocket
from hocket.errors import InputError, did_you_mean
from hocket.inference.asking import UNITS
from hocket.inference.cascade import CascadeStage, check_chain, check_codes
from hocket.inference.clock import Clock
from hocket.inference.generator import Sampled
from hocket.inference.guidance import Guidance
from hocket.inference.masking import MaskSampling
from hocket.inference.passage import Passage, Reach, Recording
from hocket.inference.pipeline_codecs import StreamCodecs
from hocket.inference.pipeline_file import PipelineSpec, read_spec
from hocket.inference.prompts import encode_prompt
from hocket.inference.request import Generation, Progress, Request
from hocket.inference.sampling import Sampling
from hocket.inference.stage_settings import Settings
from hocket.interleave.stream import StreamRef
from hocket.vocab import ALIGNED_TEXT, TEXT

SECONDS = 5.0  # are generated unless it is said otherwise
PARTS = 1000  # in which progress of a stage is told


@dataclass(frozen=True, kw_only=True)
class PipelineRequest:
    """One recording to make: what is given, how much is wanted."""

    prompts: dict[str, np.ndarray] = field(default_factory=dict)
    """Codes `[T, K]` of the prompt, of each stream that goes on from it; cut to the same time."""
    given: dict[str, np.ndarray] = field(default_factory=dict)
    """Codes `[T, K]` of streams that the user gives, the prompt's included."""
    text: str | None = None
    """What is said, in the prompt and after it."""
    prompt_ticks: int = 0
    ticks: int = 0
    """Frames of the slowest stream: those of the prompt, and most in all."""
    least_ticks: int = 0
    """Fewest in all."""
    seed: int = 0

    @property
    def limits(self) -> dict[str, int]:
        """How long it may become."""
        return {"ticks": self.ticks}


class Pipeline:
    """A cascade of models. `Pipeline.open("runs/semantic,runs/coarse,runs/fine")` makes one.

    Args:
        stages: models in their order.
        spec: what it was made of: codecs by stream, streams that the user gives.

    Raises:
        InputError: a stage is given what nothing makes, two make the same, or their codecs or vocabularies differ.
    """

    def __init__(self, stages: Sequence[CascadeStage], spec: PipelineSpec):
        self.parts, self._spec = tuple(stages), spec
        check_chain(self.parts, spec.given)
        check_codes(self.parts)
        self.codecs = StreamCodecs(self.parts, spec.codecs)
        self.clock = Clock(self.codecs.rates)
        heard = [stage for stage in self.parts if stage.generator.audio]
        stream = min((stage.generator.audio or "" for stage in heard), key=lambda name: name == UNITS, default=None)
        self._last = [stage for stage in self.parts if stage.generator.audio == stream][-1]
        made = dict.fromkeys(name for stage in self.parts for name in stage.made)
        self.outputs = tuple(sorted(made, key=lambda name: name != stream))
        """The streams that are made: what is heard first."""

    @classmethod
    def open(
        cls,
        spec: str | Path | PipelineSpec,
        device: str = "cpu",
        dtype: str = "float32",
        codecs: Mapping[str, str] | None = None,
        given: Sequence[str] = (),
    ) -> "Pipeline":
        """Loads the models of a pipeline.

        Args:
            spec: a pipeline file (`.yaml`), or checkpoints separated by commas.
            dtype: of the weights while they are used: float32 or bfloat16.
            codecs: by stream, where its codec is found, beside those that the file names.
            given: streams that `request` is given, or levels of them as `audio[:4]`.

        Raises:
            InputError: there is no such file or checkpoint, or the models do not fit together.
        """
        found = spec if isinstance(spec, PipelineSpec) else read_spec(spec)
        found = replace(found, codecs={**found.codecs, **(codecs or {})}, given=(*found.given, *given))
        return cls([CascadeStage(settings, device, dtype) for settings in found.stages], found)

    @property
    def stages(self) -> tuple[str, ...]:
        """Names of the stages."""
        return tuple(stage.name for stage in self.parts)

    @property
    def given(self) -> set[str]:
        """The streams that the user gives with a request."""
        return {StreamRef.parse(name).name for name in self._spec.given}

    @property
    def in_place(self) -> bool:
        """Whether every stage predicts in place."""
        return all(stage.model.stage.in_place for stage in self.parts)

    @property
    def settings(self) -> dict[str, Any]:
        """What decides results besides what is asked for."""
        stages = [asdict(stage.settings) | stage.generator.settings for stage in self.parts]
        codecs = {
            name: {"name": found.name, "fingerprint": found.fingerprint}
            for name, found in self.codecs.identities.items()
        }
        return {"hocket": hocket.__version__, "stages": stages, "codecs": codecs}

    # --- what is asked ----------------------------------------------------------------------------------------------

    def request(
        self,
        prompt: Tensor | str | Path | None = None,
        text: str | None = None,
        seconds: float | None = None,
        seed: int = 0,
        sample_rate: int | None = None,
        prompt_seconds: float | None = None,
        task: str | None = None,
        streams: Mapping[str, np.ndarray] | None = None,
        prompt_text: str | None = None,
        min_seconds: float | None = None,
        overlap: float | None = None,
    ) -> PipelineRequest:
        """Reads and encodes what is given, and checks that all stages can make what is asked.

        Args:
            prompt: an audio file, or a waveform `[T]` at `sample_rate`, that is gone on from; for text to speech its
                voice is taken.
            text: what to say.
            seconds: most audio after the prompt; 5 unless given, or as much as the streams that are given.
            prompt_seconds: use only so much of the prompt's start.
            task: none: what a cascade does follows from its stages.
            streams: codes `[T, K]` of the streams that the user gives, the prompt's included.
            prompt_text: what is said in the prompt.
            min_seconds: no stage may end before so much, after the prompt.
            overlap: none: each stage's windows are set in the pipeline's file.

        Raises:
            InputError: text or a stream is missing, or there is no place for it; a codec cannot be found; a stage's
                context is too short for what is asked.
        """
        if task is not None:
            raise InputError(f"what a pipeline does follows from its stages: leave out task={task}")
        if overlap is not None:
            raise InputError("the windows of a pipeline's stages are set in its file: leave overlap out")
        if seconds is not None and not seconds > 0:
            raise InputError(f"seconds must be more than 0, not {seconds}")
        given = self._check_given(streams or {})
        self._check_text(text, prompt_text, prompt is not None)
        prompts, known = {}, 0
        if prompt is not None:
            prompts, known = self._encode(prompt, sample_rate, prompt_seconds, given)
        wanted = known + self.clock.round(SECONDS if seconds is None else seconds)
        there = [self.clock.ticks(name, len(codes)) for name, codes in given.items() if name in self.clock.rates]
        request = PipelineRequest(
            prompts=prompts,
            given=given,
            text=f"{prompt_text} {text}" if prompt_text else text,
            prompt_ticks=known,
            ticks=min([*there, *([wanted] if not there or seconds is not None else [])]),
            least_ticks=0 if min_seconds is None else known + self.clock.round(min_seconds),
            seed=seed,
        )
        if not 0 <= request.least_ticks <= request.ticks:
            raise InputError(f"min_seconds must be from 0 to the seconds that are asked for, not {min_seconds}")
        self._check_reach(request)
        return request

    def _check_given(self, streams: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        needed = self.given
        for name in streams:
            if name not in needed:
                raise InputError(
                    f'no stage needs "{name}" from outside: leave it out, or declare it in `given:`'
                    + (did_you_mean(name, needed) if needed else "")
                )
        for name in sorted(needed - streams.keys()):
            raise InputError(f"the pipeline is given {name}: say with --stream {name}=FILE which codes these are")
        return {name: np.asarray(codes, dtype=np.int64) for name, codes in streams.items()}

    def _check_text(self, text: str | None, prompt_text: str | None, has_prompt: bool) -> None:
        made = [stage.name for stage in self.parts if TEXT in stage.made]
        readers = [stage.name for stage in self.parts if stage.reads_text and not made]
        if readers and text is None:
            raise InputError(f'stage "{readers[0]}" speaks a text: give one with --text (text=…)')
        if not readers and (text is not None or prompt_text is not None):
            raise InputError("no stage of the pipeline reads a given text; leave it out")
        if prompt_text is not None and not has_prompt:
            raise InputError("prompt_text is what is said in the prompt, and there is no prompt: leave it out")

    def _encode(
        self, prompt: Tensor | str | Path, sample_rate: int | None, seconds: float | None, given: Mapping[str, Any]
    ) -> tuple[dict[str, np.ndarray], int]:
        """The prompt's codes of every stream that is made, cut to the same time; and their ticks."""
        names = [name for name in self.outputs if name in self.clock.rates and name != ALIGNED_TEXT]
        if not names:
            raise InputError("no stage of the pipeline goes on from audio; leave the prompt out")
        prompts = {name: encode_prompt(self.codecs.open(name), prompt, sample_rate, seconds) for name in names}
        ticks = min(self.clock.ticks(name, len(codes)) for name, codes in prompts.items())
        if ticks < 1:
            raise InputError(f"the prompt is shorter than one frame of {float(1 / self.clock.rate):.3f} s")
        for name in set(names) & given.keys():
            if len(given[name]) < self.clock.frames(name, ticks):
                raise InputError(f'"{name}" is given with fewer frames than the prompt has')
        return {name: codes[: self.clock.frames(name, ticks)] for name, codes in prompts.items()}, ticks

    def _check_reach(self, request: PipelineRequest) -> None:
        """Every stage can go as far as is asked."""
        recording = self._recording(request)
        for stage in self.parts:
            lengths = {}
            if stage.reads_text and request.text is not None:
                lengths[TEXT] = len(stage.model.vocabulary.encode_text(request.text))
            Reach(stage, self.clock).window(recording, lengths)

    # --- what comes out ---------------------------------------------------------------------------------------------

    def generate(
        self,
        prompt: Tensor | str | Path | None = None,
        text: str | None = None,
        seconds: float | None = None,
        sampling: Sampling | None = None,
        seed: int = 0,
        sample_rate: int | None = None,
        on_step: Progress | None = None,
        *,
        guidance: Guidance | None = None,
        masks: MaskSampling | None = None,
        **more: Any,
    ) -> Generation:
        """Makes one recording; the arguments are those of `request` and `generate_batch`."""
        request = self.request(prompt, text, seconds, seed, sample_rate, **more)
        return self.generate_batch([request], sampling, on_step, guidance=guidance, masks=masks)[0]

    @torch.inference_mode()
    def generate_batch(
        self,
        requests: Sequence[PipelineRequest],
        sampling: Sampling | None = None,
        on_step: Progress | None = None,
        *,
        guidance: Guidance | None = None,
        masks: MaskSampling | None = None,
        beams: int = 1,
        best_of: int = 1,
    ) -> list[Generation]:
        """Makes several recordings together; each comes out as it would alone.

        Args:
            sampling: how codes are drawn, where a stage says nothing else.
            on_step: told how much of the way through all stages is done, in parts of `PARTS` a stage.
            guidance: of stages that go step by step and are given streams.
            masks: of stages that predict in place.

        Raises:
            InputError: settings do not fit the stages; beams or best_of, which are for one model that recognises.
        """
        if beams != 1:
            raise InputError("beam search is for recognition by one model: leave beams out of a pipeline")
        if best_of != 1:
            raise InputError("best_of is for one model that speaks and recognises: leave it out of a pipeline")
        began = time.perf_counter()
        settings = Settings(self.parts, sampling or Sampling(), guidance, masks)
        recordings = [self._recording(request) for request in requests]
        for number, stage in enumerate(self.parts):
            passages = [Passage(stage, recording, self.clock, number) for recording in recordings]
            self._run(passages, settings.of(stage), number, stage, on_step)
            for passage in passages:
                passage.finish()
        generations = [self._finish(recording) for recording in recordings]
        for generation in generations:
            generation.wall_seconds = time.perf_counter() - began
        return generations

    def _run(
        self,
        passages: Sequence[Passage],
        how: dict[str, Any],
        number: int,
        stage: CascadeStage,
        on_step: Progress | None,
    ) -> None:
        """Takes recordings through a stage, all that have a next window together."""

        def tell(share: float) -> None:
            if on_step:
                on_step(round(PARTS * (number + share)), PARTS * len(self.parts))

        while True:
            asked = [(passage, request) for passage in passages if (request := passage.request()) is not None]
            if not asked:
                return tell(1.0)
            before, after = (sum(getattr(p, at) for p, _ in asked) / len(asked) for at in ("share", "next_share"))
            made = stage.generator.sample(
                [request for _, request in asked],
                on_step=lambda step, n, a=before, b=after: tell(a + (b - a) * step / max(n, 1)),
                **how,
            )
            for (passage, _), item in zip(asked, made, strict=True):
                passage.take(item)

    def _recording(self, request: PipelineRequest) -> Recording:
        return Recording(
            prompts=dict(request.prompts),
            streams=dict(request.given),
            text=request.text,
            known=request.prompt_ticks,
            total=request.ticks,
            least=request.least_ticks,
            seed=request.seed,
        )

    def _finish(self, recording: Recording) -> Generation:
        """A recording as sound: decoded by the codec of the last stage that makes what is heard."""
        generator = self._last.generator
        prompts = {}
        if generator.audio:
            levels = self._last.levels[generator.audio]
            prompts[generator.audio] = recording.prompt(generator.audio, levels, self.clock)
        item = Sampled(recording.streams, recording.scores, recording.steps, recording.ended)
        generation = generator.finish(Request(prompts=prompts), item)
        generation.text, generation.made = recording.text, self.outputs
        return generation
