"""What a layout is: a tree of nodes that says which code sits in which cell, and all that follows from it.

A node defines how its runs are painted (`measure`, `paint`); a leaf needs one formula, `steps`. Everything else is
derived here once: streams, legal sets, leaders, numbers of steps, rates, and plans for one document or many.

A layout is a frozen value: it can be compared, hashed, printed as an expression and read back. `T` is a number of
frames (tokens for text), `R` rows, `K` levels, `P` runs, `B` documents.
"""

import math
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from fractions import Fraction
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING

import numpy as np

from hocket.errors import InputError, did_you_mean
from hocket.interleave.batch import PlanBatch
from hocket.interleave.checks import LARGEST, MOST_LEVELS, MOST_STREAMS, frame_rates_of, is_whole
from hocket.interleave.compiling import STARTS, find_late_conditions, find_work, finish_solo, paint_plan
from hocket.interleave.painting import Painter, Work
from hocket.interleave.plan import Plan
from hocket.interleave.spans import Spans, freeze_spans
from hocket.interleave.stream import ONE_LEVEL, FrameRates, StreamRef

if TYPE_CHECKING:
    from hocket.interleave.leaf import Leaf, SpanNode

Lengths = Mapping[str, int]
CACHED_PLANS = 512  # of 8 to 34 bytes a cell: up to 200 MB where all are of 12,000 cells
MOST_SOLO = 1 << 20  # frames up to which the cells of a leaf alone need no check of their number
NOTHING: frozenset[tuple[str, int]] = frozenset()


