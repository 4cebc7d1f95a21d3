"""How alike two voices are: the cosine of what a speaker model makes of each.

    Resemblyzer    a recurrent network trained to tell speakers apart (Wan et al. 2018, GE2E); comes with its package
    WavLM-TDNN     WavLM with x-vectors on top (Chen et al. 2021; `microsoft/wavlm-base-plus-sv` as a local folder),
                   what VALL-E and Seed-TTS-eval report, there with WavLM-large

Figures of two models do not compare. Silence has no voice, nor has less than 0.4 s of speech: such a pair has no score.

Shapes: S samples at 16 kHz, D width of an embedding.
"""

from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from transformers import AutoFeatureExtractor, WavLMForXVector

from hocket.evaluation.generation.loading import reading
from hocket.evaluation.judges import MIN_VOICE_SECONDS, RATE, open_resemblyzer


class Embedder(Protocol):
    """Makes a voice a point."""

    name: str

    def embed(self, wav_S: np.ndarray) -> np.ndarray | None:
        """A vector `[D]` of length 1; None where there is no voice to go by."""
        ...


class Resemblyzer:
    """The package's own model. Raises ImportError where it is not installed."""

    name = "resemblyzer"

    def __init__(self):
        self.embed = open_resemblyzer()


class WavLM:
    """A model with x-vectors from a folder of transformers. Raises InputError where there is none."""

    def __init__(self, folder: str | Path, device: str = "cpu"):
        with reading(folder, "voices (WavLMForXVector)"):
            self._extractor: Any = AutoFeatureExtractor.from_pretrained(folder, local_files_only=True)
            loaded: Any = WavLMForXVector.from_pretrained(folder, local_files_only=True, output_loading_info=True)
            model, report = loaded
            if report["missing_keys"]:
                raise ValueError(f"it lacks the weights {sorted(report['missing_keys'])[0]} and others")
        self._model = model.to(device).eval()
        self.name = f"wavlm {Path(folder).name}"

    @torch.inference_mode()
    def embed(self, wav_S: np.ndarray) -> np.ndarray | None:
        if len(wav_S) < MIN_VOICE_SECONDS * RATE or not wav_S.any():
            return None
        inputs = self._extractor(wav_S, sampling_rate=RATE, return_tensors="pt").to(self._model.device)
        return torch.nn.functional.normalize(self._model(**inputs).embeddings[0], dim=0).cpu().numpy()


def compare(one_D: np.ndarray | None, other_D: np.ndarray | None) -> float | None:
    """Cosine, -1 to 1; None where one has no voice."""
    return None if one_D is None or other_D is None else float(one_D @ other_D)
