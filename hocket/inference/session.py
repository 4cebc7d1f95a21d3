"""A conversation in real time: a frame of the other side in, a frame of the own side and its text out, for ever.

    Session.step(user frame t)
      step    ...   t + 1                t + 2
      own     ...   drawn before         drawn now, without what the user says there: completes own frame t
      user    ...   frame t fills in     waits for frame t + 1

A step of the layout is fed as soon as all that is given in it is known, and the next one is drawn at once, so that the
own frame comes as early as the layout lets it. Which steps these are says the layout (`unrolled.py`), for Moshi's as
for simultaneous translation (Hibiki: given source; target and text out) or a voice alone (no user). Work and memory of
a frame are constant: a ring of keys and values holds the last steps (`model/ring.py`), the codec streams both ways.

Within the context a session draws what offline generation draws with the same seed that is given the whole recording.

Shapes: T frames or samples, K levels, R rows, P rows of a pass, J legal ids, B = 1, U numbers of a draw, W last tokens.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from hocket.codec import StreamEncoder
from hocket.errors import InputError
from hocket.inference.choice import Choice
from hocket.inference.generator import Generator
from hocket.inference.item import Numbers
from hocket.inference.sampling import Sampling
from hocket.inference.streaming import Speaker
from hocket.inference.unrolled import CodeCell, Step, Unrolled
from hocket.inference.words import Words, find_text, text_tokens
from hocket.model import Model

UNKNOWN = -1  # of a level that is not there yet


class Turned(NamedTuple):
    """What a step of a session gives: one frame, and none while the layout's delay fills."""

    codes_TK: np.ndarray  # int64, own frames that became complete
    wav_T: Tensor  # float32 on the CPU, samples that these make final
    text: str  # that the own side says here