class Layout(ABC):
    """An expression that says which code sits in which cell."""

    # --- what each node defines -------------------------------------------------------------------------------------

    @property
    @abstractmethod
    def expression(self) -> str:
        """The layout as text that `load_layout` reads back."""

    @property
    @abstractmethod
    def n_rows(self) -> int:
        """R, the number of rows that the model reads at each step."""

    @property
    @abstractmethod
    def is_online(self) -> bool:
        """A longer example has the same cells up to the shorter one's end."""

    @abstractmethod
    def resolve(self, levels: Mapping[str, int], rates: FrameRates) -> "Layout":
        """The same layout with the number of levels of each stream, and times as frames, filled in."""

    @abstractmethod
    def measure(self, work: Work) -> np.ndarray:
        """Steps that each run takes: int64 `[P]`."""

    @abstractmethod
    def paint(self, painter: Painter, work: Work, start_P: np.ndarray, row: int) -> None:
        """Places the runs, which begin at steps `start_P`, into rows from `row` on."""

    @property
    def children(self) -> tuple["Layout", ...]:
        """The nodes directly below."""
        return ()

    @property
    def period(self) -> int:
        """After how many frames of each stream the pattern of steps repeats."""
        return math.lcm(*(child.period for child in self.children)) if self.children else 1

    # --- the tree ---------------------------------------------------------------------------------------------------

    def walk(self) -> Iterator["Layout"]:
        """This node and all below it, in the order in which they are written."""
        yield self
        for child in self.children:
            yield from child.walk()

    def leaves(self) -> tuple["Leaf", ...]:
        """The nodes that place codes, in the order in which they are written."""
        return tuple(leaf for child in self.children for leaf in child.leaves())

    @cached_property
    def streams(self) -> dict[str, int]:
        """K, the number of levels, by stream, in the order in which streams first appear.

        Raises:
            InputError: a level is missing or stands in two places.
        """
        levels: dict[str, list[int]] = {}
        for leaf in self.leaves():
            levels.setdefault(leaf.ref.name, []).extend(range(leaf.ref.start, leaf.ref.start + leaf.ref.n_levels))
        if not levels:
            raise InputError(f"{self.expression} places no stream; join it with one, as in Concat({self}, audio)")
        for name, found in levels.items():
            if sorted(found) != list(range(len(found))):
                raise InputError(
                    f'{self.expression} places levels {sorted(found)} of "{name}"; '
                    "each level from 0 on must stand in exactly one place"
                )
        if len(levels) > MOST_STREAMS:
            raise InputError(f"a layout places up to {MOST_STREAMS} streams, not {len(levels)}")
        if len(self.span_nodes()) > 1:
            raise InputError(f"{self.expression} goes by spans in more than one place; one Alternate may")
        for leaf in (leaf for node in self.span_nodes() for leaf in node.leaves()):
            if leaf.ref.n_levels != len(levels[leaf.ref.name]):
                raise InputError(
                    f'{self.expression} cuts {leaf.ref} by spans and has other levels of "{leaf.ref.name}" elsewhere, '
                    "which would tear frames apart; put all levels into the part"
                )
        return {name: len(found) for name, found in levels.items()}

    @cached_property
    def symbols(self) -> tuple[str, ...]:
        """Names of the special tokens that this layout places; filler is the first."""
        ends = [f"<end.{stream}>" for stream in self.streams]
        switches = [f"<to.{stream}>" for node in self.span_nodes() for stream in node.part_streams]
        return tuple(dict.fromkeys(("<none>", "<bos>", "<cont>", "<wait>", *ends, *switches, *self.markers)))

    @cached_property
    def markers(self) -> tuple[str, ...]:
        """The tokens that the layout's markers place."""
        return tuple(dict.fromkeys(token for child in self.children for token in child.markers))

    @cached_property
    def leaders(self) -> dict[str, "Leaf"]:
        """The leaf of each stream that carries its leader: the one with its lowest level."""
        leaders: dict[str, Leaf] = {}
        for leaf in self.leaves():
            held = leaders.get(leaf.ref.name)
            if held is None or leaf.ref.start < held.ref.start:
                leaders[leaf.ref.name] = leaf
        return leaders

    @cached_property
    def legal_sets(self) -> tuple[tuple[str, ...], ...]:
        """What a cell may hold, as names of blocks and special tokens. Set 0 is empty: never predicted."""
        sets: list[tuple[str, ...]] = [()]
        switches = {leaf: node.switches for node in self.span_nodes() for leaf in node.leaves()}
        for leaf in self.leaves():
            leads = self.leaders[leaf.ref.name] is leaf
            for column in range(leaf.ref.n_levels):
                legal = leaf.ref.legal(leaf.ref.start + column)
                ends = (f"<end.{leaf.ref.name}>", *switches.get(leaf, ()))
                sets.append((*legal, *ends) if leads and column == leaf.leader else legal)
        return (*sets, *(node.switches for node in self.span_nodes()))

    @cached_property
    def legal_cells(self) -> tuple[tuple[str, int] | None, ...]:
        """Stream and level that each legal set belongs to; None for the empty one and for a choice of stream."""
        cells: list[tuple[str, int] | None] = [None]
        for leaf in self.leaves():
            cells += [(leaf.ref.name, leaf.ref.start + column) for column in range(leaf.ref.n_levels)]
        return (*cells, *(None for _ in self.span_nodes()))

    @cached_property
    def first_legal(self) -> dict["Layout", int]:
        """The legal set of each leaf's first level, and of the first choice of each `Alternate` by spans."""
        found: dict[Layout, int] = {}
        index = 1
        for leaf in self.leaves():
            found[leaf] = index
            index += leaf.ref.n_levels
        found.update((node, index + i) for i, node in enumerate(self.span_nodes()))
        return found

    def span_nodes(self) -> "tuple[SpanNode, ...]":
        """The nodes that alternate by spans."""
        return tuple(node for child in self.children for node in child.span_nodes())

    @cached_property
    def has_spans(self) -> bool:
        """Whether a plan needs spans, which may leave frames without a cell."""
        return bool(self.span_nodes())

    @cached_property
    def symbol_numbers(self) -> np.ndarray:
        """What stands for each symbol in a grid without a vocabulary: -1, -2, …"""
        return -1 - np.arange(len(self.symbols), dtype=np.int64)

    @cached_property
    def _all(self) -> frozenset[str]:
        return frozenset(self.streams)

    # --- plans ------------------------------------------------------------------------------------------------------

    def plan(
        self,
        lengths: Lengths,
        *,
        start: str = "<bos>",
        ended: Iterable[str] | None = None,
        given: Iterable[str | StreamRef] = (),
        spans: Spans | None = None,
        seed: int = 0,
    ) -> Plan:
        """Compiles the layout for a document of given lengths. Plans are cached.

        Args:
            lengths: frames (tokens for text) by stream.
            start: `<bos>`, or `<cont>` for a document whose true start was cut off.
            ended: streams that truly end here and so carry `<end.STREAM>`; all of them unless given.
            given: streams, or levels of them as `audio[:4]`, that are never predicted (conditions, the other speaker).
            spans: for `Alternate(…, spans=…)`: the boundaries of the units (words, turns) by stream, each from 0 to the
                stream's length; or the turns themselves as `(stream, first, stop)`.
            seed: fixes the random choice of spans.

        Raises:
            InputError: a stream is missing, unknown, or has a negative length; spans are missing or do not fit.
        """
        fits = type(lengths) is dict and lengths.keys() == self.streams.keys()
        key = tuple([lengths[name] for name in self.streams]) if fits else ()
        if not key or any(type(n) is not int or not 0 <= n <= LARGEST for n in key):
            self._check_lengths(lengths)
            if any(np.ndim(n) for n in lengths.values()):
                raise InputError(f"a plan is of one document, with one length of each stream, not {dict(lengths)}")
            key = tuple(int(lengths[name]) for name in self.streams)
        _check_start(start)
        if ended is not None and isinstance(ended, Mapping):
            ended = [name for name in self._some(ended, ()) if ended[name]]
        closed = self._all if ended is None else self._some(ended, ())
        fixed = self._fix(given) if given else NOTHING
        frozen = freeze_spans(spans) if spans is not None else None
        return _compile(self, key, start, closed, fixed, frozen, seed if frozen else 0)

    def batch(
        self,
        lengths: Mapping[str, Sequence[int] | np.ndarray],
        *,
        start: str | Sequence[str] = "<bos>",
        ended: Mapping[str, Sequence[bool] | np.ndarray] | Iterable[str] | None = None,
        given: Iterable[str | StreamRef] = (),
        spans: Sequence[Spans] | None = None,
        seeds: Sequence[int] | None = None,
    ) -> PlanBatch:
        """Compiles the layout for B documents at once, end to end and without padding.

        Args:
            lengths: frames of each document by stream, `[B]`.
            start: one for all, or one each.
            ended: streams that truly end: for all documents, or a bool `[B]` by stream.
            given: streams, or levels of them, that are never predicted.
            spans, seeds: one each, for `Alternate(…, spans=…)`.

        Raises:
            InputError: as `plan`.
        """
        self._check_lengths(lengths)
        arrays = {name: np.asarray(lengths[name], dtype=np.int64).reshape(-1) for name in self.streams}
        if len({len(array) for array in arrays.values()}) > 1:
            raise InputError(
                f"a batch needs one length a document of each stream, not { {n: len(a) for n, a in arrays.items()} }"
            )
        n_documents = len(next(iter(arrays.values())))
        starts = (start,) * n_documents if isinstance(start, str) else tuple(start)
        for name in set(starts):
            _check_start(name)
        _check_counts(n_documents, {"starts": starts, "spans": spans, "seeds": seeds})
        if isinstance(ended, Mapping):
            self._some(ended, ())
            if any(np.asarray(value).dtype.kind not in "biu" for value in ended.values()):
                raise InputError(f"ends are one bool for each document, not {dict(ended)}")
            _check_counts(n_documents, {f'ends of "{name}"': value for name, value in ended.items() if np.ndim(value)})
            ends = {n: np.broadcast_to(np.asarray(ended.get(n, False), dtype=bool), n_documents) for n in self.streams}
        else:
            closed = self._some(ended, tuple(self.streams))
            ends = {name: np.full(n_documents, name in closed) for name in self.streams}
        frozen = [freeze_spans(s) for s in spans] if spans is not None else None
        fixed = self._fix(given) if given else NOTHING
        drawn = (0,) * n_documents if seeds is None else seeds
        return paint_plan(PlanBatch, self, arrays, starts, ends, fixed, frozen, drawn)

    def count_steps(
        self,
        lengths: Mapping[str, np.ndarray | int],
        ended: bool | Mapping[str, np.ndarray | bool] = True,
        *,
        spans: Sequence[Spans] | None = None,
        seeds: Sequence[int] | None = None,
    ) -> np.ndarray:
        """Steps of documents of these lengths, the first one included; vectorised over arrays of lengths.

        `ended`: whether all streams truly end, or one bool a document by stream.
        `Alternate` by spans needs `spans` (and `seeds`), one a document; without them each stream has one turn.
        """
        self._check_lengths(lengths)
        arrays = np.broadcast_arrays(*(np.asarray(lengths[name], dtype=np.int64) for name in self.streams))
        flat = {name: array.reshape(-1) for name, array in zip(self.streams, arrays, strict=True)}
        _check_counts(arrays[0].size, {"spans": spans, "seeds": seeds})
        ends = {
            name: np.broadcast_to(np.asarray(ended[name] if isinstance(ended, Mapping) else ended, bool), array.shape)
            for name, array in flat.items()
        }
        frozen = [freeze_spans(s) for s in spans] if spans is not None else None
        if self.span_nodes() and frozen is None:
            names = self.span_nodes()[0].part_streams
            frozen = [tuple((name, 0, int(flat[name][b])) for name in names) for b in range(arrays[0].size)]
        work = find_work(self, flat, ends, frozen, (0,) * arrays[0].size if seeds is None else seeds)
        return 1 + self.measure(work).reshape(arrays[0].shape)

    # --- rates ------------------------------------------------------------------------------------------------------

    def steps_per_second(self, frame_rates: FrameRates) -> Fraction:
        """Steps that one second of the streams in `frame_rates` (Hz) costs in the long run; exact.

        Streams without a rate are left out: text costs nothing here.
        """
        rates = {name: rate for name, rate in frame_rates_of(frame_rates).items() if name in self.streams}
        seconds = self.period * math.lcm(1, *(rate.denominator for rate in rates.values()))
        counts = [
            int(self.count_steps({n: int(rates.get(n, 0) * seconds * times) for n in self.streams}, ended=False))
            for times in (64, 128)
        ]
        return Fraction(counts[1] - counts[0], 64 * seconds)

    def tokens_per_second(self, frame_rates: FrameRates) -> Fraction:
        """Codes a second of the streams in `frame_rates` (Hz)."""
        rates = frame_rates_of(frame_rates)
        return sum((rates[name] * k for name, k in self.streams.items() if name in rates), Fraction(0))

    def context_seconds(self, n_steps: int, frame_rates: FrameRates) -> Fraction:
        """Seconds of audio that a context of `n_steps` holds in the long run.

        Raises:
            InputError: no stream of the layout has a frame rate.
        """
        steps = self.steps_per_second(frame_rates)
        if not steps:
            raise InputError(f"{self} has no stream with a frame rate, so no number of seconds fills its context")
        return n_steps / steps

    def find_levels(self, names: Iterable[str | StreamRef]) -> frozenset[tuple[str, int]]:
        """Streams and levels that are meant by names such as `user` or `audio[:4]`.

        Raises:
            InputError: the layout lacks one of them.
        """
        found = set()
        for name in (names,) if isinstance(names, str | StreamRef) else names:
            ref = StreamRef.parse(name)
            self._some((ref.name,), ())
            ref = ref.resolve(self.streams[ref.name])
            found |= {(ref.name, level) for level in range(ref.start, ref.start + ref.n_levels)}
        return frozenset(found)

    def _fix(self, names: Iterable[str | StreamRef]) -> frozenset[tuple[str, int]]:
        """The levels that are given, with a warning of conditions that enter too late to be seen."""
        given = self.find_levels(names)
        for name in find_late_conditions(self, given):
            warnings.warn(
                f'frame t of the given stream "{name}" enters beside the frame t that it conditions, which is one step '
                f"too late to be seen; wrap it in Lead(…, 1)",
                stacklevel=3,
            )
        return given

    # --- checks -----------------------------------------------------------------------------------------------------

    def _some(self, names: Iterable[str] | None, otherwise: tuple[str, ...]) -> frozenset[str]:
        chosen = frozenset(otherwise if names is None else (names,) if isinstance(names, str) else names)
        for name in chosen:
            if name not in self.streams:
                raise InputError(f'{self.expression} has no stream "{name}"' + did_you_mean(name, self.streams))
        return chosen

    def _check_lengths(self, lengths: Mapping) -> None:
        if type(lengths) is not dict and not isinstance(lengths, Mapping):
            raise InputError(
                f"lengths are frames by stream, such as {{{next(iter(self.streams))!r}: 100}}, not {lengths!r}"
            )
        for name in self.streams:
            if name not in lengths:
                raise InputError(f'{self.expression} needs the length of "{name}"; only {sorted(lengths)} were given')
        for name in lengths:
            if name not in self.streams:
                raise InputError(f'{self.expression} has no stream "{name}"' + did_you_mean(name, self.streams))
        for name, n in lengths.items():
            if not (0 <= n <= LARGEST if type(n) is int else _are_lengths(n)):
                raise InputError(f'lengths are whole numbers of frames, none negative, not {n!r} of "{name}"')

    def __str__(self) -> str:
        return self.expression


