"""One generator for every layout and head: from what is given to streams, and from streams to sound.

What a model can do follows from its layout:

    Delay(audio)                                    continues a prompt
    Concat(Text(text), Delay(audio))                speaks a text, in the voice of a prompt if there is one
    Concat(Delay(audio), Text(text))                recognises a recording
    Concat(Flatten(source), Flatten(target))        turns speech into speech
    Alternate(Text(text), …, spans="either")        speaks and recognises
    Stack(…) predicted in place                     fills a length that is known beforehand

Causal models are sampled step by step (`autoregressive.py`), the others in passes over all steps (`in_place.py`).

Shapes: T frames or samples, K levels.
"""

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, NamedTuple, overload

import numpy as np
import torch
from torch import Tensor

import hocket
from hocket.codec import Codes
from hocket.errors import InputError, did_you_mean
from hocket.inference.autoregressive import Autoregressive
from hocket.inference.beam import beam_search
from hocket.inference.guidance import Guidance
from hocket.inference.in_place import InPlaceSampler
from hocket.inference.item import given_levels
from hocket.inference.masking import MaskSampling
from hocket.inference.prompts import encode_prompt
from hocket.inference.request import Generation, Progress, Request
from hocket.inference.sampling import Sampling
from hocket.inference.streaming import Chunk, Chunker, Piece, check_chunk_frames, has_ended, only_chunk, read_pieces
from hocket.inference.windows import Windows, find_overlap, is_long, join, refusal
from hocket.inference.words import whole_text
from hocket.interleave import Alternate, Repeat
from hocket.model import Model
from hocket.vocab import ALIGNED_TEXT, TEXT

PROGRESS_FRAMES = 25  # of a long recording, between two reports
UNITS = "semantic"  # a stream that no codec decodes
LONG = 1000  # frames that are decoded at once
SOURCE = "source"  # the stream of what is to be turned into other speech
CONTINUATION, SPEECH, RECOGNITION, CONVERSION = "continuation", "tts", "recognition", "s2s"


class Sampled(NamedTuple):
    """A document that is done."""

    streams: dict[str, np.ndarray]  # int64 [T, K]
    log_probabilities: dict[str, np.ndarray]  # float32 [T, K]
    steps: int  # of the document, or passes over it
    ended: bool  # the model ended every stream itself


