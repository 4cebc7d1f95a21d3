"""Oracles: models certain of a deterministic rule of the cells that they can see, and what the rule gives.

The rule's code for a level and frame is a sum over frames around it, of all streams and levels that stand before it in
generation order, and over which streams have ended. Whether a stream ends at a frame, and which one goes on, is decided
likewise. `oracle_stepper.py` stands in for `Model.stepper` and reads these codes from the cells that it was really fed;
`expected` follows the rule straight on arrays of codes, from the start again after each end and each switch. So a
shift, a wrong forced cell, a lost drain cell or a wrong copy gives other codes.

Shapes: B batch, T steps or frames, R rows, K levels, P rows of a pass, J legal ids.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np

from hocket.codec import CodecIdentity
from hocket.inference import Request
from hocket.interleave import Layout, Plan, Stage, find_rows
from hocket.interleave.spans import Turn
from hocket.model import Model
from hocket.vocab import Vocabulary, train_bpe
from tests.conftest import CODES, TINY
from tests.interleave.cases import CASES, stages

LEVELS, MOST = 5, 9  # of what is tested; of dia
AROUND = (-2, -1, 0, 1)  # frames that the rule looks at, beside frame 0
ENDS_EVERY, SWITCHES_EVERY = 6, 5  # frames, about, between those at which the rule ends a stream or hands over
TOKENIZER = train_bpe(["abc"], 256)


MORE = [
    "Delay(audio, [4, 3, 2, 1, 0])",
    "Stack(Parallel(audio), Parallel(user))",
    "Stack(Flatten(audio), Delay(user, [0, 1, ...]), Repeat(semantic, 2))",
    'Concat(Flatten(semantic), Alternate(text, Delay(audio), spans="either"))',
    'Stack(Parallel(user), Alternate(text, Delay(audio, [2, 2, 1, 1, 0]), spans="turn"))',
    'Alternate(Delay(audio, [4, 3, 2, 1, 0]), Parallel(user), text, spans="turn")',
]
"""What the cases leave out: leaders in any row, several of them in a step, markers not at the start."""


def next_token_stages() -> dict[str, Stage]:
    """Every next-token stage of every preset and expression, with either head where it has more than one row."""
    found: dict[str, Stage] = {}
    for case in (*CASES, *MORE):
        for stage in stages(case, MOST if case == "dia" else LEVELS):
            name = case if stage.name == case else f"{case}/{stage.name}"
            if stage.objective == "next-token":
                found[name] = replace(stage, head="parallel")
                if len(find_rows(stage.layout, stage.given).rows) > 1:
                    found[f"{name}, depth"] = replace(stage, head="depth")
    return found


def build_model(stage: Stage, identity: CodecIdentity, n_codes: int = CODES, **changes) -> Model:
    """A tiny model of a stage; `changes` of its configuration."""
    sizes = {name: [n_codes] * k for name, k in stage.layout.streams.items() if "text" not in name}
    config = replace(TINY, **{"context": 512, **changes})
    return Model.build(config, Vocabulary.build(TOKENIZER, sizes), stage, identity).eval()


def request_for(model: Model, n_prompt: int, limit: int, seed: int = 0, n_given: int = 6) -> Request:
    """Random codes for what is given and begun; limits differ by stream, as far as the layout can do with that."""
    rng, levels = np.random.default_rng([seed, n_prompt]), model.layout.streams
    fixed = model.layout.find_levels(model.given)
    given, prompts, limits = {}, {}, {}
    spanned = [name for node in model.layout.span_nodes() for name in node.part_streams]
    for i, (name, k) in enumerate(levels.items()):
        sizes = model.vocabulary.sizes(name)
        n_fixed = sum((name, level) in fixed for level in range(k))
        if n_fixed:
            given[name] = rng.integers(0, sizes[:n_fixed], (n_given + i, n_fixed))
            continue
        if name not in spanned[1:]:
            prompts[name] = rng.integers(0, sizes, (n_prompt, k))
        limits[name] = limit + i
    return Request(given=given, prompts=prompts, limits=limits, seed=seed)


# --- the rule ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Sight:
    """What a cell can see, by a plan: all earlier steps, and with a depth head the predicted rows before its own."""

    plan: Plan
    depth_rows: tuple[int, ...]

    @cached_property
    def ends(self) -> dict[str, int]:
        """The cell of each stream's end, where it has one."""
        flat, symbols = self.plan.source_TR.reshape(-1), self.plan.symbols
        found = {name: np.flatnonzero(flat == symbols.index(f"<end.{name}>")) for name in self.plan.levels}
        return {name: int(cells[0]) for name, cells in found.items() if len(cells)}

    @cached_property
    def cells(self) -> list[tuple[int, str, int, int]]:
        """Every cell with a code of its own, in generation order: number in the flat grid, stream, frame, level."""
        return sorted(
            (int(cell), name, t, k)
            for name, where_TK in self.plan.where.items()
            for (t, k), cell in np.ndenumerate(where_TK)
            if cell >= 0
        )

    def sees(self, cell: int, others: np.ndarray) -> np.ndarray:
        """Which cells are seen from one; those that are not there (-1) are not."""
        (step, row), (steps, rows) = divmod(cell, self.n_rows), divmod(others, self.n_rows)
        beside = (steps == step) & self._seen_beside[row][rows] if row in self.depth_rows else False
        return (steps >= 0) & (steps < step) | beside

    def around(self, cell: int, frame: int) -> list[tuple[int, str, int, int]]:
        """Codes near a frame that a cell sees: number in the flat grid, stream, frame, level."""
        if cell not in self._around:
            found = self._around[cell] = []
            for name, where_TK in self.plan.where.items():
                frames = sorted({t for t in (0, *(frame + a for a in AROUND)) if 0 <= t < len(where_TK)})
                near = where_TK[frames]
                places = np.argwhere(self.sees(cell, near))
                found += [(int(near[i, k]), name, frames[i], k) for i, k in places.tolist()]
        return self._around[cell]

    @cached_property
    def _around(self) -> dict[int, list[tuple[int, str, int, int]]]:
        return {}

    @cached_property
    def n_rows(self) -> int:
        return self.plan.n_rows

    @cached_property
    def _seen_beside(self) -> np.ndarray:
        """By row, which rows of the same step a depth head sees from it: bool `[R, R]`."""
        in_head_R = np.isin(np.arange(self.n_rows), self.depth_rows)
        return np.tril(in_head_R[:, None] & in_head_R, -1)

    def seen_ends(self, cell: int) -> list[str]:
        return [name for name, end in self.ends.items() if self.sees(cell, np.array([end]))[0]]


