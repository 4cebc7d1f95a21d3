"""Examples of corpora as documents of a layout: which of them a layout can use, and how a micro-batch of them is made.

What is used is decided once, at the start, over arrays, and what is left out is counted and named:

    missing="refuse"   every example has every stream of the layout, or training does not start
    missing="keep"     a stream that an example lacks has no frames and no end; text alone, audio alone and both at once
                       stand in one sequence of batches
    missing="drop"     examples that lack a stream are left out

A document with nothing to predict (text alone, where text is given) is never kept.

Shapes: N grid steps of a micro-batch, R rows, S segments.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from hocket.data.corpus import Corpus
from hocket.data.loading.batch import Batch, pad_bounds
from hocket.data.loading.contents import Contents
from hocket.data.loading.mixture import Mixture
from hocket.data.loading.packing import PACKINGS
from hocket.data.loading.segments import Cutter, Segments
from hocket.errors import InputError, did_you_mean
from hocket.interleave import Layout, LossWeights, PlanBatch
from hocket.vocab import Vocabulary
from hocket.vocab.vocabulary import ALIGNED_TEXT, TEXT

MISSING = ("refuse", "keep", "drop")
FEWEST_STEPS = 2  # of a document: its start, and one that is predicted
SHOWN = 3  # examples that a message names
MOST_SEED = 1 << 63  # a torch generator takes those below
Hide = Callable[[Batch, PlanBatch, Sequence[int]], Batch]
"""Hides codes of a batch that is laid out, from its plan and a number for each document that fixes what is drawn."""
ADVICE = {
    "word times": "`hocket align SRC MANIFEST` finds them, then tokenise the manifest",
    "text": "put x.txt beside x.wav or a text into the manifest and tokenise again, or choose a layout of audio alone",
}
"""What to do where no example has what a layout needs."""


@dataclass(kw_only=True)
class Facts:
    """What the documents are made of, counted at the start."""

    n_examples: int = 0
    """In the corpora."""
    n_used: int = 0
    n_segments: int = 0
    """Documents of an epoch."""
    n_cut: int = 0
    """Examples that are longer than the context, and lie in more than one segment."""
    lacking: dict[str, int] = field(default_factory=dict)
    """Examples without a stream, by stream; "word times" where spans need them."""
    left_out: dict[str, int] = field(default_factory=dict)
    """Examples that are not used, by reason."""
    left_out_first: list[str] = field(default_factory=list)
    """The first of them."""

    def __str__(self) -> str:
        parts = [f"{self.n_used:,} of {self.n_examples:,} examples in {self.n_segments:,} documents"]
        if self.n_cut:
            parts.append(f"{self.n_cut:,} are cut at the context")
        parts += [f"{n:,} have no {name}" for name, n in self.lacking.items()]
        parts += [f"{n:,} are left out ({why})" for why, n in self.left_out.items()]
        named = f": {', '.join(self.left_out_first)}" if self.left_out_first else ""
        return ", ".join(parts) + named


class Documents:
    """Examples of a corpus or a mixture as documents of a layout, none longer than the context.

    Args:
        corpus: one corpus (usually a split), or several.
        layout, vocabulary: how codes become ids in a grid.
        context: the most steps of a document.
        weights: what each cell counts in the loss.
        given: streams, or levels of them, that are never predicted.
        ended: streams whose end stands in a document; all unless given (what is predicted in place has none).
        hide: hides codes of every batch, for what is predicted in place, and conditions that are dropped.
        long: "split" cuts what is longer than the context, "refuse" ends with a message.
        missing: "refuse", "keep" or "drop" examples that lack a stream of the layout.
        packing: "packed", "fixed" (packed, and filled up to the budget) or "padded" (side by side).
        budget: the most steps of a micro-batch; the context unless given.
        seed: of random spans and of what is hidden.

    Raises:
        InputError: the layout has streams that no corpus has, examples lack them, or are too long and cannot be cut.
    """

    def __init__(
        self,
        corpus: Corpus | Mixture,
        layout: Layout,
        vocabulary: Vocabulary,
        context: int,
        weights: LossWeights | None = None,
        given: Sequence[str] = (),
        *,
        ended: Sequence[str] | None = None,
        hide: Hide | None = None,
        long: str = "split",
        missing: str = "refuse",
        packing: str = "packed",
        budget: int | None = None,
        seed: int = 0,
    ):
        for name, value, valid in (("missing", missing, MISSING), ("packing", packing, PACKINGS)):
            if value not in valid:
                raise InputError(f'there is no {name}="{value}"{did_you_mean(value, valid)}')
        self.mixture = Mixture.of(corpus)
        self.layout, self.vocabulary, self.packing = layout, vocabulary, packing
        self._weights, self._given = weights or LossWeights(), tuple(given)
        self._weights.table(layout.legal_cells, tuple(layout.streams))  # refuses a stream that there is not
        self._budget, self._seed, self._hide = budget or context, seed, hide
        self._contents = Contents(self.mixture, layout, vocabulary, ended)
        self.facts = Facts(n_examples=len(self.mixture))
        used = self._choose(missing)
        self.segments = Cutter(self._contents, layout, context, long).cut(used)
        self.facts.n_used, self.facts.n_segments = len(used), len(self.segments)
        self.facts.n_cut = int((~self.segments.ends & self.segments.begins).sum())
        shortest = int(self.segments.steps.min()) if len(self.segments) else self._budget
        fewest = FEWEST_STEPS if layout.has_spans else min(shortest, self._budget)
        self._n_bounds = self._budget // max(fewest, 1) + 2

    def __getstate__(self) -> dict[str, Any]:
        """Another process is told the segments of each batch, and needs no list of all."""
        return self.__dict__ | {"segments": None}

    def collate(self, numbers: np.ndarray, epochs: np.ndarray | int = 0) -> Batch:
        """The segments of these numbers as a micro-batch; `epochs` draw what is random in them."""
        return self.lay_out(self.segments.take(numbers), np.broadcast_to(epochs, len(numbers)))

    def lay_out(self, segments: Segments, epochs: np.ndarray) -> Batch:
        """Segments as a micro-batch."""
        contents, names = self._contents, self.mixture.ids(segments.example)
        packed, pads, n_left_out = self._streams(segments)
        spans, seeds = contents.spans(segments), self._seeds(segments, epochs, names)
        plan = self.layout.batch(
            contents.lengths(segments),
            start=np.where(segments.begins, "<bos>", "<cont>").tolist(),
            ended=contents.ended(segments),
            given=self._given,
            spans=spans,
            seeds=seeds if spans else None,
        )
        audio = contents.spoken if contents.codes else None
        batch = Batch(
            ids_NR=torch.from_numpy(plan.interleave(packed, self.vocabulary)),
            legal_NR=torch.from_numpy(plan.legal_TR.astype(np.int64)),
            weight_NR=torch.from_numpy(plan.weights(self._weights, pads=pads)),
            cu_seqlens=torch.from_numpy(plan.cu_seqlens),
            example_ids=names,
            n_frames=int((segments.stop[audio] - segments.start[audio]).sum()) if audio else 0,
            budget=self._budget,
            n_left_out=n_left_out,
            seed=sum(seeds) % MOST_SEED,
        )
        if self._hide is not None:
            batch = self._hide(batch, plan, seeds)
        return self._shaped(batch, plan.cu_seqlens)

    def exact_steps(self, segments: Segments, epochs: np.ndarray) -> np.ndarray:
        """Steps of each segment in these epochs; other than `segments.steps` only where spans are drawn."""
        spans = self._contents.spans(segments)
        if spans is None:
            return segments.steps
        seeds = self._seeds(segments, epochs, self.mixture.ids(segments.example))
        lengths, ended = self._contents.lengths(segments), self._contents.ended(segments)
        return self.layout.count_steps(lengths, ended, spans=spans, seeds=seeds).astype(np.int32)

    def _streams(self, segments: Segments) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray], int]:
        """Codes [frames, K] by stream, what of aligned text is padding, and words of it that did not fit."""
        contents, packed, pads, n_left_out = self._contents, {}, {}, 0
        for name, n_levels in self.layout.streams.items():
            if name == TEXT:
                packed[name] = contents.text(segments)
            elif name == ALIGNED_TEXT:
                packed[name], n_left_out = contents.aligned(segments)
                pads[name] = packed[name][:, 0] == self.vocabulary.text_rows
            else:
                bounds = segments.start[name], segments.stop[name]
                packed[name] = self.mixture.gather(name, segments.example, *bounds)[:, :n_levels]
        return packed, pads, n_left_out

    def _seeds(self, segments: Segments, epochs: np.ndarray, names: Sequence[str]) -> list[int]:
        """A number for each document from the seed, the epoch and the example, wherever and whenever it is drawn."""
        start = next(iter(segments.start.values()), segments.first)
        keys = zip(epochs.tolist(), start.tolist(), names, strict=True)
        return [_hash(f"{self._seed}/{epoch}/{first}/{name}") for epoch, first, name in keys]

    def _shaped(self, batch: Batch, bounds: np.ndarray) -> Batch:
        """With bounds of a fixed number, and filled up as the packing wants."""
        steps, n_real = np.diff(bounds), int(bounds[-1])
        where, total = np.arange(n_real), n_real
        if self.packing == "padded":
            longest = int(steps.max())
            where += np.repeat(longest * np.arange(len(steps)) - bounds[:-1], steps)
            total, bounds = longest * len(steps), longest * np.arange(len(steps) + 1)
        elif self.packing == "fixed" and n_real < self._budget:
            total, bounds = self._budget, np.append(bounds, self._budget)
        if total > n_real:
            filler = torch.full((total, batch.ids_NR.shape[1]), self.vocabulary.id("<none>"))
            filler[:, 0] = self.vocabulary.id("<wait>")
            index = torch.from_numpy(where)
            batch.ids_NR = filler.index_copy(0, index, batch.ids_NR)
            batch.legal_NR = torch.zeros_like(filler).index_copy(0, index, batch.legal_NR)
            batch.weight_NR = torch.zeros(filler.shape).index_copy(0, index, batch.weight_NR)
            if batch.target_NR is not None:
                batch.target_NR = filler.index_copy(0, index, batch.target_NR)
            batch.n_padding = total - n_real
        batch.cu_seqlens = torch.from_numpy(pad_bounds(bounds, self._n_bounds))
        return batch

    # --- which examples ---------------------------------------------------------------------------------------------

    def _choose(self, missing: str) -> np.ndarray:
        """Numbers of the examples that are used."""
        lacking = self._lacking()
        self.facts.lacking = {name: int(which.sum()) for name, which in lacking.items() if which.any()}
        if missing == "refuse":
            self._refuse_lacking(lacking)
        keep = np.ones(len(self.mixture), bool)
        if missing == "drop":
            keep = self._leave_out(keep, np.logical_or.reduce(list(lacking.values())), "they lack a stream")
        idle = keep & ~self._has_target()
        if idle.any() and missing == "refuse":
            first = self.mixture.ids(np.flatnonzero(idle)[:1])[0]
            raise InputError(
                f'{self.layout} has nothing to predict in {int(idle.sum())} of {len(idle)} examples, "{first}" first'
            )
        return np.flatnonzero(self._leave_out(keep, idle, "nothing to predict"))

    def _leave_out(self, keep: np.ndarray, which: np.ndarray, why: str) -> np.ndarray:
        if which.any():
            self.facts.left_out[why] = int(which.sum())
            names = self.mixture.ids(np.flatnonzero(which)[:SHOWN])
            self.facts.left_out_first = [*self.facts.left_out_first, *names][:SHOWN]
        return keep & ~which

    def _lacking(self) -> dict[str, np.ndarray]:
        """Examples without a stream, by stream: bool."""
        present, contents = self._contents.present, self._contents
        lacking = {name: ~has for name, has in present.items()}
        if contents.moves_words:
            timed = contents.has_spoken_text(np.arange(len(self.mixture)))
            spoken = present[TEXT] & np.logical_or.reduce([present[name] for name in contents.codes])
            lacking["word times"] = spoken & ~timed
        return lacking

    def _refuse_lacking(self, lacking: dict[str, np.ndarray]) -> None:
        for name, which in lacking.items():
            if not which.any():
                continue
            what = "word times" if name == ALIGNED_TEXT else name if name in (TEXT, "word times") else f'"{name}"'
            if which.all() and what in ADVICE:
                raise InputError(
                    f"{self.layout} needs {what}, but none of {len(which)} examples has any: {ADVICE[what]}"
                )
            first = self.mixture.ids(np.flatnonzero(which)[:1])[0]
            raise InputError(
                f'{self.layout} needs {what}, but {int(which.sum())} of {len(which)} examples have none, "{first}" '
                "first: set data.missing=drop to leave them out, or keep to train on what they have"
            )

    def _has_target(self) -> np.ndarray:
        """Which examples have a cell to predict that counts in the loss: bool."""
        given = self.layout.find_levels(self._given)
        everything = np.arange(len(self.mixture))
        units = {name: self._contents.frames[name] for name in self._contents.codes}
        units[TEXT] = self._contents.text_units(everything, np.zeros(len(everything), bool))
        found = np.zeros(len(everything), bool)
        for name, n_levels in self.layout.streams.items():
            counts = [(name, k) not in given and self._weights.of(name, k) > 0 for k in range(n_levels)]
            leaf = self.layout.leaders[name]
            leads = counts[leaf.ref.start + leaf.leader] and self._weights.ends > 0 and name in self._contents.closed
            present = self._contents.present[name]
            found |= present & ((units.get(name, present) > 0) & any(counts) | leads)
        return found


def _hash(key: str) -> int:
    return int.from_bytes(hashlib.blake2b(key.encode(), digest_size=8).digest(), "little")
