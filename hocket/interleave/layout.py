"""The nodes of the layout algebra.

    Parallel(audio)           Delay(audio)              Flatten(audio)        Flatten(audio, order="level")
    frame  0 1 2 .            frame  0 1 2 .            0 0 1 1 2 2 .         0 1 2 . 0 1 2
    row 0  a b c E            row 0  a b c E            a x b y c z E         a b c E x y z
    row 1  x y z .            row 1  . x y z

`E` is `<end.audio>`, which only the stream's leader (its least delayed, lowest level) may predict; `.` is `<none>`.
Step 0 of every document is `<bos>` (or `<cont>`) in row 0; the nodes begin at step 1.

A node is a layout, and a layout is a frozen value: it can be compared, hashed, printed as an expression and read
back. `T` is a number of frames (tokens for text), `R` rows, `K` levels.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property, lru_cache

import numpy as np

from hocket.errors import InputError, did_you_mean
from hocket.interleave.plan import Canvas, Plan
from hocket.interleave.stream import StreamRef
from hocket.vocab.vocabulary import TEXT

Lengths = Mapping[str, int]


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

    @abstractmethod
    def leaves(self) -> Iterable["Leaf"]:
        """The nodes that place codes, in the order of time."""

    @abstractmethod
    def resolve(self, levels: Mapping[str, int]) -> "Layout":
        """The same layout with the number of levels of each stream filled in."""

    # --- what follows for all ---------------------------------------------------------------------------------------

    @cached_property
    def streams(self) -> dict[str, int]:
        """K, the number of levels, by stream, in the order in which streams first appear.

        Raises:
            InputError: a level is missing or stands in two places.
        """
        levels: dict[str, list[int]] = {}
        for leaf in self.leaves():
            ref = leaf.ref
            ref.n_levels  # noqa: B018  (raises where the number of levels is unknown)
            levels.setdefault(ref.name, []).extend(range(ref.start, ref.stop or 0))
        for name, found in levels.items():
            if sorted(found) != list(range(len(found))):
                raise InputError(
                    f'{self.expression} places levels {sorted(found)} of "{name}"; '
                    "each level from 0 on must stand in exactly one place"
                )
        return {name: len(found) for name, found in levels.items()}

    @cached_property
    def symbols(self) -> tuple[str, ...]:
        """Names of the special tokens that this layout places; filler is the first."""
        return ("<none>", "<bos>", "<cont>", "<wait>", *(f"<end.{stream}>" for stream in self.streams))

    @cached_property
    def legal_sets(self) -> tuple[tuple[str, ...], ...]:
        """What a cell may hold, as names of blocks and special tokens. Set 0 is empty: never predicted."""
        sets: list[tuple[str, ...]] = [()]
        for leaf in self.leaves():
            leads = self.leaders[leaf.ref.name] is leaf
            for column in range(leaf.ref.n_levels):
                block = (leaf.ref.block(leaf.ref.start + column),)
                is_leader = leads and column == leaf.leader
                sets.append((*block, f"<end.{leaf.ref.name}>") if is_leader else block)
        return tuple(sets)

    @cached_property
    def leaders(self) -> dict[str, "Leaf"]:
        """The leaf of each stream that carries its leader: the one with its lowest level."""
        leaders: dict[str, Leaf] = {}
        for leaf in self.leaves():
            held = leaders.get(leaf.ref.name)
            if held is None or leaf.ref.start < held.ref.start:
                leaders[leaf.ref.name] = leaf
        return leaders

    def plan(self, lengths: Lengths, *, start: str = "<bos>", ended: Iterable[str] | None = None) -> Plan:
        """Compiles the layout for given lengths.

        Args:
            lengths: frames (tokens for text) by stream.
            start: `<bos>`, or `<cont>` for a document whose true start was cut off.
            ended: streams that truly end here and so carry `<end.STREAM>`; all of them unless given.

        Raises:
            InputError: a stream is missing, unknown, or has a negative length.
        """
        names = tuple(self.streams)
        self._check(lengths)
        closed = frozenset(names if ended is None else ended)
        if start not in ("<bos>", "<cont>"):
            raise InputError(f"a document starts with <bos> or <cont>, not {start}")
        return _compile(self, tuple(int(lengths[name]) for name in names), start, closed)

    def paint(self, canvas: Canvas, lengths: Lengths, ended: frozenset[str]) -> int:
        """Writes every leaf's cells onto a canvas, from step 1 on, and returns the number of steps."""
        step, legal = 1, 1
        for leaf in self.leaves():
            name, n_levels = leaf.ref.name, leaf.ref.n_levels
            n_frames, ends = lengths[name], name in ended and self._leads(leaf)
            step_TK, row_TK = leaf.cells(n_frames, ends)
            canvas.place_codes(name, leaf.ref.start, step_TK + step, row_TK, legal + np.arange(n_levels))
            if ends:
                end_step, row = leaf.end_cell(n_frames)
                canvas.place_end(name, n_frames, step + end_step, row, legal + leaf.leader)
            step += int(leaf.n_steps(np.asarray(n_frames), ends))
            legal += n_levels
        return step

    def count_steps(self, lengths: Mapping[str, np.ndarray | int], ended: bool = True) -> np.ndarray:
        """Steps of documents of these lengths, `<bos>` included; vectorised over arrays of lengths."""
        self._check(lengths)
        total = np.asarray(1)
        for leaf in self.leaves():
            total = total + leaf.n_steps(np.asarray(lengths[leaf.ref.name]), ended and self._leads(leaf))
        return total

    def steps_per_frame(self) -> dict[str, Fraction]:
        """By stream, how many steps one more frame costs in the long run."""
        per_frame: dict[str, Fraction] = dict.fromkeys(self.streams, Fraction(0))
        for leaf in self.leaves():
            per_frame[leaf.ref.name] += leaf.frame_cost
        return per_frame

    def steps_per_second(self, frame_rates: Mapping[str, Fraction | int]) -> Fraction:
        """Steps that one second of the streams in `frame_rates` (Hz) costs; streams without a rate are left out."""
        per_frame = self.steps_per_frame()
        return sum((per_frame[name] * Fraction(rate) for name, rate in frame_rates.items()), Fraction(0))

    def _leads(self, leaf: "Leaf") -> bool:
        return self.leaders[leaf.ref.name] is leaf

    def _check(self, lengths: Mapping) -> None:
        for name in self.streams:
            if name not in lengths:
                raise InputError(f'{self.expression} needs the length of "{name}"; only {sorted(lengths)} were given')
        for name in lengths:
            if name not in self.streams:
                raise InputError(f'{self.expression} has no stream "{name}"' + did_you_mean(name, self.streams))
        if any(np.any(np.asarray(length) < 0) for length in lengths.values()):
            raise InputError(f"lengths cannot be negative: {dict(lengths)}")

    def __str__(self) -> str:
        return self.expression