def mix(names: Sequence[str], stream: str, frame: int, level: int, seen: list, ended: Sequence[str]) -> int:
    """A number from what is seen: `seen` holds stream, frame, level and code."""
    total = 1 + 7919 * (names.index(stream) if stream else -1) + 613 * level + 389 * frame
    for name, t, k, code in seen:
        total = (total * 31 + (names.index(name) * 97 + k * 17 + (frame - t) * 5 + 3) * (int(code) + 1)) % 1_000_003
    for name in ended:
        total = (total * 37 + 101 + names.index(name)) % 1_000_003
    return total * 2654435761 % (1 << 32) >> 8


def decide(number: int, stream: str, switches: Sequence[str]) -> str | None:
    """What a leader that may end its stream or hand over to others chooses: the token's name, or None for a code."""
    if stream and number % ENDS_EVERY == 1:
        return f"<end.{stream}>"
    if switches and (not stream or number // ENDS_EVERY % SWITCHES_EVERY == 1):
        return f"<to.{switches[number // 64 % len(switches)]}>"
    return None


# --- what it gives ----------------------------------------------------------------------------------------------------


@dataclass
class Truth:
    """A document by the rule."""

    sight: Sight
    whole: dict[str, np.ndarray]  # int64 [T, K], frames that spans leave out included
    options: dict[int, tuple[str, tuple[str, ...]]]  # by cell of a leader: the stream it may end, those that may go on
    chosen: dict[int, str]  # by cell: the end or the switch that the rule chose

    @property
    def streams(self) -> dict[str, np.ndarray]:
        return {name: codes_TK[self.sight.plan.kept[name]] for name, codes_TK in self.whole.items()}


class Decision(NamedTuple):
    """The first end or switch of a document that was not known before."""

    cell: int
    stream: str  # whose leader chose it; "" for the first turn
    frame: int
    token: str


def expected(model: Model, request: Request) -> Truth:
    """What greedy sampling must give."""
    return _Follower(model, request).follow()


class _Follower:
    """Follows the rule from the start again and again, each time up to the first decision that was not known before."""

    def __init__(self, model: Model, request: Request):
        self.model, self.layout, self.request = model, model.layout, request
        self.depth_rows = model.depth.rows if model.depth is not None else ()
        self.open = {name: n for name, n in request.limits.items() if name not in request.given}
        self.lengths = {name: len(codes) for name, codes in request.given.items()} | self.open
        self.parts = [name for node in self.layout.span_nodes() for name in node.part_streams]
        self.turns, self.names_first = self._begun()
        self.options: dict[int, tuple[str, tuple[str, ...]]] = {}
        self.chosen: dict[int, str] = {}

    def _begun(self) -> tuple[list[Turn], bool]:
        """The turns so far, and whether the first one is still to be named."""
        if self.request.turns or not self.parts:
            return list(self.request.turns), False
        turns = [(n, 0, len(self.request.given[n])) for n in self.parts if n in self.request.given]
        begun = [(n, 0, len(self.request.prompts.get(n, ()))) for n in self.parts if n not in self.request.given]
        has_begun = any(name in self.request.given for name in self.parts) or any(turn[2] for turn in begun)
        return turns + ([turn for turn in begun if turn[2]] or begun[:1]), not has_begun

    def follow(self) -> Truth:
        while True:
            sight = Sight(self._plan(), self.depth_rows)
            found = self._walk(sight)
            if isinstance(found, dict):
                return Truth(sight, found, self.options, self.chosen)
            assert found.cell not in self.chosen
            self.chosen[found.cell] = found.token
            self._heed(found)

    def _plan(self) -> Plan:
        spans = None
        if self.parts:
            name, first, stop = self.turns[-1]
            spans = [*self.turns[:-1], (name, first, self.lengths[name] if name in self.open else stop)]
        return self.layout.plan(self.lengths, start=self.request.start, given=self.model.given, spans=spans)

    def _heed(self, found: Decision) -> None:
        if found.token.startswith("<end."):
            self.lengths[found.stream] = found.frame
            del self.open[found.stream]
            if self.turns and self.turns[-1][0] == found.stream:
                self.turns[-1] = (found.stream, self.turns[-1][1], found.frame)
            return
        following = found.token[len("<to.") : -1]
        before = [] if self.names_first else [*self.turns[:-1], (found.stream, self.turns[-1][1], found.frame)]
        reached = max((stop for name, _, stop in before if name == following), default=0)
        self.turns, self.names_first = [*before, (following, reached, 0)], False

    def _walk(self, sight: Sight) -> dict[str, np.ndarray] | Decision:
        """All codes, or the first new decision."""
        names = list(self.layout.streams)
        streams = {name: np.zeros((self.lengths[name], k), np.int64) for name, k in self.layout.streams.items()}
        opener = [(opener_cell(sight.plan), "", 0, 0)] if self.names_first else []
        for cell, name, t, k in sorted([*opener, *sight.cells]):
            if (known := self._known(name, t, k)) is not None:
                streams[name][t, k] = known
                continue
            seen = [(n, f, j, streams[n][f, j]) for _, n, f, j in sight.around(cell, t)]
            number = mix(names, name, t, k, seen, sight.seen_ends(cell))
            if not name or (name in self.open and k == leader_level(self.layout, name)):
                self.options[cell] = self._options(name, t)
                if token := decide(number, *self.options[cell]):
                    return Decision(cell, name, t, token)
            streams[name][t, k] = number % self.model.vocabulary.sizes(name)[k]
        return streams

    def _known(self, name: str, t: int, k: int) -> int | None:
        for source in (self.request.prompts, self.request.given):
            if name in source and t < len(source[name]) and k < source[name].shape[1]:
                return int(source[name][t, k])
        return None

    def _options(self, name: str, t: int) -> tuple[str, tuple[str, ...]]:
        """The stream that may end at a leader's cell, and those that may go on: open, below their limits, each once
        where each has one turn; no turn that was announced is empty."""
        if not self.parts or (name and name not in self.parts):
            return name, ()
        free = [n for n in self.parts if n in self.open and self._reached(n) < self.open[n]]
        if self.names_first:
            return "", tuple(free)
        if name != self.turns[-1][0] or t <= self.turns[-1][1]:
            return name, ()
        by_wholes = self.layout.span_nodes()[0].by_wholes
        had = {turn[0] for turn in self.turns} if by_wholes else {name}
        return name, tuple(n for n in free if n not in had)

    def _reached(self, name: str) -> int:
        return max((stop for n, _, stop in self.turns[:-1] if n == name), default=0)


def opener_cell(plan: Plan) -> int:
    """The cell in which a layout by spans names its first turn."""
    turns = [i for i, name in enumerate(plan.symbols) if name.startswith("<to.")]
    return int(np.flatnonzero(np.isin(plan.source_TR.reshape(-1), turns))[0])


def leader_level(layout: Layout, stream: str) -> int:
    leaf = layout.leaders[stream]
    return leaf.ref.start + leaf.leader
