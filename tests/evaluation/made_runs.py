"""Runs and evaluations made by hand, for comparisons: nothing is trained, all numbers are known."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import soundfile
import yaml

from hocket.evaluation.results import Clip, Evaluation, Heard, Level, Likelihood, Measure, Task

RATE = 16_000
CODEC = {
    "name": "made",
    "revision": "1",
    "weight_hash": "0" * 64,
    "sample_rate": RATE,
    "hop": 640,
    "codebook_sizes": [16] * 4,
    "channels": 1,
    "semantic_level": None,
    "delay": 0,
    "output_delay": 0,
    "window": 0,
    "window_stride": 0,
}
LAYOUTS = {"delay": "Delay(audio[:4], [0, 1, 2, 3])", "flatten": "Flatten(audio[:4])"}


def measure(value, half=None, n=10):
    low, high = (None, None) if half is None else (value - half, value + half)
    return Measure(value=value, low=low, high=high, n=n)


def make_run(folder: Path, bits=(200.0, 180.0, 170.0), every=10, work=1e9, config=None, logged=True) -> Path:
    """A run with held-out bits every `every` steps; a step takes `work` operations and hears 2 s."""
    folder.mkdir(parents=True)
    made = {"name": folder.name, "interleave": {"layout": folder.name}, "data": {"corpus": "speech"}}
    made["training"] = {"lr": 0.001, "steps": every * len(bits)}
    (folder / "config.yaml").write_text(yaml.safe_dump(made | (config or {})))
    rows = []
    for number, total in enumerate(bits, 1):
        step = every * number
        row = {"step": step, "loss": 2.5, "loss/audio.0": 2.4, "tokens": 100 * step, "tokens_per_second": 50.0}
        row |= {"audio_seconds_per_second": 1.0, "tflops": work / 2e12, "memory_gib": 1.0 + number / 10, "wall": step}
        rows.append(row | ({"flops": work * step, "audio_seconds": 2.0 * step} if logged else {}))
        held_out = {"step": step, "valid/loss": 2.5, "valid/audio.0": total / 100, "valid/audio.1": total / 90}
        exact = {"valid_bits/audio": total - 1, "valid_bits/structure": 1.0, "valid_bits/total": total}
        rows.append(held_out | (exact if total else {}))
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def likelihood(total, half=5.0, **other) -> Likelihood:
    bits = {"audio": measure(total - 1, half), "structure": measure(1.0, 0.1), "total": measure(total, half)}
    made = Likelihood(
        corpus="data/speech",
        split="valid",
        data="d" * 16,
        n=10,
        frames=1000,
        seconds=40.0,
        bits=bits,
        levels={"audio.0": Level(nats=2000.0, tokens=1000), "audio.1": Level(nats=2400.0, tokens=1000)},
        normalised={"sum": measure(400.0, 9.0), "mean": measure(2.2, 0.1), "frame": measure(9.0, 0.2)},
    )
    return replace(made, **other)


def evaluation(run: Path, total=170.0, half=5.0, step=30, **other) -> Evaluation:
    made = Evaluation(
        name=run.name,
        checkpoint=f"{run}/checkpoints/{step}",
        step=step,
        weights="f" * 16,
        suite="quick",
        hocket="1.0",
        date="2026-01-02",
        hardware="a machine",
        layout=LAYOUTS.get(run.name, LAYOUTS["delay"]),
        objective="next-token",
        attention="causal",
        head="parallel",
        stream="audio",
        levels=4,
        n_parameters=1_234_000,
        codec=CODEC,
        context_seconds=20.0,
        likelihood=likelihood(total, half),
        speed={"generation_audio_seconds_per_second": 3.0, "first_audio_ms": 80.0, "first_audio_streams": 1.0},
    )
    return replace(made, **other)


def evaluate(run: Path, total=170.0, half=5.0, step=30, clip_bits=None, **other) -> Path:
    """Leave an evaluation in a run; with `clip_bits` (by id) what each clip of 4 s took, too."""
    folder = run / "evaluation" / str(step)
    evaluation(run, total, half, step, **other).save(folder)
    if clip_bits:
        rows = [
            {"id": name, "frames": 100, "seconds": 4.0, "documents": 1, "blocks": {"audio.0": [b * np.log(2), 0, 1, 1]}}
            for name, b in clip_bits.items()
        ]
        (folder / "items").mkdir()
        lines = [json.dumps(row) + "\n" for row in ({"settings": {}}, *rows)]
        (folder / "items" / "likelihood.jsonl").write_text("".join(lines))
    return run


def add_sounds(run: Path, ids=("one", "two"), step=30) -> tuple[Clip, ...]:
    """Tones of half a second and more for every kind, and the clips that name them."""
    folder = run / "evaluation" / str(step) / "samples"
    folder.mkdir(parents=True)
    clips = []
    for number, name in enumerate(ids):
        wavs = {}
        for kind, seconds in (("prompt", 0.5), ("original", 1.5), ("resynthesis", 1.5), ("model", 1.2)):
            wav = 0.3 * np.sin(2 * np.pi * 220 * (number + 1) * np.arange(int(seconds * RATE)) / RATE)
            soundfile.write(folder / f"{number}-{kind}.wav", wav, RATE)
            wavs[kind] = f"samples/{number}-{kind}.wav"
        said = {"original": "hello there", "model": f"<b>{run.name} & co</b>"}
        clips.append(Clip(id=name, protocol="continuation", text="Hello.", wavs=wavs, transcripts=said, seam=0.5))
    return tuple(clips)


def heard() -> tuple[Heard, ...]:
    figures = (("original", 5.0), ("resynthesis", 9.0), ("model", 60.0))
    return tuple(
        Heard(protocol="continuation", kind=kind, n=2, metrics={"wer": measure(wer, 2.0), "similarity": measure(0.8)})
        for kind, wer in figures
    )


def tasks() -> tuple[Task, ...]:
    return (Task(name="salmon", metrics={"all": measure(0.55, 0.05)}, normalisation="mean", folder="salmon"),)