class Leaf(Layout):
    """A node that places levels of one stream."""

    stream: StreamRef | str
    """What is placed; text such as `audio[:4]` becomes a reference when the node is built."""

    @property
    def ref(self) -> StreamRef:
        """The stream and the levels of it that the node places."""
        assert isinstance(self.stream, StreamRef)
        return self.stream

    @property
    def leader(self) -> int:
        """The column (level within the leaf) that may predict the stream's end."""
        return 0

    @property
    @abstractmethod
    def frame_cost(self) -> int:
        """Steps that one more frame costs."""

    @abstractmethod
    def n_steps(self, n_frames: np.ndarray, ended: bool) -> np.ndarray:
        """Steps for `n_frames` frames, with a cell for the end where `ended`."""

    @abstractmethod
    def cells(self, n_frames: int, ended: bool) -> tuple[np.ndarray, np.ndarray]:
        """Step and row, counted from the leaf's first cell, of each code: two integer arrays `[T, K]`."""

    @abstractmethod
    def end_cell(self, n_frames: int) -> tuple[int, int]:
        """Step and row of the end marker: where the leader's frame number `n_frames` would stand."""

    def leaves(self) -> Iterable["Leaf"]:
        return (self,)


def _ref(node: Leaf) -> None:
    """Turns a node's stream from text into a reference."""
    object.__setattr__(node, "stream", StreamRef.parse(node.stream))


