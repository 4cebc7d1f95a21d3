"""Generation from files to files."""

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from hocket.codec import write_audio
from hocket.errors import InputError
from hocket.inference.generator import Generator
from hocket.inference.request import Generation, Progress
from hocket.inference.sampling import Sampling
from hocket.model import load_model


def generate_files(
    checkpoint: str | Path,
    out: str | Path,
    *,
    prompt: str | Path | None = None,
    prompt_seconds: float | None = None,
    text: str | None = None,
    seconds: float = 5.0,
    sampling: Sampling | None = None,
    seed: int = 0,
    n: int = 1,
    include_prompt: bool = True,
    device: str = "cpu",
    on_step: Progress | None = None,
) -> dict[str, Any]:
    """Generates `n` items and writes each as wav, codes (`.npy`, `[T, K]`) and settings (`.json`) side by side.

    Args:
        out: the wav file; with n > 1, `out-1.wav`, `out-2.wav`, …, made with seeds seed, seed + 1, ….
        prompt_seconds: use only so much of the prompt's start.
        include_prompt: the wav begins with the prompt, as the codec renders it.

    Returns:
        A summary that can be written as JSON.

    Raises:
        InputError: as `Generator.generate`, or `out` is no wav file; nothing is written then.
    """
    out = Path(out)
    if out.suffix != ".wav":
        raise InputError(f"generated audio is written as .wav; {out} has the ending {out.suffix!r}")
    if n < 1:
        raise InputError(f"n must be at least 1, not {n}")
    sampling = sampling or Sampling()
    generator = Generator(load_model(checkpoint, device))
    request = generator.request(prompt, text, seconds, prompt_seconds=prompt_seconds)
    requests = [replace(request, seed=seed + i) for i in range(n)]
    items = generator.generate_batch(requests, sampling, on_step=on_step)
    settings = {
        "checkpoint": str(checkpoint),
        "prompt": None if prompt is None else str(prompt),
        "seconds": seconds,
        "sampling": asdict(sampling),
    }
    names = [out] if n == 1 else [out.with_name(f"{out.stem}-{i + 1}.wav") for i in range(n)]
    out.parent.mkdir(parents=True, exist_ok=True)
    outputs = [
        _write(name, item, settings | {"seed": seed + i}, include_prompt)
        for i, (name, item) in enumerate(zip(names, items, strict=True))
    ]
    generated = sum(item.seconds for item in items)
    return settings | {"outputs": outputs, "real_time_factor": generated / items[0].wall_seconds}


def _write(path: Path, item: Generation, settings: dict[str, Any], include_prompt: bool) -> dict[str, Any]:
    facts = {
        "wav": str(path),
        "seed": settings["seed"],
        "prompt_seconds": len(item.prompt_wav_T) / item.sample_rate,
        "generated_seconds": item.seconds,
        "ended": item.ended,
        "text": item.text,
    }
    write_audio(path, item.full_wav_T if include_prompt else item.wav_T, item.sample_rate)
    np.save(path.with_suffix(".npy"), np.concatenate([item.prompt_codes_TK, item.codes_TK]).astype(np.uint16))
    path.with_suffix(".json").write_text(json.dumps(settings | facts, indent=1, ensure_ascii=False) + "\n")
    return facts