def resolve_levels(
    layout: Layout,
    levels: int | Mapping[str, int] | None,
    frame_rates: FrameRates | None = None,
    *,
    partial: bool = False,
) -> Layout:
    """Fills in the number of levels, one number for every code stream but `semantic` (which has one) or one by stream,
    and turns times into frames.

    Args:
        partial: a layout may place the lowest levels of a stream only, as the stages of a cascade do.
    """
    if levels is None and not frame_rates:
        return layout
    names = {leaf.ref.name for leaf in layout.leaves()} - set(ONE_LEVEL)
    if levels is None:
        by_stream: dict[str, int] = {}
    elif isinstance(levels, Mapping):
        by_stream = {name: k for name, k in levels.items() if name not in ONE_LEVEL}
    else:
        by_stream = dict.fromkeys(names - {"semantic"}, levels) | dict.fromkeys(names & {"semantic"}, 1)
    for name, k in by_stream.items():
        if not is_whole(k, 1, MOST_LEVELS):
            raise InputError(f'"{name}" has a number of levels from 1 to {MOST_LEVELS}, not {k!r}')
    resolved = layout.resolve(by_stream | dict.fromkeys(ONE_LEVEL, 1), frame_rates_of(frame_rates or {}))
    for name, n_levels in resolved.streams.items() if levels is not None else ():
        if not partial and name in by_stream and by_stream[name] != n_levels:
            raise InputError(f'{layout} places {n_levels} levels of "{name}", which has {by_stream[name]}')
    return resolved


