"""Packed batches of a corpus under a layout, in a seeded order that can be resumed exactly.

A micro-batch is a row of documents, end to end, without padding:

    documents       [bos a b c end][bos d e][cont f g end]
    cu_seqlens      0             5        8              12

Examples longer than the context are cut at frame boundaries into equal segments; only the first starts with `<bos>`
(the others with `<cont>`), only the last carries the end. Each epoch shuffles all segments, packs them (best fit
decreasing within windows of 2,048 segments) and shuffles the packs of each window.

The global sequence of micro-batches is a function of corpus, layout, budget and seed alone. Rank r of W takes numbers
r, r + W, …; the whole state is (epoch, micro-batch), so that a change of W moves nothing.

Shapes: N grid steps of a micro-batch, R rows, D documents, S segments.
"""

import bisect
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import torch

from hocket.data.corpus import Corpus
from hocket.errors import InputError
from hocket.interleave import Layout, LossWeights
from hocket.vocab import Vocabulary
from hocket.vocab.vocabulary import TEXT

WINDOW = 2048  # segments that are packed together


@dataclass
class Batch:
    """Packed documents, ready for the model."""

    ids_NR: torch.Tensor  # int64 ids of the grid
    legal_NR: torch.Tensor  # int64 index into layout.legal_sets, 0 where nothing is predicted
    weight_NR: torch.Tensor  # float32 loss weight of predicting the cell
    cu_seqlens: torch.Tensor  # int64 [D + 1] where documents start, and the end
    example_ids: list[str]  # of each document
    n_frames: int  # frames of audio

    @property
    def n_steps(self) -> int:
        return self.ids_NR.shape[0]

    def to(self, device: torch.device | str) -> Self:
        """The batch with its tensors on a device."""
        names = ("ids_NR", "legal_NR", "weight_NR", "cu_seqlens")
        return replace(self, **{name: getattr(self, name).to(device) for name in names})


@dataclass(frozen=True)
class Segments:
    """What is laid out as one document each: frames `start` to `stop` of an example. Arrays of S."""

    example: np.ndarray
    start: np.ndarray
    stop: np.ndarray
    steps: np.ndarray  # of the document
    is_last: np.ndarray  # the example truly ends here


