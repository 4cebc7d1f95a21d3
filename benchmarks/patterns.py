"""Layouts made and undone: plan, interleave, deinterleave against audiocraft's pattern, sequence, revert.

The peer runs in the same process, on the same codes (torch, int64, CPU), and both results are compared bit by bit
before they are timed. Codes are made outside the timing, and what the peer keeps of old lengths is thrown away there.
As in `timeit`, Python collects no garbage while the clock runs: the peer leaves 12,000 tuples a pattern, and their
collection would fall into whatever runs next.

    unseen      documents in a row of which no two have one length, so that no plan and no pattern is found in a cache;
                what a layout keeps for all lengths is there from the warm-up round
    new layout  nothing of the layout was used before (hocket alone)
    cached      one length, again and again

A peer's sequence has K rows; hocket's grid is compared by level, as in `tests/interleave/test_golden.py`. To have the
peer beside hocket: `pip install --no-deps audiocraft==1.3.0` (its file of patterns needs torch alone).
"""

import collections
import gc
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch

from benchmarks.golden_layouts import MISSING, load_patterns
from benchmarks.timing import heading, interleaved, prepared
from hocket.interleave import load_layout
from hocket.interleave.layout import Layout
from hocket.interleave.plan import Plan

Candidates = dict[str, Callable[[int], Callable[[], object]]]
SPECIAL = 2048
LIMITS = {"unseen": 100, "cached": 3}
COLUMNS = ("peer", "torch", "numpy", "new layout")
BATCH, LONGEST = 32, 1500
ROW = 8
"""Documents in a row. One more goes before them, untimed: it finds the processor's caches full of the other's data."""


class Pattern(NamedTuple):
    """One pattern on both sides."""

    provider: str
    expression: str
    levels: int
    frames: int = LONGEST


PATTERNS = {
    "delay, 4 x 1500": Pattern("DelayedPatternProvider", "Delay(audio)", 4),
    "delay, 8 x 1500": Pattern("DelayedPatternProvider", "Delay(audio)", 8),
    "parallel, 8 x 1500": Pattern("ParallelPatternProvider", "Parallel(audio)", 8),
    "flatten, 8 x 1500": Pattern("UnrolledPatternProvider", "Flatten(audio)", 8),
    "coarse-first, 8 x 1500": Pattern("CoarseFirstPattern", "CoarseFirst(audio)", 8),
}


def known_codes(frames: int, levels: int) -> torch.Tensor:
    """Codes `[T, K]`."""
    return torch.randint(0, SPECIAL, (frames, levels), generator=torch.Generator().manual_seed(frames))


def ours(layout: Layout, codes_TK: Any) -> tuple[Plan, Any, Any]:
    """Plan, grid, and the codes taken out of it again."""
    (stream,) = layout.streams
    plan = layout.plan({stream: len(codes_TK)}, ended=())
    grid_TR = plan.interleave({stream: codes_TK})
    return plan, grid_TR, plan.deinterleave(grid_TR)[stream]


