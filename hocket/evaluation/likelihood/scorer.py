"""Scores examples of a corpus: nats by block and level of each, whatever the layout, the head and the objective.

    corpus ──Documents──▶ pieces ──best fit──▶ packs ──one forward pass──▶ nats by document ──▶ Scores by example

Documents are packed end to end without padding and none sees another, so that an example scores the same alone, in any
batch and in any order (up to rounding: 4e-10 of the nats of an example on trained models in float32). An example that
is longer than the model's context is cut as the loader cuts it for training: equal pieces, or at words, of which each
starts anew; its score is the sum over its pieces. Where a layout moves words into spans at random, it is the likelihood
of one drawing of the spans.

A pack is the unit of work: with a file of items, examples are written as soon as their last piece is scored, and a job
that was killed makes the very packs again that hold an example without a line, so that its results are bit by bit
those of an uninterrupted one.

It costs a forward pass of every piece. On one CPU core a 15M model of 8 delayed levels scores 2,000 steps (16,000
codes, 80 s of audio) a second, a flat 8M one 6,500 steps (65 s of audio of 4 levels).

Shapes: S segments, E examples.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hocket.data import Batch, Corpus, Documents, Mixture
from hocket.data.loading import pack
from hocket.errors import InputError
from hocket.evaluation.items import Items
from hocket.evaluation.likelihood.measuring import (
    LevelHider,
    count_draws,
    measure_in_place,
    measure_next_token,
)
from hocket.evaluation.likelihood.tally import COLUMNS, Score, Tally
from hocket.model import Model

BATCH_STEPS = 4096
FORMAT = 1
Progress = Callable[[float, float], object]
"""Told how many examples are scored, and of how many."""


class Scorer:
    """Scores the examples of a corpus, or of one split of it, under a model.

    Args:
        batch_steps: grid steps of a forward pass; at least the model's context. Decides speed and memory only.
        missing: "refuse", "keep" or "drop" examples that lack a stream of the layout.
        seed: draws spans, masks, and which examples are taken where not all are.

    Raises:
        InputError: as `Documents`, or there is nothing to score.
    """

    def __init__(
        self,
        model: Model,
        corpus: Corpus | Mixture,
        *,
        batch_steps: int = BATCH_STEPS,
        missing: str = "refuse",
        seed: int = 0,
    ):
        self.model, self.mixture = model.eval(), Mixture.of(corpus)
        if not len(self.mixture):
            raise InputError(f'the corpus "{self.mixture.folder}" has no examples to score here')
        self._hider = LevelHider(model) if model.stage.in_place else None
        self._budget, self._seed = max(batch_steps, model.config.context), seed
        self._documents = Documents(
            self.mixture,
            model.layout,
            model.vocabulary,
            model.config.context,
            given=model.given,
            ended=model.stage.ended if model.stage.in_place else None,
            hide=self._hider,
            missing=missing,
            budget=self._budget,
            seed=seed,
        )
        if not len(self._documents.segments):
            raise InputError(
                f'{model.layout} can score no example of the corpus "{self.mixture.folder}": {self._documents.facts}'
            )
        self.examples = np.unique(self._documents.segments.example)
        """Numbers of the examples that can be scored."""
        self.n_draws = count_draws(model)
        self.is_bound = model.stage.objective == "masked"
        self._settings = {"format": FORMAT, "what": "nats by block", "missing": missing, "seed": seed}

    def choose(self, n: int | None) -> np.ndarray:
        """Numbers of so many examples, drawn from the seed; more examples have the fewer among them. All for None."""
        if n is None or n >= len(self.examples):
            return self.examples
        if n < 1:
            raise InputError(f"the number of examples to score must be at least 1, not {n}")
        return np.sort(np.random.default_rng(self._seed).permutation(self.examples)[:n])

    def fingerprint(self, examples: np.ndarray) -> str:
        """Of what is scored: the corpora and these examples, whatever the model."""
        rows = hashlib.sha256(self.mixture.fingerprint.encode())
        rows.update(np.ascontiguousarray(examples, np.int64).tobytes())
        return rows.hexdigest()[:16]

    @torch.inference_mode()
    def score(
        self,
        examples: np.ndarray | None = None,
        *,
        items: Path | None = None,
        weights: str | None = None,
        on_progress: Progress | None = None,
    ) -> list[Score]:
        """The scores of some examples (all of them unless given), in the order of their numbers.

        Args:
            items: a file that keeps them as they come; what is in it already is not scored again.
            weights: hash of the model's weights, found here unless given; scores of others are dropped from the file.
            on_progress: told after each pack.
        """
        wanted = self.examples if examples is None else np.asarray(examples)
        names = self._names(wanted)
        kept = Items(items, self._identity(weights) if items else {})
        for done, total in self._fill(wanted, names, kept):
            if on_progress:
                on_progress(done, total)
        return [Score.of_row(kept[name]) for name in names]

    def _fill(self, wanted: np.ndarray, names: Sequence[str], kept: Items) -> Iterator[tuple[int, int]]:
        """Scores what is not kept yet, pack by pack."""
        segments = self._documents.segments
        numbers = np.flatnonzero(np.isin(segments.example, wanted))
        left = Counter(segments.example[numbers].tolist())
        name_of = dict(zip(wanted.tolist(), names, strict=True))
        open_examples = {example for example, name in name_of.items() if name not in kept}
        sums: dict[int, _Sum] = {}
        yield len(wanted) - len(open_examples), len(wanted)
        for chosen in pack(numbers, segments.steps, self._budget):
            inside = segments.example[chosen].tolist()
            if open_examples.isdisjoint(inside):
                continue
            for number, example, (columns, drawn) in zip(chosen, inside, self._measure(chosen), strict=True):
                if example not in open_examples:
                    continue
                sums.setdefault(example, _Sum()).add(self._frames(number), columns, drawn)
                left[example] -= 1
                if not left[example]:
                    score = self._score(name_of[example], sums.pop(example))
                    kept.add(score.id, **score.row())
                    open_examples.discard(example)
            yield len(wanted) - len(open_examples), len(wanted)

    def _measure(self, chosen: np.ndarray) -> list[tuple[dict[str, np.ndarray], np.ndarray]]:
        """Of each document of a pack: a tally's columns by block, and nats by draw."""
        n = len(chosen)
        if self._hider is None:
            found = measure_next_token(self.model, self._lay_out(chosen, 0).to(self.model.device))
            drawn = np.zeros((0, n))
        else:
            lay_out = lambda draw: self._lay_out(chosen, draw)  # noqa: E731
            found, drawn = measure_in_place(self.model, lay_out, self._hider, self.n_draws)
        parts = [{b: c_D4[d] for b, c_D4 in found.items() if c_D4[d].any()} for d in range(n)]
        return [(parts[d], drawn[:, d]) for d in range(n)]

    def _lay_out(self, chosen: np.ndarray, draw: int) -> Batch:
        return self._documents.collate(chosen, draw)

    def _frames(self, number: int) -> int:
        """Of the main stream in a segment."""
        segments, main = self._documents.segments, self.model.main_stream
        return int(segments.stop[main][number] - segments.start[main][number]) if main in segments.stop else 0

    def _score(self, name: str, total: "_Sum") -> Score:
        blocks = {block: _tally(total.blocks[block]) for block in block_order(self.model) if block in total.blocks}
        frames = self._kept_frames(blocks, total.frames)
        return Score(
            id=name,
            frames=frames,
            seconds=float(frames / self.model.codec_identity.frame_rate),
            documents=total.documents,
            blocks=blocks,
            drawn=tuple(np.atleast_1d(total.drawn).tolist()) if self.is_bound else (),
        )

    def _kept_frames(self, blocks: dict[str, Tally], frames: int) -> int:
        """Spans may put a unit into the text alone: then only those frames count that stand in the document."""
        nodes = self.model.layout.span_nodes()
        if not nodes or nodes[0].by_wholes or nodes[0].by_turns:
            return frames
        main = [blocks[name].tokens for name in blocks if name.partition(".")[0] == self.model.main_stream]
        return max(main, default=0)

    def _names(self, examples: np.ndarray) -> list[str]:
        """The ids of some examples; with their number behind them where the mixture is of several corpora, or where
        one is there twice."""
        ids = self.mixture.ids(examples)
        seen, several = Counter(ids), len(self.mixture.corpora) > 1
        return [
            f"{name}#{i}" if several or seen[name] > 1 else name for name, i in zip(ids, examples.tolist(), strict=True)
        ]

    def _identity(self, weights: str | None) -> dict[str, Any]:
        """What decides a score; the layout is told by the weights' file too, but a hash of it says nothing."""
        return self._settings | {
            "weights": weights or weights_of(self.model),
            "layout": self.model.layout.expression,
            "given": list(self.model.given),
            "objective": self.model.stage.objective,
            "context": self.model.config.context,
            "dtype": str(self.model.head.weight.dtype),
            "draws": self.n_draws,
            "corpus": self.mixture.fingerprint,
        }


