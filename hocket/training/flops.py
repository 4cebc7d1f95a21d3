"""Floating-point operations of training, counted from dimensions: for `--dry-run`, and for MFU in the log.

A multiplication and an addition are two operations. A weight of a matrix costs 2 per step forward and 4 backward, 6 in
all; a frozen one costs 4, since no gradient is made for it. With N steps in documents of lengths T:

    trunk       6 * matrix weights of the blocks * N
    attention   12 * layers * heads * head width * pairs,  pairs = sum of T^2 / 2 where causal, sum of T^2 where not
    head        6 * D * columns,                           columns = sum over predicted cells of their legal ids

Pairs are counted over real documents: a pack of short documents is not credited with the square of the pack, and a
window of W steps counts what lies in it. Embeddings, norms, biases and the softmax count nothing; what activation
checkpointing computes again counts nothing either (MFU, not HFU: Chowdhery et al., 2022, appendix B).

    >>> config = ModelConfig(dim=1024, n_layers=24, n_heads=16, n_kv_heads=16, ffn_dim=2816, context=2048)
    >>> f"{flops_per_step(config, [2048] * 8, columns_per_step=4 * 2049) / 16384 / 1e9:.2f} GFLOP a grid step"
    '2.20 GFLOP a grid step'

Counting takes microseconds.
"""

import math
from collections.abc import Sequence

import numpy as np

from hocket.data import Batch
from hocket.model import Model, ModelConfig

PEAK_FLOPS = {
    "GB200": 2500e12,
    "B200": 2250e12,
    "GH200": 989e12,
    "H200": 989e12,
    "H100 PCIe": 756e12,
    "H100 NVL": 835e12,
    "H100": 989e12,
    "H20": 148e12,
    "H800": 989e12,
    "A100": 312e12,
    "A800": 312e12,
    "A40": 149.7e12,
    "A30": 165e12,
    "A10G": 70e12,
    "A10": 125e12,
    "A6000": 154.8e12,
    "A5000": 111.1e12,
    "A4000": 76.7e12,
    "L40S": 362e12,
    "L40": 181e12,
    "L4": 121e12,
    "RTX 5090": 209.5e12,
    "RTX 4090": 165.2e12,
    "RTX 4080": 97.5e12,
    "RTX 3090": 71e12,
    "MI300X": 1307e12,
    "MI250X": 383e12,
}
"""Dense bf16 products with float32 sums, FLOP/s by a part of the device's name, as the makers state them."""


def block_weights(config: ModelConfig) -> int:
    """Weights of the matrices in all blocks of the decoder."""
    attention = config.dim * config.head_width * 2 * (config.n_heads + config.n_kv_heads)
    return config.n_layers * (attention + 3 * config.dim * config.ffn_dim)


def attention_pairs(lengths: Sequence[int] | np.ndarray, causal: bool = True, window: int = 0) -> float:
    """Pairs of a query and a key that it sees, over documents of these lengths.

    A causal document of T steps counts T^2 / 2, the usual convention; within a window each step sees at most `window`
    steps, itself among them (to both sides where not causal).
    """
    n_D = np.asarray(lengths, dtype=np.float64)
    full = float((n_D**2).sum())
    if window:
        seen_D = np.minimum(n_D, window)
        triangle = float((seen_D**2 / 2 + (n_D - seen_D) * seen_D).sum())
        return triangle if causal else min(full, 2 * triangle)
    return full / 2 if causal else full


