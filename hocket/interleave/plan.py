"""A layout compiled for given lengths: one gather, its inverse, and what can be read off them.

The gather reads from a pool: first the layout's symbols, then the codes of each stream, frame by frame.

    pool    <none> <bos> <cont> <wait> <end.audio> | audio(0,0) audio(0,1) audio(1,0) audio(1,1) …
    source  grid cell -> index into the pool            [T, R]
    where   code -> index into the flattened grid       [T, K] by stream

Compiling costs about 90 µs plus 30 ns a cell (delay, 8 levels, one CPU thread) and is cached by the layout.

Shapes: T steps (or frames), R rows, K levels.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch

from hocket.errors import InputError
from hocket.vocab import Vocabulary

Array = Any  # numpy array or torch tensor; the same kind comes out as went in
FILLER, BOS, CONT, WAIT, FIRST_END = range(5)  # positions in Layout.symbols
NO_STREAM = -1


@dataclass(frozen=True, eq=False)
class Plan:
    """Which code sits in which cell, for documents of given lengths."""

    symbols: tuple[str, ...]
    levels: dict[str, int]  # K by stream
    lengths: dict[str, int]  # frames (tokens for text) by stream
    legal_sets: tuple[tuple[str, ...], ...]  # what `legal_TR` points into
    source_TR: np.ndarray  # int64, index into the pool
    legal_TR: np.ndarray  # int16, index into legal_sets; 0 where nothing is predicted
    stream_TR: np.ndarray  # int8, position in `levels`; NO_STREAM for symbols
    frame_TR: np.ndarray  # int32, frame of the cell's code, virtual frame of an end marker
    where: dict[str, np.ndarray]  # int64 [T, K], index of each code's cell in the flattened grid

    @property
    def n_steps(self) -> int:
        return self.source_TR.shape[0]

    @property
    def n_rows(self) -> int:
        return self.source_TR.shape[1]

    def interleave(self, streams: Mapping[str, Array], vocabulary: Vocabulary | None = None) -> Array:
        """The grid `[T, R]` of the given codes (`[T, K]` by stream; text may be `[T]`).

        Without a vocabulary, codes stand as they are and symbol number i stands as -(i + 1). With one, every cell is
        an id. Numpy arrays give an int64 array, torch tensors an int64 tensor on their device.

        Raises:
            InputError: a stream is missing, or its shape is not the one planned for.
        """
        kind = next(iter(streams.values()), np.zeros(0))
        parts: list[Array] = [self._symbol_values(vocabulary)]
        for name, n_levels in self.levels.items():
            codes = self._checked(streams, name)
            offsets = vocabulary.offsets(name)[:n_levels] if vocabulary else (0,) * n_levels
            if isinstance(codes, torch.Tensor):
                parts.append((codes.long() + torch.tensor(offsets, device=codes.device)).reshape(-1))
            else:
                parts.append((codes.astype(np.int64) + np.asarray(offsets)).reshape(-1))
        if isinstance(kind, torch.Tensor):
            pool = torch.cat([torch.as_tensor(part, device=kind.device) for part in parts])
            return pool[self._tensors[""].to(kind.device)]
        return np.concatenate(parts)[self.source_TR]

    def deinterleave(self, grid_TR: Array, vocabulary: Vocabulary | None = None) -> dict[str, Array]:
        """The codes `[T, K]` of each stream: the inverse of `interleave`.

        Raises:
            InputError: the grid has another shape, or (with a vocabulary) a cell holds no code of its block.
        """
        if tuple(grid_TR.shape) != self.source_TR.shape:
            raise InputError(f"the grid has shape {tuple(grid_TR.shape)}, the plan {self.source_TR.shape}")
        flat, streams = grid_TR.reshape(-1), {}
        for name, where_TK in self.where.items():
            if isinstance(grid_TR, torch.Tensor):
                codes_TK = flat[self._tensors[name].to(grid_TR.device)]
            else:
                codes_TK = flat[where_TK]
            streams[name] = codes_TK if vocabulary is None else self._unbind(codes_TK, name, vocabulary)
        return streams

    def ready(self, step: int) -> dict[str, int]:
        """Frames of each stream that are complete once steps 0 to `step` are there."""
        return {name: int(np.searchsorted(done_T, step, side="right")) for name, done_T in self._done.items()}

    def known(self, prompt: Mapping[str, int]) -> np.ndarray:
        """Which cells a prompt of so many frames per stream forces: bool `[T, R]`.

        Symbols that mark no end are always known. An end marker is known where the whole stream is given.
        """
        given = np.array([prompt.get(name, 0) for name in self.levels] + [0])[self.stream_TR]
        is_symbol = (self.source_TR < FIRST_END) & (self.stream_TR == NO_STREAM)
        return is_symbol | ((self.stream_TR != NO_STREAM) & (self.frame_TR < given))

    @cached_property
    def _done(self) -> dict[str, np.ndarray]:
        """By stream, the step at which each frame (and every earlier one) is complete: ascending `[T]`."""
        rows = self.n_rows
        return {name: np.maximum.accumulate((where_TK // rows).max(axis=1)) for name, where_TK in self.where.items()}

    @cached_property
    def _tensors(self) -> dict[str, torch.Tensor]:
        """The gather (under the empty name) and each stream's inverse, as torch indices."""
        return {name: torch.tensor(array) for name, array in {"": self.source_TR, **self.where}.items()}

    def _symbol_values(self, vocabulary: Vocabulary | None) -> np.ndarray:
        if vocabulary is None:
            return -1 - np.arange(len(self.symbols), dtype=np.int64)
        return np.array([vocabulary.id(name) for name in self.symbols], dtype=np.int64)

    def _checked(self, streams: Mapping[str, Array], name: str) -> Array:
        if name not in streams:
            raise InputError(f'the stream "{name}" is missing; given are {sorted(streams)}')
        codes = streams[name]
        codes_TK = codes[:, None] if codes.ndim == 1 else codes
        expected = (self.lengths[name], self.levels[name])
        if tuple(codes_TK.shape) != expected:
            raise InputError(f'the codes of "{name}" have shape {tuple(codes.shape)}, the plan is for {expected}')
        return codes_TK

    def _unbind(self, ids_TK: Array, name: str, vocabulary: Vocabulary) -> Array:
        offsets = vocabulary.offsets(name)[: self.levels[name]]
        sizes = (vocabulary.text.size,) if name not in vocabulary.streams and vocabulary.text else None
        sizes = sizes or vocabulary.streams[name][: self.levels[name]]
        if isinstance(ids_TK, torch.Tensor):
            codes_TK = ids_TK - torch.tensor(offsets, device=ids_TK.device)
            bad = (codes_TK < 0) | (codes_TK >= torch.tensor(sizes, device=ids_TK.device))
        else:
            codes_TK = ids_TK - np.asarray(offsets)
            bad = (codes_TK < 0) | (codes_TK >= np.asarray(sizes))
        if bad.any():
            frame, level = (int(i[0]) for i in bad.nonzero()) if isinstance(bad, np.ndarray) else bad.nonzero()[0]
            found = vocabulary.name_of(int(ids_TK[int(frame), int(level)]))
            raise InputError(f"frame {int(frame)} of {name} level {int(level)} holds {found}, which is no code of it")
        return codes_TK


