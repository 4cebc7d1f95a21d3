"""Units fitted to a corpus of recordings: what `hocket codec fit-units` does.

The features of all clips are computed once, one clip at a time; memory is that of the sampled frames. A clip whose
audio cannot be used is named and passed over.
"""

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from hocket.codec.units import FitReport, UnitCodec, parse_extractor, pooled
from hocket.data.clips import BadAudio, Clip
from hocket.data.sources import read_clips
from hocket.errors import InputError

SAMPLED_FRAMES = 200_000


@dataclass(frozen=True, kw_only=True)
class FittedUnits:
    """Where the units lie, what fitting found, and which clips were passed over and why."""

    folder: str
    name: str
    extractor: str
    layer: int | None
    found: FitReport
    rejected: tuple[tuple[str, str], ...]

    @property
    def summary(self) -> str:
        found = self.found
        return (
            f"{self.folder}: {found.clusters} units of {self.extractor}, {found.used_clusters} used, "
            f"entropy {found.unit_entropy:.2f} bits, inertia {found.inertia:.4g}, {found.explained:.1%} of variance "
            f"explained; fitted to {found.sampled_frames} of {found.frames} frames of {found.clips} clips, "
            f"{found.audio_seconds / 60:.1f} minutes, in {found.seconds:.1f} s"
        )

    def to_dict(self) -> dict[str, Any]:
        return {key: value for key, value in asdict(self).items() if key != "found"} | asdict(self.found)


def fit_units(
    sources: list[str],
    extractor: str,
    clusters: int,
    out: str | Path,
    *,
    layer: int | None = None,
    name: str | None = None,
    seed: int = 0,
    max_frames: int = SAMPLED_FRAMES,
    scaled: bool | None = None,
    every: int = 1,
    device: str = "cpu",
    on_progress: Callable[[float, float], None] | None = None,
) -> FittedUnits:
    """Fits units of an extractor ("mfcc", "hubert:FOLDER") to all clips that `read_clips` finds, saves them in `out`.

    A unit stands for the mean of `every` frames of the extractor.

    Raises InputError for sources or extractors that cannot be used, or where all clips give fewer frames than clusters.
    """
    if Path(out).exists() and (not Path(out).is_dir() or any(Path(out).iterdir())):
        raise InputError(f'"{out}" exists and is not an empty folder; give another one for the units')
    if every < 1:
        raise InputError(f"a unit stands for at least 1 frame of its extractor, not {every}")
    features = pooled(parse_extractor(extractor, layer), every).to(device)
    clips = [clip for source in sources for clip in read_clips(source)]
    rejected: list[tuple[str, str]] = []
    waveforms = read_waveforms(clips, features.sample_rate, rejected, on_progress)
    name = name or Path(out).resolve().name
    codec, found = UnitCodec.fit(features, waveforms, clusters, name, seed, max_frames, scaled)
    codec.save(out)
    return FittedUnits(
        folder=str(out),
        name=codec.identity.name,
        extractor=features.kind,
        layer=layer,
        found=found,
        rejected=tuple(rejected),
    )


def read_waveforms(
    clips: list[Clip],
    sample_rate: int,
    rejected: list[tuple[str, str]],
    on_progress: Callable[[float, float], None] | None = None,
) -> Iterator[tuple[torch.Tensor, int]]:
    """The clips' waveforms [S] with their rate; names and reasons of bad ones go to `rejected`."""
    for number, clip in enumerate(clips, start=1):
        try:
            yield clip.read(sample_rate), sample_rate
        except BadAudio as error:
            rejected.append((error.name, error.reason))
        if on_progress:
            on_progress(number, len(clips))
