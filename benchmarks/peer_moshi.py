"""moshi's `LMGen` on random weights, run by `depth_generation.py` in an environment of its own.

    python peer_moshi.py LEVELS FRAMES          a line on stdin: a run of that many frames; its seconds on stdout

Needs torch and moshi==0.2.13 (`pip install --no-deps moshi==0.2.13`, then einops safetensors huggingface_hub
sentencepiece sounddevice aiohttp sphn tqdm), and nothing of hocket's. The first line on stdout says how many bytes of
matrices a frame reads.
"""

import os
import sys
import time

os.environ["NO_TORCH_COMPILE"] = "1"

import torch
from moshi.models.lm import LMGen, LMModel  # type: ignore[import-not-found]

DIM, LAYERS, HEADS, DEPTH_DIM, DEPTH_LAYERS, DEPTH_HEADS, ENTRIES = 512, 8, 8, 256, 4, 4, 2048


def build(levels: int, frames: int, device: str, dtype: torch.dtype) -> LMModel:
    """The shape of Moshi in small: gated feed-forward, RMSNorm, rotary, weights for each level of the depth part."""
    return LMModel(
        delays=[0] * (levels + 1),
        n_q=levels,
        dep_q=levels,
        card=ENTRIES,
        text_card=32,
        dim=DIM,
        num_heads=HEADS,
        num_layers=LAYERS,
        hidden_scale=4,
        norm="rms_norm_f32",
        gating="silu",
        positional_embedding="rope",
        context=frames,
        depformer_dim=DEPTH_DIM,
        depformer_dim_feedforward=4 * DEPTH_DIM,
        depformer_num_heads=DEPTH_HEADS,
        depformer_num_layers=DEPTH_LAYERS,
        depformer_gating="silu",
        depformer_pos_emb="none",
        depformer_multi_linear=True,
        depformer_weights_per_step=True,
        device=torch.device(device),
        dtype=dtype,
    ).eval()


def main() -> None:
    levels, frames = int(sys.argv[1]), int(sys.argv[2])
    on_gpu = torch.cuda.is_available()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = build(levels, frames, "cuda" if on_gpu else "cpu", torch.bfloat16 if on_gpu else torch.float32)
    sampler = LMGen(model, temp=1.0, temp_text=1.0, top_k=0, top_k_text=0)
    read = sum(w.nbytes for name, w in model.named_parameters() if w.dim() > 1 and "emb" not in name)
    print(read, flush=True)
    empty = torch.zeros(1, 0, 1, dtype=torch.long, device=model.device)
    for _ in sys.stdin:
        with torch.no_grad(), sampler.streaming(1):
            wall, processor = time.perf_counter(), time.process_time()
            for _ in range(frames):
                sampler.step(empty)
            if on_gpu:
                torch.cuda.synchronize()
            print(time.perf_counter() - wall, time.process_time() - processor, flush=True)


if __name__ == "__main__":
    main()
