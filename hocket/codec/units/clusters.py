"""k-means over features: fitted by scikit-learn's MiniBatchKMeans, applied by one matrix product on torch.

Fitting keeps a uniform sample of at most `max_frames` frames of the corpus, drawn while it is read, so that memory does
not grow with the corpus: 200,000 frames of width 768 are 0.6 GB.

Shapes: S samples, T frames, N sampled frames, D feature width, E entries (clusters).
"""

import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from sklearn.cluster import MiniBatchKMeans

from hocket.codec.batching import split_batch
from hocket.codec.units.extractor import Extractor
from hocket.codec.units.information import entropy_bits
from hocket.codec.units.mfcc import in_blocks
from hocket.errors import InputError

MINI_BATCH = 4096
TRIALS = 3  # initialisations, the best of which is fitted


@dataclass(frozen=True, kw_only=True)
class FitReport:
    """What fitting saw and found; the figures on clusters are over the sampled frames."""

    clips: int
    audio_seconds: float
    frames: int
    sampled_frames: int
    clusters: int
    used_clusters: int
    inertia: float  # mean squared distance of a frame to its centroid, in scaled features where they are scaled
    explained: float  # the share of the features' variance that the centroids explain, 0 to 1
    unit_entropy: float  # bits; log2(clusters) at most
    seconds: float  # that fitting took, features included


def fit_centroids(
    extractor: Extractor,
    clips: Iterable[tuple[torch.Tensor, int]],
    clusters: int,
    seed: int = 0,
    max_frames: int = 200_000,
    scaled: bool = False,
) -> tuple[torch.Tensor, torch.Tensor, FitReport]:
    """Centroids float32 [E, D] of the features of waveforms [S] or [C, S], each given with its rate (Hz).

    The second result is what features are to be divided by before they are compared to the centroids, float32 [D]:
    their standard deviations where `scaled`, otherwise ones. InputError where there are fewer frames than clusters.
    """
    start, sample = time.perf_counter(), FrameSample(max_frames, seed)
    n_clips, audio_seconds = 0, 0.0
    for wav, sample_rate in clips:
        sample.add(features_of(extractor, wav, sample_rate).cpu())
        n_clips, audio_seconds = n_clips + 1, audio_seconds + wav.shape[-1] / sample_rate
    features_ND = sample.frames()
    scale_D = standard_deviations(features_ND) if scaled else torch.ones(features_ND.shape[1])
    features_ND = features_ND / scale_D
    centroids_ED = cluster(features_ND, clusters, seed)
    units_N = nearest(features_ND, centroids_ED)
    inertia = float((features_ND - centroids_ED[units_N]).square().sum(dim=1).mean())
    variance = float(features_ND.var(dim=0, correction=0).sum())
    return (
        centroids_ED,
        scale_D,
        FitReport(
            clips=n_clips,
            audio_seconds=audio_seconds,
            frames=sample.n_seen,
            sampled_frames=len(features_ND),
            clusters=clusters,
            used_clusters=len(units_N.unique()),
            inertia=inertia,
            explained=1 - inertia / variance if variance else 1.0,
            unit_entropy=entropy_bits(units_N),
            seconds=time.perf_counter() - start,
        ),
    )


def standard_deviations(features_ND: torch.Tensor) -> torch.Tensor:
    """Of each feature [D]; 1 for one that never changes."""
    deviation_D = features_ND.std(dim=0, correction=0)
    return torch.where(deviation_D > 0, deviation_D, 1.0)


def cluster(features_ND: torch.Tensor, clusters: int, seed: int = 0) -> torch.Tensor:
    """Centroids float32 [E, D] of these frames; InputError where they are fewer than the clusters."""
    if not 1 < clusters <= len(features_ND):
        raise InputError(f"{clusters} clusters need as many frames, and at least 2; the audio gave {len(features_ND)}")
    options: dict[str, Any] = {"batch_size": MINI_BATCH, "n_init": TRIALS, "random_state": seed}
    kmeans = MiniBatchKMeans(clusters, **options).fit(features_ND.numpy())
    return torch.from_numpy(kmeans.cluster_centers_).float()


@torch.no_grad()
def features_of(extractor: Extractor, wav: torch.Tensor, sample_rate: int) -> torch.Tensor:
    """Features [T, D] of one recording [S] or [C, S] at any rate, checked as every codec checks audio."""
    item_CS = split_batch(wav if wav.ndim == 1 else wav[None], sample_rate, None, extractor.sample_rate, 1)[0]
    device = next((weights.device for weights in extractor.state_dict().values()), item_CS.device)
    return extractor.features(item_CS[0].to(device))


class FrameSample:
    """A uniform sample of the frames seen so far: those with the smallest of random keys."""

    def __init__(self, most: int, seed: int):
        self.most, self.n_seen = most, 0
        self.generator = torch.Generator().manual_seed(seed)
        self.keys: list[torch.Tensor] = []
        self.kept: list[torch.Tensor] = []

    def add(self, features_TD: torch.Tensor) -> None:
        self.n_seen += len(features_TD)
        self.keys.append(torch.rand(len(features_TD), dtype=torch.float64, generator=self.generator))
        self.kept.append(features_TD)
        if sum(map(len, self.keys)) > 2 * self.most:
            self._thin()

    def frames(self) -> torch.Tensor:
        self._thin()
        return self.kept[0]

    def _thin(self) -> None:
        if not self.keys:
            self.add(torch.zeros(0, 1))
        keys_N, features_ND = torch.cat(self.keys), torch.cat(self.kept)
        if len(keys_N) > self.most:
            chosen_N = keys_N.topk(self.most, largest=False).indices.sort().values
            keys_N, features_ND = keys_N[chosen_N], features_ND[chosen_N]
        self.keys, self.kept = [keys_N], [features_ND]


def nearest(features_TD: torch.Tensor, centroids_ED: torch.Tensor) -> torch.Tensor:
    """The index [T] of each frame's nearest centroid, int64; of equally near ones the first.

    |x - c|^2 = |x|^2 - 2 (x.c - |c|^2 / 2), and |x|^2 is the same for all centroids.
    """
    if not len(features_TD):
        return torch.zeros(0, dtype=torch.int64, device=features_TD.device)
    half_E = centroids_ED.square().sum(dim=1) / 2
    return in_blocks(features_TD, lambda block_TD: (half_E - block_TD @ centroids_ED.T).argmin(dim=1))
