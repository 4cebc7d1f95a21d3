"""How soon the first sound comes, what streaming costs, and how long a frame of a conversation takes.

All on one thread, with a freshly made model of 6 layers of width 256 (depth heads of 4 layers of 192) over the bundled
codec's 8 levels of 1,024, at 25 Hz: untrained weights take the time that trained ones take.

    first audio   from the call to the first chunk with samples, without a prompt. The bundled codec is one frame
                  behind: it comes with the second frame
    overhead      10 s of audio streamed, in growing chunks and frame by frame, against offline; what streaming costs
                  is the codec's, so its share is smaller for the larger of two models
    conversation  a moshi session, sound in and sound out: 5 minutes, 7,500 frames; a frame has 40 ms

`python -m benchmarks.streaming [FRAMES]` sets the length of the conversation.
"""

import sys
import time

import numpy as np
import torch

from benchmarks.timing import heading, interleaved
from hocket.codec import load_codec
from hocket.inference import Generator, Request
from hocket.inference.session import Session
from hocket.interleave import Stage, load_layout
from hocket.model import Model, ModelConfig
from hocket.vocab import Vocabulary, train_bpe

LEVELS, FRAME_MS, SECONDS = 8, 40, 10
LARGER = {"dim": 512, "n_layers": 8, "n_heads": 8, "n_kv_heads": 8, "ffn_dim": 1376}
LAYOUTS = {
    "parallel, depth head": ("Parallel(audio)", "depth"),
    "acoustic delay, depth head": ("Delay(audio, [0, 1, ...])", "depth"),
    "delay": ("Delay(audio)", "parallel"),
    "flatten": ("Flatten(audio)", "parallel"),
    "coarse first": ("CoarseFirst(audio)", "parallel"),
}
SIZES = ModelConfig(
    dim=256, n_layers=6, n_heads=4, n_kv_heads=4, ffn_dim=688, context=4096,
    depth_dim=192, depth_layers=4, depth_heads=4, depth_kv_heads=4, depth_ffn_dim=512,
)  # fmt: skip


def make(expression: str, head: str, given: tuple[str, ...] = (), **sizes: int) -> Model:
    codec = load_codec("bundled")
    layout = load_layout(expression, LEVELS)
    streams = {name: codec.codebook_sizes for name in layout.streams if "text" not in name}
    vocabulary = Vocabulary.build(train_bpe(["a benchmark has few words"], 300), streams)
    config = ModelConfig(**{**SIZES.__dict__, **sizes})
    model = Model.build(config, vocabulary, Stage(name="", layout=layout, head=head, given=given), codec.identity)
    model.__dict__["codec"] = codec
    return model.eval()


def request_of(seconds: float) -> Request:
    n_frames = round(seconds * 1000 / FRAME_MS)
    return Request(limits={"audio": n_frames}, least={"audio": n_frames})


def first_audio(generator: Generator, seconds: float) -> float:
    """Milliseconds until the first samples."""
    began = time.perf_counter()
    for chunk in generator.stream(request_of(seconds)):
        if len(chunk.wav_T):
            return (time.perf_counter() - began) * 1e3
    raise AssertionError("no sound came")


def report_first_audio(rounds: int) -> None:
    print(heading("first audio: milliseconds to the first samples"))
    for name, (expression, head) in LAYOUTS.items():
        generator = Generator(make(expression, head))
        seconds = 4.0
        took = [first_audio(generator, seconds) for _ in range(rounds + 1)][1:]
        frames = f", after all {seconds:g} s" if name == "coarse first" else ""
        print(f"  {name:<28}{np.median(took):8.0f} ms{frames}")


def report_overhead(rounds: int, **sizes: int) -> None:
    model = make(*LAYOUTS["delay"], (), **sizes)
    generator = Generator(model)
    request = request_of(SECONDS)
    found = interleaved(
        {
            "offline": lambda: generator.generate_batch([request]),
            "streamed": lambda: list(generator.stream(request)),
            "streamed frame by frame": lambda: list(generator.stream(request, chunk_frames=1)),
        },
        rounds,
        time.thread_time,
    )
    size = f"{model.n_parameters / 1e6:.0f}M parameters"
    print(heading(f"streaming overhead: processor seconds for {SECONDS} s of audio, delay, {size}"))
    for name, seconds in found.items():
        print(f"  {name:<28}{seconds:8.2f} s  {seconds / found['offline'] - 1:+8.1%}")


def report_session(n_frames: int) -> None:
    layout = "Stack(aligned_text, Delay(audio, [0, 1, ...]), Delay(user, [0, 1, ...]))"
    model = make(layout, "depth", ("user",), context=750)
    session = Session(model)
    generator = torch.Generator().manual_seed(0)
    wall, cpu = [], []
    for _ in range(n_frames):
        piece_T = torch.randn(model.codec.hop, generator=generator) / 10
        began, began_cpu = time.perf_counter(), time.thread_time()
        session.step(piece_T)
        wall.append((time.perf_counter() - began) * 1e3)
        cpu.append((time.thread_time() - began_cpu) * 1e3)
    print(heading(f"conversation: milliseconds a frame of {n_frames}, {model.n_parameters / 1e6:.1f}M parameters"))
    for name, took in (("wall clock", wall), ("processor", cpu)):
        p50, p99 = np.percentile(took, [50, 99])
        late = sum(t > FRAME_MS for t in took)
        print(f"  {name:<12} p50 {p50:6.1f}   p99 {p99:6.1f}   most {max(took):6.1f}   over {FRAME_MS} ms: {late}")
    first, last = (np.median(part) for part in (cpu[len(cpu) // 4 : len(cpu) // 2], cpu[-len(cpu) // 4 :]))
    print(f"  second quarter against last, processor: {first:.1f} and {last:.1f} ms\n")


def main(rounds: int = 5, n_frames: int = 7500) -> None:
    torch.set_num_threads(1)
    report_first_audio(rounds)
    report_overhead(rounds)
    report_overhead(rounds, **LARGER)
    report_session(n_frames)


if __name__ == "__main__":
    main(n_frames=int(sys.argv[1]) if len(sys.argv) > 1 else 7500)
