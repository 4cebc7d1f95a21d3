"""Where the documents of a pack begin, in the forms that attention backends want.

    steps        a a a b b c c c c
    cu_seqlens   0     3   5       9  9  9      (filled up to a fixed size: the last documents are empty)
    document     0 0 0 1 1 2 2 2 2
    positions    0 1 2 0 1 0 1 2 3

Positions and document numbers come from operations of fixed shapes, so that a compiled model meets one shape and no
device is waited for. Only `bounds` brings numbers to the host, for backends that loop.

Shapes: N steps, D documents.
"""

import itertools
from collections.abc import Sequence
from functools import cached_property

import torch
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask, create_block_mask


class Documents:
    """The documents of one pack; built once a batch, read by every block.

    Args:
        starts: where each document starts, and the end: a list, or a tensor `[D + 1]` on the device of the steps.
        n_steps: steps of the pack, N.
        longest: no document is longer; the whole pack unless given.
        causal: a step sees its document's past and itself; otherwise its whole document.
        window: a step sees only steps fewer than this many away; 0 for all.
    """

    def __init__(
        self,
        starts: Tensor | Sequence[int],
        n_steps: int,
        device: torch.device,
        *,
        longest: int | None = None,
        causal: bool = True,
        window: int = 0,
    ):
        if not isinstance(starts, Tensor):
            starts = torch.tensor(starts, device=device)
        self.cu_seqlens = starts.to(torch.int32)  # [D + 1]
        self.n_steps, self.causal, self.window = n_steps, causal, window
        self.longest = min(longest or n_steps, n_steps)
        self.fine_N: Tensor | None = None
        self.fine_window = 0

    def restrict(self, fine_N: Tensor, window: int) -> None:
        """Restricts the context of some steps, bool `[N]`: they see each other only fewer than `window` steps away, and
        other steps do not see them. Before anything reads the masks."""
        self.fine_N, self.fine_window = fine_N, window

    @cached_property
    def document_N(self) -> Tensor:
        """The document of each step, int64 `[N]`."""
        steps_N = torch.arange(self.n_steps, device=self.cu_seqlens.device, dtype=torch.int32)
        return torch.searchsorted(self.cu_seqlens, steps_N, right=True) - 1

    @cached_property
    def positions_N(self) -> Tensor:
        """The position of each step in its document, int64 `[N]`."""
        steps_N = torch.arange(self.n_steps, device=self.cu_seqlens.device)
        return steps_N - self.cu_seqlens[self.document_N]

    @cached_property
    def bounds(self) -> list[int]:
        """`cu_seqlens` without the empty documents, on the host."""
        return self.cu_seqlens.unique_consecutive().tolist()

    @cached_property
    def lengths(self) -> list[int]:
        """Steps of each document that is not empty, on the host."""
        return [b - a for a, b in itertools.pairwise(self.bounds)]

    def sees(self, query: Tensor, key: Tensor) -> Tensor:
        """Which steps see which, by their numbers in the pack; both are broadcast."""
        seen = self.document_N[query] == self.document_N[key]
        if self.causal:
            seen = seen & (key <= query)
        if self.window:
            seen = seen & ((query - key).abs() < self.window)
        if self.fine_N is not None:
            near = self.fine_N[query] & ((query - key).abs() < self.fine_window)
            seen = seen & (near | ~self.fine_N[key])
        return seen

    @cached_property
    def masks(self) -> list[Tensor | None]:
        """By document that is not empty, what its steps see, bool `[T, T]`; None for all, or all of the past."""
        fine_D = [False] * len(self.lengths)
        if self.fine_N is not None:
            fine_D = [bool(fine_T.any()) for fine_T in self.fine_N.split(self.lengths)]
        masks: list[Tensor | None] = []
        for (start, stop), is_fine in zip(itertools.pairwise(self.bounds), fine_D, strict=True):
            steps_T = torch.arange(start, stop, device=self.cu_seqlens.device)
            restricted = is_fine or 0 < self.window < stop - start
            masks.append(self.sees(steps_T[:, None], steps_T) if restricted else None)
        return masks

    @cached_property
    def block_mask(self) -> BlockMask:
        """The same for flex attention, by blocks of steps."""

        def seen(batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
            return self.sees(query, key)

        return create_block_mask(seen, None, None, self.n_steps, self.n_steps, device=str(self.cu_seqlens.device))