class Session:
    """Speaks frame by frame, and hears the other side where the layout has one.

    Args:
        model: of a layout whose streams share a clock, such as moshi, moshi-mono or hibiki.
        sampling: how ids are drawn.
        seed: the same seed and the same frames give the same answer on the same machine.
        may_end: the model may end its stream, and with it the session; otherwise it never does.
        decode: False gives codes alone, without sound.

    Raises:
        InputError: the layout does not go frame by frame, or hears several streams or some levels of one; the codec
            cannot decode piece by piece.
    """

    def __init__(
        self,
        model: Model,
        sampling: Sampling | None = None,
        seed: int = 0,
        *,
        may_end: bool = False,
        decode: bool = True,
    ):
        generator = Generator(model)
        self.model, layout = model, model.layout
        self.heard = _find_heard(model, generator)
        """The stream that `step` is given; None for a voice alone."""
        if generator.audio is None or model.stage.in_place:
            raise InputError(f"{layout} speaks no frames step by step, as a session must; moshi does")
        self.spoken = generator.audio
        """The stream that comes out."""
        self._unrolled = Unrolled(layout, model.given)
        self._text_stream = find_text(name for name in layout.streams if name not in generator.given)
        self._words = Words(model.vocabulary)
        self._speaker = Speaker(model.codec) if decode and generator.is_heard else None
        self._encoder: StreamEncoder | None = None
        self._choice = Choice((sampling or Sampling()).bind(model), () if may_end else [_end_ids(model)])
        self._end_ids = {token: name for name, token in zip(layout.streams, _end_ids(model), strict=True)}
        self._numbers = Numbers(seed, layout.n_rows)
        self._stepper = model.endless_stepper()
        self._frames: dict[str, dict[int, list[int]]] = {name: {} for name in layout.streams}
        self._recent: dict[tuple[str, int], list[int]] = {}
        self._told = dict.fromkeys((self.spoken, self._text_stream or self.spoken), 0)
        self._ends: dict[str, int] = {}
        self._ids_R: list[int] | None = None
        self._step, self.n_frames = 0, 0
        """Frames that were heard, or asked for."""

    @property
    def ended(self) -> bool:
        """Whether the model ended its stream."""
        return self._told[self.spoken] >= self._ends.get(self.spoken, self._told[self.spoken] + 1)

    @torch.inference_mode()
    def step(self, frame: Tensor | np.ndarray | None = None) -> Turned:
        """Hears one frame, and speaks one.

        Args:
            frame: of the stream that is heard: codes `[K]`, or sound at the codec's input rate, float `[T]`. Sound may
                come in pieces of any size: each frame that it completes is answered. None for a voice alone.

        Raises:
            InputError: a frame is missing, is not wanted, or is no frame; the session has ended.
        """
        if self.ended:
            raise InputError("this session has ended; begin a new one")
        tokens: list[int] = []
        codes: list[np.ndarray] = []
        for codes_K in self._hear(frame):
            self.n_frames += 1
            if codes_K is not None:
                self._keep(self.heard or "", self.n_frames - 1, codes_K)
            self._go_on(codes, tokens)
        own_TK = np.concatenate(codes) if codes else np.zeros((0, self._levels(self.spoken)), dtype=np.int64)
        wav_T = self._speaker.push(own_TK) if self._speaker else torch.zeros(0)
        return Turned(own_TK, wav_T, self._words.push(tokens))

    @torch.inference_mode()
    def finish(self) -> Turned:
        """The sound and the text that were held back."""
        own_TK = np.zeros((0, self._levels(self.spoken)), dtype=np.int64)
        wav_T = self._speaker.push(own_TK, is_last=True) if self._speaker else torch.zeros(0)
        return Turned(own_TK, wav_T, self._words.finish())

    # --- what is heard ----------------------------------------------------------------------------------------------

    def _hear(self, frame: Tensor | np.ndarray | None) -> Sequence[list[int] | None]:
        """The frames that came, each as the ids of its levels."""
        if self.heard is None:
            if frame is not None:
                raise InputError(f"{self.model.layout} hears nothing: call step() without a frame")
            return [None]
        if frame is None:
            raise InputError(f'{self.model.layout} hears "{self.heard}": give step(…) a frame of it')
        codes = torch.as_tensor(frame)
        if codes.is_floating_point():
            self._encoder = self._encoder or self.model.codec.stream_encoder()
            codes = self._encoder.push(codes)[:, : self._levels(self.heard)]
        elif codes.shape != (self._levels(self.heard),):
            raise InputError(
                f'a frame of "{self.heard}" has {self._levels(self.heard)} codes, not shape {tuple(codes.shape)}'
            )
        codes_TK = codes.cpu().reshape(-1, self._levels(self.heard)).numpy()
        return self.model.vocabulary.ids(self.heard, codes_TK).tolist()

    # --- the layout's steps -----------------------------------------------------------------------------------------

    def _go_on(self, codes: list[np.ndarray], tokens: list[int]) -> None:
        """Feeds and draws steps as far as what is heard reaches; without, up to the next own frame."""
        wanted = self._told[self.spoken] + 1
        while not self.ended:
            step = self._unrolled.step(self._step)
            if self._ids_R is None:
                self._draw(step)
                codes += self._complete(self.spoken)
                if self._text_stream:
                    for codes_1K in self._complete(self._text_stream):
                        tokens += text_tokens(self.model.vocabulary, self._text_stream, codes_1K)
            if (self.heard is None and self._told[self.spoken] >= wanted) or not self._fill(step):
                return
            self._stepper.feed(torch.tensor([[self._ids_R]]))
            self._step, self._ids_R = self._step + 1, None

    def _draw(self, step: Step) -> None:
        """Draws the open cells of the next step."""
        ids_R = [self._none] * self.model.layout.n_rows
        for row, symbol in step.symbols:
            ids_R[row] = self.model.vocabulary.id(symbol)
        drawn = [cell for cell in step.codes if cell.legal and cell.frame < self._ends.get(cell.stream, cell.frame + 1)]
        if drawn:
            legal_R = [0] * len(ids_R)
            for cell in drawn:
                legal_R[cell.row] = cell.legal
            open_1R = torch.tensor([legal_R]) > 0
            uniform_1RU = self._numbers.at(self._step)[None]
            ids_1R, _ = self._stepper.step(
                torch.tensor([ids_R]), open_1R, tuple(legal_R), uniform_1RU, self._choice, self._recents(drawn)
            )
            ids_R = ids_1R[0].tolist()
            for cell in drawn:
                self._take(cell, ids_R[cell.row])
        self._ids_R = ids_R

    def _take(self, cell: CodeCell, token: int) -> None:
        """Keeps what was drawn, unless it is an end."""
        if token in self._end_ids:
            self._ends[self._end_ids[token]] = cell.frame
            return
        frames = self._frames[cell.stream]
        if cell.frame not in frames:
            self._keep(cell.stream, cell.frame, [UNKNOWN] * self._levels(cell.stream))
        frames[cell.frame][cell.level] = token
        if self._choice.sampler.window:
            past = self._recent.setdefault((cell.stream, cell.level), [])
            past.append(token)
            del past[: -self._choice.sampler.window]

    def _fill(self, step: Step) -> bool:
        """Writes what is given, and what is shown again, into the next step; whether all of it is known."""
        assert self._ids_R is not None
        for cell in step.codes:
            if cell.legal or cell.frame >= self._ends.get(cell.stream, cell.frame + 1):
                continue
            codes_K = self._frames[cell.stream].get(cell.frame)
            if codes_K is None:
                return False
            self._ids_R[cell.row] = codes_K[cell.level]
        return True

    def _keep(self, stream: str, frame: int, ids_K: list[int]) -> None:
        self._frames[stream][frame] = ids_K
        self._frames[stream].pop(frame - self._unrolled.most_lag, None)

    def _complete(self, stream: str) -> list[np.ndarray]:
        """The next frames of a stream that are complete: codes `[1, K]` each."""
        found, frames = [], self._frames[stream]
        while self._told[stream] in frames and UNKNOWN not in frames[self._told[stream]]:
            ids_1K = np.array([frames[self._told[stream]]])
            found.append(self.model.vocabulary.codes(stream, ids_1K))
            self._told[stream] += 1
        return found

    def _recents(self, drawn: Sequence[CodeCell]) -> Tensor | None:
        """The last tokens of each row's stream and level, int64 `[1, R, W]`, where the settings look at them."""
        window = self._choice.sampler.window
        if not window:
            return None
        recent_1RW = torch.full((1, self.model.layout.n_rows, window), -1)
        for cell in drawn:
            past = self._recent.get((cell.stream, cell.level), [])
            if past:
                recent_1RW[0, cell.row, -len(past) :] = torch.tensor(past)
        return recent_1RW

    def _levels(self, stream: str) -> int:
        return self.model.layout.streams[stream]

    @property
    def _none(self) -> int:
        return self.model.vocabulary.id("<none>")


def _end_ids(model: Model) -> list[int]:
    return [model.vocabulary.id(f"<end.{name}>") for name in model.layout.streams]


def _find_heard(model: Model, generator: Generator) -> str | None:
    """The stream that is given, if there is one.

    Raises:
        InputError: several are, or some levels of one.
    """
    levels = model.layout.streams
    if len(generator.given) > 1 or any(n != levels[name] for name, n in generator.given.items()):
        raise InputError(
            f"a session hears one whole stream, not {', '.join(map(str, model.given))}, which {model.layout} is given"
        )
    return next(iter(generator.given), None)
