"""The leaves of the layout algebra: how the levels of one stream are placed.

    Parallel(audio)      Delay(audio)        Flatten(audio)    Flatten(audio, order="level")   CoarseFirst(audio)
    frame  0 1 2 .       frame  0 1 2 .      0 0 1 1 2 2 .     0 1 2 . 0 1 2                   0 1 2 . 0 1 2
    row 0  a b c E       row 0  a b c E      a x b y c z E     a b c E x y z                   a b c E . . .
    row 1  x y z .       row 1  . x y z                                                        . . . . x y z

    Flatten(audio, groups=[1, -1])           Repeat(semantic, 2)          Repeat(semantic, 3/2)
    row 0  a x b x' c x'' E                  a a b b c c E                a a b c c d E
    row 1  . y . y' . y'' .                  (the second of each is a copy: an input, never predicted)

`E` is `<end.audio>`, which only the stream's leader (its least delayed, lowest level) may predict; `.` is `<none>`.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property

import numpy as np

from hocket.errors import InputError
from hocket.interleave.checks import as_tuple, is_whole, to_fraction
from hocket.interleave.layout import Layout
from hocket.interleave.leaf import Constant, Leaf
from hocket.interleave.painting import Painter, Runs, Work
from hocket.interleave.stream import FrameRates, StreamRef, known_frames, parse_frames, to_frames
from hocket.vocab.vocabulary import TEXT

_TOKEN = re.compile(r"<[^<>\s]+>")


def _set(node: Layout, **values) -> None:
    """Gives a frozen node its normalised values, while it is being built."""
    for name, value in values.items():
        object.__setattr__(node, name, value)


@dataclass(frozen=True)
class Delay(Leaf):
    """Level k of a frame stands `delays[k]` steps after its level 0 (MusicGen: Copet et al., 2023).

    Without delays, level k waits k steps. Delays `[0, 1, 1, 1]` are Moshi's acoustic delay (Défossez et al., 2024). A
    final `...` repeats the last delay. `offset` moves the whole stream later, by frames or by a time such as `"2s"`.

    Raises:
        InputError: the delays are no whole numbers from 0 on, or not as many as there are levels.
    """

    stream: StreamRef | str
    delays: Sequence[int] | None = None
    offset: int | str = 0

    def __post_init__(self) -> None:
        _set(self, stream=StreamRef.parse(self.stream), offset=parse_frames(self.offset, "an offset"))
        if self.delays is not None:
            _set(
                self,
                delays=_fill(as_tuple(self.delays, "delays"), self.ref.n_levels if self.ref.stop is not None else None),
            )
            self._check_delays()
        elif self.ref.stop is not None:
            _set(self, delays=tuple(range(self.ref.n_levels)))

    def _check_delays(self) -> None:
        delays = tuple(self.delays or ())
        repeats = bool(delays) and delays[-1] is Ellipsis
        known = delays[:-1] if repeats else delays
        if not known or not all(map(is_whole, known)) or min(known) != 0:
            raise InputError(f"delays must be whole numbers of steps, the least of them 0, not {_written(delays)}")
        if repeats:
            return
        if self.ref.stop is None:
            _set(self, stream=self.ref.resolve(self.ref.start + len(delays)))
        if len(delays) != self.ref.n_levels:
            raise InputError(f"{len(delays)} delays were given for the {self.ref.n_levels} levels of {self.ref}")

    @property
    def expression(self) -> str:
        delays = "" if self.delays is None else f", {_written(self.delays)}"
        return f"Delay({self.ref}{delays}{self._offset_written})"

    @property
    def _offset_written(self) -> str:
        return (
            "" if self.offset == 0 else f", offset={self.offset if isinstance(self.offset, int) else repr(self.offset)}"
        )

    @property
    def rows(self) -> np.ndarray:
        return np.arange(self.ref.n_levels)

    @property
    def is_online(self) -> bool:
        return True

    @property
    def leader(self) -> int:
        return int(np.argmin(self.delays or (0,)))

    def resolve(self, levels, rates: FrameRates) -> "Delay":
        ref = self.ref.resolve(levels.get(self.ref.name))
        return replace(self, stream=ref, offset=to_frames(self.offset, ref.name, rates))

    moves_whole = True

    @cached_property
    def fewest_frames(self) -> int | None:
        return None if self.offset else _widest_gap(sorted(self.delays or ()))

    def steps(self, frame_N1, n_N1, ends_N1) -> np.ndarray:
        self.ref.n_levels  # noqa: B018  (raises where the number of levels is unknown)
        return frame_N1 + (np.asarray(self.delays) + known_frames(self.offset, self.ref.name))


@dataclass(frozen=True)
class Parallel(Delay):
    """All levels of a frame at one step (MusicGen's parallel pattern: Copet et al., 2023)."""

    def __post_init__(self) -> None:
        if self.delays is not None and any(as_tuple(self.delays, "delays")):
            raise InputError("Parallel takes no delays; write Delay(…)")
        super().__post_init__()
        _set(self, delays=(0,) * self.ref.n_levels if self.ref.stop is not None else None)

    @property
    def expression(self) -> str:
        return f"Parallel({self.ref}{self._offset_written})"


@dataclass(frozen=True)
class Flatten(Leaf):
    """The levels one after another: frame by frame (AudioLM: Borsos et al., 2022), or level by level.

    `groups` are sizes of groups of levels that share a step, `-1` for all that remain, a final `...` repeating the one
    before: `[1, -1]` is MusicGen's partial flattening, `[2, ...]` goes by pairs. A group's levels stand in rows from 0.

    Raises:
        InputError: an unknown order, groups by level, or groups that do not add up to the levels.
    """

    stream: StreamRef | str
    order: str = "frame"
    groups: Sequence[int] | None = None

    def __post_init__(self) -> None:
        _set(self, stream=StreamRef.parse(self.stream), groups=self.groups)
        if self.order not in ("frame", "level"):
            raise InputError(f'Flatten goes by order="frame" or order="level", not "{self.order}"')
        if self.groups is not None:
            _set(self, groups=_group_sizes(as_tuple(self.groups, "groups"), self.ref))

    @property
    def expression(self) -> str:
        order = ', order="level"' if self.order == "level" else ""
        groups = "" if self.groups is None else f", groups={_written(self.groups)}"
        return f"Flatten({self.ref}{order}{groups})"

    @property
    def rows(self) -> np.ndarray:
        return np.concatenate([np.arange(size) for size in self._sizes])

    @property
    def is_online(self) -> bool:
        return self.order == "frame" or len(self._sizes) == 1

    def resolve(self, levels, rates: FrameRates) -> "Flatten":
        return replace(self, stream=self.ref.resolve(levels.get(self.ref.name)))

    moves_whole = True

    @cached_property
    def fewest_frames(self) -> int | None:
        return 1

    def steps(self, frame_N1, n_N1, ends_N1) -> np.ndarray:
        sizes = self._sizes
        group_K = np.repeat(np.arange(len(sizes)), sizes)
        if self.order == "frame":
            return frame_N1 * len(sizes) + group_K
        # the end follows the first group, where the number of frames is decided
        return group_K * n_N1 + frame_N1 + (group_K > 0) * np.asarray(ends_N1, dtype=np.int64)

    @property
    def _sizes(self) -> tuple[int, ...]:
        return tuple(self.groups) if self.groups is not None else (1,) * self.ref.n_levels


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
class CoarseFirst(Leaf):
    """Level 0 of all frames, then the others in parallel (MusicGen's VALL-E pattern: Copet et al., 2023).

    `delays`, if given, are those of the levels after the first.

    Raises:
        InputError: the delays are no whole numbers from 0 on, or not as many as there are levels after the first.
    """

    stream: StreamRef | str
    delays: Sequence[int] | None = None

    def __post_init__(self) -> None:
        _set(self, stream=StreamRef.parse(self.stream))
        known = self.ref.n_levels - 1 if self.ref.stop is not None else None
        delays = (0, ...) if self.delays is None and known else as_tuple(self.delays or (), "delays")
        _set(self, delays=_fill(delays, known) if known else (tuple(delays) or None))
        if not all(is_whole(d) or (d is Ellipsis and not known) for d in self.delays or ()):
            raise InputError(f"delays must be whole numbers of steps from 0 on, not {_written(self.delays or ())}")
        if known and len(self.delays or ()) != known:
            raise InputError(
                f"{len(self.delays or ())} delays were given for the {known} levels of {self.ref} after its first"
            )

    @property
    def expression(self) -> str:
        delays = f", {_written(self.delays)}" if self.delays and any(self.delays) else ""
        return f"CoarseFirst({self.ref}{delays})"

    @property
    def rows(self) -> np.ndarray:
        return np.arange(self.ref.n_levels)

    @property
    def is_online(self) -> bool:
        return self.ref.n_levels == 1

    def resolve(self, levels, rates: FrameRates) -> "CoarseFirst":
        return replace(self, stream=self.ref.resolve(levels.get(self.ref.name)))

    moves_whole = True

    @cached_property
    def fewest_frames(self) -> int | None:
        times = sorted((self.delays or ())[: self.ref.n_levels - 1])
        return None if times and times[0] else _widest_gap(times)

    def steps(self, frame_N1, n_N1, ends_N1) -> np.ndarray:
        is_fine_K = np.arange(self.ref.n_levels) > 0
        delay_K = np.array([0, *(self.delays or ())][: self.ref.n_levels])
        return frame_N1 + is_fine_K * (n_N1 + np.asarray(ends_N1, dtype=np.int64)) + delay_K


@dataclass(frozen=True)
class Repeat(Leaf):
    """A stream at the pace of a faster one: step s shows frame ⌊s / ratio⌋ (SoundStorm: Borsos et al., 2023).

    The first step that shows a frame holds its code; later ones hold copies, which are inputs only.

    Args:
        part: a `Parallel` or `Delay`, or a stream (all levels in parallel).
        ratio: steps a frame, at least 1, exact (`3/2`); or the stream whose frame rate is to be matched.

    Raises:
        InputError: a ratio below 1, or a part whose frames do not take one step each.
    """

    part: "Delay | StreamRef | str"
    ratio: Fraction | int | str = 2

    def __post_init__(self) -> None:
        part = self.part if isinstance(self.part, Layout) else Parallel(self.part)
        if not isinstance(part, Delay) or part.offset != 0:
            raise InputError(f"Repeat takes a Parallel or a Delay without offset, not {part}")
        if isinstance(self.ratio, str):
            ratio = StreamRef(self.ratio).name
        else:
            ratio = to_fraction(self.ratio, "the ratio of Repeat")
        if not isinstance(ratio, str) and ratio < 1:
            raise InputError(f"Repeat({part.ref}, {ratio}) would skip frames; repeat the slower stream, by 1 or more")
        _set(self, part=part, ratio=ratio)

    @property
    def stream(self) -> StreamRef:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self._part.ref

    @property
    def _part(self) -> Delay:
        assert isinstance(self.part, Delay)
        return self.part

    @property
    def expression(self) -> str:
        inner = str(self._part.ref) if isinstance(self.part, Parallel) else self._part.expression
        return f"Repeat({inner}, {self.ratio})"

    @property
    def rows(self) -> np.ndarray:
        return self._part.rows

    @property
    def is_online(self) -> bool:
        return True

    @property
    def leader(self) -> int:
        return self._part.leader

    @property
    def period(self) -> int:
        return self.pace.denominator

    @property
    def pace(self) -> Fraction:
        """Steps a frame."""
        if isinstance(self.ratio, str):
            raise InputError(
                f"{self} needs the frame rates of both streams: load the layout with "
                f'load_layout(…, frame_rates={{"{self.stream.name}": …, "{self.ratio}": …}})'
            )
        return Fraction(self.ratio)

    def resolve(self, levels, rates: FrameRates) -> "Repeat":
        ratio = self.ratio
        if isinstance(ratio, str) and ratio in rates and self.stream.name in rates:
            ratio = Fraction(rates[ratio]) / Fraction(rates[self.stream.name])
        return Repeat(self._part.resolve(levels, rates), ratio)

    def steps(self, frame_N1, n_N1, ends_N1) -> np.ndarray:
        first_N1 = -(-frame_N1 * self.pace.numerator // self.pace.denominator)
        return self._part.steps(first_N1, n_N1, ends_N1)

    def n_steps(self, n_P, ends_P) -> np.ndarray:
        """Up to the last copy of the last frame's last level, or the end marker."""
        last_P = self.end_step(n_P) + np.asarray(self._part.delays).max()
        return np.where(n_P > 0, np.maximum(last_P, np.where(ends_P, self.end_step(n_P) + 1, 0)), ends_P)

    def paint(self, painter: Painter, work: Work, start_P, row: int) -> None:
        runs = work[self]
        assert isinstance(runs, Runs)
        shown_P = self.end_step(runs.n_P)  # the leader's delay is 0
        run_S = np.repeat(np.arange(len(shown_P)), shown_P)
        step_S = np.arange(len(run_S)) - (np.cumsum(shown_P) - shown_P)[run_S]
        frame_S = step_S * self.pace.denominator // self.pace.numerator
        step_SK = (start_P[run_S] + step_S)[:, None] + np.asarray(self._part.delays)
        painter.place_copies(self, runs.first_P[run_S] + frame_S, step_SK, row)
        super().paint(painter, work, start_P, row)


@dataclass(frozen=True)
class Marker(Constant):
    """A special token or a named token of the vocabulary, always known: `Marker("<task.transcribe>")` (Whisper)."""

    token: str

    def __post_init__(self) -> None:
        if not isinstance(self.token, str) or _TOKEN.fullmatch(self.token) is None:
            raise InputError(f'a marker is a token such as "<task.transcribe>", not {self.token!r}')
        if self.token == "<none>":
            raise InputError("<none> is filler and cannot be a marker; <wait> is a step in which nothing is due")
        if self.token.startswith(("<end.", "<to.", "<mask.")):
            raise InputError(f"{self.token} cannot be a marker: its meaning is an end, a switch or a mask")

    @property
    def expression(self) -> str:
        return f'Marker("{self.token}")'

    @property
    def n_rows(self) -> int:
        return 1

    @property
    def is_online(self) -> bool:
        return True

    def resolve(self, levels, rates: FrameRates) -> "Marker":
        return self

    def measure(self, work: Work) -> np.ndarray:
        n_runs = next((len(runs[0]) for runs in work.values() if isinstance(runs, Runs)), 1)
        return np.ones(n_runs, dtype=np.int64)

    def paint(self, painter: Painter, work: Work, start_P, row: int) -> None:
        painter.place_constants(start_P, row, self.token)


def _fill(values: tuple, size: int | None) -> tuple:
    """A final `...` repeats the value before it, up to `size`."""
    if size is None or not values or values[-1] is not Ellipsis:
        return values
    known = values[:-1]
    return known[:size] + known[-1:] * (size - len(known))


def _widest_gap(times: Sequence[int]) -> int:
    """The widest gap between ascending delays, and at least 1: so many frames leave no step between them empty."""
    return max((after - before for before, after in zip(times, times[1:], strict=False)), default=1) or 1


def _group_sizes(groups: tuple, ref: StreamRef) -> tuple[int, ...]:
    """Sizes of groups with `-1` and `...` worked out, once the levels are known; groups beyond are left out."""
    last = groups[-2] if len(groups) > 1 and groups[-1] is Ellipsis else 0
    known = groups[:-1] if groups and groups[-1] is Ellipsis else groups
    if not known or not all(is_whole(g, -1) and g != 0 for g in known) or last == -1:
        raise InputError(f"groups are sizes of groups of levels, -1 for the rest, not {_written(groups)}")
    if ref.stop is None:
        return groups
    left, sizes = ref.n_levels, []
    repeats = math.ceil(left / last) if last else 0
    for size in (*known, *(last,) * repeats):
        taken = left if size == -1 else min(size, left)
        if taken:
            sizes.append(taken)
        left -= taken
    if left:
        raise InputError(f"the groups {_written(groups)} hold fewer than the {ref.n_levels} levels of {ref}")
    return tuple(sizes)


def _written(values: Sequence) -> str:
    return "[" + ", ".join("..." if value is Ellipsis else repr(value) for value in values) + "]"
