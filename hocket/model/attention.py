"""Attention backends behind one function: attention within each of the documents of a pack.

    sdpa        every device; a loop over documents, so that a pack costs what its documents cost and not its square
                (2,048 steps in 4 documents on one CPU thread, forward and backward: 95 ms against 373 ms with one
                masked call). The reference that the others are tested against
    varlen      torch's flash attention over packed documents; CUDA, bfloat16 or float16
    flash_attn  the package flash-attn 2; CUDA, bfloat16 or float16
    flex        compiled block masks; CUDA, and CPU without gradients, for comparisons
    auto        varlen where it can run, else sdpa

Each says what it cannot do (`refusal`), and is refused in words before the first step.

Shapes: N steps of all documents, T steps of one, B batch, H query heads, G key and value heads, S keys, C head width.
"""

import importlib.metadata
import importlib.util
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor

from hocket.errors import InputError
from hocket.model.documents import Documents

AUTO = "auto"
HALF = (torch.bfloat16, torch.float16)


Attend = Callable[[Tensor, Tensor, Tensor, Documents], Tensor]
"""Queries `[N, H, C]`, keys and values `[N, G, C]` and their documents to `[N, H, C]`."""


@dataclass(frozen=True)
class Backend:
    """One way to compute attention.

    `refusal` takes the device, the dtype of the keys and whether gradients are wanted; it returns why the backend
    cannot run so, or None.
    """

    attend: Attend
    refusal: Callable[[torch.device, torch.dtype, bool], str | None]
    masks: bool = False
    """Takes any mask of what a step sees, as `model.fine_window` needs it."""


def find_backend(name: str, device: torch.device, dtype: torch.dtype, gradients: bool, masks: bool = False) -> Backend:
    """The backend of that name, for keys of `dtype` on `device`; one that takes any mask where `masks` says so.

    Raises:
        InputError: it cannot run there, with the reason.
    """
    if name == AUTO:
        name = "sdpa" if masks or BACKENDS["varlen"].refusal(device, dtype, gradients) else "varlen"
    backend = BACKENDS[name]
    reason = backend.refusal(device, dtype, gradients)
    if reason is None and masks and not backend.masks:
        reason = "it has no masks for model.fine_window"
    if reason is not None:
        raise InputError(f"model.attention={name} cannot run here: {reason}; model.attention=auto or sdpa can")
    return backend


def _loop(q_NHC: Tensor, k_NGC: Tensor, v_NGC: Tensor, documents: Documents) -> Tensor:
    """One call of torch's scaled-dot-product attention a document."""
    parts, sizes = [], documents.lengths
    split = zip(q_NHC.split(sizes), k_NGC.split(sizes), v_NGC.split(sizes), documents.masks, strict=True)
    for q, k, v, mask_TT in split:
        q_1HTC, k_1GTC, v_1GTC = (x.transpose(0, 1).unsqueeze(0) for x in (q, k, v))
        causal = documents.causal and mask_TT is None
        parts.append(attend(q_1HTC, k_1GTC, v_1GTC, is_causal=causal, mask_TS=mask_TT)[0].transpose(0, 1))
    return torch.cat(parts)


attend_sdpa = cast(Attend, torch.compiler.disable(_loop))
"""Not compiled: the lengths of documents would be shapes, and each batch compiled anew."""


def window_mask(n_queries: int, n_keys: int, causal: bool, window: int, device: torch.device) -> Tensor:
    """Which keys the last `n_queries` of `n_keys` steps see: bool `[T, S]`; `window` 0 for all."""
    query_T1 = torch.arange(n_keys - n_queries, n_keys, device=device)[:, None]
    distance_TS = query_T1 - torch.arange(n_keys, device=device)
    seen_TS = distance_TS >= 0 if causal else torch.ones_like(distance_TS, dtype=torch.bool)
    return seen_TS & (distance_TS.abs() < window) if window else seen_TS


def attend(
    q_BHTC: Tensor, k_BGSC: Tensor, v_BGSC: Tensor, *, is_causal: bool = False, mask_TS: Tensor | None = None
) -> Tensor:
    """Scaled dot-product attention with grouped heads."""
    grouped = q_BHTC.shape[1] != k_BGSC.shape[1]
    return F.scaled_dot_product_attention(
        q_BHTC, k_BGSC, v_BGSC, attn_mask=mask_TS, is_causal=is_causal, enable_gqa=grouped
    )


