"""Sound while it is being made: after each step, the frames that the plan says are complete go to the codec.

    step        1    2    3    4    5    6
    level 0     f0   f1   f2   f3   end  .         Delay(audio, [0, 1])
    level 1     .    f0   f1   f2   f3   .
    complete         f0   f1   f2   f3             frames
    sound                 f0   f1   f2   f3        of a codec that is one frame behind

Chunks have 1, 1, 2, 4, … up to 32 frames: the first sound comes as early as it can, even of a codec that is one frame
behind, and goes on without a gap where a frame takes at most half of its own time; the codec, to which a frame alone
costs more than its share of many, has little more to do than at the end (`chunk_frames` sets another size).

All pieces of sound joined are what the codec makes of the whole. Layouts that complete nothing before their end
(level by level) give one late chunk, and so do models that predict in place.

Shapes: T frames or samples, K levels.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from hocket.codec import Codec
from hocket.errors import InputError
from hocket.inference.autoregressive import Autoregressive
from hocket.inference.item import Item
from hocket.inference.request import Generation, Progress, Request
from hocket.inference.words import Words, find_text, text_tokens
from hocket.interleave.checks import is_whole
from hocket.model import Model

MOST_FRAMES = 32  # of a chunk, unless it is told otherwise
Streams = dict[str, np.ndarray]


@dataclass(frozen=True, kw_only=True)
class Chunk:
    """What became complete since the chunk before."""

    wav_T: Tensor  # float32 on the CPU, [T] or [C, T]; empty where the codec still holds it back
    codes_TK: np.ndarray  # int64, of the stream that is heard
    streams: dict[str, np.ndarray]  # int64 [T, K], new frames of every stream that is not given
    text: str | None  # so far; None where the layout has none
    sample_rate: int  # Hz
    step: int  # steps that were made
    is_last: bool
    ended: bool  # the model ended every stream itself; known with the last chunk


class Piece(NamedTuple):
    """New frames of a document, given ones and those of prompts among them."""

    streams: Streams  # int64 [T, K]
    log_probabilities: Streams  # float32 [T, K]
    step: int
    is_last: bool = False
    ended: bool = False


def read_pieces(
    loop: Autoregressive, stream: str, chunk_frames: int | None = None, on_step: Progress | None = None
) -> Iterator[Piece]:
    """Makes a document; yields as soon as `chunk_frames` new frames of a stream are complete, and at the end."""
    item, told, sizes = loop.items[0], -1, chunk_sizes(chunk_frames)  # the last step that was told of
    wanted = next(sizes)
    for step in loop.run():
        if on_step:
            on_step(step, item.n_steps)
        before, now = np.searchsorted(item.plan.done[stream], (told, step - 1), side="right")
        if now - before >= wanted and step < item.n_steps:
            yield _piece(loop, told, step)
            told, wanted = step - 1, next(sizes)
    yield _piece(loop, told, item.n_steps)._replace(is_last=True, ended=has_ended(item))


def _piece(loop: Autoregressive, told: int, step: int) -> Piece:
    plan, last = loop.items[0].plan, step - 1
    streams = plan.read(loop.grid_BTR[0].numpy(), told, last, loop.model.vocabulary)
    return Piece(streams, plan.read(loop.log_probability_BTR[0].numpy(), told, last), step)


def complete_frames(loop: Autoregressive) -> int:
    """Frames that are complete in every stream which is as long as that; only for layouts that split none."""
    plan = loop.items[0].plan
    ready = plan.ready(min(loop.step, plan.n_steps) - 1)
    return min(
        (n for name, n in ready.items() if n < plan.lengths[name]), default=max(plan.lengths.values(), default=0)
    )


def read_frames(loop: Autoregressive, first: int, stop: int) -> tuple[Streams, Streams]:
    """Frames of every stream, and their log-probabilities."""
    plan, vocabulary = loop.items[0].plan, loop.model.vocabulary
    ids, scores = loop.grid_BTR[0].numpy().reshape(-1), loop.log_probability_BTR[0].numpy().reshape(-1)
    cells = {name: where_TK[first:stop] for name, where_TK in plan.where.items()}
    streams = {name: vocabulary.codes(name, ids[cells_TK]) for name, cells_TK in cells.items()}
    return streams, {name: scores[cells_TK] for name, cells_TK in cells.items()}


def has_ended(item: Item) -> bool:
    """Whether the model ended every open stream itself."""
    return bool(item.ended) and item.ended >= set(item.request.limits) - set(item.request.given)


class Speaker:
    """Codes to sound, piece by piece.

    Args:
        codec: what decodes.
        skipped: frames at the start that are not heard: a prompt's.

    Raises:
        InputError: the codec cannot decode piece by piece, with the reason.
    """

    def __init__(self, codec: Codec, skipped: int = 0):
        if not codec.streams_decoding:
            raise InputError(
                f'codec "{codec.identity.name}" cannot decode piece by piece: {codec.no_stream}; generate without '
                "stream=True, and the sound comes at the end"
            )
        self._codec, self._stream = codec, codec.stream_decoder()
        self._skip = skipped * codec.hop

    def push(self, codes_TK: np.ndarray, is_last: bool = False) -> Tensor:
        """The samples that these frames make final; after the last frames, all that were held back."""
        parts = []
        if len(codes_TK):
            parts.append(self._stream.push(torch.from_numpy(codes_TK).to(self._codec.device)))
        if is_last:
            parts.append(self._stream.finish())
        wav_T = torch.cat(parts, dim=-1).cpu() if parts else torch.zeros(0)
        skipped = min(self._skip, wav_T.shape[-1])
        self._skip -= skipped
        return wav_T[..., skipped:]


class Chunker:
    """Makes chunks of pieces.

    Args:
        model: what makes them.
        request: what is given, and so not told again.
        heard: the stream that the codec decodes; None where no sound comes out.
        main: the stream whose frames are a chunk's codes.
        include_prompt: tells what is given, too.

    Raises:
        InputError: as `Speaker`.
    """

    def __init__(self, model: Model, request: Request, heard: str | None, main: str, include_prompt: bool = False):
        known = known_frames(model, request)
        self._model, self._main = model, main
        self._heard = None if heard in request.given and heard in known else heard
        self._left = {} if include_prompt else known
        self._speaker = Speaker(model.codec, self._left.get(heard or "", 0)) if self._heard else None
        self._text_stream = find_text(model.layout.streams)
        self._words = Words(model.vocabulary)
        self._text = ""

    def chunk(self, piece: Piece) -> Chunk:
        """The chunk of the next piece."""
        wav_T = torch.zeros(0)
        if self._speaker and self._heard:
            wav_T = self._speaker.push(piece.streams[self._heard], piece.is_last)
        if self._text_stream:
            codes_TK = piece.streams[self._text_stream]
            self._text += self._words.push(text_tokens(self._model.vocabulary, self._text_stream, codes_TK))
            self._text += self._words.finish() if piece.is_last else ""
        streams = {name: self._without_known(name, codes_TK) for name, codes_TK in piece.streams.items()}
        return Chunk(
            wav_T=wav_T,
            codes_TK=streams[self._main],
            streams=streams,
            text=self._text if self._text_stream else None,
            sample_rate=(self._model.codec if self._speaker else self._model.codec_identity).sample_rate,
            step=piece.step,
            is_last=piece.is_last,
            ended=piece.ended,
        )

    def _without_known(self, name: str, codes_TK: np.ndarray) -> np.ndarray:
        skipped = min(self._left.get(name, 0), len(codes_TK))
        self._left[name] = self._left.get(name, 0) - skipped
        return codes_TK[skipped:]


def known_frames(model: Model, request: Request) -> dict[str, int]:
    """Frames of each stream that are known in all levels before anything is made."""
    levels = model.layout.streams
    whole = {name: len(codes_TK) for name, codes_TK in request.given.items() if codes_TK.shape[1] == levels[name]}
    return {name: len(codes_TK) for name, codes_TK in request.prompts.items()} | whole


def only_chunk(model: Model, generation: Generation, request: Request, main: str, include_prompt: bool) -> Chunk:
    """All of a document as one chunk."""
    known = {} if include_prompt else known_frames(model, request)
    streams = {name: codes_TK[known.get(name, 0) :] for name, codes_TK in generation.streams.items()}
    return Chunk(
        wav_T=generation.full_wav_T if include_prompt else generation.wav_T,
        codes_TK=streams[main],
        streams=streams,
        text=generation.text,
        sample_rate=generation.sample_rate,
        step=generation.steps,
        is_last=True,
        ended=generation.ended,
    )


def chunk_sizes(chunk_frames: int | None) -> Iterator[int]:
    """Frames of each chunk: 1, 1, 2, 4, … up to 32 unless given."""
    size = chunk_frames or 1
    yield size
    while True:
        yield size
        size = chunk_frames or min(2 * size, MOST_FRAMES)


def check_chunk_frames(chunk_frames: int | None) -> None:
    """InputError unless it is a number of frames, or none."""
    if chunk_frames is not None and not is_whole(chunk_frames, 1):
        raise InputError(f"chunk_frames is a whole number of frames from 1 on, not {chunk_frames!r}")
