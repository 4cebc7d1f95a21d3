"""The softmax of a chunk of logits as one Triton kernel, from `liger-kernel` (Hsu et al., 2024).

The logits are read twice and written once, where torch's operators read them three times and write them twice. Only
the kernel is used: Liger's own fused linear cross-entropy knows neither weights of cells nor ranges of ids, and
waits for the device once a call.

Shapes: C cells of a chunk, J ids of a cell.
"""

import importlib.util
from functools import cache

import torch
from torch import Tensor


@cache
def is_installed() -> bool:
    return importlib.util.find_spec("liger_kernel") is not None


def liger_softmax(logits_CJ: Tensor, position_C: Tensor, z_loss: float, wants_gradient: bool) -> tuple[Tensor, Tensor]:
    """Cross-entropy with and without z-loss `[C]` of each cell; the logits become their gradients.

    The kernel's parameters have grown over its versions: those that it lacks are left out.
    """
    from liger_kernel.ops.cross_entropy import (  # type: ignore[import-not-found]  # noqa: PLC0415
        MAX_FUSED_SIZE,
        liger_cross_entropy_kernel,
    )

    n_cells, n_ids = logits_CJ.shape
    loss_C, z_C = logits_CJ.new_zeros(2, n_cells, dtype=torch.float32)
    arguments = {
        "X_ptr": logits_CJ,
        "X_stride": logits_CJ.stride(0),
        "Y_ptr": position_C,
        "Y_stride": position_C.stride(0),
        "weight_ptr": None,
        "loss_ptr": loss_C,
        "z_loss_ptr": z_C,
        "loss_stride": 1,
        "token_accuracy_ptr": None,
        "token_accuracy_stride": 0,
        "predicted_tokens_ptr": None,
        "predicted_tokens_stride": 0,
        "n_cols": n_ids,
        "n_non_ignore": n_cells,
        "sum_non_ignore_weight": n_cells,
        "weight_sum": 0.0,
        "ignore_index": -100,
        "lse_square_scale": z_loss,
        "label_smoothing": 0.0,
        "reduction": "none",
        "softcap": None,
        "RETURN_Z_LOSS": True,
        "RETURN_TOKEN_ACCURACY": False,
        "RETURN_PREDICTED_TOKENS": False,
        "BLOCK_SIZE": min(MAX_FUSED_SIZE, 1 << (n_ids - 1).bit_length()),
        "HAS_WEIGHT": False,
        "HAS_SOFTCAPPING": False,
        "HAS_GRADIENTS": wants_gradient,
    }
    known = {name: value for name, value in arguments.items() if name in liger_cross_entropy_kernel.arg_names}
    liger_cross_entropy_kernel[(n_cells,)](**known, num_warps=32)
    return loss_C, loss_C - z_C
