"""One generator for every layout and head: from what is given to streams, and from streams to sound.

Causal models are sampled step by step (`autoregressive.py`), the others in passes over all steps (`in_place.py`).

Shapes: T frames or samples, K levels.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, overload

import numpy as np
import torch
from torch import Tensor

import hocket
from hocket.codec import Codes
from hocket.errors import InputError
from hocket.inference.asking import UNITS, Asking
from hocket.inference.autoregressive import Autoregressive
from hocket.inference.beam import beam_search
from hocket.inference.choosing import attempts, check_best_of, score_texts
from hocket.inference.guidance import Guidance
from hocket.inference.in_place import InPlaceSampler
from hocket.inference.masking import MaskSampling
from hocket.inference.request import Generation, Progress, Request
from hocket.inference.sampling import Sampling
from hocket.inference.streaming import Chunk, Chunker, Piece, check_chunk_frames, has_ended, only_chunk, read_pieces
from hocket.inference.windows import Windows, is_long, join
from hocket.inference.words import whole_text
from hocket.model import Model

PROGRESS_FRAMES = 25  # of a long recording, between two reports
LONG = 1000  # frames that are decoded at once


class Sampled(NamedTuple):
    """A document that is done."""

    streams: dict[str, np.ndarray]  # int64 [T, K]
    log_probabilities: dict[str, np.ndarray]  # float32 [T, K]
    steps: int  # of the document, or passes over it
    ended: bool  # the model ended every stream itself


class Generator(Asking):
    """Generates with one model.

    Args:
        source: where the model comes from, for the record.
    """

    def __init__(self, model: Model, source: Mapping[str, Any] | None = None):
        super().__init__(model)
        self._source_facts = dict(source or {})

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
        best_of: int = 1,
    ) -> list[Generation]:
        """Generates several items together; each comes out as it would alone.

        Args:
            sampling: how codes are drawn.
            on_step: told how many of the steps, or passes, are done.
            guidance: of models that go step by step, how much more the conditions count.
            masks: of models that predict in place, in how many passes and which codes first; it has their guidance.
            beams: above 1, the likeliest document that a beam search of this width finds, instead of a drawn one;
                for layouts that predict one cell a step, such as recognition.
            best_of: above 1, of so many attempts at each item the one whose text the model itself hears best in it;
                for models that speak and recognise.

        Raises:
            InputError: guidance, masks, beams or best_of are not of this kind of model.
        """
        began = time.perf_counter()
        check_best_of(self.model, best_of)
        tries = [attempt for request in requests for attempt in attempts(request, best_of)]
        made = self.sample(tries, sampling, on_step, guidance=guidance, masks=masks, beams=beams)
        if best_of > 1:
            score_RN = score_texts(self.model, [item.streams for item in made]).reshape(len(requests), best_of)
            made = [made[r * best_of + best] for r, best in enumerate(score_RN.argmax(axis=1).tolist())]
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


def sampled(loop: Autoregressive, b: int) -> Sampled:
    """One document of a loop that is done."""
    item = loop.items[b]
    streams = item.plan.deinterleave(loop.grid(b), loop.model.vocabulary)
    return Sampled(streams, item.plan.deinterleave(loop.log_probabilities(b)), item.n_steps, has_ended(item))