class Canvas:
    """The arrays of a plan while its layout is painted onto them."""

    def __init__(
        self,
        symbols: tuple[str, ...],
        levels: Mapping[str, int],
        lengths: Mapping[str, int],
        *,
        n_steps: int,
        n_rows: int,
    ):
        self.symbols, self.levels, self.lengths = symbols, dict(levels), dict(lengths)
        shape = (n_steps, n_rows)
        self.source_TR = np.full(shape, FILLER, dtype=np.int64)
        self.legal_TR = np.zeros(shape, dtype=np.int16)
        self.stream_TR = np.full(shape, NO_STREAM, dtype=np.int8)
        self.frame_TR = np.zeros(shape, dtype=np.int32)
        self.where = {name: np.zeros((lengths[name], k), dtype=np.int64) for name, k in levels.items()}
        self._index = {name: i for i, name in enumerate(levels)}
        self._base, base = {}, len(symbols)
        for name, n_levels in levels.items():
            self._base[name] = base
            base += lengths[name] * n_levels

    def place_codes(
        self, name: str, first_level: int, step_TK: np.ndarray, row_TK: np.ndarray, legal_K: np.ndarray
    ) -> None:
        """Puts levels `first_level` on of a stream into the cells (step, row); `legal_K` are their legal sets."""
        frame_T1, level_K = np.arange(len(step_TK))[:, None], first_level + np.arange(step_TK.shape[1])
        self.source_TR[step_TK, row_TK] = self._base[name] + frame_T1 * self.levels[name] + level_K
        self.legal_TR[step_TK, row_TK] = legal_K
        self.stream_TR[step_TK, row_TK] = self._index[name]
        self.frame_TR[step_TK, row_TK] = frame_T1
        self.where[name][:, level_K] = step_TK * self.source_TR.shape[1] + row_TK

    def place_end(self, name: str, n_frames: int, step: int, row: int, legal: int) -> None:
        """Puts `<end.STREAM>` into a cell."""
        self.source_TR[step, row] = self.symbols.index(f"<end.{name}>")
        self.legal_TR[step, row] = legal
        self.stream_TR[step, row] = self._index[name]
        self.frame_TR[step, row] = n_frames

    def finish(self, n_steps: int, start: str, legal_sets: tuple[tuple[str, ...], ...]) -> Plan:
        """The plan of the first `n_steps` steps, with the start in step 0 and `<wait>` where nothing is due."""
        self.source_TR[0, 0] = self.symbols.index(start)
        empty_T = (self.source_TR[:n_steps] == FILLER).all(axis=1)
        self.source_TR[:n_steps][empty_T, 0] = WAIT
        plan = Plan(
            symbols=self.symbols,
            levels=self.levels,
            lengths=self.lengths,
            legal_sets=legal_sets,
            source_TR=self.source_TR[:n_steps],
            legal_TR=self.legal_TR[:n_steps],
            stream_TR=self.stream_TR[:n_steps],
            frame_TR=self.frame_TR[:n_steps],
            where=self.where,
        )
        for array in (plan.source_TR, plan.legal_TR, plan.stream_TR, plan.frame_TR, *plan.where.values()):
            array.setflags(write=False)
        return plan