class Documents:
    """Examples of a corpus as documents of a layout, none longer than the context.

    Raises:
        InputError: the layout has streams that the corpus lacks, or examples that cannot be cut are too long.
    """

    def __init__(
        self,
        corpus: Corpus,
        layout: Layout,
        vocabulary: Vocabulary,
        context: int,
        weights: LossWeights | None = None,
        given: Sequence[str] = (),
    ):
        self._corpus, self.layout, self.vocabulary = corpus, layout, vocabulary
        self._weights, self._given = weights or LossWeights(), tuple(given)
        self._weights.table(layout.legal_cells, tuple(layout.streams))  # refuses a stream that there is not
        self._codes = [name for name in layout.streams if name != TEXT]
        _check_streams(corpus, layout)
        if layout.span_nodes():
            raise InputError(f"{layout} goes by spans of words or turns, which no corpus holds yet")
        self._tokens = self._encode_texts() if TEXT in layout.streams else None
        self.segments = self._cut(context)

    def collate(self, numbers: np.ndarray) -> Batch:
        """The segments of these numbers, end to end."""
        chosen = self.segments
        documents = [self._streams(int(number)) for number in numbers]
        packed = {name: np.concatenate([streams[name] for streams in documents]) for name in self.layout.streams}
        plan = self.layout.batch(
            {name: [len(streams[name]) for streams in documents] for name in self.layout.streams},
            start=["<bos>" if start == 0 else "<cont>" for start in chosen.start[numbers]],
            ended=dict.fromkeys(self.layout.streams, chosen.is_last[numbers]),
            given=self._given,
        )
        return Batch(
            ids_NR=torch.from_numpy(plan.interleave(packed, self.vocabulary)),
            legal_NR=torch.from_numpy(plan.legal_TR.astype(np.int64)),
            weight_NR=torch.from_numpy(plan.weights(self._weights)),
            cu_seqlens=torch.from_numpy(plan.cu_seqlens),
            example_ids=[self._corpus[int(e)].id for e in chosen.example[numbers]],
            n_frames=int((chosen.stop[numbers] - chosen.start[numbers]).sum()),
        )

    def _streams(self, number: int) -> dict[str, np.ndarray]:
        """The streams of a segment: codes `[T, K]`, text `[T, 1]`."""
        s = self.segments
        example, start, stop = int(s.example[number]), int(s.start[number]), int(s.stop[number])
        codes_TK = self._corpus[example].streams
        streams = {name: codes_TK[name][start:stop, : self.layout.streams[name]] for name in self._codes}
        return streams if self._tokens is None else {**streams, TEXT: self._tokens[example][:, None]}

    def _encode_texts(self) -> list[np.ndarray]:
        texts = [self._corpus[i].text for i in range(len(self._corpus))]
        missing = [self._corpus[i].id for i, text in enumerate(texts) if text is None]
        if missing:
            raise InputError(
                f'{self.layout} needs text, but {len(missing)} of {len(texts)} examples have none, "{missing[0]}" first'
            )
        return [np.asarray(self.vocabulary.encode_text(text or ""), dtype=np.int64) for text in texts]

    def _cut(self, context: int) -> Segments:
        frames = self._corpus.lengths[self._codes[0]] if self._codes else np.zeros(len(self._corpus), np.int64)
        most = self._longest(context)
        steps = self._steps(np.arange(len(frames)), frames, ended=True)
        long = steps > context
        if long.any() and self._tokens is not None:
            worst = int(steps.argmax())
            raise InputError(
                f'example "{self._corpus[worst].id}" takes {steps[worst]} steps with its text, but the context is '
                f"{context}; raise model.context (and data.batch_steps) or tokenise shorter clips"
            )
        pieces = np.where(long, -(-frames // most), 1)
        example = np.repeat(np.arange(len(frames)), pieces)
        piece = np.arange(len(example)) - np.repeat(np.cumsum(pieces) - pieces, pieces)
        start = frames[example] * piece // pieces[example]
        stop = frames[example] * (piece + 1) // pieces[example]
        is_last = piece == pieces[example] - 1
        steps = np.where(
            is_last,
            self._steps(example, stop - start, ended=True),
            self._steps(example, stop - start, ended=False),
        )
        return Segments(example, start, stop, steps, is_last)

    def _steps(self, example: np.ndarray, frames: np.ndarray, ended: bool) -> np.ndarray:
        lengths = dict.fromkeys(self._codes, frames)
        if self._tokens is not None:
            lengths[TEXT] = np.array([len(tokens) for tokens in self._tokens])[example]
        return self.layout.count_steps(lengths, ended=ended) + np.zeros_like(frames)

    def _longest(self, context: int) -> int:
        """The most frames that fit into the context, by bisection (steps grow with frames)."""

        def too_long(n: int) -> bool:
            return bool(self.layout.count_steps(dict.fromkeys(self.layout.streams, n), ended=True) > context)

        most = bisect.bisect_left(range(context + 1), True, key=too_long) - 1
        if most < 1 and self._codes:
            raise InputError(f"a context of {context} steps does not hold one frame of {self.layout}")
        return most


class PackedLoader:
    """An endless, resumable iterator of micro-batches.

    Args:
        corpus: what to train on (usually a split).
        layout, vocabulary: how codes become ids in a grid.
        batch_steps: budget of grid steps of a micro-batch; also bounds a document.
        context: longest document in steps.
        seed: fixes the order.
        rank, world_size: which micro-batches of the global sequence are this process's.
        weights: what each cell counts in the loss.
        given: streams, or levels of them, that are never predicted.
    """

    def __init__(
        self,
        corpus: Corpus,
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
    ):
        if not len(corpus):
            raise InputError(f"{corpus.folder} holds no example to train on")
        self._documents = Documents(corpus, layout, vocabulary, min(context, batch_steps), weights, given)
        self._budget, self._seed, self._rank, self._world_size = batch_steps, seed, rank, world_size
        self.epoch, self._next = 0, 0
        self._packs: dict[int, list[np.ndarray]] = {}

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
        epoch, number = self._seek(self.epoch, self._next + self._rank)
        batch = self._documents.collate(self._packs_of(epoch)[number])
        self.epoch, self._next = self._seek(self.epoch, self._next + self._world_size)
        self._packs = {e: packs for e, packs in self._packs.items() if e >= self.epoch}
        return batch

    def state_dict(self) -> dict[str, int]:
        """Where the global sequence stands: the epoch and the number of its next micro-batch."""
        return {"epoch": self.epoch, "batch": self._next, "seed": self._seed}

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Goes on from `state`, also under another world size."""
        if state["seed"] != self._seed:
            raise InputError(f"the data order was saved under seed {state['seed']}, not {self._seed}")
        self.epoch, self._next = int(state["epoch"]), int(state["batch"])
        self._packs = {}

    def _seek(self, epoch: int, number: int) -> tuple[int, int]:
        while number >= len(self._packs_of(epoch)):
            number -= len(self._packs_of(epoch))
            epoch += 1
        return epoch, number

    def _packs_of(self, epoch: int) -> list[np.ndarray]:
        if epoch not in self._packs:
            rng = np.random.default_rng([self._seed, epoch])
            steps = self._documents.segments.steps
            order = rng.permutation(len(steps))
            packs: list[np.ndarray] = []
            for first in range(0, len(order), WINDOW):
                window = pack(order[first : first + WINDOW], steps, self._budget)
                packs += [window[i] for i in rng.permutation(len(window))]
            self._packs[epoch] = packs
        return self._packs[epoch]


def pack(numbers: np.ndarray, steps: np.ndarray, budget: int) -> list[np.ndarray]:
    """Best fit decreasing: each segment goes into the fullest pack that still has room for it."""
    packs: list[list[int]] = []
    room: list[tuple[int, int]] = []  # (free steps, pack), ascending
    for number in numbers[np.argsort(-steps[numbers], kind="stable")]:
        need = int(steps[number])
        at = bisect.bisect_left(room, (need, -1))
        if at == len(room):
            packs.append([])
            free, chosen = budget, len(packs) - 1
        else:
            free, chosen = room.pop(at)
        packs[chosen].append(int(number))
        bisect.insort(room, (free - need, chosen))
    return [np.array(numbers) for numbers in packs]


def one_pass(
    corpus: Corpus,
    layout: Layout,
    vocabulary: Vocabulary,
    *,
    batch_steps: int,
    context: int,
    weights: LossWeights | None = None,
    given: Sequence[str] = (),
) -> Iterator[Batch]:
    """Every example once, in a fixed order: for validation."""
    if not len(corpus):
        return
    documents = Documents(corpus, layout, vocabulary, min(context, batch_steps), weights, given)
    steps = documents.segments.steps
    for numbers in pack(np.arange(len(steps)), steps, batch_steps):
        yield documents.collate(numbers)


def _check_streams(corpus: Corpus, layout: Layout) -> None:
    lengths, levels = corpus.lengths, {"audio": corpus.card.codec.levels}
    for name, n_levels in layout.streams.items():
        if name == TEXT:
            continue
        if name not in lengths:
            raise InputError(f'{layout} needs a stream "{name}"; the corpus {corpus.folder} has {sorted(lengths)}')
        if n_levels > levels.get(name, n_levels):
            raise InputError(f"{layout} needs {n_levels} levels; the corpus {corpus.folder} has {levels[name]}")
