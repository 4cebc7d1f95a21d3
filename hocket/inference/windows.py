"""Long form: past the context by windows that overlap, in memory that does not grow.

    frames      0         10        20        30        40
    window 0    . . . . . . . . . .
    window 1              P P P P P . . . . .             P prompt: the last frames of the window before
    window 2                        P P P P P . . .       the last one has as many as are missing

A window is a crop of a longer recording, as training cuts them: it starts with `<cont>`, and only the last has a true
end. What each leaves behind are its frames; its grid and its cache go. That takes streams of one clock: frames of codes
and text on the audio clock, open or given. Text without times belongs to no frame, and is refused.

Shapes: T frames, K levels.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

import numpy as np

from hocket.errors import InputError
from hocket.inference.autoregressive import Autoregressive
from hocket.inference.request import Progress, Request
from hocket.inference.streaming import Piece, Streams, chunk_sizes, complete_frames, has_ended, read_frames
from hocket.model import Model
from hocket.vocab import TEXT

MakeLoop = Callable[[Request], Autoregressive]


def refusal(model: Model, given: Iterable[str] = ()) -> str | None:
    """Why a model that is given these streams cannot go on past its context; None where it can."""
    if model.stage.in_place:
        return "it predicts a whole document at once"
    if model.layout.has_spans:
        return f"{model.layout} goes by turns, which are no windows"
    if TEXT in model.layout.streams:
        return "its text belongs to no frame, so that no window knows its part of it"
    if tuple(given) and not model.layout.is_online:
        return f"{model.layout} hears all that it is given before it begins"
    if window_frames(model) < 2:
        return f"its context of {model.config.context} steps holds no two frames"
    return None


def window_frames(model: Model) -> int:
    """Most frames of each stream that the context holds."""
    layout, low, high = model.layout, 0, model.config.context
    while low < high:
        middle = (low + high + 1) // 2
        fits = int(layout.count_steps(dict.fromkeys(layout.streams, middle), ended=False)) <= model.config.context
        low, high = (middle, high) if fits else (low, middle - 1)
    return low


def is_long(model: Model, request: Request) -> bool:
    """Whether a request is longer than the context, and can be made in windows."""
    lengths = dict.fromkeys(model.layout.streams, 0) | request.limits
    lengths |= {name: len(codes_TK) for name, codes_TK in request.given.items()}
    return (
        not refusal(model, request.given) and int(model.layout.count_steps(lengths, ended=False)) > model.config.context
    )


def find_overlap(model: Model, seconds: float | None) -> int:
    """Frames of the past that a window begins with: half of a window unless given.

    Raises:
        InputError: it leaves a window nothing to make.
    """
    most, rate = window_frames(model), float(model.codec_identity.frame_rate)
    if seconds is None:
        return most // 2
    overlap = round(seconds * rate)
    if not 0 <= overlap < most:
        raise InputError(
            f"overlap must be from 0 to below {most / rate:g} s, which is what the model's context of "
            f"{model.config.context} steps holds, not {seconds:g} s"
        )
    return overlap


class Windows:
    """The windows of one request, one after another.

    Args:
        model: one that `refusal` has nothing against.
        request: as for one document, but longer: prompts, limits and what is given beside them may exceed the context.
            Its `overlap` is the frames of the past that a window begins with.
        make_loop: makes what samples a window.
    """

    def __init__(self, model: Model, request: Request, make_loop: MakeLoop):
        self._model, self._request, self._make_loop = model, request, make_loop
        self._size = window_frames(model)
        self._overlap = self._size // 2 if request.overlap is None else request.overlap
        self._limits = {name: n for name, n in request.limits.items() if name not in request.given}
        known = min(len(request.prompts.get(name, ())) for name in self._limits)
        self._first = max(0, known - self._overlap) if known < self.total else 0
        self._past = {name: np.zeros((0, k), dtype=np.int64) for name, k in model.layout.streams.items()}
        self._number = 0

    @property
    def total(self) -> int:
        """Frames there will be, as far as is known."""
        return max(self._limits.values())

    def pieces(self, chunk_frames: int | None = None, on_step: Progress | None = None) -> Iterator[Piece]:
        """Makes all windows; yields as soon as so many frames are complete in every stream, and at the end of each.

        `on_step` is told frames, of the whole.
        """
        steps, sizes = 0, chunk_sizes(chunk_frames)
        wanted = next(sizes)
        if self._first:
            known = {**self._request.prompts, **self._request.given}
            yield Piece({name: codes_TK[: self._first] for name, codes_TK in known.items()}, {}, 0)
        while True:
            loop = self._make_loop(self._window())
            told = max(map(len, self._past.values()))
            for step in loop.run():
                made = complete_frames(loop)
                if on_step:
                    on_step(self._first + made, self.total)
                if made - told >= wanted and step < loop.items[0].n_steps:
                    yield Piece(*read_frames(loop, told, made), steps + step)
                    told, wanted = made, next(sizes)
            steps += loop.items[0].n_steps
            ended, is_last = self._note_ends(loop), self._first + self._size >= self.total
            made = complete_frames(loop)
            yield Piece(*read_frames(loop, told, made), steps, is_last=is_last, ended=ended)
            if is_last:
                return
            self._move(loop, made)

    def _window(self) -> Request:
        """What is asked of the next window."""
        request, first = self._request, self._first
        stop = min(first + self._size, self.total)
        prompts = {}
        for name in self._limits:
            told = first + len(self._past[name])
            more_TK = request.prompts.get(name, self._past[name])[told:stop]
            prompts[name] = np.concatenate([self._past[name], more_TK])
        return replace(
            request,
            given={name: codes_TK[first:stop] for name, codes_TK in request.given.items()},
            prompts=prompts,
            limits={name: max(0, min(n, stop) - first) for name, n in self._limits.items()},
            least={name: max(0, min(n, stop) - first) for name, n in request.least.items()},
            seed=_seed(request.seed, self._number),
            start="<cont>" if first else request.start,
            ends=request.ends and stop == self.total,
        )

    def _note_ends(self, loop: Autoregressive) -> bool:
        """Takes note of streams that the model ended; whether that were all."""
        item = loop.items[0]
        for name in item.ended:
            self._limits[name] = self._first + item.plan.lengths[name]
        return has_ended(item)

    def _move(self, loop: Autoregressive, made: int) -> None:
        """On to the next window."""
        kept = min(self._overlap, made)
        self._past = read_frames(loop, made - kept, made)[0]
        self._first += made - kept
        self._number += 1


def join(pieces: Iterable[Piece]) -> tuple[Streams, Streams]:
    """Streams and log-probabilities of the whole."""
    parts = list(pieces)
    streams = {name: np.concatenate([part.streams[name] for part in parts]) for name in parts[-1].streams}
    scores = {
        name: np.concatenate([part.log_probabilities.get(name, _unscored(part.streams[name])) for part in parts])
        for name in streams
    }
    return streams, scores


def _unscored(codes_TK: np.ndarray) -> np.ndarray:
    return np.full(codes_TK.shape, np.nan, dtype=np.float32)


def _seed(seed: int, window: int) -> int:
    """A seed of its own for each window; the first has that of the request."""
    if not window:
        return seed
    return int(np.random.SeedSequence((seed % 2**64, window)).generate_state(1, np.uint64)[0] >> 1)
