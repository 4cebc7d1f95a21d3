"""How fast codes that exist become a corpus, by the kind of their source: rows of Mimi's shape, 8 levels, 4 to 16 s."""

import json
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import datasets
import kaldiio
import numpy as np
import torch

from benchmarks.timing import heading, prepared
from hocket.codec import CodecIdentity
from hocket.data.importing import import_codes

ROWS, ROUNDS = 10_000, 3
MIMI = CodecIdentity(
    name="kyutai/mimi", revision="1", weight_hash="0" * 64, sample_rate=24_000, hop=1920, codebook_sizes=(2048,) * 8
)
UNITS = CodecIdentity(
    name="units", revision="1", weight_hash="1" * 64, sample_rate=16_000, hop=640, codebook_sizes=(500,)
)

Codes = list[np.ndarray]


def main() -> None:
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    codes = [rng.integers(0, 2048, (n, 8)) for n in rng.integers(50, 200, ROWS)]
    units = [rng.integers(0, 500, 2 * len(codes_TK)) for codes_TK in codes]
    hours = sum(map(len, codes)) / 12.5 / 3600
    with tempfile.TemporaryDirectory() as folder:
        sources = write_sources(Path(folder), codes, units)
        candidates = {name: one(src, Path(folder) / "corpus", codec) for name, (src, codec) in sources.items()}
        seconds = prepared(candidates, ROUNDS)
    print(heading(f"Importing {ROWS:,} rows, {hours:.1f} h of audio, one CPU thread, median of {ROUNDS}"))
    print("| source | rows/s | million codes/s | hours of audio an hour |\n|---|---|---|---|")
    for name, (_, codec) in sources.items():
        n_codes = sum(array.size for array in (codes if codec is MIMI else units))
        rate = 1 / seconds[name]
        print(f"| {name} | {ROWS * rate:,.0f} | {n_codes * rate / 1e6:.1f} | {hours * 3600 * rate:,.0f} |")


def one(src: Path, dst: Path, codec: CodecIdentity) -> Callable[[int], Callable[[], object]]:
    """An import into a folder that is emptied before each turn."""

    def prepare(turn: int) -> Callable[[], object]:
        shutil.rmtree(dst, ignore_errors=True)
        return lambda: import_codes(src, dst, codec)

    return prepare


def write_sources(folder: Path, codes: Codes, units: Codes) -> dict[str, tuple[Path, CodecIdentity]]:
    """The same codes in every form, by name, with their codec."""
    for name in ("npy", "pt", "parquet"):
        (folder / name).mkdir()
    for i, codes_TK in enumerate(codes):
        np.save(folder / f"npy/{i:05d}.npy", codes_TK.T.astype(np.int16))
        torch.save(torch.from_numpy(codes_TK.T.copy()), folder / f"pt/{i:05d}.pt")
    qwen = [{"audio": f"{i}.wav", "text": f"text {i}", "audio_codes": c.tolist()} for i, c in enumerate(codes)]
    slamkit = [{"units": u.tolist(), "duration": [1] * len(u), "file_name": f"{i}.flac"} for i, u in enumerate(units)]
    for name, rows in (("qwen.jsonl", qwen), ("slamkit.jsonl", slamkit)):
        (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    lines = [f"{i}|{' '.join(map(str, units_T))}\n" for i, units_T in enumerate(units)]
    (folder / "units.txt").write_text("".join(lines))
    datasets.disable_progress_bars()
    table = datasets.Dataset.from_dict({"codes": [codes_TK.T.astype(np.int16) for codes_TK in codes]})
    table.save_to_disk(folder / "saved")
    table.to_parquet(folder / "parquet/train.parquet")
    arrays = {f"{i:05d}": codes_TK.astype(np.float32) for i, codes_TK in enumerate(codes)}
    kaldiio.save_ark(str(folder / "codes.ark"), arrays, scp=str(folder / "codes.scp"))
    return {
        ".npy": (folder / "npy", MIMI),
        ".pt": (folder / "pt", MIMI),
        "Qwen3-TTS JSON lines": (folder / "qwen.jsonl", MIMI),
        "SlamKit JSON lines": (folder / "slamkit.jsonl", UNITS),
        "lines of units": (folder / "units.txt", UNITS),
        "saved data set": (folder / "saved", MIMI),
        "Parquet": (folder / "parquet", MIMI),
        "Kaldi ark": (folder / "codes.ark", MIMI),
        "Kaldi scp": (folder / "codes.scp", MIMI),
    }
