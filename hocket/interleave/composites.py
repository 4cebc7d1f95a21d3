"""The nodes that join layouts: one after another, side by side, by turns.

Concat(a, b)        Stack(Lead(a, 1), b)       Alternate(a, b, ratio=(2, 3))      Alternate(a, b, spans="turn")
a a a E b b E       row 0   a a a E .          a a b b b a E b b E                A a a B b b b A a E
                    row 1   . b b b E          (frames; never split)              (A, B: <to.a>, <to.b>)
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from hocket.errors import InputError
from hocket.interleave.checks import as_tuple, is_whole
from hocket.interleave.layout import Layout
from hocket.interleave.leaf import SpanNode
from hocket.interleave.nodes import Parallel, Text
from hocket.interleave.painting import Chunks, Painter, Runs, Work
from hocket.interleave.stream import FrameRates, StreamRef, known_frames, parse_frames, to_frames
from hocket.vocab.vocabulary import TEXT

Part = Layout | StreamRef | str


def as_layout(part: Part, node: str) -> Layout:
    """A part of a node; a bare stream is laid out in parallel, bare text token by token."""
    if isinstance(part, Lead) and node != "Stack":
        raise InputError(f"{part} leads nothing in {node}; Lead stands directly inside Stack(…)")
    if isinstance(part, Layout):
        return part
    if not isinstance(part, str | StreamRef):
        raise InputError(f"{node} joins layouts, such as {node}(Text(text), Delay(audio)), not {part!r}")
    ref = StreamRef.parse(part)
    return Text(ref) if ref.name == TEXT else Parallel(ref)


@dataclass(frozen=True)
class Composite(Layout):
    """A node over several parts."""

    parts: tuple[Layout, ...]

    def __init__(self, *parts: Part):
        name = type(self).__name__
        if not parts:
            raise InputError(f"{name} joins layouts, such as {name}(Text(text), Delay(audio))")
        object.__setattr__(self, "parts", tuple(as_layout(part, name) for part in parts))

    @property
    def children(self) -> tuple[Layout, ...]:
        return self.parts

    @property
    def expression(self) -> str:
        return f"{type(self).__name__}({', '.join(part.expression for part in self.parts)})"

    @property
    def n_rows(self) -> int:
        return max(part.n_rows for part in self.parts)

    def resolve(self, levels, rates: FrameRates) -> "Composite":
        return type(self)(*(part.resolve(levels, rates) for part in self.parts))


@dataclass(frozen=True, init=False)
class Concat(Composite):
    """One part after another in time; rows are aligned from 0, what a part does not fill is `<none>`."""

    @property
    def is_online(self) -> bool:
        return len(self.parts) == 1 and self.parts[0].is_online

    def measure(self, work: Work) -> np.ndarray:
        return np.sum([part.measure(work) for part in self.parts], axis=0)

    def paint(self, painter: Painter, work: Work, start_P, row: int) -> None:
        for part in self.parts:
            part.paint(painter, work, start_P, row)
            start_P = start_P + part.measure(work)


@dataclass(frozen=True)
class Lead(Layout):
    """Inside `Stack`: this part goes `steps` steps (or a time such as `"0.5s"`) ahead of the others."""

    part: Layout | StreamRef | str
    steps: int | str = 1

    def __post_init__(self) -> None:
        object.__setattr__(self, "part", as_layout(self.part, "Lead"))
        object.__setattr__(self, "steps", parse_frames(self.steps, "a lead"))
        if not self.leaves():
            raise InputError(f"{self} leads without placing a stream; wrap a part such as Lead(semantic, 1)")

    @property
    def children(self) -> tuple[Layout, ...]:
        return (self._part,)

    @property
    def _part(self) -> Layout:
        assert isinstance(self.part, Layout)
        return self.part

    @cached_property
    def streams(self) -> dict[str, int]:
        raise InputError(f"{self} leads nothing on its own; Lead stands directly inside Stack(…)")

    @property
    def n_steps(self) -> int:
        return known_frames(self.steps, self.leaves()[0].ref.name)

    @property
    def expression(self) -> str:
        return f"Lead({self._part.expression}, {self.steps if isinstance(self.steps, int) else repr(self.steps)})"

    @property
    def n_rows(self) -> int:
        return self._part.n_rows

    @property
    def is_online(self) -> bool:
        return self._part.is_online

    def resolve(self, levels, rates: FrameRates) -> "Lead":
        part, steps = self._part.resolve(levels, rates), self.steps
        name = part.leaves()[0].ref.name
        if isinstance(steps, str) and name in rates:
            steps = to_frames(steps, name, {name: part.steps_per_second({name: rates[name]})})
        return Lead(part, steps)

    def measure(self, work: Work) -> np.ndarray:
        return self._part.measure(work)

    def paint(self, painter: Painter, work: Work, start_P, row: int) -> None:
        self._part.paint(painter, work, start_P, row)


@dataclass(frozen=True, init=False)
class Stack(Composite):
    """Parts side by side on one clock, each in rows of its own (Moshi: Défossez et al., 2024)."""

    @property
    def n_rows(self) -> int:
        return sum(part.n_rows for part in self.parts)

    @property
    def is_online(self) -> bool:
        return all(part.is_online for part in self.parts)

    def measure(self, work: Work) -> np.ndarray:
        steps = [part.measure(work) for part in self.parts]
        waits = [np.where(n > 0, n + wait, 0) for n, wait in zip(steps, self._waits(), strict=True)]
        return np.max(waits, axis=0)

    def paint(self, painter: Painter, work: Work, start_P, row: int) -> None:
        for part, wait in zip(self.parts, self._waits(), strict=True):
            part.paint(painter, work, start_P + wait, row)
            row += part.n_rows

    def _waits(self) -> list[int]:
        """Steps that each part begins after the one that leads most."""
        leads = [part.n_steps if isinstance(part, Lead) else 0 for part in self.parts]
        return [max(leads) - lead for lead in leads]


@dataclass(frozen=True, init=False)
class Alternate(Composite, SpanNode):
    """Parts by turns: by a fixed ratio of frames, or by spans.

    Args:
        ratio: frames (tokens of text) of each part's turn, as `(13, 26)` in GLM-4-Voice (Zeng et al., 2024). When a
            part has ended, the others get all steps. A turn is laid out whole: no frame is split.
        spans: "turn" puts every unit into each part in turn (word by word, speaker by speaker); "word" puts each unit
            into one part, in spans drawn by the seed (SpiritLM: Nguyen et al., 2024); "either" puts each stream into
            one turn, whole, in an order drawn by the seed (text to speech and recognition in one model, as in VoxtLM:
            Maiti et al., 2023, arXiv:2309.07937). Each turn is announced by `<to.STREAM>`, which stands where the
            leader's next frame would; the last turn ends with its stream's end.
        words: for spans="word": fewest and most units of a span, by part.

    Raises:
        InputError: neither or both of ratio and spans, or numbers that do not fit the parts.
    """

    ratio: tuple[int, ...] | None = None
    spans: str | None = None
    words: tuple[tuple[int, int], ...] | None = None

    def __init__(
        self,
        *parts: Part,
        ratio: Sequence[int] | None = None,
        spans: str | None = None,
        words: Sequence[Sequence[int]] | None = None,
    ):
        super().__init__(*parts)
        object.__setattr__(self, "ratio", None if ratio is None else as_tuple(ratio, "turns"))
        object.__setattr__(self, "spans", spans)
        given = as_tuple(words if words is not None else ((1, 10),) * len(parts), "words")
        by_word = tuple(as_tuple(pair, "the fewest and most words of a part") for pair in given)
        object.__setattr__(self, "words", by_word if spans == "word" else None)
        if words is not None and spans != "word":
            raise InputError('Alternate takes words=… only with spans="word"')
        self._check()

    def _check(self) -> None:
        if (self.ratio is None) == (self.spans is None):
            raise InputError(
                'Alternate goes by a ratio or by spans: ratio=(13, 26), spans="word", spans="turn" or spans="either"'
            )
        whole = self.ratio is None or all(is_whole(n, 1) for n in self.ratio)
        if self.ratio is not None and (len(self.ratio) != len(self.parts) or not whole):
            raise InputError(
                f"Alternate needs a number of frames above 0 for each of its {len(self.parts)} parts, "
                f"not {list(self.ratio)}"
            )
        if self.spans not in (None, "word", "turn", "either"):
            raise InputError(f'Alternate goes by spans="word", spans="turn" or spans="either", not "{self.spans}"')
        if any(not part.leaves() or part.span_nodes() for part in self.parts):
            raise InputError("Alternate takes parts that place a stream and do not go by spans themselves")
        if self.spans and any(len(part.leaves()) != 1 for part in self.parts):
            raise InputError("Alternate by spans takes parts of one stream each, such as Flatten(semantic)")
        if self.spans and len(set(self.part_streams)) < len(self.parts):
            raise InputError(f"Alternate by spans takes a stream of its own for each part, not {self.part_streams}")
        if self.words is not None and (
            len(self.words) != len(self.parts)
            or any(len(pair) != 2 or not (is_whole(pair[0], 1) and is_whole(pair[1], pair[0])) for pair in self.words)
        ):
            raise InputError(
                f"words are the fewest and most units of a span for each of the {len(self.parts)} parts, "
                f"not {self.words}"
            )

    @property
    def by_turns(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.spans == "turn"

    @property
    def by_wholes(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.spans == "either"

    @property
    def expression(self) -> str:
        how = f"ratio={self.ratio}" if self.ratio is not None else f'spans="{self.spans}"'
        words = f", words={self.words}" if self.words is not None else ""
        return f"Alternate({', '.join(part.expression for part in self.parts)}, {how}{words})"

    @property
    def is_online(self) -> bool:
        return self.ratio is not None and all(part.is_online for part in self.parts)

    @property
    def period(self) -> int:
        return math.lcm(super().period, *(self.ratio or (1,)))

    def resolve(self, levels, rates: FrameRates) -> "Alternate":
        parts = (part.resolve(levels, rates) for part in self.parts)
        return Alternate(*parts, ratio=self.ratio, spans=self.spans, words=self.words)

    def measure(self, work: Work) -> np.ndarray:
        turns = self._turns(work)
        n_runs = len(next(iter(work[leaf] for leaf in self.leaves()))[0])
        opener = 0 if self.spans is None else 1
        return opener + np.bincount(turns.run_C, turns.n_steps_C, n_runs).astype(np.int64)

    def paint(self, painter: Painter, work: Work, start_P, row: int) -> None:
        turns = self._turns(work)
        start_C = turns.starts(start_P + (0 if self.spans is None else 1))
        if self.spans is not None:
            self._open(painter, work, start_P, row)
        for part, chosen, cut in zip(self.parts, turns.of_part, turns.work, strict=True):
            part.paint(painter, cut, start_C[chosen], row)

    def _turns(self, work: Work) -> "Turns":
        return self._by_ratio(work) if self.ratio is not None else self._by_spans(work)

    def _by_ratio(self, work: Work) -> "Turns":
        """Cuts each part's runs into turns of its number of frames."""
        all_runs, rounds, cuts = [], [], []
        for part, size in zip(self.parts, self.ratio or (), strict=True):
            leaves = part.leaves()
            held = [work[leaf] for leaf in leaves]
            n_turns_P = np.max([_count_turns(runs, size) for runs in held if isinstance(runs, Runs)], axis=0)
            run_C = np.repeat(np.arange(len(n_turns_P)), n_turns_P)
            round_C = np.arange(len(run_C)) - (np.cumsum(n_turns_P) - n_turns_P)[run_C]
            cuts.append({leaf: _cut(work[leaf], run_C, round_C, size) for leaf in leaves})
            all_runs.append(run_C)
            rounds.append(round_C)
        return Turns.build(self.parts, all_runs, rounds, cuts)

    def _by_spans(self, work: Work) -> "Turns":
        chunks = work[self]
        assert isinstance(chunks, Chunks)
        runs, rounds, cuts = [], [], []
        for i, part in enumerate(self.parts):
            chosen = chunks.part_C == i
            cuts.append({part.leaves()[0]: Runs(chunks.first_C[chosen], chunks.n_C[chosen], chunks.stop_C[chosen])})
            runs.append(chunks.run_C[chosen])
            rounds.append(chosen.nonzero()[0])
        return Turns.build(self.parts, runs, rounds, cuts)

    def _open(self, painter: Painter, work: Work, start_P, row: int) -> None:
        """The marker of each document's first turn."""
        chunks = work[self]
        assert isinstance(chunks, Chunks)
        _, first_C = np.unique(chunks.run_C, return_index=True)
        for part, stream in enumerate(self.part_streams):
            chosen = chunks.part_C[first_C] == part
            cell_P = start_P[chosen] * painter.n_rows + row
            symbol = np.full(len(cell_P), painter.symbol(f"<to.{stream}>"))
            legal = painter.choice(self)
            painter.place_symbols(cell_P, symbol, legal, stream, chunks.first_C[first_C][chosen])