def theirs(provider: Any, codes_1KT: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Sequence `[1, K, S]`, and the codes taken out of it again."""
    pattern = provider.get_pattern(codes_1KT.shape[2])
    built_1KS, _, _ = pattern.build_pattern_sequence(codes_1KT, SPECIAL)
    return built_1KS, pattern.revert_pattern_sequence(built_1KS, SPECIAL)[0]


def for_peer(codes_TK: torch.Tensor) -> torch.Tensor:
    return codes_TK.T.contiguous()[None]


def compare(layout: Layout, provider: Any, codes_TK: torch.Tensor) -> None:
    """Every step of both sequences, and both inverses."""
    plan, grid_TR, back_TK = ours(layout, codes_TK)
    built_1KS, back_1KT = theirs(provider, for_peer(codes_TK))
    where_TK = torch.from_numpy(np.array(plan.where["audio"]))
    view_KS = torch.full((codes_TK.shape[1], plan.n_steps), SPECIAL)
    view_KS[torch.arange(codes_TK.shape[1]), where_TK // plan.n_rows] = grid_TR.reshape(-1)[where_TK]
    assert torch.equal(view_KS, built_1KS[0]), f"{layout} and the peer build different sequences"
    assert int((grid_TR >= 0).sum()) == codes_TK.numel(), f"{layout} places a code twice"
    assert torch.equal(back_TK, codes_TK), f"{layout} lost codes"
    assert torch.equal(back_1KT[0].T, codes_TK), "the peer lost codes"


def exhaust(results: Iterable[object]) -> None:
    """Lets each result go before the next is made, as a loader does."""
    collections.deque(results, maxlen=0)


def in_a_row(layout: Layout, documents: Sequence[Any]) -> Callable[[], object]:
    """hocket at unseen lengths, one after another."""
    ours(layout, documents[0])
    return lambda: exhaust(ours(layout, codes_TK) for codes_TK in documents[1:])


def peer_in_a_row(provider: Any, documents: Sequence[torch.Tensor]) -> Callable[[], object]:
    """The peer at unseen lengths, one after another, without the patterns of earlier ones."""
    provider.get_pattern.cache_clear()
    gc.collect()
    items = [for_peer(codes_TK) for codes_TK in documents]
    theirs(provider, items[0])
    return lambda: exhaust(theirs(provider, codes_1KT) for codes_1KT in items[1:])


def peer_again(provider: Any, codes_1KT: torch.Tensor) -> Callable[[], object]:
    """The peer at one length that it has a pattern for."""
    theirs(provider, codes_1KT)
    return lambda: exhaust(theirs(provider, codes_1KT) for _ in range(ROW))


def first_of(pattern: Pattern, number: int, known: Layout, codes_TK: torch.Tensor) -> Callable[[], object]:
    """The first plan of a layout of a stream that no layout had before."""
    unused = load_layout(pattern.expression.replace("audio", f"stream{number}"), levels=pattern.levels)
    ours(known, codes_TK)
    return lambda: ours(unused, codes_TK)


def measure(name: str, pattern: Pattern, patterns: Any | None, rounds: int) -> None:
    """A line for unseen lengths and one for a cached one."""
    layout = load_layout(pattern.expression, levels=pattern.levels)
    size = ROW + 1
    first = pattern.frames - size * (rounds + 1)
    codes = [known_codes(n, pattern.levels) for n in range(first, pattern.frames + size * (rounds + 1))]
    rows = [codes[size * turn :][:size] for turn in range(2 * rounds + 2)]
    same_TK = known_codes(pattern.frames, pattern.levels)
    same_1KT = for_peer(same_TK)
    unseen: Candidates = {
        "torch": lambda turn: in_a_row(layout, rows[2 * turn]),
        "numpy": lambda turn: in_a_row(layout, [codes_TK.numpy() for codes_TK in rows[2 * turn + 1]]),
        "new layout": lambda turn: first_of(pattern, turn, layout, same_TK),
    }
    cached: Candidates = {
        "torch": lambda turn: in_a_row(layout, [same_TK] * size),
        "numpy": lambda turn: in_a_row(layout, [same_TK.numpy()] * size),
    }
    if patterns:
        provider = getattr(patterns, pattern.provider)(pattern.levels)
        for frames in (1, 97, first - 1):
            compare(layout, provider, known_codes(frames, pattern.levels))
        unseen["peer"] = lambda turn: peer_in_a_row(provider, rows[turn])
        cached["peer"] = lambda turn: peer_again(provider, same_1KT)
    for kind, candidates, times in (("unseen", unseen, rounds), ("cached", cached, 20 * rounds)):
        median = prepared(candidates, times)
        show(name, kind, {column: spent / (1 if column == "new layout" else ROW) for column, spent in median.items()})


def show(name: str, kind: str, median: Mapping[str, float]) -> None:
    """Microseconds of each candidate, and the ratio beside its limit."""
    micros = [f"{median[column] * 1e6:12.1f}" if column in median else " " * 11 + "-" for column in COLUMNS]
    ratio = f"{median['peer'] / median['torch']:8.1f} {LIMITS[kind]:>6}" if "peer" in median else "       -      -"
    print(f"  {name:24}{kind:8}{''.join(micros)}{ratio}")


def measure_batch(patterns: Any | None, rounds: int) -> None:
    """Documents of different lengths, none seen before: in one call, and one by one."""
    layout = load_layout("Delay(audio)", levels=8)
    lengths = random.Random(0).sample(range(200, LONGEST), (BATCH + 1) * (rounds + 1))
    batches = [[known_codes(n, 8) for n in lengths[(BATCH + 1) * turn :][: BATCH + 1]] for turn in range(rounds + 1)]
    packed = [torch.cat(documents[1:]) for documents in batches]

    def at_once(turn: int) -> tuple[Any, Any]:
        plan = layout.batch({"audio": [len(codes_TK) for codes_TK in batches[turn][1:]]}, ended=())
        grid_TR = plan.interleave({"audio": packed[turn]})
        return grid_TR, plan.deinterleave(grid_TR)["audio"]

    for turn in range(rounds + 1):
        grid_TR, back_TK = at_once(turn)
        grids = [ours(layout, codes_TK)[1] for codes_TK in batches[turn][1:]]
        assert torch.equal(back_TK, packed[turn]), "the batch lost codes"
        assert torch.equal(grid_TR, torch.cat(grids)), "the batch differs from its documents"
    runs: Candidates = {"torch": lambda turn: partial(at_once, turn)}
    if patterns:
        provider = patterns.DelayedPatternProvider(8)
        runs["peer"] = lambda turn: peer_in_a_row(provider, batches[turn])
    show(f"delay, 8 x {BATCH} documents", "unseen", prepared(runs, rounds))


def measure_copies(rounds: int) -> None:
    """Nanoseconds a code of going through a plan that is there, beside a plain copy."""
    print("\n  ns a code, delay, plan cached       copy  interleave  deinterleave")
    for levels, frames in ((8, 1500), (8, 15000)):
        codes_TK = known_codes(frames, levels)
        plan = load_layout("Delay(audio)", levels=levels).plan({"audio": frames})
        for kind, codes in (("numpy", codes_TK.numpy()), ("torch", codes_TK)):
            grid_TR = plan.interleave({"audio": codes})
            median = interleaved(
                {
                    "copy": codes.clone if isinstance(codes, torch.Tensor) else codes.copy,
                    "interleave": partial(plan.interleave, {"audio": codes}),
                    "deinterleave": partial(plan.deinterleave, grid_TR),
                },
                20 * rounds,
            )
            copy, there, back = (seconds / codes_TK.numel() * 1e9 for seconds in median.values())
            print(f"  {kind}, {levels} x {frames:<20}{copy:13.2f}{there:12.2f}{back:14.2f}")


def measure_compiling(rounds: int) -> None:
    """Microseconds and nanoseconds a cell of plans for unseen lengths, without and with what training reads of them."""
    print(
        "\n  plan alone, delay, 8 levels, unseen      µs  ns a cell   with source, legal, stream, frame: µs  ns a cell"
    )
    layout = load_layout("Delay(audio)", levels=8)

    def everything(frames: int) -> tuple:
        plan = layout.plan({"audio": frames})
        return plan.source_TR, plan.legal_TR, plan.stream_TR, plan.frame_TR

    for frames in (100, 1500, 10000):
        runs: Candidates = {
            "plan": lambda turn, n=frames: lambda: layout.plan({"audio": n + 2 * turn}),
            "all": lambda turn, n=frames: lambda: everything(n + 2 * turn + 1),
        }
        plan, whole = prepared(runs, 3 * rounds).values()
        cells = 8 * (frames + 8)
        print(
            f"  {frames:>6} frames {plan * 1e6:27.1f} {plan / cells * 1e9:10.2f} "
            f"{whole * 1e6:40.1f} {whole / cells * 1e9:10.2f}"
        )


def main(rounds: int = 15) -> None:
    torch.set_num_threads(1)
    gc.freeze()
    gc.disable()
    try:
        report(load_patterns(), rounds)
    finally:
        gc.enable()
        gc.unfreeze()


def report(patterns: Any | None, rounds: int) -> None:
    print(heading("layouts: plan + interleave + deinterleave, µs; hocket against audiocraft 1.3.0"))
    if patterns is None:
        print(f"  {MISSING}; hocket alone:")
    print(f"  {'':32}{''.join(f'{column:>12}' for column in COLUMNS)}   ratio  limit")
    for name, pattern in PATTERNS.items():
        measure(name, pattern, patterns, rounds)
    measure_batch(patterns, rounds)
    measure_copies(rounds)
    measure_compiling(rounds)
    print()


if __name__ == "__main__":
    main()