@dataclass(frozen=True)
class Delay(Leaf):
    """Level k of a frame stands `delays[k]` steps after its level 0 (MusicGen: Copet et al., 2023).

    Without delays, level k waits k steps. Delays `[0, 1, 1, 1]` are Moshi's acoustic delay (Défossez et al., 2024).
    """

    stream: StreamRef | str
    delays: Sequence[int] | None = None

    def __post_init__(self) -> None:
        _ref(self)
        if self.delays is not None:
            self._fix_delays(tuple(self.delays))
        elif self.ref.stop is not None:
            object.__setattr__(self, "delays", tuple(range(self.ref.n_levels)))

    def _fix_delays(self, delays: tuple) -> None:
        """Checks the delays; a final `...` repeats the last one up to the number of levels."""
        if delays and delays[-1] is Ellipsis and self.ref.stop is not None:
            known = delays[:-1]
            delays = known + known[-1:] * (self.ref.n_levels - len(known))
        object.__setattr__(self, "delays", delays)
        if delays and delays[-1] is Ellipsis:
            return
        if not delays or not all(isinstance(d, int) and d >= 0 for d in delays) or min(delays) != 0:
            raise InputError(f"delays must be whole numbers of steps, the least of them 0, not {list(delays)}")
        if self.ref.stop is None:
            object.__setattr__(self, "stream", self.ref.resolve(self.ref.start + len(delays)))
        if len(delays) != self.ref.n_levels:
            raise InputError(f"{len(delays)} delays were given for the {self.ref.n_levels} levels of {self.ref}")

    @property
    def expression(self) -> str:
        if self.delays is None:
            return f"Delay({self.ref})"
        written = ", ".join("..." if d is Ellipsis else str(d) for d in self.delays)
        return f"Delay({self.ref}, [{written}])"

    @property
    def n_rows(self) -> int:
        return self.ref.n_levels

    @property
    def leader(self) -> int:
        return int(np.argmin(self.delays or (0,)))

    @property
    def frame_cost(self) -> int:
        return 1

    def resolve(self, levels: Mapping[str, int]) -> "Delay":
        ref = self.ref.resolve(levels.get(self.ref.name))
        return type(self)(ref, self.delays)

    def n_steps(self, n_frames: np.ndarray, ended: bool) -> np.ndarray:
        drained = np.where(n_frames > 0, n_frames + max(self._known_delays()), 0)
        return np.maximum(drained, n_frames + 1) if ended else drained

    def cells(self, n_frames: int, ended: bool) -> tuple[np.ndarray, np.ndarray]:
        delays = np.asarray(self._known_delays())
        step_TK = np.arange(n_frames)[:, None] + delays
        return step_TK, np.broadcast_to(np.arange(len(delays)), step_TK.shape)

    def end_cell(self, n_frames: int) -> tuple[int, int]:
        return n_frames, self.leader

    def _known_delays(self) -> tuple[int, ...]:
        self.ref.n_levels  # noqa: B018  (raises where the number of levels is unknown)
        assert self.delays is not None
        return tuple(self.delays)


@dataclass(frozen=True)
class Parallel(Delay):
    """All levels of a frame at one step."""

    def __post_init__(self) -> None:
        _ref(self)
        if self.delays is not None and any(self.delays):
            raise InputError("Parallel takes no delays; write Delay(…)")
        known = (0,) * self.ref.n_levels if self.ref.stop is not None else None
        object.__setattr__(self, "delays", known)

    @property
    def expression(self) -> str:
        return f"Parallel({self.ref})"


