"""A layout compiled for many documents at once, end to end; and the way from padded arrays and back.

Shapes: B documents, T steps or frames, R rows, K levels.
"""

from collections.abc import Mapping

import numpy as np
import torch

from hocket.errors import InputError
from hocket.interleave.plan import Array, Plan, kind_of


class PlanBatch(Plan):
    """Which code sits in which cell, for B documents end to end. Codes are packed: `[sum of lengths, K]`."""

    @property
    def n_documents(self) -> int:
        return len(self.cu_seqlens) - 1

    def pack(self, streams_BTK: Mapping[str, Array]) -> dict[str, Array]:
        """Packed codes `[sum of lengths, K]` of padded ones `[B, T, K]`, by stream."""
        packed = {}
        for name, codes_BTK in streams_BTK.items():
            self._check_stream(name, "an array of codes")
            n_B, n_levels, shape = self.document_lengths[name], self.levels[name], tuple(np.shape(codes_BTK))
            longest = n_B.max(initial=0)
            if len(shape) != 3 or (shape[0], shape[2]) != (len(n_B), n_levels) or shape[1] < longest:
                raise InputError(
                    f'the padded codes of "{name}" have shape {shape}; needed are {len(n_B)} documents '
                    f"of at least {longest} frames and of {n_levels} levels"
                )
            real_BT = np.arange(codes_BTK.shape[1]) < n_B[:, None]
            packed[name] = codes_BTK[_as_kind(real_BT, codes_BTK)]
        return packed

    def pad(self, grid_TR: Array, filler: int) -> Array:
        """The documents of a packed grid side by side, `[B, longest, R]`, with `filler` after the shorter ones."""
        if tuple(np.shape(grid_TR)) != self.shape:
            raise InputError(f"the grid is {kind_of(grid_TR)}, the plan of shape {self.shape}")
        steps_B = np.diff(self.cu_seqlens)
        real_BT = np.arange(steps_B.max(initial=0)) < steps_B[:, None]
        shape = (*real_BT.shape, self.n_rows)
        if isinstance(grid_TR, torch.Tensor):
            padded = torch.full(shape, filler, dtype=grid_TR.dtype, device=grid_TR.device)
        else:
            padded = np.full(shape, filler, dtype=grid_TR.dtype)
        padded[_as_kind(real_BT, grid_TR)] = grid_TR
        return padded

    def unpad(self, grid_BTR: Array) -> Array:
        """The inverse of `pad`."""
        steps_B, shape = np.diff(self.cu_seqlens), tuple(np.shape(grid_BTR))
        longest = steps_B.max(initial=0)
        if len(shape) != 3 or (shape[0], shape[2]) != (len(steps_B), self.n_rows) or shape[1] < longest:
            raise InputError(
                f"the padded grid is {kind_of(grid_BTR)}, the plan's {(len(steps_B), longest, self.n_rows)}"
            )
        real_BT = np.arange(shape[1]) < steps_B[:, None]
        return grid_BTR[_as_kind(real_BT, grid_BTR)]

    def documents(self, packed: Mapping[str, Array]) -> list[dict[str, Array]]:
        """Packed codes by document. Not for spans that leave frames out."""
        for name, codes in packed.items():
            self._check_stream(name, "an array of codes")
            if len(codes) != self.lengths[name]:
                raise InputError(f'the packed codes of "{name}" are of {len(codes)} frames, not {self.lengths[name]}')
        cuts = {name: np.cumsum(n_B)[:-1].tolist() for name, n_B in self.document_lengths.items()}
        split = {
            name: (
                torch.tensor_split(codes, cuts[name])
                if isinstance(codes, torch.Tensor)
                else np.split(codes, cuts[name])
            )
            for name, codes in packed.items()
        }
        return [{name: parts[b] for name, parts in split.items()} for b in range(self.n_documents)]


def _as_kind(mask: np.ndarray, like: Array) -> Array:
    return torch.from_numpy(mask).to(like.device) if isinstance(like, torch.Tensor) else mask
