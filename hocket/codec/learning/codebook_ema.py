"""How the codebooks learn: running means of the residuals that chose each entry, and restarts of unused entries.

Shapes: N latents, D latent width, K levels, E entries.
"""

import torch

from hocket.codec.quantizer import ResidualQuantizer, draw_rows, nearest

DECAY = 0.99
DEAD_SHARE = 0.1  # an entry chosen this much less often than the average starts again
COUNT_FLOOR = 1e-5


class CodebookEMA:
    """Running counts and sums behind a quantizer's codebooks; `state_dict` holds all of it."""

    def __init__(self, quantizer: ResidualQuantizer):
        self.quantizer = quantizer
        self.counts_KE = torch.ones(quantizer.codebooks_KED.shape[:2], device=quantizer.codebooks_KED.device)
        self.sums_KED = quantizer.codebooks_KED.clone()

    def reset(self, per_entry: float) -> None:
        """Takes the codebooks as they are, as if each entry had been chosen `per_entry` times a batch."""
        self.counts_KE.fill_(per_entry)
        self.sums_KED = self.quantizer.codebooks_KED * per_entry

    @torch.no_grad()
    def quantize(self, latent_ND: torch.Tensor, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        """Quantizes and learns: the entry of each level [K, N, D] and the codes [K, N]."""
        residual_ND, entries, codes = latent_ND, [], []
        for level, codebook_ED in enumerate(self.quantizer.codebooks_KED):
            index_N = nearest(residual_ND, codebook_ED)
            entry_ND = codebook_ED[index_N]
            self._learn(level, residual_ND, index_N, generator)
            residual_ND = residual_ND - entry_ND
            entries.append(entry_ND)
            codes.append(index_N)
        return torch.stack(entries), torch.stack(codes)

    def _learn(self, level: int, residual_ND: torch.Tensor, index_N: torch.Tensor, generator: torch.Generator) -> None:
        counts_E, sums_ED = self.counts_KE[level], self.sums_KED[level]
        batch_count_E = torch.bincount(index_N, minlength=len(counts_E)).float()
        counts_E.mul_(DECAY).add_(batch_count_E, alpha=1 - DECAY)
        batch_sum_ED = torch.zeros_like(sums_ED).index_add_(0, index_N, residual_ND)
        sums_ED.mul_(DECAY).add_(batch_sum_ED, alpha=1 - DECAY)
        average = float(counts_E.mean())
        dead_E = counts_E < DEAD_SHARE * average
        n_dead = int(dead_E.sum())
        if n_dead:
            counts_E[dead_E] = average
            sums_ED[dead_E] = draw_rows(residual_ND, n_dead, generator) * average
        self.quantizer.codebooks_KED[level] = sums_ED / counts_E.clamp(min=COUNT_FLOOR)[:, None]

    def state_dict(self) -> dict[str, torch.Tensor]:
        return {"counts_KE": self.counts_KE, "sums_KED": self.sums_KED}

    def load_state_dict(self, state: dict[str, torch.Tensor]) -> None:
        self.counts_KE.copy_(state["counts_KE"])
        self.sums_KED = state["sums_KED"].clone().to(self.sums_KED.device)
