"""A run that can be evaluated, made in a second: two untrained checkpoints, and a corpus of murmurs."""

import json
from pathlib import Path

import numpy as np
import soundfile
import yaml

from hocket.codec import load_codec
from hocket.data import tokenize
from hocket.interleave import load_layout
from hocket.model import Model, ModelConfig
from hocket.vocab import Vocabulary

RATE = 16_000
STEPS = (2, 4)
CLIPS = {"valid": 4, "train": 2}
SECONDS = 2.4


def make_model(layout, seed: int = 0, context: int = 120) -> Model:
    """An untrained model that speaks the bundled codec."""
    codec = load_codec("bundled")
    vocabulary = Vocabulary.build(None, {"audio": codec.codebook_sizes}, {"audio": codec.identity.fingerprint})
    config = ModelConfig(dim=16, n_layers=1, n_heads=2, n_kv_heads=2, ffn_dim=16, context=context)
    return Model.build(config, vocabulary, layout, codec.identity, seed=seed)


def make_recordings(folder: Path) -> Path:
    """A manifest of murmurs with texts, in two splits."""
    folder.mkdir()
    rng, rows = np.random.default_rng(0), []
    for split, n in CLIPS.items():
        for number in range(n):
            time_S = np.arange(round(SECONDS * RATE)) / RATE
            loudness_S = 0.1 + 0.1 * np.sin(2 * np.pi * 3 * time_S)
            wav_S = loudness_S * (np.sin(2 * np.pi * 150 * time_S) + rng.normal(0, 0.3, len(time_S)))
            soundfile.write(folder / f"{split}-{number}.wav", wav_S, RATE)
            rows.append({"audio": f"{split}-{number}.wav", "text": f"murmur {number}", "split": split})
    (folder / "manifest.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n")
    return folder / "manifest.jsonl"


def make_run(folder: Path) -> Path:
    """FOLDER/tiny, a run with the checkpoints of steps 2 and 4; its corpus lies beside it."""
    manifest = make_recordings(folder / "recordings")
    tokenize(manifest, folder / "corpus", load_codec("bundled"))
    run = folder / "tiny"
    run.mkdir()
    recipe = {"name": "tiny", "data": {"corpus": str(folder / "corpus"), "missing": "refuse"}}
    (run / "config.yaml").write_text(yaml.safe_dump(recipe))
    (run / "latest").write_text(f"{STEPS[-1]}\n")
    for step in STEPS:
        make_model(load_layout("delay", levels=8), seed=step).save(run / f"checkpoints/{step}/model")
        (run / f"checkpoints/{step}/config.yaml").write_text(yaml.safe_dump(recipe))
    return run