@dataclass(frozen=True)
class Flatten(Leaf):
    """All levels in one row: frame by frame (AudioLM: Borsos et al., 2022), or level by level."""

    stream: StreamRef | str
    order: str = "frame"

    def __post_init__(self) -> None:
        _ref(self)
        if self.order not in ("frame", "level"):
            raise InputError(f'Flatten goes by order="frame" or order="level", not "{self.order}"')

    @property
    def expression(self) -> str:
        return f'Flatten({self.ref}, order="level")' if self.order == "level" else f"Flatten({self.ref})"

    @property
    def n_rows(self) -> int:
        return 1

    @property
    def frame_cost(self) -> int:
        return self.ref.n_levels

    def resolve(self, levels: Mapping[str, int]) -> "Flatten":
        return type(self)(self.ref.resolve(levels.get(self.ref.name)), self.order)

    def n_steps(self, n_frames: np.ndarray, ended: bool) -> np.ndarray:
        return n_frames * self.ref.n_levels + int(ended)

    def cells(self, n_frames: int, ended: bool) -> tuple[np.ndarray, np.ndarray]:
        n_levels = self.ref.n_levels
        frame_T1, level_K = np.arange(n_frames)[:, None], np.arange(n_levels)
        if self.order == "frame":
            step_TK = frame_T1 * n_levels + level_K
        else:  # the end marker follows level 0, where the number of frames is decided
            step_TK = level_K * n_frames + frame_T1 + (level_K > 0) * int(ended)
        return step_TK, np.zeros_like(step_TK)

    def end_cell(self, n_frames: int) -> tuple[int, int]:
        return (n_frames * self.ref.n_levels if self.order == "frame" else n_frames), 0


@dataclass(frozen=True)
class Text(Flatten):
    """Text tokens in one row, then `<end.text>`."""

    stream: StreamRef | str = TEXT

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.ref.name != TEXT:
            raise InputError(f'Text places the stream "{TEXT}", not "{self.ref}"; write Flatten({self.ref})')

    @property
    def expression(self) -> str:
        return f"Text({self.ref})"


@dataclass(frozen=True)
class Concat(Layout):
    """One part after another in time; rows are aligned from 0, what a part does not fill is `<none>`."""

    parts: tuple[Layout, ...]

    def __init__(self, *parts: Layout):
        if not parts or not all(isinstance(part, Layout) for part in parts):
            raise InputError("Concat joins layouts, such as Concat(Text(text), Delay(audio))")
        object.__setattr__(self, "parts", tuple(parts))

    @property
    def expression(self) -> str:
        return f"Concat({', '.join(part.expression for part in self.parts)})"

    @property
    def n_rows(self) -> int:
        return max(part.n_rows for part in self.parts)

    def leaves(self) -> Iterable[Leaf]:
        return tuple(leaf for part in self.parts for leaf in part.leaves())

    def resolve(self, levels: Mapping[str, int]) -> "Concat":
        return Concat(*(part.resolve(levels) for part in self.parts))


def resolve_levels(layout: Layout, levels: int | Mapping[str, int] | None) -> Layout:
    """Fills in the number of levels: one number for every code stream, or one by stream."""
    if levels is None:
        return layout
    names = {leaf.ref.name for leaf in layout.leaves()}
    by_stream = dict(levels) if isinstance(levels, Mapping) else {n: levels for n in names if n != TEXT}
    resolved = layout.resolve(by_stream | {TEXT: 1})
    for name, n_levels in resolved.streams.items():
        if name in by_stream and by_stream[name] != n_levels:
            raise InputError(f'{layout} places {n_levels} levels of "{name}", which has {by_stream[name]}')
    return resolved


@lru_cache(maxsize=4096)
def _compile(layout: Layout, lengths: tuple[int, ...], start: str, ended: frozenset[str]) -> Plan:
    by_stream = dict(zip(layout.streams, lengths, strict=True))
    steps = layout.count_steps(by_stream, ended=False) + len(ended)  # enough: an end adds at most one step
    canvas = Canvas(layout.symbols, layout.streams, by_stream, n_steps=int(steps), n_rows=layout.n_rows)
    n_steps = layout.paint(canvas, by_stream, ended)
    return canvas.finish(n_steps, start, layout.legal_sets)
