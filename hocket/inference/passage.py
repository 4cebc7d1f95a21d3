"""A recording on its way through the stages of a cascade, window by window.

    known           prompt | made by earlier stages
    window 0        g g g g g g                          g codes that the stage is given, p those it goes on from
                    p p . . . .
    window 1                g g g g g g                  starts with <cont>; the codes that window 0 made last are its
                            p p . . . .                  prompt, and what is kept of window 0 are its codes alone

Shapes: T frames, K levels.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from hocket.errors import InputError
from hocket.inference.asking import SOURCE
from hocket.inference.cascade import CascadeStage
from hocket.inference.clock import Clock, windows
from hocket.inference.generator import Sampled
from hocket.inference.request import Request
from hocket.vocab import TEXT

Streams = dict[str, np.ndarray]
ROOM_FOR_TEXT = 256  # tokens that a recognised window has room for at most


@dataclass(kw_only=True)
class Recording:
    """What is known of one recording so far."""

    prompts: Streams  # int64 [T, K], what it begins with, of each stream
    streams: Streams  # int64 [T, K], what was given or made, the prompt included
    text: str | None
    known: int  # ticks of the prompts
    total: int  # ticks that there will be at most
    least: int = 0  # ticks that there will be at least
    seed: int
    scores: Streams = field(default_factory=dict)  # float32 [T, K], log-probabilities of what was drawn
    steps: int = 0
    ended: bool = True  # no stage was stopped by the limit

    def prompt(self, stream: str, levels: int, clock: Clock) -> np.ndarray:
        """The first frames of a stream, all levels of it: int64 `[T, K]`."""
        codes_TK = self.prompts.get(stream, np.zeros((0, levels), dtype=np.int64))
        return codes_TK[: clock.frames(stream, min(self.known, self.total)), :levels]

    def keep(self, ticks: int, clock: Clock) -> None:
        """The recording has no more than so many ticks."""
        self.total = min(self.total, ticks)
        for streams in (self.streams, self.scores):
            for name, codes_TK in streams.items():
                if name in clock.rates:
                    streams[name] = codes_TK[: clock.frames(name, self.total)]


@dataclass(frozen=True)
class Reach:
    """How much of a recording a stage sees at once."""

    stage: CascadeStage
    clock: Clock

    def steps(self, ticks: int, lengths: dict[str, int]) -> int:
        """Most steps of a document of so many ticks, and other streams of these lengths."""
        rates = self.clock.rates
        frames = {name: -(-ticks * rates[name] // self.clock.rate) for name in self.stage.timed}
        return int(self.stage.model.layout.count_steps({**dict.fromkeys(self.stage.levels, 0), **frames, **lengths}))

    def most(self, lengths: dict[str, int]) -> int:
        """Most ticks that the context holds beside other streams of these lengths; 0 for none."""
        context = self.stage.model.config.context
        low, high = 0, context
        while low < high:
            middle = (low + high + 1) // 2
            low, high = (middle, high) if self.steps(middle, lengths) <= context else (low, middle - 1)
        return low

    def window(self, recording: Recording, lengths: dict[str, int]) -> tuple[int, int]:
        """Ticks of a window, and those of them that the one before made.

        Raises:
            InputError: the recording is longer than the context, and cannot be gone through in windows.
        """
        stage, clock, settings = self.stage, self.clock, self.stage.settings
        most, context = self.most(lengths), self.stage.model.config.context
        if not stage.slides:
            if recording.total > most:
                fits = clock.seconds(max(0, most - recording.known))
                raise InputError(
                    f'stage "{stage.name}" reads {"text" if TEXT in stage.levels else SOURCE} whole, so that all must '
                    f"fit into its context of {context} steps: {clock.seconds(recording.total):.1f} s do not; ask for "
                    f"at most {int(fits * 10) / 10:g} s, or a shorter text or prompt"
                )
            return recording.total, 0
        size = most if settings.window is None else clock.round(settings.window)
        if not 1 < size <= most:
            raise InputError(
                f'stage "{stage.name}": a window of {clock.seconds(size):.2f} s does not fit into its context of '
                f"{context} steps, which holds {clock.seconds(most):.2f} s"
            )
        overlap = size // 4 if settings.overlap is None else round(settings.overlap * float(clock.rate))
        if overlap >= size:
            raise InputError(
                f'stage "{stage.name}": its windows of {clock.seconds(size):.2f} s are no longer than their overlap of '
                f"{clock.seconds(overlap):.2f} s"
            )
        return size, overlap


class Passage:
    """A recording's way through one stage: ask for `request`, give `take` what came of it, until there is no more.

    Raises:
        InputError: as `Reach.window`.
    """

    def __init__(self, stage: CascadeStage, recording: Recording, clock: Clock, number: int):
        self._stage, self._recording, self._clock, self._number = stage, recording, clock, number
        self._untimed = self._read_untimed()
        lengths = {name: len(codes) for name, codes in self._untimed.items()}
        reach = Reach(stage, clock)
        self.size, self.overlap = reach.window(recording, lengths)
        room = stage.model.config.context - reach.steps(min(self.size, recording.total), lengths)
        self._room = max(1, min(room, ROOM_FOR_TEXT))
        names = [name for name in stage.made if name in stage.timed]
        self._codes = {name: recording.prompt(name, stage.levels[name], clock) for name in names}
        self._scores = {name: np.full(codes.shape, np.nan, np.float32) for name, codes in self._codes.items()}
        self._windows, self._done = self._cut(), 0
        self._now = next(self._windows, None)

    @property
    def share(self) -> float:
        """How much of the way is done, before the window that is next."""
        return min(1.0, self._done / max(1, self._recording.total)) if self._now else 1.0

    @property
    def next_share(self) -> float:
        """How much of the way is done after the window that is next."""
        return min(1.0, self._now[1] / max(1, self._recording.total)) if self._now else 1.0

    def request(self) -> Request | None:
        """What to ask of the model for the next window; None where all is done."""
        if self._now is None:
            return None
        stage, (first, stop) = self._stage, self._now
        given, prompts, limits = dict(self._untimed), {}, {}
        for name in stage.timed:
            a, b = self._clock.frames(name, first), self._clock.frames(name, stop)
            n_given = stage.given.get(name, 0)
            if n_given:
                given[name] = self._recording.streams[name][a:b, :n_given]
            if name in self._codes:
                prompts[name] = self._codes[name][a:b]
                limits |= {} if n_given else {name: b - a}
        told = {} if stage.model.stage.in_place else dict(limits)
        if not stage.is_told_length:
            least = min(self._recording.least, stop)
            told = {name: max(0, self._clock.frames(name, least) - self._clock.frames(name, first)) for name in told}
        if TEXT in stage.made:
            limits[TEXT] = self._room
        return Request(
            given=given,
            prompts=prompts,
            limits=limits,
            least=told,
            seed=self._seed(first),
            start="<cont>" if first else "<bos>",
            ends=stop == self._recording.total,
        )

    def take(self, item: Sampled) -> None:
        """Keeps what the model made of a window, and goes on to the next."""
        assert self._now is not None
        recording, (first, stop) = self._recording, self._now
        ticks = stop
        for name, before_TK in self._codes.items():
            a, n = self._clock.frames(name, first), len(before_TK)
            self._codes[name] = np.concatenate([before_TK, item.streams[name][n - a :]])
            self._scores[name] = np.concatenate([self._scores[name], item.log_probabilities[name][n - a :]])
            if len(item.streams[name]) < self._clock.frames(name, stop) - a:
                ticks = min(ticks, self._clock.ticks(name, a + len(item.streams[name])))
        recording.steps += item.steps
        if not self._stage.is_told_length:
            recording.ended &= item.ended
        if TEXT in self._stage.made:
            recording.text = self._stage.model.vocabulary.decode_text(item.streams[TEXT][:, 0].tolist())
        self._done = stop
        if ticks < stop:
            recording.keep(ticks, self._clock)
        self._now = next(self._windows, None)

    def finish(self) -> None:
        """Puts what was made into the recording."""
        for name, scores_TK in self._scores.items():
            n_given, before_TK = self._stage.given.get(name, 0), self._recording.scores.get(name)
            if n_given and before_TK is not None:
                scores_TK[:, :n_given] = before_TK[: len(scores_TK), :n_given]
        self._recording.streams |= self._codes
        self._recording.scores |= self._scores
        self._recording.keep(self._recording.total, self._clock)

    def _cut(self) -> Iterator[tuple[int, int]]:
        known = self._recording.known if self._codes else 0
        if not self._recording.total:  # a stage before ended at once
            return
        for window in windows(known, self._recording.total, self.size, self.overlap):
            if self._done and self._done >= self._recording.total:  # it ended before its limit
                return
            yield window

    def _read_untimed(self) -> Streams:
        """Text in the tokens of this stage, and codes of another recording."""
        stage, recording, found = self._stage, self._recording, {}
        if stage.reads_text:
            tokens = stage.model.vocabulary.encode_text(recording.text or "")
            found[TEXT] = np.asarray(tokens, dtype=np.int64).reshape(-1, 1)
        if SOURCE in stage.given:
            found[SOURCE] = recording.streams[SOURCE][:, : stage.given[SOURCE]]
        return found

    def _seed(self, first: int) -> int:
        """One for each stage and window."""
        key = (self._recording.seed % 2**64, self._number, first)
        return int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0] >> 1)