class Generator:
    """Generates with one model.

    Args:
        source: where the model comes from, for the record.
    """

    def __init__(self, model: Model, source: Mapping[str, Any] | None = None):
        self.model, self._source_facts = model.eval(), dict(source or {})
        self.outputs = tuple(name for name in model.stage.predicted)
        """The streams that the model writes."""
        codes = [name for name in self.outputs if name not in (TEXT, ALIGNED_TEXT)]
        self.audio = min(codes, key=lambda name: (name != "audio", name == UNITS), default=None)
        """The stream of codes that is heard; None where only text comes out."""
        self.given = {name: n for name, n in given_levels(model).items() if n}

    @property
    def is_heard(self) -> bool:
        """Whether the codes that come out can be decoded to sound; units, where their codec is at hand and does it."""
        if self.audio != UNITS or self.model.main_stream != UNITS:
            return self.audio not in (None, UNITS)
        try:
            return self.model.codec.can_decode
        except InputError:
            return False

    @property
    def settings(self) -> dict[str, Any]:
        """What decides results besides what is asked for."""
        model = self.model
        return self._source_facts | {
            "hocket": hocket.__version__,
            "layout": model.layout.expression,
            "objective": model.stage.objective,
            "codec": model.codec_identity.name,
            "codec_fingerprint": model.codec_identity.fingerprint,
            "device": str(model.device),
        }

    @property
    def in_place(self) -> bool:
        """Whether codes are predicted in passes over a document, instead of step by step."""
        return self.model.stage.in_place

    @property
    def tasks(self) -> tuple[str, ...]:
        """What the layout can be asked for: `continuation`, `tts`, `recognition`, `s2s`; the first is the usual one."""
        if self._is_either:
            return (SPEECH, RECOGNITION)
        if self._text_is_last:
            return (RECOGNITION,)
        if self._source:
            return (CONVERSION,)
        return (SPEECH,) if self.text_is_given else (CONTINUATION,)

    @overload
    def generate(self, *arguments: Any, stream: Literal[True], **named: Any) -> Iterator[Chunk]: ...

    @overload
    def generate(self, *arguments: Any, stream: Literal[False] = False, **named: Any) -> Generation: ...

    def generate(
        self,
        prompt: Tensor | str | Path | None = None,
        text: str | None = None,
        seconds: float | None = None,
        sampling: Sampling | None = None,
        seed: int = 0,
        sample_rate: int | None = None,
        on_step: Progress | None = None,
        task: str | None = None,
        streams: Mapping[str, np.ndarray] | None = None,
        *,
        overlap: float | None = None,
        stream: bool = False,
    ) -> Generation | Iterator[Chunk]:
        """Continues a prompt, speaks a text, or recognises a recording: whatever the model's layout says.

        Args:
            prompt: an audio file, or a waveform `[T]` at `sample_rate` (the codec's input rate unless given): what is
                continued, recognised, or turned into other speech.
            text: what to speak, for layouts in which text comes first.
            seconds: how much audio to generate at most, after the prompt; 5 unless given, or as much as the source has.
            sampling: temperature, top-k, top-p and so on.
            seed: the same seed gives the same result on the same machine.
            task: one of `tasks`, where the layout can do several; what is given tells it otherwise.
            streams: codes `[T, K]` of further streams that the model is given.
            overlap: past the model's context, seconds that each window has of the one before; half of it unless given.
            stream: yields chunks as soon as frames are complete (`stream` has more settings).

        Raises:
            InputError: the prompt cannot be read or is shorter than a frame; prompt and seconds exceed the context,
                and the layout does not go in windows; the layout needs text and none is given, or has no place for it.
        """
        request = self.request(prompt, text, seconds, seed, sample_rate, task=task, streams=streams, overlap=overlap)
        if stream:
            return self.stream(request, sampling, on_step)
        return self.generate_batch([request], sampling, on_step=on_step)[0]

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
        overlap: float | None = None,
    ) -> Request:
        """Reads and encodes what is given; the arguments are those of `generate`.

        Args:
            prompt_seconds: use only so much of the prompt's start.
        """
        task = self._find_task(task, prompt is not None, text is not None)
        given = {name: np.asarray(codes, dtype=np.int64) for name, codes in (streams or {}).items()}
        prompts: dict[str, np.ndarray] = {}
        self._check_text(task, text)
        heard = self._heard(task)
        if prompt is not None:
            if heard is None:
                raise InputError(f"{self.model.layout} has no place for a prompt of audio; leave it out")
            codes_TK = self._encode(prompt, heard, sample_rate, prompt_seconds)
            (given if task in (RECOGNITION, CONVERSION) else prompts)[heard] = codes_TK
        elif task in (RECOGNITION, CONVERSION) and heard not in given:
            verb = "recognises speech" if task == RECOGNITION else "turns speech into speech"
            raise InputError(f"{self.model.layout} {verb}: give the recording as prompt")
        if text is not None:
            tokens_T1 = np.asarray(self.model.vocabulary.encode_text(text), dtype=np.int64).reshape(-1, 1)
            (given if self.text_is_given or self._is_either else prompts)[TEXT] = tokens_T1
        self._check_given(given)
        if seconds is not None and not seconds > 0:
            raise InputError(f"seconds must be more than 0, not {seconds}")
        limits = self._limits(task, given, prompts, seconds)
        shared = None if overlap is None else find_overlap(self.model, overlap)
        return Request(given=given, prompts=prompts, limits=limits, seed=seed, overlap=shared)

    @torch.inference_mode()
    def generate_batch(
        self,
        requests: Sequence[Request],
        sampling: Sampling | None = None,
        on_step: Progress | None = None,
        *,
        guidance: Guidance | None = None,
        masks: MaskSampling | None = None,
        beams: int = 1,
    ) -> list[Generation]:
        """Generates several items together; each comes out as it would alone.

        Args:
            sampling: how codes are drawn.
            on_step: told how many of the steps, or passes, are done.
            guidance: of models that go step by step, how much more the conditions count.
            masks: of models that predict in place, in how many passes and which codes first; it has their guidance.
            beams: above 1, the likeliest document that a beam search of this width finds, instead of a drawn one;
                for layouts that predict one cell a step, such as recognition.

        Raises:
            InputError: guidance, masks or beams are not of this kind of model.
        """
        began = time.perf_counter()
        made = self.sample(requests, sampling, on_step, guidance=guidance, masks=masks, beams=beams)
        finished = [self.finish(request, item) for request, item in zip(requests, made, strict=True)]
        for generation in finished:
            generation.wall_seconds = time.perf_counter() - began
        return finished

    @torch.inference_mode()
    def sample(
        self,
        requests: Sequence[Request],
        sampling: Sampling | None = None,
        on_step: Progress | None = None,
        *,
        guidance: Guidance | None = None,
        masks: MaskSampling | None = None,
        beams: int = 1,
    ) -> list[Sampled]:
        """As `generate_batch`, but the streams alone, which are not decoded to sound."""
        self._check_kind(guidance, masks)
        if beams != 1:
            return self._search(requests, beams, on_step)
        if self.model.stage.in_place:
            return self._fill(requests, sampling, masks, on_step)
        return self._run(requests, sampling or Sampling(), guidance, on_step)

    def stream(
        self,
        request: Request,
        sampling: Sampling | None = None,
        on_step: Progress | None = None,
        *,
        chunk_frames: int | None = None,
        include_prompt: bool = False,
        guidance: Guidance | None = None,
        masks: MaskSampling | None = None,
    ) -> Iterator[Chunk]:
        """Generates one item, and yields what is new: the first frame as soon as it is complete, then 1, 2, 4, …

        Joined, the chunks are the item as `generate_batch` makes it. Models that predict in place yield one.

        Args:
            chunk_frames: frames of every chunk, instead of more and more.
            include_prompt: the chunks begin with what is given.

        Raises:
            InputError: as `generate_batch`; the codec cannot decode piece by piece.
        """
        check_chunk_frames(chunk_frames)
        self._check_kind(guidance, masks)
        main = self.audio or self.outputs[0]
        if self.model.stage.in_place:
            made = self.generate_batch([request], sampling, on_step, masks=masks)[0]
            return iter([only_chunk(self.model, made, request, main, include_prompt)])
        chunker = Chunker(self.model, request, main if self.is_heard else None, main, include_prompt)
        pieces = self._pieces(request, sampling or Sampling(), guidance, on_step, main, chunk_frames)
        return map(chunker.chunk, pieces)

    def _pieces(
        self,
        request: Request,
        sampling: Sampling,
        guidance: Guidance | None,
        on_step: Progress | None,
        main: str,
        chunk_frames: int | None,
    ) -> Iterator[Piece]:
        def make_loop(request: Request) -> Autoregressive:
            return Autoregressive(self.model, [request], sampling, guidance)

        if not is_long(self.model, request):
            loop = make_loop(request)
            return read_pieces(loop, main, chunk_frames, on_step)
        return Windows(self.model, request, make_loop).pieces(chunk_frames, on_step)

    def _check_kind(self, guidance: Guidance | None, masks: MaskSampling | None) -> None:
        objective = self.model.stage.objective
        if self.model.stage.in_place and guidance is not None:
            raise InputError(
                f'this model predicts in place (objective "{objective}"): set MaskSampling.guidance instead'
            )
        if not self.model.stage.in_place and masks is not None:
            raise InputError(f'this model goes step by step (objective "{objective}"): it has no masks to set')

    def _run(
        self, requests: Sequence[Request], sampling: Sampling, guidance: Guidance | None, on_step: Progress | None
    ) -> list[Sampled]:
        made: dict[int, Sampled] = {}
        for b, request in enumerate(requests):
            if is_long(self.model, request):
                pieces = list(self._pieces(request, sampling, guidance, on_step, "", PROGRESS_FRAMES))
                made[b] = Sampled(*join(pieces), pieces[-1].step, pieces[-1].ended)
        short = [b for b in range(len(requests)) if b not in made]
        if short:
            loop = Autoregressive(self.model, [requests[b] for b in short], sampling, guidance)
            for step in loop.run():
                if on_step:
                    on_step(step, loop.n_steps)
            made |= {b: sampled(loop, place) for place, b in enumerate(short)}
        return [made[b] for b in range(len(requests))]

    def _search(self, requests: Sequence[Request], beams: int, on_step: Progress | None) -> list[Sampled]:
        if self.in_place:
            raise InputError("beam search goes step by step, which this model does not: leave beams out")
        found = [best[0] for best in beam_search(self.model, requests, beams=beams, on_step=on_step)]
        return [Sampled(best.streams, best.log_probabilities, best.steps, best.ended) for best in found]

    def _fill(
        self,
        requests: Sequence[Request],
        sampling: Sampling | None,
        masks: MaskSampling | None,
        on_step: Progress | None,
    ) -> list[Sampled]:
        filled = InPlaceSampler(self.model).run(requests, sampling, masks, on_step)
        return [Sampled(item.streams, item.log_probabilities, item.passes, False) for item in filled]

    def finish(self, request: Request, item: Sampled) -> Generation:
        """A document as sound and text."""
        streams, codec = item.streams, self.model.codec if self.is_heard else self.model.codec_identity
        whole = {name for name, codes in request.given.items() if codes.shape[1] == streams[name].shape[1]}
        audio = self.audio if self.audio not in whole else None
        codes_TK = streams[audio] if audio else np.zeros((0, 1), dtype=np.int64)
        start = len(request.prompts.get(audio, ())) if audio else 0
        wav_T = self.decode(codes_TK) if audio and self.is_heard else torch.zeros(0)
        cut = start * codec.hop
        return Generation(
            streams=streams,
            made=tuple(sorted((name for name in streams if name not in whole), key=lambda name: name != audio)),
            log_probabilities=item.log_probabilities,
            codes_TK=codes_TK[start:],
            wav_T=wav_T[..., cut:],
            prompt_codes_TK=codes_TK[:start],
            prompt_wav_T=wav_T[..., :cut],
            full_wav_T=wav_T,
            text=whole_text(self.model.vocabulary, streams),
            sample_rate=codec.sample_rate,
            steps=item.steps,
            seconds=(len(codes_TK) - start) / float(codec.frame_rate),
            wall_seconds=0.0,
            ended=item.ended,
        )

    def decode(self, codes_TK: np.ndarray) -> Tensor:
        """Codes as sound: float32 samples on the CPU, `[T]` or, of a codec with channels, `[C, T]`."""
        codec = self.model.codec
        if not len(codes_TK):
            return torch.zeros(0)
        if len(codes_TK) > LONG and codec.streams_decoding:  # the same samples, in memory that does not grow
            stream, pieces = codec.stream_decoder(), torch.from_numpy(codes_TK).to(codec.device).split(LONG)
            return torch.cat([*(stream.push(piece_TK).cpu() for piece_TK in pieces), stream.finish().cpu()], dim=-1)
        tokens_BTK, lengths_B = torch.from_numpy(codes_TK)[None], torch.tensor([len(codes_TK)])
        return codec.decode(Codes(tokens_BTK.to(codec.device), lengths_B.to(codec.device), self.model.codec_identity))[
            0
        ].cpu()

    # --- what a layout can do ---------------------------------------------------------------------------------------

    @cached_property
    def _is_either(self) -> bool:
        nodes = self.model.layout.span_nodes()
        return bool(nodes) and nodes[0].spans == "either"

    @cached_property
    def _text_is_last(self) -> bool:
        return not self._is_either and self.model.layout.leaves()[-1].ref.name == TEXT and not self._alternates

    @cached_property
    def text_is_given(self) -> bool:
        """Text stands whole before all else; otherwise it is begun, and the model goes on with it."""
        has_text = TEXT in self.model.layout.streams and not self._text_is_last and not self._is_either
        return has_text and (TEXT in self.given or not self._alternates)

    @cached_property
    def _alternates(self) -> bool:
        return any(isinstance(node, Alternate) for node in self.model.layout.walk())

    @cached_property
    def _source(self) -> str | None:
        """A whole stream of the codec's codes that the model hears and turns into another."""
        levels = self.model.layout.streams
        whole = [
            name for name, n in self.given.items() if n == levels[name] and name not in (TEXT, ALIGNED_TEXT, UNITS)
        ]
        return "source" if "source" in whole else None

    @property
    def recognises(self) -> bool:
        """Audio is given, text comes out, whatever is asked for."""
        return self.tasks == (RECOGNITION,)

    def _heard(self, task: str) -> str | None:
        """The stream that a prompt of audio is of."""
        if task == CONVERSION:
            return self._source
        if task == RECOGNITION:
            return next((n for n in self.model.layout.streams if n not in (TEXT, ALIGNED_TEXT)), None)
        return self.audio if self.audio != UNITS and not self.given.get(self.audio or "") else None

    def _find_task(self, task: str | None, has_prompt: bool, has_text: bool) -> str:
        if task is None:
            return RECOGNITION if self._is_either and has_prompt and not has_text else self.tasks[0]
        if task not in self.tasks:
            raise InputError(f"{self.model.layout} cannot be asked for {task}" + did_you_mean(task, self.tasks))
        return task

    def _check_text(self, task: str, text: str | None) -> None:
        layout = self.model.layout
        needs = task == SPEECH and TEXT in layout.streams and (self.text_is_given or self._is_either)
        if needs and text is None:
            raise InputError(f"{layout} speaks a text: give one with --text (text=…)")
        if text is not None and (TEXT not in layout.streams or task == RECOGNITION):
            raise InputError(f"{layout} has no place for a given text; leave it out")

    def _check_given(self, given: Mapping[str, np.ndarray]) -> None:
        levels = self.model.layout.streams
        for name in given:
            if name not in levels:
                raise InputError(f'{self.model.layout} has no stream "{name}"' + did_you_mean(name, levels))
        missing = [name for name in self.given if name not in given]
        if missing:
            raise InputError(
                f"{self.model.layout} is given {', '.join(missing)}: say with --stream NAME=FILE (streams={{…}}) which "
                "codes these are"
            )

    def _limits(
        self, task: str, given: Mapping[str, np.ndarray], prompts: Mapping[str, np.ndarray], seconds: float | None
    ) -> dict[str, int]:
        """Most frames of each open stream."""
        rate = float(self.model.codec_identity.frame_rate)
        open_streams = [n for n in self.model.layout.streams if n not in given]
        wanted = max(1, round(seconds * rate)) if seconds is not None else self._as_long_as(given) or round(5 * rate)
        limits = {
            name: wanted + len(prompts.get(name, ())) for name in open_streams if name not in (TEXT, ALIGNED_TEXT)
        }
        limits |= {name: len(codes) for name, codes in given.items() if self.given.get(name, 0) and name == self.audio}
        if ALIGNED_TEXT in open_streams:
            limits[ALIGNED_TEXT] = max(limits.values(), default=wanted)
        if task == RECOGNITION:
            limits = {TEXT: self._room_for_text(given)}
        elif TEXT in open_streams:
            limits[TEXT] = self.most_text(limits, len(prompts.get(TEXT, ())))
        self._check_context(given, prompts, limits, seconds or wanted / rate)
        return limits

    def _as_long_as(self, given: Mapping[str, np.ndarray]) -> int:
        """Frames of audio that go beside what is given on the same clock; 0 where nothing is."""
        layout = self.model.layout
        paces = {leaf.ref.name: leaf.pace for leaf in layout.leaves() if isinstance(leaf, Repeat)}
        clocked = [name for name in given if name == self._source or name in paces]
        return max((math.floor(len(given[name]) * paces.get(name, 1)) for name in clocked), default=0)

    def _steps(self, lengths: Mapping[str, int]) -> int:
        layout = self.model.layout
        return int(layout.count_steps({name: lengths.get(name, 0) for name in layout.streams}, ended=False))

    def most_text(self, lengths: Mapping[str, int], n_prompt: int = 0) -> int:
        """As much text as the context holds beside other streams, at least one token after the prompt."""
        if self.model.layout.has_spans:
            return self.model.config.context
        low, high = n_prompt + 1, self.model.config.context
        while low < high:
            middle = (low + high + 1) // 2
            fits = self._steps({**lengths, TEXT: middle}) < self.model.config.context
            low, high = (middle, high) if fits else (low, middle - 1)
        return low

    def fits(self, request: Request) -> bool:
        """Whether a request's document is no longer than the model's context."""
        given = {name: len(codes) for name, codes in request.given.items()}
        return self._steps({**request.limits, **given}) <= self.model.config.context

    def _room_for_text(self, given: Mapping[str, np.ndarray]) -> int:
        context, layout = self.model.config.context, self.model.layout
        lengths = {name: len(codes) for name, codes in given.items()}
        room = context - int(layout.count_steps({**dict.fromkeys(layout.streams, 0), **lengths}))
        if room < 1:
            raise InputError(self._too_long(f"the recording of {max(lengths.values())} frames"))
        return room

    def _check_context(
        self, given: Mapping[str, np.ndarray], prompts: Mapping[str, np.ndarray], limits: dict[str, int], seconds: float
    ) -> None:
        if not refusal(self.model, given):
            return
        context, rate = self.model.config.context, float(self.model.codec_identity.frame_rate)
        fixed = {name: len(codes) for name, codes in given.items()}
        start = {name: len(prompts.get(name, ())) for name in limits if name not in fixed}
        prompt = len(prompts.get(self.audio or "", ()))
        if self._steps({**start, **fixed}) >= context:
            what = f"the prompt of {prompt / rate:.1f} s" if prompt else "what is given"
            raise InputError(self._too_long(what))
        if self.model.layout.has_spans:
            return
        wanted = self._steps({**limits, **fixed})
        if wanted > context:
            more = 0
            grows = [n for n in limits if n != TEXT and n not in fixed]
            while self._steps({**limits, **fixed, **{n: start[n] + more + 1 for n in grows}}) <= context:
                more += 1
            raise InputError(
                f"{seconds:g} s after a prompt of {prompt / rate:.1f} s take {wanted} steps, more than the "
                f"model's context of {context}; ask for at most {math.floor(more / rate * 10) / 10:g} s"
            )

    def _too_long(self, what: str) -> str:
        return (
            f"{what} is longer than the model's context of {self.model.config.context} steps "
            f"({self.model.context_seconds:.1f} s of audio); give a shorter one"
        )

    # --- audio in ---------------------------------------------------------------------------------------------------

    def _encode(
        self, prompt: Tensor | str | Path, stream: str, sample_rate: int | None, seconds: float | None = None
    ) -> np.ndarray:
        """Codes `[T, K]` of the frames that the prompt determines: whole ones, without the codec's look-ahead."""
        codes_TK = encode_prompt(self.model.codec, prompt, sample_rate, seconds)
        return codes_TK[:, : self.model.layout.streams[stream]]


def sampled(loop: Autoregressive, b: int) -> Sampled:
    """One document of a loop that is done."""
    item = loop.items[b]
    streams = item.plan.deinterleave(loop.grid(b), loop.model.vocabulary)
    return Sampled(streams, item.plan.deinterleave(loop.log_probabilities(b)), item.n_steps, has_ended(item))
