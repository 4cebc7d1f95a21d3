"""What codes must be: which axis is which, within the codebooks, as long as the audio, and of the codec that is named.

Nothing is guessed: the axis whose size is the codec's number of levels is the axis of levels. Where both or neither
has it the row is refused, with what to say instead.

    codec of 8 levels:   [8, 150] levels first    [150, 8] frames first    [8, 8] either: refused    [7, 150] refused

Costs about 15 µs a row. Shapes: T frames, K levels.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from hocket.codec import CodecIdentity
from hocket.codec.catalogue import CATALOGUE
from hocket.data.corpus import name_codec
from hocket.data.importing.entries import CodeRow
from hocket.data.shards import CODE_DTYPE
from hocket.errors import InputError

AXES = ("TK", "KT")
ORDERS = {"TK": "[frames, levels]", "KT": "[levels, frames]"}
LENGTH_TOLERANCE = (2, 0.01)
"""Frames, and share of the stated length, by which codes may be longer or shorter; the larger counts."""
RATE_TOLERANCE = 0.01
"""Share by which a stated frame rate may differ: 86 is said for 86.13 Hz."""

CONTAINERS = ("aac", "alac", "flac", "mp3", "opus", "pcm", "vorbis", "wav")
"""What a column called codec may mean instead: how the recording was packed."""


@dataclass(frozen=True)
class Rules:
    """Checks rows against a codec.

    Args:
        codec: whose codes they are, cut to the levels that the rows have.
        axes: "TK" or "KT" where the order is declared.
        deduplicated: rows are runs of units whose durations are lost, so that their clock is not checked.
    """

    codec: CodecIdentity
    axes: str | None = None
    deduplicated: bool = False

    def __post_init__(self) -> None:
        if self.axes is not None and self.axes not in AXES:
            raise InputError(
                f'axes are "TK" for frames before levels or "KT" for levels before frames, not "{self.axes}"'
            )
        if self.deduplicated and self.codec.levels > 1:
            raise InputError(f"codes of {self.codec.levels} levels are no deduplicated units; those have one level")

    def check(self, row: CodeRow) -> tuple[np.ndarray, str | None]:
        """The row's codes [T, K], uint16, and the order its axes had; None for a single axis. Raises InputError."""
        array, order = self.order(row.codes)
        codes_TK = np.ascontiguousarray(array if order != "KT" else array.T)
        if not len(codes_TK):
            raise InputError("it holds no frames")
        checked_TK = _within(codes_TK, self.codec)
        self.check_stated(row.stated)
        if self.deduplicated and not row.has_durations:
            _refuse_repeats(checked_TK)
        elif row.clip.seconds is not None:
            self._check_length(len(checked_TK), row.clip.seconds)
        return checked_TK, order

    def order(self, codes: np.ndarray) -> tuple[np.ndarray, str | None]:
        """The codes with two axes, and which order they have. Raises InputError."""
        levels, shape = self.codec.levels, list(codes.shape)
        while codes.ndim > 2 and len(codes) == 1:
            codes = codes[0]
        if codes.ndim == 1 and levels == 1:
            return codes[:, None], None
        if codes.ndim != 2:
            raise InputError(
                f"its codes have the shape {shape}, which should be [frames, {levels}] or [{levels}, frames], perhaps "
                "after a batch of 1"
            )
        fits = [order for order, size in zip(AXES, (codes.shape[1], codes.shape[0]), strict=True) if size == levels]
        if self.axes is not None:
            return codes, self._declared(shape, fits)
        if len(fits) == 1 or (fits and codes.size == 1):
            return codes, fits[0]
        named = f'levels of codec "{self.codec.name}"'
        if fits:
            raise InputError(
                f"its codes have the shape {shape}: both axes could be the {levels} {named}; declare --axes"
            )
        raise InputError(
            f"its codes have the shape {shape}: neither axis is the {levels} {named}; if they are fewer of its levels, "
            "say how many by --levels"
        )

    def _declared(self, shape: list[int], fits: list[str]) -> str:
        assert self.axes is not None
        if self.axes not in fits:
            size = shape[-1] if self.axes == "TK" else shape[-2]
            raise InputError(
                f"its codes have the shape {shape}: as {ORDERS[self.axes]}, which --axes {self.axes} declares, they "
                f'would be of {size} levels, but codec "{self.codec.name}" has {self.codec.levels} here'
            )
        return self.axes

    def check_stated(self, stated: Mapping[str, Any]) -> None:
        """Raise InputError where codec or rates are said to be others than the codec's."""
        name, codec = stated.get("codec"), self.codec
        if name is not None and not _is_container(name) and not _is_named(str(name), codec):
            raise InputError(f'it says that its codes are of codec "{name}", not of {name_codec(codec)}')
        for what, value, tolerance in (
            ("sample_rate", codec.sample_rate, 0.0),
            ("frame_rate", float(codec.frame_rate), RATE_TOLERANCE),
        ):
            said = stated.get(what)
            if said is None:
                continue
            if not isinstance(said, int | float) or abs(said - value) > tolerance * value:
                raise InputError(
                    f'it says {what.replace("_", " ")} {said} Hz, but codec "{codec.name}" has {value:g} Hz; where '
                    "that is of something else than the codes, leave the column out by --ignore"
                )

    def _check_length(self, n_frames: int, seconds: float) -> None:
        expected = seconds * float(self.codec.frame_rate)
        frames, share = LENGTH_TOLERANCE
        if abs(n_frames - expected) > max(frames, share * expected):
            raise InputError(
                f"it has {n_frames} frames, but its duration of {seconds:g} s would be {expected:.0f} at the "
                f'{float(self.codec.frame_rate):g} Hz of codec "{self.codec.name}"'
            )


