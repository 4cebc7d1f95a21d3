"""Bits per second of audio from summed cross-entropy, as every comparison in hocket means them.

    audio bits       -log2 p(code | its block)          over all codes
    structure bits   -log2 p(block), -log2 p(<end>)     where a cell may also hold something else than a code
    text bits        of text tokens, where the layout predicts any
    total            their sum

A cell's cross-entropy is the sum of both, so that only the second has to be computed apart, and only in cells with a
choice: those of a stream's leader and of streams that take turns.

Shapes: M cells, J legal ids of a cell, N steps, R rows, D width.
"""

import contextlib
import math
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from hocket.interleave.rows import find_rows
from hocket.model import Model, ParallelHead
from hocket.model.heads import LegalSet
from hocket.vocab import Vocabulary
from hocket.vocab.vocabulary import TEXT


@dataclass
class Nats:
    """Nats of cells by block: of everything, and of the choice of block or marker alone."""

    total: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    structure: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    cells: Counter[str] = field(default_factory=Counter)

    def codes(self, block: str) -> float:
        """Nats of codes within their block."""
        return self.total.get(block, 0.0) - self.structure.get(block, 0.0)


def structure_nats(logp_MJ: Tensor, target_M: Tensor, legal: LegalSet, vocabulary: Vocabulary) -> Tensor:
    """-ln p(block) of cells that hold a code, -ln p(id) of those that hold something else; float64 `[M]`."""
    block = vocabulary[legal.block]
    first = int(legal.position(torch.tensor([block.start]))[0])
    block_logp_M = logp_MJ[:, first : first + block.size].logsumexp(1).double()
    own_logp_M = logp_MJ.gather(1, legal.position(target_M)[:, None])[:, 0].double()
    is_code_M = (target_M >= block.start) & (target_M < block.stop)
    return -torch.where(is_code_M, block_logp_M, own_logp_M)


def bits_per_second(nats: Nats, stream: str, n_levels: int, seconds: float) -> dict[str, float]:
    """{"audio": …, "structure": …, "text": …, "total": …}, text where there is any.

    Args:
        stream: whose codes count as audio.
        seconds: of audio.
    """
    levels = [nats.codes(f"{stream}.{level}") for level in range(n_levels)]
    bits = {"audio": sum(levels), "structure": sum(nats.structure.values())}
    if nats.total.get(TEXT):
        bits["text"] = nats.codes(TEXT)
    bits["total"] = sum(bits.values())
    return {name: value / math.log(2) / seconds for name, value in bits.items()}


@contextlib.contextmanager
def watching_structure(model: Model) -> Iterator[dict[str, float]]:
    """While entered, every loss that the model computes adds its structure nats by block to the dict.

    The head is asked just before its own forward pass, where its weights are whole under ZeRO-3 too.
    """
    summed: dict[str, float] = defaultdict(float)

    def watch(head: nn.Module, args: tuple[Tensor, ...]) -> None:
        assert isinstance(head, ParallelHead)
        x_ND, target_NR, legal_NR = args[:3]
        for index, legal in enumerate(head.legal_sets):
            if len(legal.ranges) > 1:
                step, row = (legal_NR == index).nonzero(as_tuple=True)
                logp_MJ = head.log_probabilities(x_ND[step], index)
                nats_M = structure_nats(logp_MJ, target_NR[step, row], legal, model.vocabulary)
                summed[legal.block] += float(nats_M.sum())

    handle = model.head.register_forward_pre_hook(watch)
    try:
        yield summed
    finally:
        handle.remove()


def has_exact_bits(model: Model) -> bool:
    """Whether `watching_structure` sees all structure: next-token prediction over legal ids, and no choice of blocks in
    rows that a depth head predicts."""
    if model.stage.in_place or model.config.softmax != "legal":
        return False
    later = find_rows(model.layout, model.given).later_legal if model.depth is not None else ()
    return all(len(model.head.legal_sets[index].ranges) == 1 for index in later)