class _Sum:
    """Of the documents of an example so far."""

    def __init__(self) -> None:
        self.frames = self.documents = 0
        self.blocks: dict[str, np.ndarray] = {}
        self.drawn = np.zeros(())

    def add(self, frames: int, columns: dict[str, np.ndarray], drawn: np.ndarray) -> None:
        self.frames += frames
        self.documents += 1
        self.drawn = self.drawn + drawn
        for block, columns_4 in columns.items():
            self.blocks[block] = self.blocks.get(block, 0) + columns_4


def _tally(columns_4: np.ndarray) -> Tally:
    codes, structure, tokens, cells = columns_4.tolist()
    assert len(COLUMNS) == len(columns_4)
    return Tally(codes=codes, structure=structure, tokens=round(tokens), cells=round(cells))


def block_order(model: Model) -> list[str]:
    """The blocks whose cells a model predicts, stream by stream, level 0 first; markers last."""
    streams = list(model.layout.streams)
    blocks = list(dict.fromkeys(legal.block for legal in model.head.legal_sets if legal.block))

    def place(name: str) -> tuple[int, int]:
        stream, _, level = name.partition(".")
        return streams.index(stream) if stream in streams else len(streams), int(level) if level.isdigit() else 0

    return sorted(blocks, key=place)


def weights_of(model: Model) -> str:
    """A hash of a model's weights, wherever they lie."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        held = tensor.detach().cpu().contiguous()
        digest.update(f"{name} {held.dtype} {tuple(held.shape)}".encode())
        digest.update(held.flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]
