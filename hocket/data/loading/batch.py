"""A micro-batch: documents end to end, where each begins, and what of it is padding.

    documents       [bos a b c end][bos d e][cont f g end]
    cu_seqlens      0             5        8              12  12  12 …

`cu_seqlens` has the same length in every batch of a loader, filled up with the total, so that a compiled model meets
one shape; the documents that these last entries describe are empty.

Shapes: N grid steps of a micro-batch, R rows, D documents, C entries of cu_seqlens, at least D + 1.
"""

from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import torch

TENSORS = ("ids_NR", "legal_NR", "weight_NR", "cu_seqlens", "target_NR")


@dataclass
class Batch:
    """Packed documents, ready for the model."""

    ids_NR: torch.Tensor  # int64 ids of the grid
    legal_NR: torch.Tensor  # int64 index into layout.legal_sets, 0 where nothing is predicted
    weight_NR: torch.Tensor  # float32 loss weight of predicting the cell
    cu_seqlens: torch.Tensor  # int64 [C] where documents start, then the end, again and again
    example_ids: list[str]  # of each document
    n_frames: int  # frames of audio
    n_padding: int = 0  # steps that only fill a shape: their weight is 0
    budget: int = 0  # steps that there was room for; 0 where that is not known
    n_left_out: int = 0  # words of aligned text that did not fit before the end of their audio
    seed: int = 0  # for what a model draws itself: the same for the same documents of the same epoch
    target_NR: torch.Tensor | None = None  # int64 true ids, where some of ids_NR are hidden (masked objectives)

    @property
    def n_steps(self) -> int:
        return self.ids_NR.shape[0]

    @property
    def n_documents(self) -> int:
        return len(self.example_ids)

    @property
    def n_real_steps(self) -> int:
        """Steps that are not padding."""
        return self.n_steps - self.n_padding

    @property
    def fill(self) -> float:
        """Real steps as a share of the budget."""
        return self.n_real_steps / (self.budget or self.n_steps)

    @property
    def bounds(self) -> list[int]:
        """`cu_seqlens` without the empty documents, as a list: where each document starts, and the end."""
        return self.cu_seqlens.unique_consecutive().tolist()

    @property
    def is_start_N(self) -> torch.Tensor:
        """Which steps are the first of a document: bool [N], by operations of fixed shapes."""
        is_start = torch.zeros(self.n_steps + 1, dtype=torch.bool, device=self.ids_NR.device)
        is_start[self.cu_seqlens] = True
        return is_start[:-1]

    def to(self, device: torch.device | str) -> Self:
        """The batch with its tensors on a device."""
        held = {name: getattr(self, name) for name in TENSORS}
        return replace(self, **{name: tensor.to(device) for name, tensor in held.items() if tensor is not None})


def pad_bounds(bounds: np.ndarray, size: int) -> np.ndarray:
    """Bounds of documents filled up with the total to `size` entries."""
    return np.concatenate([bounds, np.full(size - len(bounds), bounds[-1])])
