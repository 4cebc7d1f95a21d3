"""Restricted context: while a level above the lowest is predicted in place, codes see codes nearby alone.

    documents of a text (T) and audio (a), window 2

    level 0 is predicted            T T a a a a        a level above        T T a a a a
                                  T x x x x x x                           T x x . . . .
                                  T x x x x x x                           T x x . . . .
                                  a x x x x x x                           a x x x x . .
                                  a x x x x x x                           a x x x x x .
                                  a x x x x x x                           a x x . x x x
                                  a x x x x x x                           a x x . . x x

A level above the lowest depends on the levels below it, and little on what is further away (MAGNeT: Ziv et al., 2024,
arXiv:2401.04577, section 3.1.3: 5 frames of 20 ms to each side). Conditions are seen from everywhere; they see no
codes, or they would carry them beyond the window.

Which level is predicted can be read off the ids: a document of level 0 holds a `<mask.…>` of that level, one of a level
above holds none. So training, scoring and sampling agree without being told.

Shapes: N steps, R rows, V ids.
"""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from hocket.model.documents import Documents


class FineContext(nn.Module):
    """Finds the steps whose context is restricted.

    Args:
        vocabulary_size: V.
        codes: ranges of ids of the codes that the model predicts, and of their masks.
        opening: ids of the masks of the lowest levels.
    """

    is_code_V: Tensor
    opens_V: Tensor

    def __init__(self, vocabulary_size: int, codes: Iterable[tuple[int, int]], opening: Iterable[int]):
        super().__init__()
        is_code_V, opens_V = (torch.zeros(vocabulary_size, dtype=torch.bool) for _ in range(2))
        for start, stop in codes:
            is_code_V[start:stop] = True
        opens_V[list(opening)] = True
        self.register_buffer("is_code_V", is_code_V, persistent=False)
        self.register_buffer("opens_V", opens_V, persistent=False)

    def forward(self, ids_NR: Tensor, documents: Documents) -> Tensor:
        """Which steps hold codes of a document of which the lowest levels are known: bool `[N]`."""
        opens_N = self.opens_V[ids_NR].any(dim=1)
        opens_D = torch.zeros(len(documents.cu_seqlens), dtype=torch.int32, device=ids_NR.device)
        opens_D = opens_D.index_add(0, documents.document_N, opens_N.int())
        return self.is_code_V[ids_NR].any(dim=1) & (opens_D == 0)[documents.document_N]
