"""The loader: an endless sequence of micro-batches, shared among ranks, made ahead by workers, resumed exactly.

    order     0   1   2   3   4   5   6   7   8 …          one sequence, whatever the number of ranks
    rank 0    0           3           6                     rank r of W takes r, r + W, …: each always has a next one
    rank 1        1           4           7
    rank 2            2           5           8

The state is that of what was consumed, the same on every rank, and a few numbers long; with it lies what defines the
order, so that a state goes on only where it means the same. Worker processes get the segments of a batch and give it
back in order; they know nothing of the sequence.
"""

from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np

from hocket.data.corpus import Corpus
from hocket.data.loading.batch import Batch
from hocket.data.loading.documents import Documents, Facts, Hide
from hocket.data.loading.mixture import Mixture
from hocket.data.loading.order import BUFFER, Order, Position, Window
from hocket.data.loading.packing import bucket_steps, pack
from hocket.data.loading.workers import Workers
from hocket.errors import InputError
from hocket.interleave import Layout, LossWeights
from hocket.vocab import Vocabulary

LEAST_SHARE = 1e-9  # of a corpus in a mixture: less of it would never be seen


class PackedLoader:
    """An endless, resumable iterator of micro-batches.

    Args:
        corpus: what to train on (usually a split): one corpus or several.
        layout, vocabulary: how codes become ids in a grid.
        batch_steps: budget of grid steps of a micro-batch; also bounds a document.
        context: longest document in steps.
        seed: fixes the order, random spans, and what is hidden.
        rank, world_size: which micro-batches of the global sequence are this process's.
        weights: what each cell counts in the loss.
        given: streams, or levels of them, that are never predicted.
        ended: streams whose end stands in a document; all unless given.
        hide: hides codes of every batch, drawn from the seed, the epoch and the example alone.
        workers: processes that make batches ahead; 0 makes each when it is asked for.
        buffer: documents that are packed together, at least.
        packing: "packed", "fixed" (packed and filled up to `batch_steps`), or "padded" (side by side, by length).
        long: "split" or "refuse" examples that are longer than the context.
        missing: "refuse", "keep" or "drop" examples that lack a stream of the layout.

    Raises:
        InputError: as `Documents`; or a corpus holds no example to train on.
    """

    def __init__(
        self,
        corpus: Corpus | Mixture,
        layout: Layout,
        vocabulary: Vocabulary,
        *,
        batch_steps: int,
        context: int,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
        weights: LossWeights | None = None,
        given: Sequence[str] = (),
        ended: Sequence[str] | None = None,
        hide: Hide | None = None,
        workers: int = 0,
        buffer: int = BUFFER,
        packing: str = "packed",
        long: str = "split",
        missing: str = "refuse",
    ):
        mixture = Mixture.of(corpus)
        if not len(mixture):
            raise InputError(f'the corpus "{mixture.folder}" holds no example to train on{_held(mixture)}')
        documents = Documents(
            mixture,
            layout,
            vocabulary,
            min(context, batch_steps),
            weights,
            given,
            ended=ended,
            hide=hide,
            long=long,
            missing=missing,
            packing=packing,
            budget=batch_steps,
            seed=seed,
        )
        if not len(documents.segments):
            raise InputError(f'{layout} can use no example of the corpus "{mixture.folder}": {documents.facts}')
        self._documents, self._rank, self._world_size = documents, rank, world_size
        self._workers = Workers(documents, workers)
        self._order = make_order(documents, batch_steps, buffer, seed)
        self._setting = _name_parts(mixture, layout, vocabulary) | {
            "given": list(given),
            "batch_steps": batch_steps,
            "context": min(context, batch_steps),
            "buffer": buffer,
            "packing": packing,
            "long": long,
            "missing": missing,
            "seed": seed,
        }
        if ended is not None:
            self._setting["ended"] = list(ended)
        self._go_to(self._order.start)

    @property
    def facts(self) -> Facts:
        """What the sequence is made of, counted at the start."""
        return self._documents.facts

    @property
    def epoch_steps(self) -> int:
        """Grid steps of all documents, once each."""
        return int(self._documents.segments.steps.sum())

    @property
    def epoch(self) -> int:
        """Complete passes; of a mixture with shares, over the corpus with the fewest."""
        return self._order.epoch(self._consumed)

    @property
    def drawn(self) -> dict[str, int]:
        """Documents drawn so far by corpus, up to the window that is being consumed."""
        corpora = self._documents.mixture.corpora
        names = [str(c.folder) for c in corpora] if len(self._consumed.drawn) > 1 else [self._documents.mixture.folder]
        return dict(zip(names, self._consumed.drawn, strict=True))

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
        batch = next(self._batches)
        self._consumed = self._after.popleft()
        return batch

    def state_dict(self) -> dict[str, Any]:
        """Where the global sequence stands after what was consumed, and what defines it."""
        return {"epoch": self.epoch, "position": asdict(self._consumed), "order": self._setting}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from `state`, also under another world size or with other workers.

        Raises:
            InputError: the state is of another order: other corpora, layout, budget, seed, ….
        """
        if "position" not in state:
            raise InputError("the state of the data is of another version of hocket: start over with --fresh")
        for key, value in self._setting.items():
            before = state["order"].get(key)
            if before != value:
                raise InputError(
                    f"the data order was saved under {key} {before}, not {value}: it cannot go on from there"
                )
        position = state["position"]
        tuples = {name: tuple(position[name]) for name in ("drawn", "steps")}
        self._go_to(Position(window=position["window"], pack=position["pack"], **tuples))

    def close(self) -> None:
        """End the worker processes, if there are any."""
        self._workers.close()

    def _go_to(self, position: Position) -> None:
        self._consumed, self._after = position, deque[Position]()
        self._batches = self._workers.run(self._tasks(position))

    def _tasks(self, position: Position) -> Iterator[tuple[Any, np.ndarray]]:
        """This rank's documents, batch by batch; what has been consumed after each is put down in `_after`."""
        ahead: deque[Window] = deque()
        position = _settle(self._order, position, ahead)
        while True:
            numbers, epochs = _pack_at(self._order, ahead, position.pack + self._rank)
            position = _settle(self._order, replace(position, pack=position.pack + self._world_size), ahead)
            self._after.append(position)
            yield self._documents.segments.take(numbers), epochs


