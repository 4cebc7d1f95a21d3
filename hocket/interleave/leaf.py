"""The kinds of nodes that others build on: a leaf places one stream, a constant a token, a span node may go by turns.

A leaf needs one formula, `steps`, and the row of each level; what it measures and paints follows from them.

Shapes: P runs, N frames, K levels.
"""

from abc import abstractmethod
from functools import cached_property

import numpy as np

from hocket.interleave.cells import Cells
from hocket.interleave.layout import Layout
from hocket.interleave.painting import Painter, Runs, Work
from hocket.interleave.stream import StreamRef


class Leaf(Layout):
    """A node that places levels of one stream. A layout of your own defines `steps`, `rows` and `expression`."""

    stream: StreamRef | str
    """What is placed; text such as `audio[:4]` becomes a reference when the node is built."""

    def leaves(self) -> tuple["Leaf", ...]:
        return (self,)

    def __init_subclass__(cls, **arguments):
        """A leaf with a formula of its own promises nothing that its parent's formula kept."""
        super().__init_subclass__(**arguments)
        if "steps" in cls.__dict__ and "moves_whole" not in cls.__dict__:
            cls.moves_whole = False

    @abstractmethod
    def steps(self, frame_N1: np.ndarray, n_N1: np.ndarray, ends_N1: np.ndarray | bool) -> np.ndarray:
        """Step, counted from the leaf's first, of each level of a frame: int64 `[N, K]`.

        Args:
            frame_N1: number of the frame within its run; may also be the run's length, for what follows its end.
            n_N1: frames of the run.
            ends_N1: whether something follows the last frame of the run, where its leader goes on.
        """

    @property
    @abstractmethod
    def rows(self) -> np.ndarray:
        """Row of each level: int64 `[K]`."""

    @property
    def leader(self) -> int:
        """The column (level within the leaf) that may predict the stream's end."""
        return 0

    @property
    def ref(self) -> StreamRef:
        """The stream and the levels of it that the node places."""
        assert isinstance(self.stream, StreamRef)
        return self.stream

    @cached_property
    def n_rows(self) -> int:
        return int(self.rows.max()) + 1

    moves_whole = False
    """Frames of a level keep their distances whatever the run's length: `steps(t, n, e)` is a sum f(t) + g(n, e)."""

    @cached_property
    def fewest_frames(self) -> int | None:
        """So many frames leave no step empty between the leaf's first and its last; None where that is not known."""
        return None

    @cached_property
    def cells(self) -> Cells:
        """Where the leaf's frames stand in the grid."""
        return Cells(self)

    def end_step(self, n_P: np.ndarray) -> np.ndarray:
        """Step of what follows the last frame: where the leader's next frame would stand."""
        n_P1 = n_P[:, None]
        return self.steps(n_P1, n_P1, True)[:, self.leader]

    def n_steps(self, n_P: np.ndarray, ends_P: np.ndarray) -> np.ndarray:
        """Steps of runs of `n_P` frames: up to the last level of the last frame, or what follows it."""
        n_P1 = n_P[:, None]
        last_P = self.steps(np.maximum(n_P1 - 1, 0), n_P1, ends_P[:, None]).max(axis=1) + 1
        total_P = np.where(n_P > 0, last_P, 0)
        return np.where(ends_P, np.maximum(total_P, self.end_step(n_P) + 1), total_P)

    def measure(self, work: Work) -> np.ndarray:
        runs = work[self]
        return self.n_steps(runs.n_P, runs.stop_P > 0)  # pyright: ignore[reportAttributeAccessIssue]

    def paint(self, painter: Painter, work: Work, start_P: np.ndarray, row: int) -> None:
        runs = work[self]
        assert isinstance(runs, Runs)
        painter.place_codes(self, runs, start_P, row)
        painter.place_stops(self, runs, start_P, row)


class Constant(Layout):
    """A node that places a special token which is always known."""

    token: str

    @property
    def markers(self) -> tuple[str, ...]:
        return (self.token,)


class SpanNode(Layout):
    """A node that may cut its streams by spans."""

    spans: str | None
    """How the spans go; None where they do not matter."""
    by_turns: bool
    """Every unit stands in each stream, in turn."""
    by_wholes: bool
    """Every stream stands in one turn, whole."""
    words: tuple[tuple[int, int], ...] | None
    """Fewest and most units of a span by part, where each unit stands in one stream."""

    def span_nodes(self) -> tuple["SpanNode", ...]:
        return (self,) if self.spans is not None else super().span_nodes()

    @property
    def part_streams(self) -> tuple[str, ...]:
        """The stream of each part."""
        return tuple(child.leaves()[0].ref.name for child in self.children)

    @property
    def switches(self) -> tuple[str, ...]:
        """The markers that name the stream which goes on."""
        return tuple(f"<to.{stream}>" for stream in self.part_streams)