def attend_varlen(q_NHC: Tensor, k_NGC: Tensor, v_NGC: Tensor, documents: Documents) -> Tensor:
    """torch's flash attention; its default is full attention, so causality is a window that ends at the step."""
    from torch.nn.attention.varlen import varlen_attn  # noqa: PLC0415

    options = {}
    if q_NHC.shape[1] != k_NGC.shape[1]:
        if "enable_gqa" in inspect.signature(varlen_attn).parameters:  # torch 2.12
            options["enable_gqa"] = True
        else:
            k_NGC, v_NGC = (x.repeat_interleave(q_NHC.shape[1] // x.shape[1], dim=1) for x in (k_NGC, v_NGC))
    bounds, longest = documents.cu_seqlens, documents.longest
    window = _window_size(documents)
    mixed = varlen_attn(q_NHC, k_NGC, v_NGC, bounds, bounds, longest, longest, window_size=window, **options)
    assert isinstance(mixed, Tensor)
    return mixed


def attend_flash(q_NHC: Tensor, k_NGC: Tensor, v_NGC: Tensor, documents: Documents) -> Tensor:
    """The package flash-attn 2 (Dao, 2023)."""
    from flash_attn import flash_attn_varlen_func  # type: ignore[import-not-found]  # noqa: PLC0415

    bounds, longest = documents.cu_seqlens, documents.longest
    return flash_attn_varlen_func(
        q_NHC, k_NGC, v_NGC, bounds, bounds, longest, longest,
        causal=documents.causal, window_size=_window_size(documents),
    )  # fmt: skip


def _window_size(documents: Documents) -> tuple[int, int]:
    """Steps seen before and after a step, as flash attention counts them: -1 for all."""
    reach = documents.window - 1 if documents.window else -1
    return (reach, 0 if documents.causal else reach)


def attend_flex(q_NHC: Tensor, k_NGC: Tensor, v_NGC: Tensor, documents: Documents) -> Tensor:
    """One call with a block mask of the documents, made once a batch."""
    q_1HNC, k_1GNC, v_1GNC = (x.transpose(0, 1).unsqueeze(0) for x in (q_NHC, k_NGC, v_NGC))
    flex_attention = _flex(q_NHC.device.type)
    mixed = flex_attention(q_1HNC, k_1GNC, v_1GNC, block_mask=documents.block_mask, enable_gqa=True)
    return mixed[0].transpose(0, 1)


@cache
def _flex(device_type: str) -> Callable[..., Tensor]:
    """Compiled on CUDA; on CPU written out, which holds all scores and is for comparisons only."""
    from torch.nn.attention.flex_attention import flex_attention  # noqa: PLC0415

    return torch.compile(flex_attention, dynamic=False) if device_type == "cuda" else flex_attention


def _never(device: torch.device, dtype: torch.dtype, gradients: bool) -> None:
    return None


def _refuse_varlen(device: torch.device, dtype: torch.dtype, gradients: bool) -> str | None:
    if importlib.util.find_spec("torch.nn.attention.varlen") is None:
        return f"torch {torch.__version__} has no torch.nn.attention.varlen"
    return _refuse_flash_kernels(device, dtype)


def _refuse_flash_attn(device: torch.device, dtype: torch.dtype, gradients: bool) -> str | None:
    """flash-attn 4 shares the import name but lacks version 2's functions: ask for the package's version."""
    try:
        version = importlib.metadata.version("flash-attn")
    except importlib.metadata.PackageNotFoundError:
        return "the package flash-attn is not installed (pip install 'hocket[cuda]')"
    if not version.startswith("2."):
        return f"flash-attn {version} is installed, and version 2 is needed"
    return _refuse_flash_kernels(device, dtype)


def _refuse_flash_kernels(device: torch.device, dtype: torch.dtype) -> str | None:
    if device.type != "cuda":
        return f"it needs a CUDA device, not {device.type}"
    if torch.cuda.get_device_capability(device) < (8, 0):
        return "it needs a GPU of the Ampere generation or newer"
    return None if dtype in HALF else f"it needs training.dtype=bfloat16, not {str(dtype).removeprefix('torch.')}"


def _refuse_flex(device: torch.device, dtype: torch.dtype, gradients: bool) -> str | None:
    return "on CPU it has no backward pass" if device.type == "cpu" and gradients else None


BACKENDS: dict[str, Backend] = {
    "sdpa": Backend(attend_sdpa, _never, masks=True),
    "varlen": Backend(attend_varlen, _refuse_varlen),
    "flash_attn": Backend(attend_flash, _refuse_flash_attn),
    "flex": Backend(attend_flex, _refuse_flex, masks=True),
}