def _held(mixture: Mixture) -> str:
    """What corpora hold in their other splits, for a message."""
    counts: Counter[str] = Counter()
    for corpus in mixture.corpora:
        counts.update({name: split.n_examples for name, split in corpus.card.splits.items()})
    return f" (it has {', '.join(f'{n:,} of split {name}' for name, n in sorted(counts.items()))})" if counts else ""


def make_order(documents: Documents, batch_steps: int, buffer: int, seed: int) -> Order:
    """The order of a mixture's documents at its shares.

    Raises:
        InputError: a corpus that is to have a share has no document.
    """
    mixture, segments = documents.mixture, documents.segments
    first = np.searchsorted(segments.example, mixture.first)
    sizes = np.array([segments.steps[a:b].sum(dtype=np.int64) for a, b in zip(first, first[1:], strict=False)])
    shares = mixture.weights
    if shares is None and mixture.temperature != 1 and len(sizes) > 1:
        shares = ((sizes / sizes.max()) ** (1 / mixture.temperature)).tolist()
    for corpus, size in zip(mixture.corpora, sizes.tolist(), strict=True):
        if shares is not None and not size:
            raise InputError(
                f'the corpus "{corpus.folder}" holds no example to train on, but has a share of the mixture'
            )
    if shares is not None and min(shares) < sum(shares) * LEAST_SHARE:
        least = mixture.corpora[list(shares).index(min(shares))].folder
        raise InputError(
            f'the corpus "{least}" has less than a billionth of the mixture: raise its weight or data.temperature, '
            "or leave it out"
        )
    return Order(
        segments.steps,
        first.tolist(),
        shares if len(sizes) > 1 else None,
        budget=batch_steps,
        buffer=buffer,
        seed=seed,
        side_by_side=documents.packing == "padded",
        exact_steps=(lambda n, e: documents.exact_steps(segments.take(n), e)) if documents.layout.has_spans else None,
    )


def _settle(order: Order, position: Position, ahead: deque[Window]) -> Position:
    """A position as one within its window; windows that lie behind it are dropped."""
    if not ahead:
        ahead.append(order.window(position))
    while position.pack >= len(ahead[0].packs):
        window = ahead.popleft()
        position = replace(window.end, pack=position.pack - len(window.packs))
        if not ahead:
            ahead.append(order.window(window.end))
    return position


def _pack_at(order: Order, ahead: deque[Window], number: int) -> tuple[np.ndarray, np.ndarray]:
    """The documents of the pack so many after the first of the windows ahead, which grow as far as is needed."""
    at = 0
    while number >= len(ahead[at].packs):
        number -= len(ahead[at].packs)
        at += 1
        if at == len(ahead):
            ahead.append(order.window(ahead[-1].end))
    return ahead[at].packs[number]


def _name_parts(mixture: Mixture, layout: Layout, vocabulary: Vocabulary) -> dict[str, Any]:
    """What the order of batches depends on besides numbers and choices."""
    return {
        "corpora": mixture.fingerprint,
        "examples": len(mixture),
        "weights": list(mixture.weights) if mixture.weights else None,
        "temperature": mixture.temperature,
        "layout": layout.expression,
        "tokenizer": vocabulary.text.fingerprint if vocabulary.text else None,
    }


def one_pass(
    corpus: Corpus | Mixture,
    layout: Layout,
    vocabulary: Vocabulary,
    *,
    batch_steps: int,
    context: int,
    weights: LossWeights | None = None,
    given: Sequence[str] = (),
    ended: Sequence[str] | None = None,
    hide: Hide | None = None,
    packing: str = "packed",
    long: str = "split",
    missing: str = "refuse",
    seed: int = 0,
) -> Iterator[Batch]:
    """Every example once, in a fixed order: for validation."""
    if not len(corpus):
        return
    documents = Documents(
        corpus,
        layout,
        vocabulary,
        min(context, batch_steps),
        weights,
        given,
        ended=ended,
        hide=hide,
        long=long,
        missing=missing,
        packing=packing,
        budget=batch_steps,
        seed=seed,
    )
    numbers, steps = np.arange(len(documents.segments)), documents.segments.steps
    for chosen in bucket_steps(steps, batch_steps) if packing == "padded" else pack(numbers, steps, batch_steps):
        yield documents.collate(chosen)
