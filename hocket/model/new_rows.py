"""Rows of embedding and head that a warm start's source has none for: codes and special tokens.

New rows of the embedding, from text rows with mean m and deviation s in each dimension:

    normal      m + s × noise
    mean        m, all of them (Hewitt, 2021); they part as soon as their codes are met in training
    copy        the rows of random text tokens
    codebooks   random projections of the codec's vectors, a frame's levels summing to the size of a text row

New rows of the head are the mean of the text's plus noise so small that the first loss is near ln(size of the legal
set); the mean keeps text as likely against codes as it was against an average token.

Shapes: V ids, D width.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from hocket.model.heads import HEAD_STD
from hocket.model.model import Model

CHUNK = 4096


class Rows:
    """Text rows go where they belong; all others are made from what text rows look like."""

    def __init__(self, model: Model, embedding_VD: Tensor, head_VD: Tensor, seed: int):
        self.model, self.embedding_VD, self.head_VD = model, embedding_VD, head_VD
        self.generator = torch.Generator().manual_seed(seed)
        vocabulary = model.vocabulary
        self.n_text = vocabulary.text_rows
        self.n_used = vocabulary.text.size if vocabulary.text else len(embedding_VD)

    def fill(self, named: Mapping[int, int]) -> None:
        """
        Args:
            named: ids that take over the row of a text token, and which.
        """
        table = self.model.decoder.embedding
        table.weight[: self.n_text].copy_(self.embedding_VD[: self.n_text])
        self._new_embeddings(table.weight)
        for token_id, row in named.items():
            table.weight[token_id].copy_(self.embedding_VD[row])
        table.weight[table.padding_idx] = 0
        self._new_head(self.model.head.weight, named)
        if self.model.depth is not None:
            self.model.depth.copy_embeddings(table.weight)

    def _new_embeddings(self, weight_VD: Tensor) -> None:
        used_VD, how = self.embedding_VD[: self.n_used], self.model.config.embeddings
        mean_D, deviation_D = _statistics(used_VD)
        new = slice(self.n_text, len(weight_VD))
        if how == "codebooks":  # the model's own start: scaled, as a frame's levels there sum to one
            weight_VD[new] *= deviation_D.square().mean().sqrt()
        elif how == "copy":
            order = torch.randperm(self.n_used, generator=self.generator)
            picked = order.repeat(-(-len(weight_VD) // self.n_used))[: len(weight_VD) - self.n_text]
            weight_VD[new] = used_VD[picked].to(weight_VD.dtype)
        else:
            noise_VD = torch.randn(weight_VD[new].shape, generator=self.generator)
            weight_VD[new] = mean_D + (noise_VD * deviation_D if how == "normal" else 0)

    def _new_head(self, weight_VD: Tensor, named: Mapping[int, int]) -> None:
        weight_VD[: self.n_text].copy_(self.head_VD[: self.n_text])
        std = HEAD_STD / self.model.decoder.norm.weight.float().norm().item()
        new_VD = weight_VD[self.n_text :]
        new_VD.copy_(self.head_VD[: self.n_used].mean(dim=0, dtype=torch.float32))
        new_VD += std * torch.randn(new_VD.shape, generator=self.generator)
        for token_id, row in named.items():
            weight_VD[token_id].copy_(self.head_VD[row])


def _statistics(rows_VD: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and deviation `[D]` of rows in any precision, without a second copy of them."""
    mean_D = rows_VD.mean(dim=0, dtype=torch.float32)
    squares = sum((part.float() - mean_D).square().sum(dim=0) for part in rows_VD.split(CHUNK))
    return mean_D, (squares / len(rows_VD)).sqrt()  # type: ignore[operator]
