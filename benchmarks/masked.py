"""30 s of audio at 12.5 Hz and 8 levels: filling in masked levels against our own models that go step by step.

    masked     23 passes over 376 steps: 16 of level 0, 1 of each other (SoundStorm)
    flatten    3,000 steps, one code each
    delay      382 steps, up to 8 codes each

All: width 512, 8 layers, 8 heads, 1,024 codes a level, nothing given, top-k 250 (an untrained model then never draws an
end), processor time of one thread. A pass costs what its steps cost, a step of a small batch what reading the weights
costs: masking wins where the machine computes much faster than it reads (bfloat16), and for few items; with the batch,
its time grows in proportion, and that of a step by less. Batches are doubled until delay is faster.
"""

import time
from collections.abc import Callable

import torch

from benchmarks.timing import heading, interleaved
from hocket.codec import CodecIdentity
from hocket.inference import Request, Sampling
from hocket.inference.autoregressive import Autoregressive
from hocket.inference.in_place import InPlaceSampler
from hocket.interleave import Stage, load_layout
from hocket.model import Model, ModelConfig
from hocket.vocab import Vocabulary

FRAMES, LEVELS, ENTRIES = 375, 8, 1024
PASSES, FLAT_STEPS = 23, FRAMES * LEVELS
BATCHES = (1, 2, 4, 8, 16)
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
SAMPLING = Sampling(top_k=250)


def build(expression: str, dtype: torch.dtype, masked: bool = False) -> Model:
    identity = CodecIdentity(
        name="none", revision="", weight_hash="", sample_rate=24000, hop=1920, codebook_sizes=(ENTRIES,) * LEVELS
    )
    vocabulary = Vocabulary.build(None, {"audio": identity.codebook_sizes})
    config = ModelConfig(dim=512, n_layers=8, n_heads=8, n_kv_heads=8, ffn_dim=1408, context=FLAT_STEPS + LEVELS)
    objective, attention = ("masked", "bidirectional") if masked else ("next-token", "causal")
    stage = Stage(name="", layout=load_layout(expression, LEVELS), objective=objective, attention=attention)
    model = Model.build(config, vocabulary, stage, identity).to(dtype)
    model.head.weight.data[vocabulary.id("<end.audio>")] = 0
    return model.eval()


def requests(batch: int) -> list[Request]:
    return [Request(limits={"audio": FRAMES}, seed=seed) for seed in range(batch)]


def fill_in(model: Model, batch: int) -> Callable[[], None]:
    sampler = InPlaceSampler(model)

    def run() -> None:
        assert sampler.run(requests(batch), SAMPLING)[0].passes == PASSES

    return run


def step_by_step(model: Model, batch: int) -> Callable[[], None]:
    def run() -> None:
        loop = Autoregressive(model, requests(batch), SAMPLING)
        steps = list(loop.run())[-1]
        assert steps >= FRAMES, "a document ended early"

    return run


def compare(name: str, dtype: torch.dtype, rounds: int) -> None:
    """One item by all three, then masked against delay by batch."""
    masked, flatten, delay = build("parallel", dtype, True), build("flatten", dtype), build("delay", dtype)
    seconds = interleaved(
        {"masked": fill_in(masked, 1), "flatten": step_by_step(flatten, 1), "delay": step_by_step(delay, 1)},
        rounds,
        time.process_time,
    )
    print(
        f"  {name}, 1 item    masked   {seconds['masked']:6.2f} s   {seconds['masked'] / PASSES * 1e3:6.1f} ms a pass"
    )
    for peer in ("flatten", "delay"):
        print(f"  {'':19}{peer:<8} {seconds[peer]:6.2f} s   {seconds[peer] / seconds['masked']:6.2f} x as long")
    print(f"  delay is {_crossing(name, masked, delay, rounds)}\n")


def _crossing(name: str, masked: Model, delay: Model, rounds: int) -> str:
    for batch in BATCHES:
        runs = {"masked": fill_in(masked, batch), "delay": step_by_step(delay, batch)}
        both = interleaved(runs, max(1, rounds - 2), time.process_time)
        ratio = both["delay"] / both["masked"]
        print(f"  {name}, {batch} items   masked {both['masked']:7.2f} s, delay {both['delay']:6.2f} s: {ratio:.2f} x")
        if ratio < 1:
            return f"faster from {batch} items on"
    return f"slower up to {BATCHES[-1]} items"


def main(rounds: int = 3) -> None:
    torch.set_num_threads(1)
    print(heading("30 s of audio, 12.5 Hz x 8 levels of 1,024 codes, d=512 x 8 layers"))
    for name, dtype in DTYPES.items():
        compare(name, dtype, rounds)
