"""Training steps: tokens a second beside transformers' Llama on the same ids, and packed beside padded batches.

Llama and hocket have the same dimensions, the same number of layers, ids (a flat layout of 8 levels in one id space),
documents (4 of 512 steps, no padding), precision, threads and optimizer (AdamW). One step is forward, loss, backward
and update. hocket's softmax runs over a cell's legal ids, Llama's over all; the row "full softmax" has hocket do the
same. What the interval softmax saves grows with the codec: 8 x 2,048 codes (Mimi) beside 8 x 1,024. Processor time
counts, on one thread.

Packed against padded: documents with the lengths of LibriSpeech in a parallel layout, the same documents in both;
padded batches hold eight side by side. The limit is 95 % of what leaving out the padding could give.
"""

import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import torch

from benchmarks.loader import librispeech_frames
from benchmarks.timing import heading, interleaved
from hocket.codec import CodecIdentity
from hocket.data.loading import Batch
from hocket.interleave import load_layout
from hocket.model import Model, ModelConfig
from hocket.vocab import Vocabulary

if TYPE_CHECKING:
    from transformers import LlamaForCausalLM

LEVELS, CODES = 8, (1024, 2048)
DOCUMENTS, FRAMES = 4, 64
SHAPE = {"dim": 512, "n_layers": 8, "n_heads": 8, "n_kv_heads": 8, "ffn_dim": 1408}
LLAMA_LIMIT, PACKED_LIMIT = 1.15, 0.95
Step = Callable[[], float]


def build(expression: str, codes: int, **changes) -> Model:
    """A random model of the codes of a codec with 8 levels."""
    codec = CodecIdentity(
        name="codes", revision="1", weight_hash="0", sample_rate=16000, hop=640, codebook_sizes=(codes,) * LEVELS
    )
    config = ModelConfig(**{**SHAPE, "qk_norm": False, "context": 4096, **changes})
    vocabulary = Vocabulary.build(None, {"audio": codec.codebook_sizes}, {"audio": codec.fingerprint})
    return Model.build(config, vocabulary, load_layout(expression, LEVELS), codec)


def batch_of(model: Model, lengths: list[int], pad_to: int = 0) -> Batch:
    """Documents of random codes, end to end; each filled up to `pad_to` steps with cells that count nothing."""
    rng = np.random.default_rng(0)
    parts = []
    for n in lengths:
        plan = model.layout.plan({"audio": n})
        ids_TR = plan.interleave({"audio": rng.integers(0, min(CODES), (n, LEVELS))}, model.vocabulary)
        fill = ((0, max(0, pad_to - len(ids_TR))), (0, 0))
        none = model.vocabulary.id("<none>")
        parts.append((np.pad(ids_TR, fill, constant_values=none), np.pad(plan.legal_TR.astype(np.int64), fill)))
    legal = torch.from_numpy(np.concatenate([legal for _, legal in parts]))
    ids = torch.from_numpy(np.concatenate([ids for ids, _ in parts]))
    bounds = torch.tensor([0, *(len(ids) for ids, _ in parts)]).cumsum(0)
    return Batch(ids, legal, (legal > 0).float(), bounds, [""] * len(lengths), sum(lengths))


def step_of(model: torch.nn.Module, loss: Callable[[], torch.Tensor], dtype: torch.dtype) -> Step:
    """Forward, backward, update; the loss as a number."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)

    def run() -> float:
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
            value = loss()
        value.backward()
        optimizer.step()
        optimizer.zero_grad()
        return value.item()

    return run


def ours(batch_model: Model, batches: list[Batch], dtype: torch.dtype) -> Step:
    def loss() -> torch.Tensor:
        parts = [batch_model(batch) for batch in batches]
        return torch.stack([part.total for part in parts]).sum() / torch.stack([p.weight for p in parts]).sum()

    return step_of(batch_model, loss, dtype)


def build_llama(shape: dict[str, int], n_ids: int) -> "LlamaForCausalLM":
    """transformers' Llama of the same shape, untied."""
    from transformers import LlamaConfig, LlamaForCausalLM  # noqa: PLC0415  a second that other benchmarks need not wait

    config = LlamaConfig(
        vocab_size=n_ids,
        hidden_size=shape["dim"],
        num_hidden_layers=shape["n_layers"],
        num_attention_heads=shape["n_heads"],
        num_key_value_heads=shape["n_kv_heads"],
        intermediate_size=shape["ffn_dim"],
        tie_word_embeddings=False,
        use_cache=False,
    )
    return LlamaForCausalLM(config)


