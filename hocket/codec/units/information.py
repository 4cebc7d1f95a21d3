"""How much units tell about labels aligned with their frames: mutual information and purity.

I(U; L) = H(U) + H(L) - H(U, L), estimated from counts. Counts of N frames overstate it, by about
(|U| - 1) (|L| - 1) / 2N nats where frames are independent. They are not: the frames of one spoken word share both, so
`chance` gives each spoken word the label of another, drawn at random, and measures again. Compare figures of the same
frames, labels and number of units only, and what lies above chance.

Shapes: N frames.
"""

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import torch

from hocket.errors import InputError


@dataclass(frozen=True, kw_only=True)
class UnitInformation:
    """Of units and labels frame by frame; bits, unless said otherwise."""

    frames: int
    units: int  # different units that occur
    labels: int  # different labels that occur
    unit_entropy: float
    label_entropy: float
    mutual_information: float
    chance: float  # mutual information that is left after the labels were shuffled
    purity: float  # share of frames whose label is the commonest label of their unit
    label_purity: float  # share of frames whose unit is the commonest unit of their label

    @property
    def mutual_information_nats(self) -> float:
        return self.mutual_information * math.log(2)

    @property
    def above_chance(self) -> float:
        return self.mutual_information - self.chance

    @property
    def explained(self) -> float:
        """The share of the labels' entropy that the units tell, chance included (HuBERT's phone-normalised score)."""
        return self.mutual_information / self.label_entropy if self.label_entropy else 0.0


def mutual_information(
    units: torch.Tensor,
    labels: Sequence[Hashable] | torch.Tensor,
    segments: torch.Tensor | None = None,
    seed: int = 0,
) -> UnitInformation:
    """Of units [N], integers, and one label a frame: a word, a phone, a character.

    `segments` [N] numbers the spoken word that each frame belongs to; chance shuffles the labels over these, or over
    single frames where they are not given. InputError unless there is one label for each of at least one unit.
    """
    if units.ndim != 1 or units.is_floating_point() or len(units) != len(labels) or not len(units):
        raise InputError(f"{len(labels)} labels for units {list(units.shape)}: one label for each frame is needed")
    units_N = units.cpu().unique(return_inverse=True)[1]
    labels_N = number_labels(labels)
    shuffled_N = shuffle_labels(labels_N, torch.arange(len(labels_N)) if segments is None else segments, seed)
    counts_UL = count_pairs(units_N, labels_N)
    unit_bits, label_bits = entropy_bits(units_N), entropy_bits(labels_N)
    return UnitInformation(
        frames=len(units_N),
        units=counts_UL.shape[0],
        labels=counts_UL.shape[1],
        unit_entropy=unit_bits,
        label_entropy=label_bits,
        mutual_information=max(0.0, unit_bits + label_bits - bits_of(counts_UL)),
        chance=max(0.0, unit_bits + label_bits - bits_of(count_pairs(units_N, shuffled_N))),
        purity=float(counts_UL.max(dim=1).values.sum()) / len(units_N),
        label_purity=float(counts_UL.max(dim=0).values.sum()) / len(units_N),
    )


def shuffle_labels(labels_N: torch.Tensor, segments_N: torch.Tensor, seed: int) -> torch.Tensor:
    """Each segment's frames get the label of another segment's first frame, by one permutation of the segments."""
    _, inverse_N, counts_S = segments_N.unique(return_inverse=True, return_counts=True)
    first_S = inverse_N.argsort(stable=True)[counts_S.cumsum(0) - counts_S]
    order_S = torch.randperm(len(first_S), generator=torch.Generator().manual_seed(seed))
    return labels_N[first_S][order_S][inverse_N]


def number_labels(labels: Sequence[Hashable] | torch.Tensor) -> torch.Tensor:
    """Labels as numbers from 0, int64 [N]."""
    if isinstance(labels, torch.Tensor):
        return labels.cpu().unique(return_inverse=True)[1]
    numbers: dict[Hashable, int] = {}
    return torch.tensor([numbers.setdefault(label, len(numbers)) for label in labels])


def count_pairs(units_N: torch.Tensor, labels_N: torch.Tensor) -> torch.Tensor:
    """How often each pair occurs, int64 [units, labels]."""
    n_units, n_labels = int(units_N.max()) + 1, int(labels_N.max()) + 1
    return torch.bincount(units_N * n_labels + labels_N, minlength=n_units * n_labels).view(n_units, n_labels)


def entropy_bits(values_N: torch.Tensor) -> float:
    """Entropy in bits of the values' frequencies."""
    return bits_of(values_N.unique(return_counts=True)[1])


def bits_of(counts: torch.Tensor) -> float:
    shares = counts[counts > 0].double() / counts.sum()
    return float(-(shares * shares.log2()).sum())