def _within(codes_TK: np.ndarray, codec: CodecIdentity) -> np.ndarray:
    """The codes as uint16, if all are whole numbers within their level's codebook."""
    if codes_TK.dtype.kind not in "iuf":
        raise InputError(f"its codes are of type {codes_TK.dtype}, which should be integers")
    if codes_TK.dtype.kind == "f":
        bad_TK = codes_TK != np.floor(codes_TK)  # also where it is NaN
        bad_TK |= np.isinf(codes_TK)
        if bad_TK.any():
            frame, level = np.argwhere(bad_TK)[0].tolist()
            raise InputError(
                f"level {level} holds {codes_TK[frame, level]:g} at frame {frame}, which is no whole number"
            )
    sizes_K = np.array(codec.codebook_sizes)
    if codes_TK.min() < 0 or (codes_TK.max(axis=0) >= sizes_K).any():
        frame, level = np.argwhere((codes_TK < 0) | (codes_TK >= sizes_K))[0].tolist()
        size = codec.codebook_sizes[level]
        raise InputError(
            f"level {level} holds {codes_TK[frame, level]:g} at frame {frame}, outside its codebook of {size:,} "
            f"entries (0 to {size - 1:,})"
        )
    return codes_TK.astype(CODE_DTYPE)


def _refuse_repeats(codes_TK: np.ndarray) -> None:
    equal_T = codes_TK[1:, 0] == codes_TK[:-1, 0]
    if equal_T.any():
        first = int(equal_T.argmax())
        raise InputError(f"units {first} and {first + 1} are both {codes_TK[first, 0]}, so it is not deduplicated")


def _is_named(name: str, codec: CodecIdentity) -> bool:
    """Whether a name means the codec: its own, that of the hub or the catalogue, or its fingerprint."""
    names = {codec.name, codec.name.rsplit("/", 1)[-1], codec.fingerprint, codec.weight_hash}
    for entry in CATALOGUE:
        known = {entry.short, entry.hub, (entry.hub or "").rsplit("/", 1)[-1]} - {None, ""}
        if names & known:
            names |= known  # pyright: ignore[reportAssignmentType]
    return name.lower() in {known.lower() for known in names if known}


def _is_container(name: Any) -> bool:
    return str(name).lower().split("_")[0] in CONTAINERS
