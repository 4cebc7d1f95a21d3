"""Milliseconds a step of cached generation: hocket against transformers' MusicGen decoder in a forward loop.

Both: width 256, 4 layers, 4 heads, 4 codebooks of 2,048, batch 1, float32, one thread, 200 steps, sampled at
temperature 1. The peer's loop calls the decoder with its cache and draws from its logits: what its `generate` does,
without the bookkeeping around it. MusicGen's cross-attention is not run; its feed-forward has two matrices of
256 x 1,024, hocket's SwiGLU three of 256 x 683: the same bytes.
"""

import numpy as np
import torch
from transformers import MusicgenDecoderConfig, MusicgenForCausalLM

from benchmarks.timing import heading, interleaved
from hocket.codec import CodecIdentity
from hocket.inference import Generator, Request, Sampling
from hocket.inference.autoregressive import Autoregressive
from hocket.interleave import load_layout
from hocket.model import Model, ModelConfig
from hocket.vocab import Vocabulary

STEPS, LEVELS, ENTRIES = 200, 4, 2048


def hocket_loop() -> Generator:
    identity = CodecIdentity(
        name="none", revision="", weight_hash="", sample_rate=16000, hop=320, codebook_sizes=(ENTRIES,) * LEVELS
    )
    vocabulary = Vocabulary.build(None, {"audio": identity.codebook_sizes})
    config = ModelConfig(dim=256, n_layers=4, n_heads=4, n_kv_heads=4, ffn_dim=683, context=2 * STEPS)
    return Generator(Model.build(config, vocabulary, load_layout("delay", LEVELS), identity))


def musicgen() -> MusicgenForCausalLM:
    config = MusicgenDecoderConfig(
        vocab_size=ENTRIES,
        hidden_size=256,
        num_hidden_layers=4,
        ffn_dim=1024,
        num_attention_heads=4,
        num_codebooks=LEVELS,
        max_position_embeddings=2 * STEPS,
    )
    return MusicgenForCausalLM(config).eval()


@torch.inference_mode()
def run_musicgen(model: MusicgenForCausalLM) -> None:
    ids, cache = torch.full((LEVELS, 1), ENTRIES), None
    for _ in range(STEPS):
        out = model(input_ids=ids, past_key_values=cache, use_cache=True)
        cache = out.past_key_values
        probabilities = torch.softmax(out.logits[:, -1].float(), dim=-1)
        ids = torch.multinomial(probabilities, 1)


@torch.inference_mode()
def run_hocket(generator: Generator) -> None:
    frames = STEPS - LEVELS
    request = Request(prompts={"audio": np.zeros((0, LEVELS), dtype=np.int64)}, limits={"audio": frames})
    end = generator.model.vocabulary.id("<end.audio>")
    generator.model.head.weight.data[end] = 0  # an untrained model ends once in 2,049 draws; the seed avoids it
    loop = Autoregressive(generator.model, [request], Sampling())
    assert list(loop.run())[-1] == STEPS, "the document ended early"


def main(rounds: int = 7) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    ours, theirs = hocket_loop(), musicgen()
    median = interleaved({"hocket": lambda: run_hocket(ours), "musicgen": lambda: run_musicgen(theirs)}, rounds)
    per_step = {name: seconds / STEPS * 1e3 for name, seconds in median.items()}
    print(heading("generation, ms a step, d=256 x 4 layers, 4 codebooks of 2,048, batch 1"))
    print(f"  transformers MusicGen, forward loop {per_step['musicgen']:6.2f} ms")
    print(f"  hocket                              {per_step['hocket']:6.2f} ms")
    print(f"  ratio {per_step['musicgen'] / per_step['hocket']:.2f}\n")