def flops_per_step(
    config: ModelConfig,
    lengths: Sequence[int] | np.ndarray,
    columns_per_step: float,
    *,
    causal: bool = True,
    frozen_weights: int = 0,
    head_weights_per_step: float = 0.0,
) -> float:
    """Operations, forward and backward, of training on documents of these lengths (in grid steps).

    Args:
        columns_per_step: legal ids summed over the cells that a step predicts, on average; for a full softmax the
            vocabulary's size times the cells.
        frozen_weights: matrix weights of the blocks that do not train.
        head_weights_per_step: weights that a step passes in a depth head (`depth_weights`, and its own width times the
            columns of the rows that it predicts), times the share of steps that it is trained on; `columns_per_step` is
            of the first predicted row alone then.
    """
    n_steps = float(np.sum(lengths))
    per_step = 6 * block_weights(config) - 2 * frozen_weights
    per_step += 6 * (config.dim * columns_per_step + head_weights_per_step)
    pairs = attention_pairs(lengths, causal, config.window)
    return per_step * n_steps + 12 * config.n_layers * config.n_heads * config.head_width * pairs


def peak_flops(device_name: str) -> float | None:
    """What a device can do in a second, in bf16; None for one that is not in the table."""
    name = device_name.lower()
    found = [part for part in PEAK_FLOPS if part.lower() in name]
    return PEAK_FLOPS[max(found, key=len)] if found else None


class BatchFlops:
    """Operations of training a model on a batch: `BatchFlops(model)(batch)`."""

    def __init__(self, model: Model):
        self._config, self._causal = model.config, model.stage.attention == "causal"
        self._in_place, self._depth = model.stage.in_place, model.depth
        full = model.vocabulary.size if model.config.softmax == "full" else 0
        self._columns = np.array([legal.size and max(full, legal.size) for legal in model.head.legal_sets])
        blocks = model.decoder.blocks.parameters()
        frozen = [getattr(p, "ds_shape", p.shape) for p in blocks if not p.requires_grad]  # whole under ZeRO-3 too
        self._frozen = sum(math.prod(shape) for shape in frozen if len(shape) >= 2)

    def __call__(self, batch: Batch) -> float:
        lengths_D = _real_lengths(batch)
        n_steps = max(1, int(lengths_D.sum()))
        legal_NR = (batch.legal_NR if self._in_place else batch.legal_NR[~batch.is_start_N]).cpu().numpy()
        in_depth = 0.0
        if self._depth is not None:
            later = list(self._depth.rows[1:])
            in_depth = self._count_depth(legal_NR[:, later]) / n_steps
            legal_NR = legal_NR[:, [self._depth.rows[0]]]
        return flops_per_step(
            self._config,
            lengths_D,
            self._count_columns(legal_NR) / n_steps,
            causal=self._causal,
            frozen_weights=self._frozen,
            head_weights_per_step=in_depth,
        )

    def _count_columns(self, legal_NR: np.ndarray) -> float:
        return float(np.bincount(legal_NR.ravel(), minlength=len(self._columns)) @ self._columns)

    def _count_depth(self, legal_NQ: np.ndarray) -> float:
        """Weights that a batch passes in the depth head."""
        assert self._depth is not None
        n_trained = int((legal_NQ > 0).any(axis=1).sum())
        columns = self._count_columns(legal_NQ)
        return self._depth.fraction * (
            n_trained * depth_weights(self._config, len(self._depth.rows)) + columns * self._depth.config.dim
        )


def depth_weights(config: ModelConfig, n_rows: int) -> float:
    """Weights that one step passes in a depth head over so many rows, output matrix aside.

    Projection and blocks at each position, and attention as if it were weights: 12 operations a pair and channel are 2
    weights of 6.
    """
    depth = config.depth(n_rows)
    attention = 2 * depth.n_layers * depth.n_heads * depth.head_width * attention_pairs([n_rows])
    return n_rows * (block_weights(depth) + config.dim * depth.dim) + attention


def _real_lengths(batch: Batch) -> np.ndarray:
    """Steps of each document without the padding at its end, where nothing is predicted."""
    bounds = np.array(batch.bounds)
    if not batch.n_padding:
        return np.diff(bounds)
    predicts_N = (batch.legal_NR > 0).any(dim=1).cpu().numpy()
    last_D = np.maximum.reduceat(np.where(predicts_N, np.arange(batch.n_steps), -1), bounds[:-1])
    return np.maximum(last_D + 1 - bounds[:-1], 0)
