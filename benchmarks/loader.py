"""What the loader costs: raw reads beside `datasets`, bytes a token, fill, share of a training step, a million rows.

Raw reads copy the codes of rows of 30 s (12.5 Hz, 8 levels, as Mimi's) in shuffled order into memory of their own:
`corpus.gather` of 32 rows into a uint16 tensor, beside `datasets` on the same files as tensors (`with_format("torch")`)
and as lists, row by row and 32 at a time; and beside it on files of its own with all codes of a row in one flat column,
which it reads best, though the shape [T, K] is lost.

The lengths of LibriSpeech are drawn after published facts (mean 12.3 s, most near 15 s, below 17 s in training, up to
35 s elsewhere): 37 % evenly between 1.5 and 13 s, 61 % normal around 15 s, 2 % evenly between 17 and 35 s.

Shapes: T frames, K levels, N rows.
"""

import ctypes
import mmap
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import datasets
import numpy as np
import pyarrow as pa
import torch
from datasets.table import InMemoryTable

from benchmarks.timing import heading, interleaved
from hocket.codec import CodecIdentity
from hocket.data import Corpus, PackedLoader
from hocket.data.card import CARD_FILE, CorpusCard, Counts, ShardCard
from hocket.data.shards import Row, datasets_metadata, json_bytes, sha256, shard_bytes, shard_name
from hocket.interleave import load_layout
from hocket.model import Model, ModelConfig
from hocket.vocab import Vocabulary

LEVELS, CODES, RATE = 8, 2048, 12.5
ROWS_PER_SHARD, BATCH = 10_000, 32
LIMITS = {"torch": 50, "lists": 300}
Reader = Callable[[list[int]], object]
MIMI = CodecIdentity(
    name="mimi", revision="1", weight_hash="0", sample_rate=24000, hop=1920, codebook_sizes=(CODES,) * LEVELS
)


def write(folder: Path, lengths: np.ndarray) -> Corpus:
    """A corpus of random codes of so many frames."""
    rng = np.random.default_rng(0)
    shards, counts = [], []
    folder.mkdir()
    for first in range(0, len(lengths), ROWS_PER_SHARD):
        rows = [_row(first + i, int(n), rng) for i, n in enumerate(lengths[first : first + ROWS_PER_SHARD])]
        content, name = shard_bytes(rows, {"audio": LEVELS}), shard_name(len(shards))
        (folder / name).write_bytes(content)
        shards.append(ShardCard(file=name, n_examples=len(rows), n_bytes=len(content), sha256=sha256(content)))
        counts.append(Counts.of(rows))
    card = CorpusCard(
        streams={"audio": MIMI},
        source="random",
        source_fingerprint="0",
        settings={},
        counts=Counts.total(counts),
        n_rejected=0,
        shards=shards,
        fingerprint=sha256(lengths.tobytes()),
    )
    for name, content in datasets_metadata([s.file for s in shards], {"audio": LEVELS}, card.fingerprint).items():
        (folder / name).write_bytes(content)
    (folder / CARD_FILE).write_bytes(json_bytes(card.to_dict()))
    return Corpus.open(folder)


def _row(number: int, n_frames: int, rng: np.random.Generator) -> Row:
    codes_TK = rng.integers(0, CODES, (n_frames, LEVELS), dtype=np.uint16)
    name = f"row-{number:07d}"
    return Row(
        id=name,
        streams={"audio": codes_TK},
        split="train",
        recording=name,
        duration=n_frames / RATE,
        audio=f"{name}.wav",
    )


def librispeech_frames(n: int, seed: int = 0) -> np.ndarray:
    """Frames of utterances as long as those of LibriSpeech."""
    rng = np.random.default_rng(seed)
    kind = rng.random(n)
    seconds = np.where(kind < 0.37, rng.uniform(1.5, 13, n), rng.normal(15, 0.9, n).clip(12, 17))
    return (np.where(kind > 0.98, rng.uniform(17, 35, n), seconds) * RATE).astype(np.int64)


