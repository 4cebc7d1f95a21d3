"""Model FLOP utilisation on a GPU: 350M and 1B delay-layout models of Mimi's codes beside transformers' Llama.

Both train in bfloat16 with AdamW on the same number of steps of the trunk, in documents of 512 frames: hocket packed,
with varlen attention and compiled blocks; Llama side by side with flash attention, compiled, ids of one of the levels.
MFU counts 6 per weight of a matrix and the attention of the real documents (`hocket.training.flops`), over the peak
that the maker states. Limits: 50 % MFU, 1.2 x Llama.

    python -m benchmarks mfu                  on a GPU
    python -m benchmarks.mfu --small          the same code on small shapes, also on a CPU: shows that it runs
"""

import sys
from collections.abc import Callable
from typing import Any

import torch

from benchmarks.timing import heading, interleaved
from benchmarks.training import LEVELS, batch_of, build, build_llama
from hocket.data.loading import Batch
from hocket.model import Model, ModelConfig
from hocket.model.decoder import TransformerBlock
from hocket.training.flops import BatchFlops, flops_per_step, peak_flops

MIMI_CODES, FRAMES = 2048, 512
Shape = dict[str, Any]
SHAPES = {
    "350M": {"dim": 1024, "n_layers": 28, "n_heads": 16, "n_kv_heads": 16, "ffn_dim": 2816},
    "1B": {"dim": 2048, "n_layers": 16, "n_heads": 32, "n_kv_heads": 8, "ffn_dim": 8192},
}
SMALL = {"small": {"dim": 128, "n_layers": 2, "n_heads": 4, "n_kv_heads": 4, "ffn_dim": 352}}
DOCUMENTS = {"350M": 64, "1B": 32, "small": 4}
LIMIT_MFU, LIMIT_RATIO = 0.5, 1.2


def device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def stepping(model: torch.nn.Module, loss: Callable[[], torch.Tensor]) -> Callable[[], None]:
    """Forward, backward and update in bfloat16, waited for."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=torch.cuda.is_available())

    def run() -> None:
        loss().backward()
        optimizer.step()
        optimizer.zero_grad()
        if torch.cuda.is_available():
            torch.cuda.synchronize()

    return run


def ours(model: Model, batch: Batch) -> Callable[[], None]:
    model = model.to(device(), torch.bfloat16).train()
    for block in model.decoder.blocks:
        assert isinstance(block, TransformerBlock)
        block.compile(dynamic=False)
    batch = batch.to(device())

    def loss() -> torch.Tensor:
        parts = model(batch)
        return parts.total / parts.weight

    return stepping(model, loss)


def llama(shape: Shape, n_documents: int) -> Callable[[], None]:
    net = build_llama(shape, MIMI_CODES + 8)
    net.to(device=device(), dtype=torch.bfloat16)  # pyright: ignore[reportCallIssue, reportArgumentType]
    net.set_attn_implementation("flash_attention_2" if _has_flash() else "sdpa")
    net.model.compile(dynamic=False)
    ids = torch.randint(0, MIMI_CODES, (n_documents, FRAMES), device=device())
    return stepping(net, lambda: net(input_ids=ids, labels=ids).loss)


def _has_flash() -> bool:
    try:
        import flash_attn  # type: ignore[import-not-found]  # noqa: PLC0415
    except ImportError:
        return False
    return torch.cuda.is_available() and hasattr(flash_attn, "flash_attn_func")


def measure(name: str, shape: Shape, rounds: int) -> None:
    """One size: tokens of the trunk and MFU of both, and their ratio."""
    n_documents = DOCUMENTS[name]
    model = build("Delay(audio)", MIMI_CODES, **shape)
    batch = batch_of(model, [FRAMES - LEVELS] * n_documents)
    work = BatchFlops(model)(batch)
    lengths = [FRAMES] * n_documents
    their_work = flops_per_step(ModelConfig(**shape, context=FRAMES), lengths, columns_per_step=MIMI_CODES + 8)
    median = interleaved({"llama": llama(shape, n_documents), "hocket": ours(model, batch)}, rounds)
    peak = peak_flops(torch.cuda.get_device_name()) if torch.cuda.is_available() else None
    steps = {"hocket": batch.n_steps, "llama": n_documents * FRAMES}
    for who, flops in (("hocket", work), ("llama", their_work)):
        mfu = f"   MFU {flops / median[who] / peak:.1%}" if peak else ""
        print(f"  {name:<6}{who:<8}{steps[who] / median[who]:12,.0f} steps of the trunk a second{mfu}")
    ratio = steps["hocket"] / median["hocket"] / (steps["llama"] / median["llama"])
    print(f"  {name:<6}ratio {ratio:.2f}, limit {LIMIT_RATIO}; MFU limit {LIMIT_MFU:.0%}")


def main(shapes: dict[str, Shape] | None = None, rounds: int = 20) -> None:
    if shapes is None and not torch.cuda.is_available():
        print("mfu: needs a GPU; python -m benchmarks.mfu --small runs the same code on small shapes\n")
        return
    where = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
    print(heading(f"training in bfloat16 on {where}, documents of {FRAMES} steps"))
    for name, shape in (shapes or SHAPES).items():
        measure(name, shape, rounds)
    print()


if __name__ == "__main__":
    main(SMALL if "--small" in sys.argv else None, 2 if "--small" in sys.argv else 20)
