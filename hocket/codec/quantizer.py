"""Residual vector quantization: level k codes what the levels before it left over.

A frame's latent is the sum of one codebook entry per level, chosen greedily by Euclidean distance. There are no
projections and no normalisation, so a prefix of the levels is a coarser sum and decodes as it is.

Shapes: N latents, D latent width, K levels, E entries of a codebook.
"""

import torch
from torch import nn


def nearest(x_ND: torch.Tensor, codebook_ED: torch.Tensor) -> torch.Tensor:
    """Index of the nearest entry for each row, int64 [N]; the lowest index wins an exact tie."""
    distance_NE = codebook_ED.square().sum(1) - 2 * x_ND @ codebook_ED.T
    return distance_NE.argmin(dim=1)


class ResidualQuantizer(nn.Module):
    """Codebooks of K levels, and nothing that only training needs (`codebook_ema` has that)."""

    codebooks_KED: torch.Tensor

    def __init__(self, levels: int, entries: int, width: int):
        super().__init__()
        self.register_buffer("codebooks_KED", torch.zeros(levels, entries, width))

    def encode(self, latent_ND: torch.Tensor, levels: int) -> torch.Tensor:
        """Codes [N, levels] of the first `levels` codebooks, in float32 whatever the autocast."""
        residual_ND = latent_ND.float()
        codes = []
        for codebook_ED in self.codebooks_KED[:levels]:
            index_N = nearest(residual_ND, codebook_ED)
            residual_ND = residual_ND - codebook_ED[index_N]
            codes.append(index_N)
        return torch.stack(codes, dim=1)

    def decode(self, codes_NK: torch.Tensor) -> torch.Tensor:
        """The latents [N, D] that the codes stand for; as many levels as there are columns."""
        latent_ND = torch.zeros(len(codes_NK), self.codebooks_KED.shape[2], device=codes_NK.device)
        for codebook_ED, index_N in zip(self.codebooks_KED, codes_NK.unbind(1), strict=False):
            latent_ND = latent_ND + codebook_ED[index_N]
        return latent_ND

    @torch.no_grad()
    def fit(self, latent_ND: torch.Tensor, generator: torch.Generator, iterations: int = 10) -> None:
        """Sets all codebooks by k-means, level after level, on the latents given."""
        residual_ND = latent_ND.float()
        for codebook_ED in self.codebooks_KED:
            codebook_ED.copy_(kmeans(residual_ND, len(codebook_ED), generator, iterations))
            residual_ND = residual_ND - codebook_ED[nearest(residual_ND, codebook_ED)]


def kmeans(x_ND: torch.Tensor, entries: int, generator: torch.Generator, iterations: int) -> torch.Tensor:
    """Lloyd's algorithm from random rows; centres that lose all their rows start again at random rows."""
    centres_ED = draw_rows(x_ND, entries, generator)
    for _ in range(iterations):
        index_N = nearest(x_ND, centres_ED)
        count_E = torch.bincount(index_N, minlength=entries)
        sum_ED = torch.zeros_like(centres_ED).index_add_(0, index_N, x_ND)
        centres_ED = torch.where(count_E[:, None] > 0, sum_ED / count_E[:, None].clamp(min=1), centres_ED)
        lost_E = count_E == 0
        centres_ED[lost_E] = draw_rows(x_ND, int(lost_E.sum()), generator)
    return centres_ED


def draw_rows(x_ND: torch.Tensor, count: int, generator: torch.Generator) -> torch.Tensor:
    """`count` rows at random, each at most once while there are enough; repeats are jittered apart."""
    order = torch.randperm(len(x_ND), generator=generator)
    rows_ND = x_ND[order.repeat(-(-max(count, 1) // len(x_ND)))[:count].to(x_ND.device)]
    if count <= len(x_ND):
        return rows_ND.clone()
    noise_ND = torch.randn(rows_ND.shape, generator=generator).to(x_ND.device)
    return rows_ND + 0.01 * x_ND.std() * noise_ND
