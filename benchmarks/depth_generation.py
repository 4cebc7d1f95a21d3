"""Milliseconds a frame with a depth head: hocket against moshi's `LMGen`, at 8 and 16 levels of 2,048.

    HOCKET_MOSHI=VENV/bin/python python -m benchmarks depth_generation

Both: trunk of width 512, 8 layers, 8 heads, feed-forward 1,344; depth of width 256, 4 layers, 4 heads, feed-forward
672, weights of its own for each level; batch 1, one thread, float32, sampled at temperature 1, no codec. moshi runs in
its own environment (`peer_moshi.py` says what it needs), as a process that waits for its turn. moshi's ring cache
attends over its whole context at each step: it is given one of as many frames as are made. On a GPU both run in
bfloat16 with their CUDA graphs.

moshi draws a text token from the trunk and all levels from the depth part; hocket the first level from the trunk, and
reads its state at a position of its own: both have as many positions as levels, and read the same bytes within 2 %.
"""

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import torch

from benchmarks.generation import matrices
from benchmarks.timing import Seconds, heading, taking_turns, timed
from hocket.codec import CodecIdentity
from hocket.inference import Generator, Request, Sampling
from hocket.interleave import Stage, load_layout
from hocket.model import Model, ModelConfig
from hocket.vocab import Vocabulary

FRAMES, ENTRIES, WANTED = 40, 2048, 2.0
PEER = "HOCKET_MOSHI"
SCRIPT = Path(__file__).with_name("peer_moshi.py")


def build(levels: int, weights: str) -> Model:
    """An untrained model; it ends once in 2,049 draws, and the seed avoids it."""
    identity = CodecIdentity(
        name="none", revision="", weight_hash="", sample_rate=24000, hop=1920, codebook_sizes=(ENTRIES,) * levels
    )
    vocabulary = Vocabulary.build(None, {"audio": identity.codebook_sizes})
    config = ModelConfig(
        dim=512,
        n_layers=8,
        n_heads=8,
        n_kv_heads=8,
        ffn_dim=1344,
        qk_norm=False,
        context=2 * FRAMES,
        depth_dim=256,
        depth_layers=4,
        depth_heads=4,
        depth_kv_heads=4,
        depth_ffn_dim=672,
        depth_weights=weights,
    )
    stage = Stage(name="", layout=load_layout("parallel", levels), head="depth")
    model = Model.build(config, vocabulary, stage, identity)
    model.head.weight.data[vocabulary.id("<end.audio>")] = 0
    return model.to("cuda", torch.bfloat16) if torch.cuda.is_available() else model


def sample(model: Model) -> Callable[[], Seconds]:
    generator, request = Generator(model), Request(limits={"audio": FRAMES})

    def run() -> None:
        assert len(generator.sample([request], Sampling())[0].streams["audio"]) == FRAMES, "the document ended early"

    return timed(run)


class Moshi:
    """The peer's process; each call is a run."""

    def __init__(self, python: str, levels: int):
        command = [python, str(SCRIPT), str(levels), str(FRAMES)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.bytes = int(self._line())

    def __call__(self) -> Seconds:
        assert self._process.stdin is not None
        print("run", file=self._process.stdin, flush=True)
        return Seconds(*map(float, self._line().split()))

    def close(self) -> None:
        self._process.communicate()

    def _line(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "moshi's process ended"
        return line


def main(rounds: int = 5) -> None:
    torch.set_num_threads(1)
    python = os.environ.get(PEER)
    for levels in (8, 16):
        own, shared = build(levels, "rows"), build(levels, "shared")
        candidates: dict[str, Callable[[], Seconds]] = {"hocket": sample(own), "hocket, shared weights": sample(shared)}
        peer = Moshi(python, levels) if python else None
        if peer:
            candidates["moshi LMGen"] = peer
        found = taking_turns(candidates, rounds)
        print(heading(f"depth head, ms a frame of {levels} levels of 2,048, d=512 x 8 and 256 x 4 layers, batch 1"))
        print(f"  matrices: hocket {read_bytes(own):.0f} MB, moshi {peer.bytes / 1e6 if peer else 0:.0f} MB")
        for name, seconds in found.items():
            wall, processor = (s / FRAMES * 1e3 for s in seconds)
            print(f"  {name:<24}{wall:8.2f} ms   {processor:8.2f} ms of processor time")
        if peer:
            ratio = [theirs / mine for theirs, mine in zip(found["moshi LMGen"], found["hocket"], strict=True)]
            print(f"  moshi / hocket {ratio[0]:.2f} (processor time {ratio[1]:.2f}), wanted {WANTED}\n")
            peer.close()
        else:
            print(f"  no peer: {PEER} names no python with moshi\n")


def read_bytes(model: Model) -> float:
    """Megabytes of the matrices that a frame reads: of the trunk's head only the first level's rows."""
    head = model.head.weight[:1].nbytes
    unread = (len(model.head.weight) - model.head.legal_sets[-1].size) * head
    return (sum(w.nbytes for w in matrices(model)) - unread) / 1e6
