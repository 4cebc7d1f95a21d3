"""What the examples of a mixture hold of the streams of a layout: frames of codes, tokens of text, words with times.

    text           tokens of the text, from a mapped table; in a span layout those of the words, one word a unit (not
                   where every stream is one turn, whole: spans="either" needs no times of words)
    aligned_text   the words on the clock of the stream that speaks them (Moshi), as long as it
    all others     codes of the corpus

Words are those of the stream `audio` or, where the layout has none, of its first stream of codes; where that one has no
words of its own (`semantic`), they are those of `audio` all the same. A stream that an example lacks has no frames.

Shapes: N examples, S segments, W words of an example, M tokens.
"""

from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from hocket.data.corpus import Corpus
from hocket.data.loading.mixture import Mixture
from hocket.data.loading.tokens import TokenTable, WordTable
from hocket.data.shards import AUDIO
from hocket.errors import InputError
from hocket.interleave import Layout, align_text
from hocket.interleave.transforms import words_within
from hocket.vocab import TextTokenizer, Vocabulary
from hocket.vocab.vocabulary import ALIGNED_TEXT, TEXT

if TYPE_CHECKING:
    from hocket.data.loading.segments import Segments

Units = Mapping[str, Sequence[int]]  # boundaries of units by stream
ROUNDING = 1e-6  # seconds are written with six decimals; a word that starts at a frame's first instant is in that frame


