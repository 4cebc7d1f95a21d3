"""What is counted of an example: nats and tokens of every block, and sums of them.

    codes       -ln p(code | its block)          of tokens
    structure   -ln p(block), -ln p(<end>)       where a cell may hold something else than a code, too

Together they are the cross-entropy of all cells that the model predicts. Everything that is said about a corpus is a
sum over examples, so that it can be kept example by example and gone on with.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

SUM, MEAN, FRAME = "sum", "mean", "frame"
NORMALISATIONS = (SUM, MEAN, FRAME)
"""Nats of a whole example, by predicted cell, by frame of its main stream."""
COLUMNS = ("codes", "structure", "tokens", "cells")


@dataclass(kw_only=True)
class Tally:
    """The cells of one block."""

    codes: float = 0.0
    """Nats of codes within the block."""
    structure: float = 0.0
    """Nats of the choice of the block, and of what else stands in such cells: ends, switches, padding of text."""
    tokens: int = 0
    """Cells with a code."""
    cells: int = 0
    """Cells that are predicted."""

    @property
    def nats(self) -> float:
        return self.codes + self.structure

    def __add__(self, other: "Tally") -> "Tally":
        return Tally(**{name: getattr(self, name) + getattr(other, name) for name in COLUMNS})


@dataclass(frozen=True, kw_only=True)
class Score:
    """One example under one model."""

    id: str
    frames: int
    """Of the main stream in the example's documents."""
    seconds: float
    """Of audio: that many frames."""
    documents: int
    """In how many pieces it was scored: more than one where it is longer than the context."""
    blocks: dict[str, Tally] = field(default_factory=dict)
    drawn: tuple[float, ...] = ()
    """Of masked objectives: nats of all blocks in each draw; `blocks` are their means."""

    @property
    def nats(self) -> float:
        """Of all predicted cells."""
        return sum(tally.nats for tally in self.blocks.values())

    @property
    def cells(self) -> int:
        return sum(tally.cells for tally in self.blocks.values())

    def by(self, normalisation: str) -> float:
        """Nats by "sum", "mean" (predicted cell) or "frame"."""
        return self.nats / {SUM: 1, MEAN: max(self.cells, 1), FRAME: max(self.frames, 1)}[normalisation]

    def row(self) -> dict[str, Any]:
        """Plain values, without the id."""
        blocks = {name: [getattr(tally, column) for column in COLUMNS] for name, tally in self.blocks.items()}
        found = {"frames": self.frames, "seconds": self.seconds, "documents": self.documents, "blocks": blocks}
        return found | ({"drawn": list(self.drawn)} if self.drawn else {})

    @classmethod
    def of_row(cls, row: dict[str, Any]) -> "Score":
        """The inverse of `row`, with the id."""
        blocks = {name: Tally(**dict(zip(COLUMNS, held, strict=True))) for name, held in row["blocks"].items()}
        return cls(**row | {"blocks": blocks, "drawn": tuple(row.get("drawn", ()))})


def add_up(scores: Iterable[Score]) -> dict[str, Tally]:
    """Sums over examples by block."""
    totals: dict[str, Tally] = {}
    for score in scores:
        for name, tally in score.blocks.items():
            totals[name] = totals.get(name, Tally()) + tally
    return totals