def raw_reads(folder: Path, n_rows: int, rounds: int) -> None:
    """Tokens a second in shuffled order, of ours and of the ways through `datasets`."""
    corpus = write(folder / "raw", np.full(n_rows, int(30 * RATE)))
    order = np.random.default_rng(1).permutation(n_rows)
    tokens_a_row = int(30 * RATE) * LEVELS
    readers, shares = readers_of(corpus, write_flat(corpus, folder / "flat"))
    counts = {name: int(n_rows * share) // BATCH for name, share in shares.items()}

    def reading(name: str) -> Callable[[], None]:
        def run() -> None:
            for batch in range(counts[name]):
                readers[name](order[batch * BATCH : (batch + 1) * BATCH].tolist())

        return run

    median = interleaved({name: reading(name) for name in readers}, rounds)
    rates = {name: counts[name] * BATCH * tokens_a_row / median[name] for name in readers}
    ours = rates.pop("gather")
    print(f"  raw reads, {n_rows:,} rows of 30 s in shuffled order\n    hocket {ours / 1e6:,.0f} M tokens a second")
    for name, rate in rates.items():
        limit = next(limit for kind, limit in LIMITS.items() if kind in name)
        print(f"    {name:34} {rate / 1e6:8,.1f} M tokens a second, hocket {ours / rate:7,.1f} x (limit {limit} x)")
    laid_out(corpus, rounds)
    bytes_a_token(corpus, n_rows * tokens_a_row)


def readers_of(corpus: Corpus, flat: datasets.Dataset) -> tuple[dict[str, Reader], dict[str, float]]:
    """What reads a batch of rows, and which share of all rows it reads in a round."""
    same = datasets.Dataset.load_from_disk(str(corpus.folder)).select_columns("codes")
    into_SK = torch.empty((BATCH * int(30 * RATE), LEVELS), dtype=torch.uint16)
    readers: dict[str, Reader] = {
        "gather": lambda rows: corpus.gather("audio", np.array(rows), out=into_SK.numpy()),
    }
    shares = {"gather": 1.0}
    for name, kind in (("same files", same), ("flat column", flat)):
        tensors = kind.with_format("torch")
        readers |= {
            f"{name}, torch, row by row": lambda rows, data=tensors: [data[row]["codes"] for row in rows],
            f"{name}, torch, 32 at a time": lambda rows, data=tensors: data[rows]["codes"],
            f"{name}, lists, row by row": lambda rows, data=kind: [data[row]["codes"] for row in rows],
            f"{name}, lists, 32 at a time": lambda rows, data=kind: list(data[rows]["codes"]),
        }
        shares |= dict.fromkeys([reader for reader in readers if reader.startswith(name)], 0.01)
    return readers, shares


def write_flat(corpus: Corpus, folder: Path) -> datasets.Dataset:
    """The same codes as `datasets` reads them fastest, from files."""
    flat = corpus.gather("audio", np.arange(len(corpus))).reshape(-1)
    offsets = np.arange(0, len(flat) + 1, len(flat) // len(corpus), dtype=np.int32)
    table = pa.table({"codes": pa.ListArray.from_arrays(pa.array(offsets), pa.array(flat))})
    datasets.disable_progress_bars()
    datasets.Dataset(InMemoryTable(table)).save_to_disk(str(folder))
    return datasets.Dataset.load_from_disk(str(folder))


def laid_out(corpus: Corpus, rounds: int, n: int = 20) -> None:
    """Tokens a second of packed batches under a delay layout, ready for the model."""
    for workers in (0, 2):
        loader = loader_of(corpus, 8192, workers=workers)

        def run(loader: PackedLoader = loader) -> None:
            for _ in range(n):
                next(loader)

        seconds = interleaved({"packed": run}, rounds)["packed"]
        frames = sum(next(loader).n_frames for _ in range(n))
        loader.close()
        print(f"    packed and laid out, {workers} workers {frames * LEVELS / seconds / 1e6:,.1f} M tokens a second")


def loader_of(corpus: Corpus, batch_steps: int, **options) -> PackedLoader:
    """Packed batches of Mimi's 8 levels with MusicGen's delay."""
    vocabulary = Vocabulary.build(streams={"audio": MIMI.codebook_sizes})
    layout = load_layout("delay", levels=LEVELS)
    context = min(batch_steps, 1024)
    return PackedLoader(corpus, layout, vocabulary, batch_steps=batch_steps, context=context, seed=0, **options)


def bytes_a_token(corpus: Corpus, n_tokens: int) -> None:
    """Bytes on disk, and bytes of the files in memory after every row was read once, a token."""
    files = [corpus.folder / card.file for card in corpus.card.shards]
    on_disk = sum(file.stat().st_size for file in files)
    corpus.gather("audio", np.random.default_rng(2).permutation(len(corpus)))
    in_cache = sum(map(cached_bytes, files))
    print(
        f"  bytes a token: {on_disk / n_tokens:.3f} on disk, {in_cache / n_tokens:.3f} in the page "
        "cache after reading all (limit 2, and the ids and times of rows beside)"
    )


def cached_bytes(file: Path) -> int:
    """Bytes of a file that lie in the page cache, by mincore."""
    size, page = file.stat().st_size, mmap.PAGESIZE
    with file.open("rb") as opened, mmap.mmap(opened.fileno(), 0, mmap.MAP_SHARED, mmap.PROT_READ) as mapped:
        pages = (ctypes.c_ubyte * (-(-size // page)))()
        view = np.frombuffer(mapped, np.uint8)
        failed = ctypes.CDLL(None).mincore(ctypes.c_void_p(view.ctypes.data), ctypes.c_size_t(size), pages)
        del view
        if failed:
            raise OSError("mincore failed")
        return sum(flags & 1 for flags in bytes(pages)) * page


def fill(folder: Path, n_rows: int) -> None:
    """How full packed and padded batches are on lengths as LibriSpeech's."""
    frames = librispeech_frames(n_rows)
    corpus = write(folder / "speech", frames)
    print(f"  fill, {n_rows:,} rows as long as LibriSpeech's (mean {frames.mean() / RATE:.1f} s), delay, 8 levels")
    for batch_steps in (2048, 8192, 32768):
        for packing in ("packed", "padded"):
            loader = loader_of(corpus, batch_steps, packing=packing)
            real = computed = room = 0
            while loader.epoch == 0:
                batch = next(loader)
                real, computed, room = real + batch.n_real_steps, computed + batch.n_steps, room + batch.budget
            limit = " (limit 0.99)" if packing == "packed" else ""
            print(
                f"    {batch_steps:6} steps, {packing:7} {real / room:.4f} of the budget{limit}, "
                f"{1 - real / computed:.4f} of what is computed is padding"
            )


def share_of_a_step(folder: Path, rounds: int) -> None:
    """Time for the next batch beside forward, backward and update of a model of 5M parameters."""
    corpus = Corpus.open(folder / "speech")
    loader = loader_of(corpus, 2048)
    vocabulary = Vocabulary.build(streams={"audio": MIMI.codebook_sizes})
    config = ModelConfig(dim=128, n_layers=4, n_heads=4, n_kv_heads=4, ffn_dim=344, context=1024)
    model = Model.build(config, vocabulary, load_layout("delay", levels=LEVELS), MIMI)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    batch = next(loader)

    def step() -> None:
        parts = model(batch)
        (parts.total / parts.weight).backward()
        optimizer.step()
        optimizer.zero_grad()

    median = interleaved({"batch": lambda: next(loader), "step": step}, rounds)
    n = model.n_parameters / 1e6
    share = median["batch"] / (median["batch"] + median["step"])
    print(
        f"  a training step of {n:.1f}M parameters, {batch.n_steps} steps of delay, {torch.get_num_threads()} threads: "
        f"{median['step'] * 1e3:.0f} ms; the loader takes {median['batch'] * 1e3:.2f} ms, {share:.2%} (limit 5 %)"
    )


def million(folder: Path) -> None:
    """Opening and shuffling a million short rows, in a process of its own."""
    print(f"  {1_000_000:,} rows of 4 to 12 frames")
    frames = np.random.default_rng(3).integers(4, 13, 1_000_000)
    write(folder / "million", frames)
    command = [sys.executable, "-c", f"from benchmarks.loader import open_million; open_million({str(folder)!r})"]
    subprocess.run(command, check=True)


def open_million(folder: str) -> None:
    """Times and memory beyond what the imports take."""
    before, start = memory("VmRSS"), time.perf_counter()
    corpus = Corpus.open(Path(folder) / "million")
    opened = time.perf_counter() - start
    loader = loader_of(corpus.split("train"), 2048)
    ready = time.perf_counter() - start
    began = time.perf_counter()
    next(loader)
    first = time.perf_counter() - began
    began = time.perf_counter()
    order = loader._order
    order._orders.clear()
    order._order(0, 1)
    shuffled = time.perf_counter() - began
    for _ in range(2000):
        next(loader)
    print(
        f"    open {opened:.3f} s (limit 2), loader ready {ready:.2f} s, first batch {first:.2f} s, shuffle of an "
        f"epoch {shuffled:.3f} s, peak memory +{memory('VmHWM') - before} MB at most after 2,000 batches"
    )


def memory(kind: str) -> int:
    """This process' memory in MB: VmRSS now, VmHWM at most so far (the imports' own peak included)."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(kind)) // 1024


def main(rounds: int = 5, n_rows: int = 20_000) -> None:
    torch.set_num_threads(os.cpu_count() or 1)
    print(heading("loading"))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        raw_reads(folder, n_rows, rounds)
        fill(folder, n_rows)
        share_of_a_step(folder, rounds)
        million(folder)
    print()