class Contents:
    """Of all examples of a mixture.

    Raises:
        InputError: no corpus has a stream of the layout, or enough of its levels; spans of streams that have no words.
    """

    def __init__(self, mixture: Mixture, layout: Layout, vocabulary: Vocabulary, ended: Sequence[str] | None = None):
        self.mixture, self.layout, self.vocabulary = mixture, layout, vocabulary
        self.closed = tuple(layout.streams) if ended is None else tuple(ended)
        """The streams whose end stands in a document: not those that are predicted in place."""
        self.codes = [name for name in layout.streams if name not in (TEXT, ALIGNED_TEXT)]
        self._check_streams()
        self.parts = layout.span_nodes()[0].part_streams if layout.has_spans else ()
        self.by_wholes = layout.has_spans and layout.span_nodes()[0].by_wholes
        self.frames = {name: mixture.frames(name).astype(np.int32) for name in self.codes}
        self._rates = {name: mixture.streams[name].frame_rate for name in self.codes}
        self._clocks = sorted(range(len(self.codes)), key=lambda i: self._rates[self.codes[i]])
        self._texts: list[TokenTable] = []
        self._words: dict[str, list[WordTable]] = {}
        if TEXT in layout.streams:
            self._texts = [TokenTable.of(corpus, self._tokenizer) for corpus in mixture.corpora]
        if ALIGNED_TEXT in layout.streams or self.moves_words:
            self.open_words()
        elif self.parts and not self.by_wholes:
            for name in self.parts:
                self._words[name] = [WordTable.of(corpus, None, name) for corpus in mixture.corpora]

    @property
    def spoken(self) -> str:
        """The stream whose words are meant."""
        return AUDIO if AUDIO in self.codes else self.codes[0]

    @property
    def moves_words(self) -> bool:
        """Whether the layout puts the text into spans, word by word."""
        return TEXT in self.parts and not self.by_wholes

    def open_words(self) -> None:
        """Encode the words that are spoken, or map what was encoded before."""
        if self.spoken not in self._words:
            self._words[self.spoken] = [self._spoken_words(corpus) for corpus in self.mixture.corpora]

    def _spoken_words(self, corpus: Corpus) -> WordTable:
        """Of the stream that speaks, or of `audio` where words are said to be that one's: units of the same sound."""
        own = WordTable.of(corpus, self._tokenizer, self.spoken)
        return own if len(own.starts_W) else WordTable.of(corpus, self._tokenizer, AUDIO)

    # --- what there is ----------------------------------------------------------------------------------------------

    @cached_property
    def present(self) -> dict[str, np.ndarray]:
        """Which examples have each stream of the layout: bool [N]."""
        everything = np.arange(len(self.mixture))
        found = {name: self.frames[name] > 0 for name in self.codes}
        if TEXT in self.layout.streams:
            found[TEXT] = self.mixture.has_text
        if ALIGNED_TEXT in self.layout.streams:
            found[ALIGNED_TEXT] = found[self.spoken] & (self.n_words(everything) > 0)
        return {name: found[name] for name in self.layout.streams}

    def n_words(self, examples: np.ndarray, stream: str | None = None) -> np.ndarray:
        """Words with times of some examples: int64."""
        return self._by_corpus(examples, lambda number, rows: self._words[stream or self.spoken][number].n_words(rows))

    def has_spoken_text(self, examples: np.ndarray) -> np.ndarray:
        """Which examples have their text as words that a span layout moves."""
        return self.n_words(examples) > 0 if self.moves_words else np.zeros(len(examples), bool)

    def text_units(self, examples: np.ndarray, by_words: np.ndarray) -> np.ndarray:
        """Words of the examples whose text goes by words, tokens of the others: int64, 0 without text in the layout."""
        if TEXT not in self.layout.streams:
            return np.zeros(len(examples), np.int64)
        units = self._by_corpus(examples, lambda number, rows: self._texts[number].counts(rows))
        if by_words.any():
            units[by_words] = self.n_words(examples[by_words])
        return units

    def clock(self, examples: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The slowest stream of codes that each example has (its number), and its frames; else tokens of text."""
        clock, total = np.full(len(examples), len(self.codes)), np.zeros(len(examples), np.int64)
        for number in reversed(self._clocks):
            frames = self.frames[self.codes[number]][examples]
            clock[frames > 0], total[frames > 0] = number, frames[frames > 0]
        bare = clock == len(self.codes)
        total[bare] = self.text_units(examples[bare], np.zeros(int(bare.sum()), bool))
        return clock, total

    def on_clock(self, frames: np.ndarray, clock: np.ndarray, stream: str) -> np.ndarray:
        """Frames of the clock as frames of a stream, rounded down."""
        converted = np.zeros_like(frames)
        for number in np.unique(clock[clock < len(self.codes)]).tolist():
            ratio = self._rates[stream] / self._rates[self.codes[number]]
            converted[clock == number] = frames[clock == number] * ratio.numerator // ratio.denominator
        return converted

    def word_frames(self, example: int, stream: str, words_of: str | None = None) -> np.ndarray:
        """The frame of a stream in which each word of an example starts: int64 [W], none beyond the last."""
        number, row = self._locate(example)
        starts_W = self._words[words_of or self.spoken][number].starts(row)
        frames_W = np.floor(starts_W * float(self._rates[stream]) + ROUNDING).astype(np.int64)
        return np.minimum(frames_W, self.frames[stream][example])

    # --- of segments ------------------------------------------------------------------------------------------------

    def lengths(self, segments: "Segments") -> dict[str, np.ndarray]:
        """Frames or tokens of each segment by stream: int64 [S]."""
        lengths = {name: (segments.stop[name] - segments.start[name]).astype(np.int64) for name in self.codes}
        if TEXT in self.layout.streams:
            lengths[TEXT] = self._n_tokens(segments)
        if ALIGNED_TEXT in self.layout.streams:
            lengths[ALIGNED_TEXT] = np.where(self.n_words(segments.example) > 0, lengths[self.spoken], 0)
        return {name: lengths[name] for name in self.layout.streams}

    def ended(self, segments: "Segments") -> dict[str, np.ndarray]:
        """Which segments hold the end of each stream: bool [S]; none of a stream that the example lacks, or that has
        no end (`closed`)."""
        present = self.present
        return {n: segments.ends & present[n][segments.example] & (n in self.closed) for n in self.layout.streams}

    def n_units(self, segments: "Segments") -> np.ndarray:
        """Units of each segment that a span layout puts into one stream or another: int64 [S]."""
        if self.by_wholes:
            return np.ones(len(segments), np.int64)
        if TEXT in self.parts:
            return np.where(segments.by_words, segments.last - segments.first, 1).astype(np.int64)
        return np.array([len(next(iter(units.values()))) - 1 for units in self.spans(segments) or ()], np.int64)

    def text(self, segments: "Segments") -> np.ndarray:
        """The tokens of all segments' text, one after the other: int64 [M, 1]."""
        pieces = [np.zeros(0, np.int64)]
        columns = (segments.example, segments.first, segments.last, segments.by_words)
        for example, first, last, by_words in zip(*(column.tolist() for column in columns), strict=True):
            number, row = self._locate(example)
            if by_words:
                table = self._words[self.spoken][number]
                edges = table.edges(row)
                first, last = int(edges[first]), int(edges[last])
            else:
                table = self._texts[number]
            pieces.append(table.of_row(row)[first:last])
        return np.concatenate(pieces, dtype=np.int64)[:, None]

    def aligned(self, segments: "Segments") -> tuple[np.ndarray, int]:
        """Aligned text of all segments, int64 [frames of all, 1], and how many words did not fit before their end."""
        pieces, n_left_out = [np.zeros((0, 1), np.int64)], 0
        rate, text_rows = self._rates[self.spoken], self.vocabulary.text_rows
        for i, example in enumerate(segments.example.tolist()):
            number, row = self._locate(example)
            table = self._words[self.spoken][number]
            starts_W, edges, tokens = table.starts(row), table.edges(row), table.of_row(row)
            if not len(starts_W):
                continue
            start, stop = int(segments.start[self.spoken][i]), int(segments.stop[self.spoken][i])
            frames_W = np.floor(starts_W * float(rate) + ROUNDING)
            mine = np.flatnonzero((frames_W >= start) & ((frames_W < stop) | segments.ends[i]))
            words = [
                (tokens[edges[w] : edges[w + 1]].tolist(), Fraction(int(frames_W[w]) - start) / rate)
                for w in mine.tolist()
            ]
            kept, left_out = words_within(words, rate, stop - start)
            pieces.append(align_text(kept, rate, stop - start, text_rows))
            n_left_out += left_out
        return np.concatenate(pieces), n_left_out

    def spans(self, segments: "Segments") -> list[Units] | None:
        """For a span layout, the boundaries of units of each segment by stream."""
        if not self.parts:
            return None
        lengths = self.lengths(segments)
        if self.by_wholes:
            return [{name: (0, int(lengths[name][i])) for name in self.parts} for i in range(len(segments))]
        bounds = self._word_units if TEXT in self.parts else self._turn_units
        return [bounds(segments, i, {n: int(lengths[n][i]) for n in self.parts}) for i in range(len(segments))]

    def _word_units(self, segments: "Segments", i: int, lengths: dict[str, int]) -> Units:
        """Every word with the frames from its start to the next one's."""
        if not segments.by_words[i]:
            return {name: [0, n] for name, n in lengths.items()}
        example, first, last = int(segments.example[i]), int(segments.first[i]), int(segments.last[i])
        number, row = self._locate(example)
        edges = self._words[self.spoken][number].edges(row)[first : last + 1]
        units: dict[str, Sequence[int]] = {TEXT: (edges - edges[0]).tolist()}
        for name in self.parts:
            if name != TEXT:
                inner = self.word_frames(example, name)[first + 1 : last] - segments.start[name][i]
                units[name] = [0, *inner.tolist(), lengths[name]]
        return {name: units[name] for name in self.parts}

    def _turn_units(self, segments: "Segments", i: int, lengths: dict[str, int]) -> Units:
        """Every stream from where its speaker takes a turn to where it takes the next, round and round."""
        example, runs = int(segments.example[i]), []
        for part, name in enumerate(self.parts):
            frames = self.word_frames(example, name, name) - segments.start[name][i]
            seconds = (frames / float(self._rates[name])).tolist()
            inside = (frames >= 0) & (frames < lengths[name])
            runs += [(s, part, f) for s, f, here in zip(seconds, frames.tolist(), inside.tolist(), strict=True) if here]
        edges: list[list[int]] = [[] for _ in self.parts]
        before, unit = -1, 0
        for _, part, frame in sorted(runs):
            if part == before:
                continue
            unit += part < before
            edges[part] += [frame] * (unit + 1 - len(edges[part]))
            before = part
        for part, name in enumerate(self.parts):
            edges[part] += [lengths[name]] * (unit + 2 - len(edges[part]))
            edges[part][0] = 0
        return dict(zip(self.parts, edges, strict=True))

    def _n_tokens(self, segments: "Segments") -> np.ndarray:
        n_tokens = (segments.last - segments.first).astype(np.int64)
        for i in np.flatnonzero(segments.by_words).tolist():
            number, row = self._locate(int(segments.example[i]))
            edges = self._words[self.spoken][number].edges(row)
            n_tokens[i] = edges[segments.last[i]] - edges[segments.first[i]]
        return n_tokens

    # --- private ----------------------------------------------------------------------------------------------------

    def _locate(self, example: int) -> tuple[int, int]:
        """The corpus of an example, and its row there."""
        number = int(np.searchsorted(self.mixture.first, example, side="right")) - 1
        return number, int(self.mixture.corpora[number].rows[example - self.mixture.first[number]])

    @property
    def _tokenizer(self) -> TextTokenizer:
        if self.vocabulary.text is None:
            raise InputError(f"{self.layout} needs text, but the vocabulary has no text tokenizer")
        return self.vocabulary.text

    def _by_corpus(self, examples: np.ndarray, values: Callable[[int, np.ndarray], np.ndarray]) -> np.ndarray:
        """`values(corpus number, rows)` for some examples."""
        numbers, result = self.mixture.numbers(examples), np.zeros(len(examples), np.int64)
        for number in np.unique(numbers).tolist():
            mine = numbers == number
            result[mine] = values(
                number, self.mixture.corpora[number].rows[examples[mine] - self.mixture.first[number]]
            )
        return result

    def _check_streams(self) -> None:
        mixture, layout = self.mixture, self.layout
        for name in self.codes:
            having = [corpus for corpus in mixture.corpora if name in corpus.levels]
            if not having:
                raise InputError(
                    f'{layout} needs a stream "{name}"; the corpus "{mixture.folder}" has {sorted(mixture.levels)}'
                )
            for corpus in having:
                if layout.streams[name] > corpus.levels[name]:
                    raise InputError(
                        f'{layout} needs {layout.streams[name]} levels of "{name}"; the corpus "{corpus.folder}" has '
                        f"{corpus.levels[name]}"
                    )
        if not self.codes and (ALIGNED_TEXT in layout.streams or layout.has_spans):
            raise InputError(f"{layout} goes by the times of words, which text alone does not have")
