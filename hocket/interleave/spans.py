"""Spans: how `Alternate(…, spans=…)` cuts its streams into turns.

    units       word 0   word 1   word 2   word 3        boundaries of text   0 2 3 5 6
                                                         boundaries of audio  0 9 14 30 37
    "turn"      text 0   audio 0  text 1   audio 1  …    every unit in each stream, in turn
    "word"      text 0+1          audio 2+3              each unit in one stream, drawn by the seed (SpiritLM)
    "either"    text 0+1+2+3      audio 0+1+2+3          every stream whole; the seed draws which is first (VoxtLM)

Costs one short loop over the turns of a document (not over its steps): with all else, 1.5 µs a turn.
"""

from collections.abc import Iterable, Mapping, Sequence
from operator import index
from typing import TYPE_CHECKING

import numpy as np

from hocket.errors import InputError, did_you_mean
from hocket.interleave.checks import is_whole
from hocket.interleave.painting import Chunks

if TYPE_CHECKING:
    from hocket.interleave.leaf import SpanNode

Turn = tuple[str, int, int]  # stream, first frame, the one after the last
Spans = Mapping[str, Sequence[int]] | Sequence[Turn]
"""Boundaries of units by stream, or the turns themselves."""


def freeze_spans(spans: Spans) -> tuple:
    """Spans as a value that can be hashed: `(stream, boundaries)` pairs or turns.

    Raises:
        InputError: they are neither.
    """
    try:
        items: list[tuple] = [tuple(item) for item in (sorted(spans.items()) if isinstance(spans, Mapping) else spans)]
        if isinstance(spans, Mapping) and not items:
            raise ValueError("no stream")
        if items and all(len(item) == 2 for item in items):
            return tuple((str(name), _whole(edges)) for name, edges in items)
        return tuple((str(name), *_whole((first, stop))) for name, first, stop in items)
    except (TypeError, ValueError):
        raise InputError(
            "spans are boundaries by stream, or turns such as (stream, first frame, the one after)"
        ) from None


def _whole(numbers: Iterable) -> tuple[int, ...]:
    """Whole numbers of any kind; a float is none."""
    return tuple(index(number) for number in numbers)


def find_turns(node: "SpanNode", spans: tuple, lengths: Mapping[str, int], seed: int) -> list[Turn]:
    """The turns of one document, in their order.

    Turns made from units leave out empty ones and join neighbours of one stream; turns that are given stay as they are.

    Raises:
        InputError: the spans are not of the node's streams, go back in time or beyond the end.
    """
    names = node.part_streams
    for name, *_ in spans:
        if name not in names:
            raise InputError(
                f'spans name the stream "{name}", which {node} does not alternate' + did_you_mean(name, names)
            )
    by_units = bool(spans) and len(spans[0]) == 2
    turns = _turns_of_units(node, dict(spans), lengths, seed) if by_units else list(spans)
    _check_turns(turns, lengths)
    return (_merged(turns, lengths) if by_units else turns) or [(names[0], 0, 0)]


def span_chunks(node, symbols, lengths, first, ends, spans, seeds) -> Chunks:
    """The chunks of B documents: their turns, what follows each, and where their frames lie."""
    names, rows = node.part_streams, []
    for b, (turns, seed) in enumerate(zip(spans, seeds, strict=True)):
        found = find_turns(node, turns, {name: int(lengths[name][b]) for name in names}, seed)
        following = [f"<to.{name}>" for name, _, _ in found[1:]]
        last = found[-1][0]
        following.append(f"<end.{last}>" if ends[last][b] else "<none>")
        for (name, start, stop), symbol in zip(found, following, strict=True):
            rows.append((b, names.index(name), first[name][b] + start, stop - start, symbols.index(symbol)))
    return Chunks(*np.array(rows, dtype=np.int64).reshape(-1, 5).T)


def _turns_of_units(node: "SpanNode", edges: dict[str, tuple[int, ...]], lengths, seed: int) -> list[Turn]:
    names = node.part_streams
    counts = {name: len(edges.get(name, ())) for name in names}
    if len(set(counts.values())) != 1 or 0 in counts.values():
        raise InputError(f"spans need as many boundaries for each stream of {node}, not {counts}")
    for name in names:
        if edges[name][0] != 0 or edges[name][-1] != lengths[name]:
            raise InputError(
                f'the boundaries of "{name}" go from {edges[name][0]} to {edges[name][-1]}, '
                f"but the stream goes from 0 to {lengths[name]}"
            )
    n_units = counts[names[0]] - 1
    if node.by_wholes:
        return [(names[part], 0, int(lengths[names[part]])) for part in draw_order(len(names), seed)]
    if node.by_turns:
        return [(name, edges[name][i], edges[name][i + 1]) for i in range(n_units) for name in names]
    return [
        (names[part], edges[names[part]][first], edges[names[part]][stop])
        for part, first, stop in draw_spans(n_units, node.words or (), seed)
    ]


def draw_order(n_parts: int, seed: int) -> list[int]:
    """An order of the parts, each as likely as any other."""
    return _generator(seed).permutation(n_parts).tolist()


def draw_spans(n_units: int, words: Sequence[tuple[int, int]], seed: int) -> list[tuple[int, int, int]]:
    """Cuts units into spans that go round the parts, of lengths drawn evenly between each part's fewest and most.

    Returns `(part, first unit, the one after the last)`; which part is first is drawn too.
    """
    rng = _generator(seed)
    part, first, spans = int(rng.integers(len(words))), 0, []
    while first < n_units:
        stop = min(first + int(rng.integers(words[part][0], words[part][1], endpoint=True)), n_units)
        spans.append((part, first, stop))
        part, first = (part + 1) % len(words), stop
    return spans


def _generator(seed: int) -> np.random.Generator:
    if not is_whole(seed, most=2**64 - 1):
        raise InputError(f"a seed is a whole number from 0 on, not {seed!r}")
    return np.random.default_rng(seed)


def _check_turns(turns: Sequence[Turn], lengths: Mapping[str, int]) -> None:
    reached = dict.fromkeys(lengths, 0)
    for name, first, stop in turns:
        if first < reached[name] or stop < first:
            raise InputError(
                f'the turn of "{name}" from {first} to {stop} goes back behind {max(reached[name], first)}'
            )
        if stop > lengths[name]:
            raise InputError(f'the turn of "{name}" from {first} to {stop} goes beyond its {lengths[name]} frames')
        reached[name] = stop


def _merged(turns: Sequence[Turn], lengths: Mapping[str, int]) -> list[Turn]:
    """Turns without empty ones, neighbours of one stream joined. The last one ends its stream, even if it is empty."""
    merged: list[Turn] = []
    for name, first, stop in turns:
        if stop == first:
            continue
        if merged and merged[-1][0] == name and merged[-1][2] == first:
            merged[-1] = (name, merged[-1][1], stop)
        else:
            merged.append((name, first, stop))
    at_end = bool(merged) and merged[-1][2] == lengths[merged[-1][0]]
    return merged if at_end else [*merged, *turns[-1:]]
