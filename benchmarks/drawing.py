"""Microseconds to draw the ids of one step: hocket's sampler against transformers' logits processors and multinomial.

Both: 4 rows of 2,049 logits, batch 1, float32, one thread. Hocket's also returns log-probabilities under the model's
own distribution; the peer's do not.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from transformers import (
    LogitsProcessorList,
    MinPLogitsWarper,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from benchmarks.timing import heading, interleaved
from hocket.inference.sampling import Sampler, Sampling
from hocket.interleave import load_layout
from hocket.model.stepping import Pass

ROWS, IDS, REPEATS = 4, 2049, 100
SETTINGS = {
    "plain": Sampling(),
    "greedy": Sampling(temperature=0),
    "temperature .8": Sampling(temperature=0.8),
    "top-k 250": Sampling(top_k=250),
    "top-p .9": Sampling(top_p=0.9),
    "min-p .05": Sampling(min_p=0.05),
    "all of these": Sampling(temperature=0.8, top_k=250, top_p=0.9, min_p=0.05),
}


def ours(sampling: Sampling, logits_BPJ: Tensor) -> Callable[[], object]:
    sampler = Sampler(sampling, load_layout("Delay(audio)", ROWS))
    ids_PJ = torch.arange(IDS).expand(ROWS, -1).contiguous()
    pass_, legal_R = Pass(tuple(range(ROWS)), logits_BPJ, ids_PJ), tuple(range(1, ROWS + 1))
    uniform_BPU, recent_BPW = torch.rand(1, ROWS, 2), torch.randint(0, IDS, (1, ROWS, sampler.window))
    return repeated(lambda: sampler.choose(pass_, legal_R, uniform_BPU, recent_BPW))


def theirs(sampling: Sampling, logits_PJ: Tensor) -> Callable[[], object]:
    if sampling.temperature == 0:
        return repeated(lambda: logits_PJ.argmax(dim=-1))
    warpers = LogitsProcessorList()
    if sampling.temperature != 1:
        warpers.append(TemperatureLogitsWarper(sampling.temperature))
    if sampling.top_k:
        warpers.append(TopKLogitsWarper(sampling.top_k))
    if sampling.top_p < 1:
        warpers.append(TopPLogitsWarper(sampling.top_p))
    if sampling.min_p:
        warpers.append(MinPLogitsWarper(sampling.min_p))
    ids = torch.zeros(ROWS, 1, dtype=torch.int64)
    return repeated(lambda: torch.multinomial(warpers(ids, logits_PJ).softmax(dim=-1), 1))  # type: ignore[arg-type]


def repeated(draw: Callable[[], object]) -> Callable[[], object]:
    @torch.inference_mode()
    def run() -> None:
        for _ in range(REPEATS):
            draw()

    return run


def main(rounds: int = 21) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    logits_BPJ = torch.randn(1, ROWS, IDS) * 3
    candidates = {}
    for name, sampling in SETTINGS.items():
        candidates |= {f"hocket {name}": ours(sampling, logits_BPJ), f"peer {name}": theirs(sampling, logits_BPJ[0])}
    candidates["hocket repetition"] = ours(Sampling(top_p=0.9, repetition_window=10), logits_BPJ)
    median = {name: seconds / REPEATS * 1e6 for name, seconds in interleaved(candidates, rounds).items()}
    print(heading(f"drawing {ROWS} rows of {IDS:,} logits, microseconds"))
    print(f"  {'':20s}{'hocket':>8s}{'transformers':>14s}")
    for name in SETTINGS:
        print(f"  {name:20s}{median[f'hocket {name}']:8.0f}{median[f'peer {name}']:14.0f}")
    print(f"  {'top-p .9, repetition':20s}{median['hocket repetition']:8.0f}{'–':>14s}\n")
