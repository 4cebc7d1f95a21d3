"""A layout compiled for given lengths: one gather, its inverse, and what can be read off them.

The gather reads from a pool: first the layout's symbols, then the codes of each stream, frame by frame.

    pool    <none> <bos> <cont> <wait> <end.audio> | audio(0,0) audio(0,1) audio(1,0) audio(1,1) …
    source  grid cell -> index into the pool            [T, R]
    where   code -> index into the flattened grid       [T, K] by stream

A `Plan` is of one document, a `PlanBatch` of B documents end to end. Both are the same arrays; codes of a batch are
packed, those of document b after those of document b - 1.

Shapes: T steps (or frames), R rows, K levels, B documents.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch

from hocket.errors import InputError
from hocket.interleave.painting import Painter
from hocket.interleave.weights import LossWeights, weigh
from hocket.vocab import Vocabulary

if TYPE_CHECKING:
    from hocket.interleave.layout import Layout

Array = Any  # numpy array or torch tensor; the same kind comes out as went in
FILLER, BOS, CONT, WAIT, FIRST_END = range(5)  # positions in Layout.symbols
NO_STREAM = -1
AnyPlan = TypeVar("AnyPlan", bound="Plan")


@dataclass(frozen=True, eq=False)
class Plan:
    """Which code sits in which cell, for a document of given lengths."""

    layout: "Layout"
    lengths: dict[str, int]  # frames (tokens for text) by stream
    source_TR: np.ndarray  # int64, index into the pool
    legal_TR: np.ndarray  # int16, index into legal_sets; 0 where nothing is predicted
    where: dict[str, np.ndarray]  # int64 [T, K], index of each code's cell in the flattened grid; -1 for none
    cu_seqlens: np.ndarray  # int64 [B + 1], steps at which documents begin, and the end
    document_lengths: dict[str, np.ndarray]  # int64 [B] by stream
    marks: tuple[tuple[np.ndarray, int, np.ndarray], ...]  # ends and switches: cells, stream, frames over all documents

    # --- shapes -----------------------------------------------------------------------------------------------------

    @property
    def n_steps(self) -> int:
        return self.source_TR.shape[0]

    @property
    def n_rows(self) -> int:
        return self.source_TR.shape[1]

    @property
    def symbols(self) -> tuple[str, ...]:
        """Names of the special tokens at the start of the pool."""
        return self.layout.symbols

    @property
    def legal_sets(self) -> tuple[tuple[str, ...], ...]:
        """What `legal_TR` points into."""
        return self.layout.legal_sets

    @property
    def levels(self) -> dict[str, int]:
        """K by stream."""
        return self.layout.streams

    # --- there and back ---------------------------------------------------------------------------------------------

    def interleave(self, streams: Mapping[str, Array], vocabulary: Vocabulary | None = None) -> Array:
        """The grid `[T, R]` of the given codes (`[T, K]` by stream; one level may be `[T]`).

        Without a vocabulary, codes stand as they are and symbol number i stands as -(i + 1). With one, every cell is
        an id. Numpy arrays give an int64 array, torch tensors an int64 tensor on their device.

        Raises:
            InputError: a stream is missing, its shape is not the one planned for, or (with a vocabulary) a code is
                none of its block.
        """
        codes = [self._checked(streams, name) for name in self.levels]
        if vocabulary is not None:
            codes = [vocabulary.ids(name, codes_TK) for name, codes_TK in zip(self.levels, codes, strict=True)]
        if codes and isinstance(codes[0], torch.Tensor):
            device = codes[0].device
            symbols = torch.from_numpy(self._symbol_values(vocabulary)).to(device)
            pool = torch.cat([symbols, *(codes_TK.to(device, torch.int64).reshape(-1) for codes_TK in codes)])
            return pool[self._index("", device)]
        pool = np.concatenate([self._symbol_values(vocabulary), *(codes_TK.reshape(-1) for codes_TK in codes)])
        return pool.astype(np.int64, copy=False)[self.source_TR]

    def deinterleave(self, grid_TR: Array, vocabulary: Vocabulary | None = None) -> dict[str, Array]:
        """The codes `[T, K]` of each stream: the inverse of `interleave`.

        Frames that spans left out (`kept`) are left out here too.

        Raises:
            InputError: the grid has another shape, or (with a vocabulary) a cell holds no code of its block.
        """
        if tuple(grid_TR.shape) != self.source_TR.shape:
            raise InputError(f"the grid has shape {tuple(grid_TR.shape)}, the plan {self.source_TR.shape}")
        flat, streams = grid_TR.reshape(-1), {}
        for name in self.levels:
            if isinstance(grid_TR, torch.Tensor):
                codes_TK = flat[self._index(name, grid_TR.device)]
            else:
                codes_TK = flat[self._cells[name]]
            streams[name] = codes_TK if vocabulary is None else vocabulary.codes(name, codes_TK)
        return streams

    @cached_property
    def kept(self) -> dict[str, np.ndarray]:
        """By stream, the frames that have a cell: all, but for spans that put a unit into one stream only."""
        return {name: (where_TK[:, 0] >= 0).nonzero()[0] for name, where_TK in self.where.items()}

    @cached_property
    def _cells(self) -> dict[str, np.ndarray]:
        """`where` of the frames that are kept."""
        if not self.layout.span_nodes():
            return self.where
        return {name: where_TK[self.kept[name]] for name, where_TK in self.where.items()}

    # --- what each cell is ------------------------------------------------------------------------------------------

    @cached_property
    def stream_TR(self) -> np.ndarray:
        """int8, position in `levels` of the stream that a cell belongs to; NO_STREAM for other symbols."""
        return self._facts[0]

    @cached_property
    def frame_TR(self) -> np.ndarray:
        """int32, frame of a cell's code; of an end or a switch, the frame that would come next."""
        return self._facts[1]

    @cached_property
    def _facts(self) -> tuple[np.ndarray, np.ndarray]:
        bases, base = [], len(self.symbols)
        for name, n_levels in self.levels.items():
            bases.append(base)
            base += self.lengths[name] * n_levels
        flat = self.source_TR.reshape(-1)
        is_code = flat >= len(self.symbols)
        stream = np.where(is_code, np.searchsorted(bases, flat, side="right") - 1, NO_STREAM)
        n_levels = np.array([*self.levels.values(), 1])[stream]
        frame = np.where(is_code, (flat - np.array([*bases, 0])[stream]) // n_levels, 0)
        for cells, number, frames in self.marks:
            stream[cells], frame[cells] = number, frames
        frame -= self._first_frames[stream, self._document_T.repeat(self.n_rows)]
        return stream.astype(np.int8).reshape(self.source_TR.shape), frame.astype(np.int32).reshape(
            self.source_TR.shape
        )

    @cached_property
    def level_TR(self) -> np.ndarray:
        """int8, level of a cell's code, 0 for symbols."""
        base, found = len(self.symbols), np.zeros(self.source_TR.shape, dtype=np.int8)
        for number, (name, n_levels) in enumerate(self.levels.items()):
            is_code = (self.stream_TR == number) & (self.source_TR >= len(self.symbols))
            found[is_code] = (self.source_TR[is_code] - base) % n_levels
            base += self.lengths[name] * n_levels
        return found

    @cached_property
    def copies(self) -> np.ndarray:
        """Cells that show a code again, and the cell that holds it: int64 `[2, copies]`, numbers of the flat grid."""
        primary = np.concatenate(
            [np.full(len(self.symbols), -1), *(where.reshape(-1) for where in self.where.values())]
        )
        held = primary[self.source_TR.reshape(-1)]
        cells = ((held >= 0) & (held != np.arange(len(held)))).nonzero()[0]
        return np.stack([cells, held[cells]])

    @cached_property
    def _document_T(self) -> np.ndarray:
        return np.repeat(np.arange(len(self.cu_seqlens) - 1), np.diff(self.cu_seqlens))

    @cached_property
    def _first_frames(self) -> np.ndarray:
        """First frame of each document, over all documents, by stream; zeros in the last row, for symbols."""
        lengths = [*self.document_lengths.values(), np.zeros(len(self.cu_seqlens) - 1, dtype=np.int64)]
        return np.stack([np.cumsum(n_B) - n_B for n_B in lengths])

    # --- what follows -----------------------------------------------------------------------------------------------

    def ready(self, step: int) -> dict[str, int]:
        """Frames of each stream that are complete once steps 0 to `step` are there."""
        return {name: int(np.searchsorted(done_T, step, side="right")) for name, done_T in self.done.items()}

    def read(self, grid_TR: Array, after: int, step: int, vocabulary: Vocabulary | None = None) -> dict[str, Array]:
        """The codes of the frames that become ready after step `after` and up to `step`, from the grid so far.

        Over consecutive calls from `after=-1` on they add up to `deinterleave` of the whole grid (of one document).

        Raises:
            InputError: as `deinterleave`, or the grid does not reach up to `step`.
        """
        if grid_TR.ndim != 2 or len(grid_TR) <= step or grid_TR.shape[1] != self.n_rows:
            raise InputError(
                f"the grid has shape {tuple(grid_TR.shape)}, too small for step {step} of {self.n_rows} rows"
            )
        before, now, flat = self.ready(after), self.ready(step), grid_TR.reshape(-1)
        streams = {}
        for name, where_TK in self.where.items():
            cells = where_TK[before[name] : now[name]]
            cells = cells[cells[:, 0] >= 0]
            is_torch = isinstance(grid_TR, torch.Tensor)
            codes_TK = flat[torch.tensor(cells, device=grid_TR.device) if is_torch else cells]
            streams[name] = codes_TK if vocabulary is None else vocabulary.codes(name, codes_TK)
        return streams

    @cached_property
    def done(self) -> dict[str, np.ndarray]:
        """By stream, the step at which each frame (and every earlier one) is complete: ascending int64 `[T]`."""
        rows = self.n_rows
        return {name: np.maximum.accumulate((where_TK // rows).max(axis=1)) for name, where_TK in self.where.items()}

    def known(self, prompt: Mapping[str, int | Sequence[int] | np.ndarray]) -> np.ndarray:
        """Which cells a prompt of so many frames per stream (of each document) forces: bool `[T, R]`.

        Filler, starts, waits and markers are always known. An end is known where the prompt is longer than the stream
        (`length + 1`: it is given whole), a switch where the frame that it announces is.
        """
        n_documents = len(self.cu_seqlens) - 1
        given = [np.broadcast_to(np.asarray(prompt.get(name, 0)), n_documents) for name in self.levels]
        given_BS = np.stack([*given, np.full(n_documents, np.iinfo(np.int32).max)])
        return self.frame_TR < given_BS[self.stream_TR, self._document_T[:, None]]

    def weights(
        self,
        rules: LossWeights,
        prompt: Mapping[str, int | Sequence[int] | np.ndarray] | None = None,
        pads: Mapping[str, np.ndarray] | None = None,
    ) -> np.ndarray:
        """What predicting each cell counts in the loss: float32 `[T, R]`, 0 where nothing is predicted.

        Args:
            rules: weights by stream, level, kind of cell.
            prompt: frames by stream that are given, and count nothing.
            pads: by stream, which frames are padding: bool `[T]`; they count `rules.pad` times as much.
        """
        return weigh(self, rules, prompt, pads)

    # --- private ----------------------------------------------------------------------------------------------------

    @cached_property
    def _tensors(self) -> dict[tuple[str, torch.device], torch.Tensor]:
        return {}

    def _index(self, name: str, device: torch.device) -> torch.Tensor:
        """The gather (under the empty name) or a stream's inverse as a torch index, kept on each device."""
        if (name, device) not in self._tensors:
            array = self.source_TR if not name else self._cells[name]
            self._tensors[name, device] = torch.tensor(array, device=device)
        return self._tensors[name, device]

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


class PlanBatch(Plan):
    """Which code sits in which cell, for B documents end to end. Codes are packed: `[sum of lengths, K]`."""

    @property
    def n_documents(self) -> int:
        return len(self.cu_seqlens) - 1

    def pack(self, streams_BTK: Mapping[str, Array]) -> dict[str, Array]:
        """Packed codes `[sum of lengths, K]` of padded ones `[B, T, K]`, by stream."""
        packed = {}
        for name, codes_BTK in streams_BTK.items():
            n_B = self.document_lengths[name]
            if codes_BTK.ndim != 3 or len(codes_BTK) != len(n_B) or codes_BTK.shape[1] < n_B.max(initial=0):
                raise InputError(
                    f'the padded codes of "{name}" have shape {tuple(codes_BTK.shape)}; '
                    f"needed are {len(n_B)} documents of at least {n_B.max(initial=0)} frames"
                )
            real_BT = np.arange(codes_BTK.shape[1]) < n_B[:, None]
            packed[name] = codes_BTK[_as_kind(real_BT, codes_BTK)]
        return packed

    def pad(self, grid_TR: Array, filler: int) -> Array:
        """The documents of a packed grid side by side, `[B, longest, R]`, with `filler` after the shorter ones."""
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
        real_BT = np.arange(grid_BTR.shape[1]) < np.diff(self.cu_seqlens)[:, None]
        return grid_BTR[_as_kind(real_BT, grid_BTR)]

    def documents(self, packed: Mapping[str, Array]) -> list[dict[str, Array]]:
        """Packed codes by document. Not for spans that leave frames out."""
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


def finish(
    kind: type[AnyPlan], layout: "Layout", painter: Painter, lengths: Mapping[str, np.ndarray], bounds: np.ndarray
) -> AnyPlan:
    """The plan of what was painted, with `<wait>` where nothing is due."""
    source_TR = painter.source_C.reshape(-1, painter.n_rows)
    empty_T = ~source_TR.any(axis=1)
    if empty_T.any():
        source_TR[empty_T, 0] = WAIT
    legal_TR = painter.legal_C.reshape(source_TR.shape)
    for array in (source_TR, legal_TR, *painter.where.values()):
        array.setflags(write=False)
    return kind(
        layout=layout,
        lengths={name: int(n_B.sum()) for name, n_B in lengths.items()},
        source_TR=source_TR,
        legal_TR=legal_TR,
        where=painter.where,
        cu_seqlens=bounds,
        document_lengths=dict(lengths),
        marks=tuple(painter.marks),
    )


def _as_kind(mask: np.ndarray, like: Array) -> Array:
    return torch.from_numpy(mask).to(like.device) if isinstance(like, torch.Tensor) else mask
