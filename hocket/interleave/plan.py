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
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from hocket.errors import InputError, did_you_mean
from hocket.interleave.weights import LossWeights, weigh
from hocket.vocab import Vocabulary

if TYPE_CHECKING:
    from hocket.interleave.layout import Layout

Array = Any  # numpy array or torch tensor; the same kind comes out as went in
ARRAYS = (np.ndarray, torch.Tensor)
FILLER, BOS, CONT, WAIT, FIRST_END = range(5)  # positions in Layout.symbols
NO_STREAM = -1


@dataclass(frozen=True, eq=False)
class Plan:
    """Which code sits in which cell, for a document of given lengths."""

    layout: "Layout"
    lengths: dict[str, int]  # frames (tokens for text) by stream
    n_steps: int
    where: dict[str, np.ndarray]  # int64 [T, K], index of each code's cell in the flattened grid; -1 for none
    cu_seqlens: np.ndarray  # int64 [B + 1], steps at which documents begin, and the end
    document_lengths: dict[str, np.ndarray]  # int64 [B] by stream
    marks: tuple[tuple[np.ndarray, int, np.ndarray], ...]  # ends and switches: cells, stream, frames over all documents
    symbol_cells: tuple[np.ndarray, np.ndarray, np.ndarray]  # special tokens: cells, which symbols, their legal sets
    copied_cells: tuple[np.ndarray, np.ndarray]  # copies of codes: cells, index into the pool
    level_legal: dict[str, np.ndarray]  # int16 [K] by stream, legal set of each level

    # --- shapes -----------------------------------------------------------------------------------------------------

    @property
    def n_rows(self) -> int:
        return self.layout.n_rows

    @property
    def shape(self) -> tuple[int, int]:
        """Steps and rows."""
        return self.n_steps, self.layout.n_rows

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
        if len(codes) > 1 and len({isinstance(codes_TK, np.ndarray) for codes_TK in codes}) > 1:
            raise InputError(
                "the codes of some streams are torch tensors and those of others numpy arrays; give one kind"
            )
        if vocabulary is not None:
            codes = [vocabulary.ids(name, codes_TK) for name, codes_TK in zip(self.levels, codes, strict=True)]
        if codes and isinstance(codes[0], torch.Tensor):
            if codes[0].is_cpu:
                return torch.from_numpy(self._lay_out([codes_TK.numpy() for codes_TK in codes], vocabulary))
            device = codes[0].device
            symbols = torch.from_numpy(self._symbol_values(vocabulary)).to(device)
            pool = torch.cat([symbols, *(codes_TK.to(device, torch.int64).reshape(-1) for codes_TK in codes)])
            return pool[self._index("", device)]
        return self._lay_out(codes, vocabulary)

    def deinterleave(self, grid_TR: Array, vocabulary: Vocabulary | None = None) -> dict[str, Array]:
        """The codes `[T, K]` of each stream: the inverse of `interleave`.

        Frames that spans left out (`kept`) are left out here too.

        Raises:
            InputError: the grid has another shape, or (with a vocabulary) a cell holds no code of its block.
        """
        if not hasattr(grid_TR, "dtype") or grid_TR.shape != self.shape:
            raise InputError(f"the grid is {kind_of(grid_TR)}, the plan of shape {self.shape}")
        is_tensor, streams = isinstance(grid_TR, torch.Tensor), {}
        on_device = is_tensor and not grid_TR.is_cpu
        flat = grid_TR.numpy().reshape(-1) if is_tensor and not on_device else grid_TR.reshape(-1)
        for name, cells_TK in self._cells.items():
            if on_device:
                codes_TK = flat[self._index(name, grid_TR.device)]
            else:
                taken_TK = flat.take(cells_TK, mode="wrap")  # indices are right by construction: no check, 15 % faster
                codes_TK = torch.from_numpy(taken_TK) if is_tensor else taken_TK
            streams[name] = codes_TK if vocabulary is None else vocabulary.codes(name, codes_TK)
        return streams

    @cached_property
    def kept(self) -> dict[str, np.ndarray]:
        """By stream, the frames that have a cell: all, but for spans that put a unit into one stream only."""
        return {name: (where_TK[:, 0] >= 0).nonzero()[0] for name, where_TK in self.where.items()}

    @property
    def _cells(self) -> dict[str, np.ndarray]:
        """`where` of the frames that are kept."""
        return self._kept_cells if self.layout.has_spans else self.where

    @cached_property
    def _kept_cells(self) -> dict[str, np.ndarray]:
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
    def source_TR(self) -> np.ndarray:
        """int64, index into the pool."""
        source, base = np.zeros(self.n_steps * self.n_rows, dtype=np.int64), len(self.symbols)
        source[self.copied_cells[0]] = self.copied_cells[1]
        for name, n_levels in self.levels.items():
            pool_TK = np.arange(base, base + self.lengths[name] * n_levels).reshape(-1, n_levels)
            source[self._cells[name]] = pool_TK[self.kept[name]] if self.layout.has_spans else pool_TK
            base += self.lengths[name] * n_levels
        source[self.symbol_cells[0]] = self.symbol_cells[1]
        return _frozen(source.reshape(self.shape))

    @cached_property
    def legal_TR(self) -> np.ndarray:
        """int16, index into legal_sets; 0 where nothing is predicted."""
        legal = np.zeros(self.n_steps * self.n_rows, dtype=np.int16)
        for name in self.levels:
            legal[self._cells[name]] = self.level_legal[name]
        legal[self.symbol_cells[0]] = self.symbol_cells[2]
        return _frozen(legal.reshape(self.shape))

    @cached_property
    def _facts(self) -> tuple[np.ndarray, np.ndarray]:
        n_cells = self.n_steps * self.n_rows
        stream, frame = np.full(n_cells, NO_STREAM, dtype=np.int8), np.zeros(n_cells, dtype=np.int32)
        bases = len(self.symbols) + np.cumsum([0, *(self.lengths[name] * k for name, k in self.levels.items())])
        cells, pool = self.copied_cells
        if len(cells):
            stream[cells] = np.searchsorted(bases, pool, side="right") - 1
            frame[cells] = (pool - bases[stream[cells]]) // np.array(list(self.levels.values()))[stream[cells]]
        for number, (name, where_TK) in enumerate(self._cells.items()):
            stream[where_TK] = number
            frame[where_TK] = (self.kept[name] if self.layout.has_spans else np.arange(len(where_TK)))[:, None]
        for cells, number, frames in self.marks:
            stream[cells], frame[cells] = number, frames
        if len(self.cu_seqlens) > 2:
            frame -= self._first_frames[stream, self._document_T.repeat(self.n_rows)]
        return _frozen(stream.reshape(self.shape)), _frozen(frame.reshape(self.shape))

    @cached_property
    def level_TR(self) -> np.ndarray:
        """int8, level of a cell's code, 0 for symbols."""
        level, base = np.zeros(self.n_steps * self.n_rows, dtype=np.int8), len(self.symbols)
        cells, pool = self.copied_cells
        for name, n_levels in self.levels.items():
            stop = base + self.lengths[name] * n_levels
            of_stream = (pool >= base) & (pool < stop)
            level[cells[of_stream]] = (pool[of_stream] - base) % n_levels
            level[self._cells[name]] = np.arange(n_levels)
            base = stop
        return _frozen(level.reshape(self.shape))

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
        if (
            not hasattr(grid_TR, "dtype")
            or grid_TR.ndim != 2
            or len(grid_TR) <= step
            or grid_TR.shape[1] != self.n_rows
        ):
            raise InputError(f"the grid is {kind_of(grid_TR)}, too small for step {step} of {self.n_rows} rows")
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
        for name, frames in prompt.items():
            self._check_stream(name, "a prompt")
            if np.asarray(frames).dtype.kind not in "iu" or np.shape(frames) not in ((), (n_documents,)):
                raise InputError(f'a prompt is a number of frames for each document, not {frames!r} of "{name}"')
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

    def _check_stream(self, name: str, what: str) -> None:
        if name not in self.levels:
            raise InputError(
                f'{what} is given for "{name}", which {self.layout} lacks' + did_you_mean(name, self.levels)
            )

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

    def _lay_out(self, codes: Sequence[np.ndarray], vocabulary: Vocabulary | None) -> np.ndarray:
        """The grid of each stream's codes (or ids): at first use by a scatter, which needs no index of all cells."""
        values = self._symbol_values(vocabulary)
        if self._used:
            pool = np.concatenate([values, *[codes_TK.reshape(-1) for codes_TK in codes]], dtype=np.int64)
            return pool.take(self.source_TR, mode="wrap")
        self._used.append(True)
        grid = np.empty(self.n_steps * self.n_rows, dtype=np.int64)
        grid.fill(values[FILLER])
        cells, pool = self.copied_cells
        if len(cells):
            grid[cells] = np.concatenate([values, *(codes_TK.reshape(-1) for codes_TK in codes)])[pool]
        for (name, cells_TK), codes_TK in zip(self._cells.items(), codes, strict=True):
            grid[cells_TK] = codes_TK[self.kept[name]] if self.layout.has_spans else codes_TK
        cells, symbols, _ = self.symbol_cells
        grid[cells] = values[symbols]
        return grid.reshape(self.shape)

    def _symbol_values(self, vocabulary: Vocabulary | None) -> np.ndarray:
        if vocabulary is None:
            return self.layout.symbol_numbers
        return np.array([vocabulary.id(name) for name in self.symbols], dtype=np.int64)

    @cached_property
    def _used(self) -> list[bool]:
        """Filled once codes were laid out."""
        return []

    def _checked(self, streams: Mapping[str, Array], name: str) -> Array:
        if name not in streams:
            raise InputError(f'the stream "{name}" is missing; given are {sorted(streams)}')
        codes = streams[name]
        if not isinstance(codes, ARRAYS) or not _holds_integers(codes):
            raise InputError(f'the codes of "{name}" are an array of whole numbers, not {kind_of(codes)}')
        codes_TK = codes[:, None] if codes.ndim == 1 else codes
        expected = (self.lengths[name], self.levels[name])
        if codes_TK.shape != expected:
            raise InputError(f'the codes of "{name}" have shape {tuple(codes.shape)}, the plan is for {expected}')
        return codes_TK


def _frozen(array: np.ndarray) -> np.ndarray:
    array.setflags(write=False)
    return array


def _holds_integers(array: Array) -> bool:
    if isinstance(array, np.ndarray):
        return array.dtype.kind in "iub"
    return not (array.is_floating_point() or array.is_complex())


def kind_of(value: object) -> str:
    """What a user gave: `float64 of shape (3, 2)`, or `a list`."""
    if isinstance(value, np.ndarray | torch.Tensor):
        return f"{str(value.dtype).removeprefix('torch.')} of shape {tuple(value.shape)}"
    return f"a {type(value).__name__}"
