"""Runs: the source cut into shards, each a run of clips, as the source is walked through.

A run ends before it would exceed the seconds of a shard, by what the source states or the file's header says. Where a
run ends depends on the clips and that limit alone. Of a run that is finished already only the number of clips is
needed, and their hash is checked.
"""

import itertools
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from hocket.data.clips import BadAudio, Clip, Rejected, RemoteAudio

NOMINAL_SECONDS = 10.0
"""What a clip counts that lies behind a URL and whose length nobody states: its header would cost a download."""

LETTERS_PER_SECOND = 15.0
"""By which text without audio is counted, about what people speak."""

LOOKAHEAD = 256
READERS = 8

Item = Clip | Rejected


@dataclass(frozen=True)
class Run:
    """The clips of one shard, and how long each is said to be."""

    number: int
    items: list[Item]
    seconds: list[float]


def cut_runs(items: Iterable[Item], limit: float, finished: Callable[[int], int | None]) -> Iterator[Run]:
    """Runs of at most `limit` seconds, and at least one clip, each.

    `finished(number)` gives the number of clips of a run that is done, whose seconds are then not looked at, or None.
    """
    left = iter(items)
    timed: Iterator[tuple[Item, float]] | None = None
    waiting: list[tuple[Item, float]] = []
    for number in itertools.count():
        known = finished(number) if timed is None else None
        if known is not None:
            done = list(itertools.islice(left, known))
            yield Run(number, done, [0.0] * len(done))
            continue
        timed = timed or _timed(left)
        filled = sum(seconds for _, seconds in waiting)
        for pair in timed:
            if waiting and filled + pair[1] > limit:
                yield Run(number, *_columns(waiting))
                waiting = [pair]
                break
            waiting.append(pair)
            filled += pair[1]
        else:
            if waiting:
                yield Run(number, *_columns(waiting))
            return


def _columns(pairs: list[tuple[Item, float]]) -> tuple[list[Item], list[float]]:
    return [item for item, _ in pairs], [seconds for _, seconds in pairs]


def _timed(items: Iterator[Item]) -> Iterator[tuple[Item, float]]:
    with ThreadPoolExecutor(READERS) as pool:
        while chunk := list(itertools.islice(items, LOOKAHEAD)):
            yield from zip(chunk, pool.map(seconds_of, chunk), strict=True)


def seconds_of(item: Item) -> float:
    """How long a clip is by what the source states or the header says; 0 where it cannot be used."""
    if isinstance(item, Rejected):
        return 0.0
    if item.audio is None:
        return len(item.text or "") / LETTERS_PER_SECOND
    if item.seconds is not None:
        return item.seconds
    if isinstance(item.audio, RemoteAudio):
        return NOMINAL_SECONDS
    try:
        return item.probe()
    except BadAudio:
        return 0.0
