"""A sampler that also heeds what a document cannot take, and conditions that count more than they do alone.

Shapes: B documents, P rows of a pass, R rows, J legal ids, U numbers of a draw, W last tokens.
"""

from collections.abc import Hashable, Sequence

import torch
from torch import Tensor

from hocket.inference.guidance import combine
from hocket.inference.sampling import Sampler
from hocket.model.stepping import NOTHING, Pass


class Choice:
    """Draws as a sampler does; with guidance a pass is of 2B documents: with the conditions, then without.

    Args:
        sampler: what draws.
        banned: by document, ids that are never drawn.
    """

    def __init__(self, sampler: Sampler, banned: Sequence[Sequence[int]] = ()):
        self.sampler, self.banned = sampler, banned
        self.scale_B: Tensor | None = None
        """How much more the conditions count in this step, by document; None where there is no second half."""
        self._masks: dict[tuple, Tensor | None] = {}

    @property
    def graph_key(self) -> Hashable:
        """What a captured graph of a draw is kept by; None where the draw changes from step to step."""
        return None if self.scale_B is not None else (id(self.sampler), tuple(map(tuple, self.banned)))

    def choose(
        self, pass_: Pass, legal_R: Sequence[int], uniform_BPU: Tensor, recent_BPW: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """As `Sampler.choose`; both halves of a guided batch take the same."""
        if self.scale_B is not None:
            pass_ = combine(pass_, self.scale_B.to(pass_.logits_BPJ.device))
        if any(self.banned):
            pass_ = self._without_banned(pass_, tuple([legal_R[row] for row in pass_.rows]))
        position_BP, log_probability_BP = self.sampler.choose(pass_, legal_R, uniform_BPU, recent_BPW)
        if self.scale_B is not None:
            return position_BP.repeat(2, 1), log_probability_BP.repeat(2, 1)
        return position_BP, log_probability_BP

    def _without_banned(self, pass_: Pass, legal_P: tuple[int, ...]) -> Pass:
        masks = [self._mask(pass_, legal_P, tuple(tokens)) for tokens in self.banned]
        if all(mask_PJ is None for mask_PJ in masks):
            return pass_
        logits_BPJ = pass_.logits_BPJ.clone()
        for logits_PJ, mask_PJ in zip(logits_BPJ, masks, strict=True):
            if mask_PJ is not None:
                logits_PJ.masked_fill_(mask_PJ, NOTHING)
        return pass_._replace(logits_BPJ=logits_BPJ)

    def _mask(self, pass_: Pass, legal_P: tuple[int, ...], banned: tuple[int, ...]) -> Tensor | None:
        """Where the banned ids stand in a pass over these legal sets: bool `[P, J]`; None where there are none."""
        key = legal_P, banned
        if key not in self._masks:
            tokens = torch.tensor(banned, dtype=torch.int64, device=pass_.ids_PJ.device)
            mask_PJ = torch.isin(pass_.ids_PJ, tokens)
            self._masks[key] = mask_PJ if bool(mask_PJ.any()) else None
        return self._masks[key]