def _are_lengths(values) -> bool:
    """Whether all of an array, a list or a number are whole numbers from 0 on; an empty list is."""
    array = np.asarray(values)
    return not array.size or (array.dtype.kind in "iu" and array.min() >= 0 and array.max() <= LARGEST)


def _check_counts(n_documents: int, given: Mapping) -> None:
    for what, values in given.items():
        if values is not None and len(values) != n_documents:
            raise InputError(f"a batch of {n_documents} documents needs as many {what}, not {len(values)}")


def _check_start(start: str) -> None:
    if start not in STARTS:
        raise InputError(f"a document starts with <bos> or <cont>, not {start}")


@lru_cache(maxsize=CACHED_PLANS)
def _compile(
    layout: Layout,
    lengths: tuple[int, ...],
    start: str,
    ended: frozenset[str],
    given: frozenset[tuple[str, int]],
    spans: tuple | None,
    seed: int,
) -> Plan:
    is_short = lengths[0] < MOST_SOLO
    if spans is None and is_short and layout.leaves()[0] is layout and layout.leaves()[0].cells.are_solid(lengths[0]):
        return finish_solo(layout.leaves()[0], lengths[0], start, bool(ended), given)
    arrays = {name: np.array([n]) for name, n in zip(layout.streams, lengths, strict=True)}
    ends = {name: np.array([name in ended]) for name in layout.streams}
    return paint_plan(Plan, layout, arrays, (start,), ends, given, [spans] if spans is not None else None, (seed,))
