"""Bits per second of audio from summed cross-entropy, as every comparison in hocket means them.

    audio bits       -log2 p(code | its block)          over all codes
    structure bits   -log2 p(block), -log2 p(<end>)     where a cell may also hold something else than a code
    further streams  of text tokens, units and the like, where the layout predicts any
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

from hocket.model import Model, ParallelHead
from hocket.model.depth import DepthHead
from hocket.model.heads import LegalSet
from hocket.vocab import Vocabulary


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
    own_logp_M = logp_MJ.gather(1, legal.position(target_M)[:, None])[:, 0].double()
    if legal.block.startswith("<"):  # markers only
        return -own_logp_M
    block = vocabulary[legal.block]
    first = int(legal.position(torch.tensor([block.start]))[0])
    block_logp_M = logp_MJ[:, first : first + block.size].logsumexp(1).double()
    is_code_M = (target_M >= block.start) & (target_M < block.stop)
    return -torch.where(is_code_M, block_logp_M, own_logp_M)


def has_choice(legal: LegalSet, vocabulary: Vocabulary) -> bool:
    """Whether a cell may hold something else than codes of one block."""
    return legal.size > 0 and (legal.block.startswith("<") or legal.size > vocabulary[legal.block].size)


def bits_per_second(nats: Nats, stream: str, n_levels: int, seconds: float) -> dict[str, float]:
    """{"audio": …, "structure": …, "total": …}, and every further stream that is predicted, such as text, by its name.

    Args:
        stream: whose codes count as audio.
        seconds: of audio.
    """
    bits = {"audio": sum(nats.codes(f"{stream}.{level}") for level in range(n_levels))}
    bits["structure"] = sum(nats.structure.values())
    for block, value in nats.total.items():
        name = block.partition(".")[0]
        if value and name != stream and not name.startswith("<"):
            bits[name] = bits.get(name, 0.0) + nats.codes(block)
    bits["total"] = sum(bits.values())
    return {name: value / math.log(2) / seconds for name, value in bits.items()}


@contextlib.contextmanager
def watching_structure(model: Model) -> Iterator[dict[str, float]]:
    """While entered, every loss that the model computes adds its structure nats by block to the dict.

    Heads are asked just before their own forward pass, where their weights are whole under ZeRO-3 too.
    """
    summed: dict[str, float] = defaultdict(float)

    def add(index: int, logp_MJ: Tensor, target_M: Tensor) -> None:
        legal = model.head.legal_sets[index]
        summed[legal.block] += float(structure_nats(logp_MJ, target_M, legal, model.vocabulary).sum())

    def watch(head: nn.Module, args: tuple[Tensor, ...]) -> None:
        assert isinstance(head, ParallelHead)
        x_ND, target_NR, legal_NR = args[:3]
        for index in _with_a_choice(model, legal_NR):
            step, row = (legal_NR == index).nonzero(as_tuple=True)
            add(index, head.log_probabilities(x_ND[step], index), target_NR[step, row])

    def watch_depth(depth: nn.Module, args: tuple[Tensor, ...]) -> None:
        assert isinstance(depth, DepthHead)
        x_ND, ids_NR, legal_NR = args[:3]
        for place, row in enumerate(depth.rows[1:], start=1):
            for index in _with_a_choice(model, legal_NR[:, row]):
                step = (legal_NR[:, row] == index).nonzero()[:, 0]
                h_ME = depth.states(x_ND[step], ids_NR[step])[:, place]
                add(index, depth.logits(h_ME, index).log_softmax(dim=-1), ids_NR[step, row])

    handles = [model.head.register_forward_pre_hook(watch)]
    if model.depth is not None:
        handles.append(model.depth.register_forward_pre_hook(watch_depth))
    try:
        yield summed
    finally:
        for handle in handles:
            handle.remove()


def _with_a_choice(model: Model, legal: Tensor) -> list[int]:
    """The legal sets among these that leave a choice."""
    return [i for i in legal.unique().tolist() if i and has_choice(model.head.legal_sets[i], model.vocabulary)]


def has_exact_bits(model: Model) -> bool:
    """Whether `watching_structure` sees all structure: next-token prediction over legal ids."""
    return not model.stage.in_place and model.config.softmax == "legal"