@dataclass(frozen=True)
class Turns:
    """C turns of several parts, and their order."""

    run_C: np.ndarray  # which run is cut
    n_steps_C: np.ndarray
    order_C: np.ndarray  # positions of the turns, in the order in which they stand
    of_part: list[slice]  # the turns of each part
    work: list[dict]  # the runs of each part's leaves

    @classmethod
    def build(cls, parts, runs, rounds, cuts) -> "Turns":
        """Joins the parts' turns; within a run they go by round, then by part."""
        run_C, round_C = np.concatenate(runs), np.concatenate(rounds)
        part_C = np.repeat(np.arange(len(parts)), [len(run) for run in runs])
        steps = [part.measure(cut).astype(np.int64) for part, cut in zip(parts, cuts, strict=True)]
        edges = np.cumsum([0] + [len(run) for run in runs])
        of_part = [slice(a, b) for a, b in zip(edges[:-1], edges[1:], strict=True)]
        return cls(run_C, np.concatenate(steps), np.lexsort((part_C, round_C, run_C)), of_part, cuts)

    def starts(self, start_P: np.ndarray) -> np.ndarray:
        """First step of each turn, where the runs begin at `start_P`."""
        run, steps = self.run_C[self.order_C], self.n_steps_C[self.order_C]
        before = np.cumsum(steps) - steps
        is_first = np.concatenate([[True], run[1:] != run[:-1]]) if len(run) else np.zeros(0, bool)
        base = before[is_first][np.cumsum(is_first) - 1]
        found = np.empty_like(before)
        found[self.order_C] = before - base + start_P[run]
        return found


