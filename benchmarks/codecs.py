"""Seconds of audio tokenised a second: hocket's `codec.encode` against two uses of the same class of transformers.

The class is called one by one, item after item, and in padded batches of `BATCH` items in random order, each padded to
its longest item, as in a plain data loader (its codes are not compared: padding changes them). EnCodec 24 kHz and Mimi
have their published sizes with random weights, no biases and codebooks of noise as large as the latents; the corpus is
of real recordings of different lengths. hocket's codes are those of the one-by-one calls: where they differ, the two
entries must be as near as rounding, and such near ties are counted.
"""

import random
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch.nn.utils.rnn import pad_sequence
from transformers import EncodecConfig, EncodecModel, MimiConfig, MimiModel

import hocket
from benchmarks.timing import heading, interleaved
from hocket.codec import Codec, load_codec, read_audio

BATCH, RATE = 8, 24000
LIMITS = {"one by one": 1.25, "padded": 1.5}
NEAR = 1e-4
"""A near tie: squared distances that differ by less than this part of themselves and the latent's squared length."""
SPEECH = Path(hocket.__file__).parent / "data" / "speech" / "audio"


def corpus(every: int) -> list[torch.Tensor]:
    """Every so many of the demo's recordings, 24 kHz."""
    return [read_audio(file, RATE)[0] for file in sorted(SPEECH.glob("*.opus"))[::every]]


def build(kind: str, folder: Path, items: list[torch.Tensor]) -> tuple[Any, Codec]:
    """transformers' class with random weights, and hocket's codec of the same files."""
    torch.manual_seed(0)
    net: Any = EncodecModel(EncodecConfig()) if kind == "encodec" else MimiModel(MimiConfig())
    with torch.no_grad():
        spread(kind, net.eval(), torch.cat(items)[: 120 * RATE])
    net.save_pretrained(folder)
    return type(net).from_pretrained(folder).eval(), load_codec(folder)


def spread(kind: str, net: Any, wav_S: torch.Tensor) -> None:
    """Takes the biases out, whose rounding would outweigh the signal, and fills codebooks with noise of its size."""
    for name, parameter in net.named_parameters():
        if "bias" in name:
            parameter.zero_()
    latent_BCT = latents(kind, net, wav_S)
    for projection, layers in quantizers(kind, net):
        residual_TC = projection(latent_BCT)[0].T
        for layer in layers:
            entries = layer.codebook.embed_sum if kind == "mimi" else layer.codebook.embed
            entries.copy_(residual_TC.std(dim=0) * torch.randn(entries.shape))
            layer.codebook._embed = None
            residual_TC = residual_TC - entries[torch.cdist(residual_TC, entries).argmin(dim=1)]


def latents(kind: str, net: Any, wav_S: torch.Tensor) -> torch.Tensor:
    return net.encoder(wav_S[None, None]) if kind == "encodec" else net.encoder(wav_S[None, None]).latents


def quantizers(kind: str, net: Any) -> list[tuple[Callable[[torch.Tensor], torch.Tensor], Any]]:
    """The chains of residual codebooks, each with what it does to the latents first."""
    if kind == "encodec":
        return [(lambda latent_BCT: latent_BCT, net.quantizer.layers)]
    parts = net.quantizer.semantic_residual_vector_quantizer, net.quantizer.acoustic_residual_vector_quantizer
    return [(part.input_proj, part.layers) for part in parts]


def call(kind: str, net: Any, wav_BCS: torch.Tensor) -> torch.Tensor:
    """Codes [B, T, K] of all levels."""
    if kind == "encodec":
        return net.encode(wav_BCS, bandwidth=24.0).audio_codes[0].transpose(1, 2)
    return net.encode(wav_BCS, num_quantizers=32).audio_codes.transpose(1, 2)


def one_by_one(kind: str, net: Any, items: list[torch.Tensor]) -> list[torch.Tensor]:
    return [call(kind, net, item_S[None, None])[0] for item_S in items]


def padded(kind: str, net: Any, items: list[torch.Tensor]) -> None:
    order = random.Random(0).sample(range(len(items)), len(items))
    for start in range(0, len(order), BATCH):
        chosen = [items[index] for index in order[start : start + BATCH]]
        call(kind, net, pad_sequence(chosen, batch_first=True)[:, None])


def near_ties(kind: str, net: Any, items: list[torch.Tensor], theirs: list[torch.Tensor], ours: Any) -> tuple[int, int]:
    """Codes that a near tie decided otherwise, with all after it in its frame left out, and codes in all."""
    ties = total = 0
    for row, (item_S, codes_TK) in enumerate(zip(items, theirs, strict=True)):
        own_TK = ours.tokens_BTK[row, : int(ours.lengths_B[row])]
        assert own_TK.shape == codes_TK.shape
        total += codes_TK.numel()
        if torch.equal(own_TK, codes_TK):
            continue
        latent_BCT, level = latents(kind, net, item_S), 0
        for projection, layers in quantizers(kind, net):
            residual_TC = projection(latent_BCT)[0].T.double()
            alive_T = torch.ones(len(residual_TC), dtype=torch.bool)
            length_T = residual_TC.square().sum(dim=1)
            for layer in layers:
                entries = layer.codebook.embed.double()
                own, other = entries[own_TK[:, level]], entries[codes_TK[:, level]]
                gap_T = ((residual_TC - own).square().sum(dim=1) - (residual_TC - other).square().sum(dim=1)).abs()
                differs_T = alive_T & (own_TK[:, level] != codes_TK[:, level])
                scale_T = length_T + (residual_TC - other).square().sum(dim=1)
                assert bool((gap_T[differs_T] < NEAR * scale_T[differs_T]).all()), "codes differ beyond rounding"
                ties, level = ties + int(differs_T.sum()), level + 1
                alive_T &= ~differs_T
                residual_TC = residual_TC - other
    return ties, total


@torch.no_grad()
def measure(kind: str, items: list[torch.Tensor], rounds: int) -> None:
    seconds = sum(map(len, items)) / RATE
    batch_BS, lengths = pad_sequence(items, batch_first=True), [len(item_S) for item_S in items]
    with tempfile.TemporaryDirectory() as folder:
        net, codec = build(kind, Path(folder), items)
        ties, total = near_ties(kind, net, items, one_by_one(kind, net, items), codec.encode(batch_BS, RATE, lengths))
        median = interleaved(
            {
                "one by one": lambda: one_by_one(kind, net, items),
                "padded": lambda: padded(kind, net, items),
                "hocket": lambda: codec.encode(batch_BS, RATE, lengths),
            },
            rounds,
        )
    print(f"  {kind}: {len(items)} recordings, {seconds:.0f} s; {ties} near ties in {total} codes, all others equal")
    for name, spent in median.items():
        ratio, limit = spent / median["hocket"], LIMITS.get(name)
        beside = f"   hocket is {ratio:.2f} x as fast (target {limit})" if limit else ""
        print(f"    {name:12} {seconds / spent:7.1f} audio-seconds a second{beside}")


def main(rounds: int = 3, every: int = 9) -> None:
    items = corpus(every)
    print(heading("tokenising, published sizes, random weights, all 32 levels"))
    for kind in ("encodec", "mimi"):
        measure(kind, items, rounds)
    print()