def llama(model: Model, batch: Batch, dtype: torch.dtype) -> Step:
    """Llama on the same documents, side by side."""
    net = build_llama(SHAPE, model.vocabulary.size)
    ids = batch.ids_NR.view(batch.n_documents, -1)
    assert sum(p.numel() for p in net.parameters()) == model.n_parameters
    return step_of(net, lambda: net(input_ids=ids, labels=ids).loss, dtype)


def against_llama(rounds: int, codes: int, dtype: torch.dtype) -> None:
    legal, full = (build("Flatten(audio)", codes, softmax=softmax) for softmax in ("legal", "full"))
    batch = batch_of(legal, [FRAMES] * DOCUMENTS)
    median = interleaved(
        {
            "llama": llama(legal, batch, dtype),
            "hocket": ours(legal, [batch], dtype),
            "full softmax": ours(full, [batch], dtype),
        },
        rounds,
        clock=time.process_time,
    )
    million = legal.n_parameters / 1e6
    print(f"  {million:.1f}M parameters, {LEVELS} x {codes:,} codes, {batch.n_steps:,} steps, {str(dtype)[6:]}")
    for name, seconds in median.items():
        ratio = f"   ratio {median['llama'] / seconds:.2f}" if name != "llama" else ""
        print(f"  {name:<14}{batch.n_steps / seconds:9,.0f} tokens/s{ratio}")
    print(f"  limit {LLAMA_LIMIT}")


def packed_against_padded(rounds: int, dtype: torch.dtype) -> None:
    lengths = librispeech_frames(48).tolist()
    model = build("Parallel(audio)", CODES[0], dim=256, n_heads=4, n_kv_heads=4, ffn_dim=704)
    groups = [lengths[i : i + 8] for i in range(0, len(lengths), 8)]
    longest = [max(int(model.layout.count_steps({"audio": n})) for n in group) for group in groups]
    padded = [batch_of(model, group, pad_to=most) for group, most in zip(groups, longest, strict=True)]
    packed = [batch_of(model, group) for group in groups]
    padding = 1 - sum(b.n_steps for b in packed) / sum(b.n_steps for b in padded)
    runs = {"padded": ours(model, padded, dtype), "packed": ours(model, packed, dtype)}
    median = interleaved(runs, rounds, clock=time.process_time)
    gain, possible = median["padded"] / median["packed"], 1 / (1 - padding)
    print(f"  {len(lengths)} documents in batches of 8, {padding:.1%} padding, {str(dtype)[6:]}")
    print(f"  padded {median['padded']:7.3f} s   packed {median['packed']:7.3f} s   gain {gain:.3f}")
    print(f"  {gain / possible:.1%} of the possible {possible:.3f}, limit {PACKED_LIMIT:.0%}\n")


def main(rounds: int = 7) -> None:
    torch.set_num_threads(1)
    print(heading("training step beside transformers' Llama"))
    for codes in CODES:
        for dtype in (torch.float32, torch.bfloat16):
            against_llama(rounds, codes, dtype)
    print(heading("packed beside padded"))
    for dtype in (torch.float32, torch.bfloat16):
        packed_against_padded(rounds, dtype)


if __name__ == "__main__":
    main(int(sys.argv[1]) if sys.argv[1:] else 7)