@dataclass(frozen=True)
class Multispeaker(Layout):
    """Streams of several speakers: side by side (dGSLM: Nguyen et al., 2022), or by turns.

    Args:
        speakers: the layout of each speaker's stream.
        by: "row" is `Stack`; "turn" is `Alternate(…, spans="turn")`, whose `<to.STREAM>` says who speaks.
    """

    parts: tuple[Layout, ...]
    by: str = "row"

    def __init__(self, *speakers: Part, by: str = "row"):
        if by not in ("row", "turn"):
            raise InputError(f'Multispeaker goes by="row" or by="turn", not "{by}"')
        if len(speakers) < 2:
            raise InputError("Multispeaker needs the streams of two speakers or more")
        object.__setattr__(self, "parts", tuple(as_layout(part, "Multispeaker") for part in speakers))
        object.__setattr__(self, "by", by)
        object.__setattr__(self, "_inner", Stack(*self.parts) if by == "row" else Alternate(*self.parts, spans="turn"))

    @property
    def children(self) -> tuple[Layout, ...]:
        return (self._inner,)  # pyright: ignore[reportAttributeAccessIssue]

    @property
    def expression(self) -> str:
        by = ', by="turn"' if self.by == "turn" else ""
        return f"Multispeaker({', '.join(part.expression for part in self.parts)}{by})"

    @property
    def n_rows(self) -> int:
        return self.children[0].n_rows

    @property
    def is_online(self) -> bool:
        return self.children[0].is_online

    def resolve(self, levels, rates: FrameRates) -> "Multispeaker":
        return Multispeaker(*(part.resolve(levels, rates) for part in self.parts), by=self.by)

    def measure(self, work: Work) -> np.ndarray:
        return self.children[0].measure(work)

    def paint(self, painter: Painter, work: Work, start_P, row: int) -> None:
        self.children[0].paint(painter, work, start_P, row)


def _count_turns(runs: Runs, size: int) -> np.ndarray:
    """Turns of `size` frames of each run; a run that fills its last one ends in a turn more."""
    return -(-runs.n_P // size) + ((runs.n_P % size == 0) & (runs.stop_P > 0))


def _cut(runs, run_C: np.ndarray, round_C: np.ndarray, size: int) -> Runs:
    """Turn number `round_C` of `size` frames of each run; what follows the run follows its last turn."""
    before_C = round_C * size
    n_C = np.clip(runs.n_P[run_C] - before_C, 0, size)
    is_last = before_C <= runs.n_P[run_C]
    is_last &= runs.n_P[run_C] < before_C + size
    return Runs(runs.first_P[run_C] + before_C, n_C, np.where(is_last, runs.stop_P[run_C], 0))
