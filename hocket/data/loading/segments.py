"""Segments: what is laid out as one document each, the whole of an example or a piece of it.

    example   |----------------------------- 1,000 frames -----------------------------|   context 400 steps
    segments  |<bos> ......... 333 |<cont> ............ 333 |<cont> .......... 334 <end>|

An example that is longer than the context is cut into equal pieces, at frame boundaries of its slowest stream so that
the streams stay together; with its words and their times, at the nearest beginning of a word, and each piece keeps the
text that is said in it. Only the first piece starts with `<bos>`, only the last carries the ends.

18 bytes a segment and 8 more for each further stream of codes: 1,000,000 examples are cut in 0.3 s.

Shapes: N examples, S segments, E examples that are cut.
"""

from dataclasses import dataclass, fields, replace

import numpy as np

from hocket.data.loading.contents import Contents
from hocket.errors import InputError
from hocket.interleave import Layout
from hocket.vocab.vocabulary import ALIGNED_TEXT, TEXT

CHUNK = 1 << 16  # documents that are measured at once
LONG = ("split", "refuse")
Cuts = dict[str, np.ndarray]


@dataclass(frozen=True)
class Segments:
    """Arrays of S, in the order of the examples."""

    example: np.ndarray  # int32
    start: Cuts  # int32 by stream, frames of codes
    stop: Cuts
    first: np.ndarray  # int32, first word of the text where `by_words`, else first token
    last: np.ndarray  # int32, the one after the last
    by_words: np.ndarray  # bool
    begins: np.ndarray  # bool, the example truly begins here
    ends: np.ndarray  # bool, the example truly ends here
    steps: np.ndarray  # int32, steps of the document; for spans the most that there can be

    def __len__(self) -> int:
        return len(self.example)

    def take(self, numbers: np.ndarray) -> "Segments":
        """Some of the segments."""

        def chosen(value: np.ndarray | Cuts) -> np.ndarray | Cuts:
            return {name: a[numbers] for name, a in value.items()} if isinstance(value, dict) else value[numbers]

        return Segments(*(chosen(getattr(self, field.name)) for field in fields(self)))  # pyright: ignore[reportArgumentType]


