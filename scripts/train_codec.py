"""Trains a spectral codec on folders of speech and writes it as a codec folder.

Each folder has a `manifest.jsonl` with `id`, `audio` (relative), `speaker`; its name is the set's name in the split
file, whose held-out ids and speakers are left out. Resumes by itself from RUN.

    OMP_NUM_THREADS=1 python scripts/train_codec.py RUN SPEECH_FOLDER... --minutes 50
"""

import argparse
import dataclasses
import json
from pathlib import Path

import numpy as np
import torch

from hocket.codec.audio import read_audio
from hocket.codec.spectral import SpectralCodec
from hocket.codec.trainer import CodecTrainer, CodecTraining

SPLIT = Path(__file__).parents[1] / "hocket" / "codec" / "bundled" / "split.json"
SAMPLE_RATE = 16000


def training_rows(folder: Path, split: dict) -> list[dict]:
    """The manifest's rows that are not held out."""
    held_out = split["held_out"].get(folder.name, {})
    ids, speakers = set(held_out.get("ids", [])), set(held_out.get("speakers", []))
    lines = (folder / "manifest.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    return [row for row in rows if row["id"] not in ids and row.get("speaker") not in speakers]


def read_waves(folder: Path, split: dict) -> list[np.ndarray]:
    waves = []
    for row in training_rows(folder, split):
        wav_S, _ = read_audio(folder / row["audio"], SAMPLE_RATE)
        waves.append((wav_S.clamp(-1, 1) * 32767).to(torch.int16).numpy())
    print(f"{folder.name}: {len(waves)} clips, {sum(map(len, waves)) / SAMPLE_RATE / 60:.1f} minutes", flush=True)
    return waves


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("folders", type=Path, nargs="+")
    parser.add_argument("--split", type=Path, default=SPLIT)
    parser.add_argument("--name", default="bundled")
    parser.add_argument("--device", default="cpu")
    for field in dataclasses.fields(CodecTraining):
        if isinstance(field.default, int | float) and not isinstance(field.default, bool):
            parser.add_argument(f"--{field.name.replace('_', '-')}", type=type(field.default), default=field.default)
    arguments = parser.parse_args()
    split = json.loads(arguments.split.read_text(encoding="utf-8"))
    waves = [wave for folder in arguments.folders for wave in read_waves(folder, split)]
    chosen = {name: value for name, value in vars(arguments).items() if name in CodecTraining.__dataclass_fields__}
    codec = SpectralCodec.random(arguments.seed, arguments.name).to(arguments.device)
    trainer = CodecTrainer(codec, waves, CodecTraining(**chosen), arguments.run)
    trainer.resume()
    trainer.run()
    trainer.codec.save(arguments.run / "codec")
    print(f"step {trainer.step}, {trainer.seconds / 60:.1f} minutes", flush=True)


if __name__ == "__main__":
    main()