class Cutter:
    """Cuts examples into segments of at most `context` steps."""

    def __init__(self, contents: Contents, layout: Layout, context: int, long: str = "split"):
        if long not in LONG:
            raise InputError(f'long examples are dealt with by "split" or "refuse", not "{long}"')
        self._contents, self._layout, self._context, self._long = contents, layout, context, long
        self._chunk_steps = _steps_of_a_chunk(layout)

    def cut(self, examples: np.ndarray) -> Segments:
        """The segments of some examples.

        Raises:
            InputError: an example is too long and must not, or cannot, be cut; or the context holds no frame.
        """
        whole = self._whole(examples)
        long = np.flatnonzero(whole.steps > self._context)
        if not len(long):
            return whole
        if self._long == "refuse":
            raise self._too_long(examples, whole.steps, long, "and data.long is refuse")
        has_text = np.zeros(len(examples), bool)
        if TEXT in self._layout.streams:
            has_text = (whole.last > whole.first) & (sum(whole.stop.values(), np.zeros_like(whole.first)) > 0)
        if has_text[long].any():
            self._contents.open_words()
        timed = has_text | (ALIGNED_TEXT in self._layout.streams)
        timed[timed] = self._contents.n_words(examples[timed]) > 0
        untimed = long[has_text[long] & ~timed[long]]
        if len(untimed):
            why = "with its text, which has no word times to cut it by (`hocket align` finds them)"
            raise self._too_long(examples, whole.steps, untimed, why)
        pieces = [self._cut_evenly(examples[long[~timed[long]]])]
        pieces += [self._cut_by_words(int(example)) for example in examples[long[timed[long]]]]
        return _ordered([whole.take(np.flatnonzero(whole.steps <= self._context)), *pieces])

    def _whole(self, examples: np.ndarray) -> Segments:
        """Every example as one segment."""
        contents, n = self._contents, len(examples)
        zeros, true = np.zeros(n, np.int32), np.ones(n, bool)
        by_words = contents.has_spoken_text(examples)
        segments = Segments(
            example=examples.astype(np.int32),
            start=dict.fromkeys(contents.codes, zeros),
            stop={name: contents.frames[name][examples] for name in contents.codes},
            first=zeros,
            last=contents.text_units(examples, by_words).astype(np.int32),
            by_words=by_words,
            begins=true,
            ends=true,
            steps=zeros,
        )
        return self._measured(segments)

    def _measured(self, segments: Segments) -> Segments:
        """The segments with their steps, measured chunk by chunk so that memory stays bounded."""
        steps = segments.steps.copy()
        for first in range(0, len(segments), CHUNK):
            part = segments.take(np.arange(first, min(first + CHUNK, len(segments))))
            steps[first : first + CHUNK] = np.minimum(self._most_steps(part), np.iinfo(np.int32).max)
        return replace(segments, steps=steps)

    def _most_steps(self, part: Segments) -> np.ndarray:
        """Steps of each segment; where spans are drawn at random, what no draw exceeds."""
        contents = self._contents
        lengths, ended = contents.lengths(part), contents.ended(part)
        if not self._layout.has_spans:
            return self._layout.count_steps(lengths, ended)
        if self._layout.span_nodes()[0].by_turns:
            return self._layout.count_steps(lengths, ended, spans=contents.spans(part))
        return self._layout.count_steps(lengths, ended) + self._chunk_steps * contents.n_units(part)

    def _cut_evenly(self, examples: np.ndarray) -> Segments:
        """Equal pieces of the slowest stream that an example has; as few as fit."""
        done, left = [], examples
        n_pieces = np.full(len(left), 2)
        while len(left):
            pieces = self._measured(self._pieces(left, n_pieces))
            worst_E = np.maximum.reduceat(pieces.steps, np.cumsum(n_pieces) - n_pieces)
            fits_E = worst_E <= self._context
            done.append(pieces.take(np.flatnonzero(np.repeat(fits_E, n_pieces))))
            grown_E = np.maximum(n_pieces + 1, n_pieces * worst_E // (self._context * 2))
            self._check_frames(left[~fits_E], grown_E[~fits_E])
            left, n_pieces = left[~fits_E], grown_E[~fits_E]
        return _joined(done) if done else self._whole(examples)

    def _pieces(self, examples: np.ndarray, n_pieces: np.ndarray) -> Segments:
        contents = self._contents
        example = np.repeat(examples, n_pieces)
        n = np.repeat(n_pieces, n_pieces)
        piece = np.arange(len(example)) - np.repeat(np.cumsum(n_pieces) - n_pieces, n_pieces)
        clock, total = contents.clock(example)
        edges = [total * piece // n, total * (piece + 1) // n]
        is_last = piece == n - 1
        start, stop = {}, {}
        for name in contents.codes:
            frames = contents.frames[name][example]
            begin, end = (np.minimum(contents.on_clock(edge, clock, name), frames) for edge in edges)
            start[name], stop[name] = begin.astype(np.int32), np.where(is_last, frames, end).astype(np.int32)
        tokens = contents.text_units(example, np.zeros(len(example), bool))
        begins, none = piece == 0, np.zeros(len(example), np.int32)
        first, last = ((tokens * (piece + i) // n).astype(np.int32) for i in (0, 1))
        return Segments(example.astype(np.int32), start, stop, first, last, none > 0, begins, is_last, none)

    def _check_frames(self, examples: np.ndarray, n_pieces: np.ndarray) -> None:
        if len(examples) and (n_pieces > self._contents.clock(examples)[1]).any():
            raise InputError(f"a context of {self._context} steps does not hold one frame of {self._layout}")

    def _cut_by_words(self, example: int) -> Segments:
        """Pieces that begin where a word does, as few as fit."""
        contents, one = self._contents, np.array([example])
        clock, total = contents.clock(one)
        begins_W = contents.word_frames(example, contents.codes[int(clock[0])])
        n_pieces = 1
        while n_pieces < len(begins_W):
            n_pieces += 1
            wanted = total[0] * np.arange(1, n_pieces) // n_pieces
            words = np.unique(np.searchsorted(begins_W, wanted))
            words = words[(words > 0) & (words < len(begins_W))]
            pieces = self._measured(self._at_words(example, words, begins_W, int(clock[0])))
            if pieces.steps.max() <= self._context:
                return pieces
        whole = self._whole(one)
        raise self._too_long(one, whole.steps, np.array([0]), "and cannot be cut short enough at its words")

    def _at_words(self, example: int, words: np.ndarray, begins_W: np.ndarray, clock: int) -> Segments:
        contents, n = self._contents, len(words) + 1
        start, stop = {}, {}
        for name in contents.codes:
            total = int(contents.frames[name][example])
            at = np.minimum(contents.on_clock(begins_W[words], np.full(n - 1, clock), name), total)
            start[name] = np.array([0, *at], np.int32)
            stop[name] = np.array([*at, total], np.int32)
        first, last = np.array([0, *words], np.int32), np.array([*words, len(begins_W)], np.int32)
        place = np.arange(n)
        whole = np.full(n, example, np.int32)
        return Segments(whole, start, stop, first, last, place >= 0, place == 0, place == n - 1, np.zeros(n, np.int32))

    def _too_long(self, examples: np.ndarray, steps: np.ndarray, long: np.ndarray, why: str) -> InputError:
        worst = int(long[steps[long].argmax()])
        name = self._contents.mixture.ids(examples[worst : worst + 1])[0]
        more = f" ({len(long)} examples are too long)" if len(long) > 1 else ""
        return InputError(
            f'example "{name}" takes {steps[worst]} steps {why}, but the context is {self._context}{more}: raise '
            "model.context (and data.batch_steps), or tokenise shorter clips"
        )


def _steps_of_a_chunk(layout: Layout) -> int:
    """For layouts by spans, the steps that one more turn may cost: its switch, and what its last frame drains."""
    if not layout.has_spans:
        return 0
    parts = layout.span_nodes()[0].part_streams
    alone = [layout.count_steps({n: int(n == part) for n in layout.streams}, ended=False) for part in parts]
    return max(int(steps) for steps in alone)


def _joined(parts: list[Segments]) -> Segments:
    def joined(values: list) -> np.ndarray | Cuts:
        if isinstance(values[0], dict):
            return {name: np.concatenate([value[name] for value in values]) for name in values[0]}
        return np.concatenate(values)

    return Segments(*(joined([getattr(part, field.name) for part in parts]) for field in fields(Segments)))  # pyright: ignore[reportArgumentType]


def _ordered(parts: list[Segments]) -> Segments:
    """All segments in the order of their examples and places."""
    joined = _joined([part for part in parts if len(part)])
    return joined.take(np.argsort(joined.example, kind="stable"))
