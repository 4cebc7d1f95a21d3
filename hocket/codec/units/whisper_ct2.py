"""The encoder of a Whisper model that was converted for CTranslate2 (as faster-whisper uses them).

Needs the package ctranslate2 (the extra "units"). The converted folder holds `model.bin`, `config.json` and a
vocabulary. Computed in float32 on one CPU thread unless moved to a GPU at opening; CTranslate2 gives the whole
encoder's features only, so no layer can be chosen.
tiny.en takes about 0.4 s of CPU a window of 30 s.

Shapes: T frames, D feature width, M mel bands, B windows.
"""

import hashlib
import importlib
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import WhisperFeatureExtractor

from hocket.codec.units.extractor import Extractor
from hocket.codec.units.whisper import WindowedWhisper
from hocket.errors import InputError

COPIED = ("model.bin", "config.json", "vocabulary.*", "tokenizer.json", "preprocessor_config.json")


class WhisperCt2(WindowedWhisper):
    kind = "whisper-ct2"
    sample_rate = 16000
    hop = 320

    def __init__(self, net: Any, storage: Any, folder: Path):
        """`storage` is the class `ctranslate2.StorageView`; `folder` has the files that `save` copies."""
        super().__init__()
        self.net, self.storage, self.folder = net, storage, folder
        self.prepare = WhisperFeatureExtractor(feature_size=net.n_mels)
        silence_BMT = self._mels(torch.zeros(self.hop))
        self.width = self._window(silence_BMT).shape[1]

    def _window(self, mels_BMT: torch.Tensor) -> torch.Tensor:
        mels = np.ascontiguousarray(mels_BMT.numpy())
        encoded = self.net.encode(self.storage.from_array(mels), to_cpu=True)
        return torch.from_numpy(np.array(encoded, dtype=np.float32))[0]

    @property
    def weight_hash(self) -> str:
        with (self.folder / "model.bin").open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    def save(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        for pattern in COPIED:
            for file in self.folder.glob(pattern):
                if file.resolve() != (folder / file.name).resolve():
                    shutil.copy(file, folder / file.name)


def open_extractor(kind: str, folder: Path, layer: int | None) -> Extractor:
    if layer is not None:
        raise InputError(f'the extractor "{kind}" gives the whole encoder only; layer {layer} needs "whisper:FOLDER"')
    if not (folder / "model.bin").is_file():
        raise InputError(f'folder "{folder}" holds no Whisper model converted for CTranslate2: it has no model.bin')
    try:
        ctranslate2: Any = importlib.import_module("ctranslate2")
    except ImportError as error:
        raise InputError(
            f'the extractor "{kind}" needs the package ctranslate2: pip install "hocket[units]"'
        ) from error
    try:
        net = ctranslate2.models.Whisper(str(folder), device="cpu", compute_type="float32", intra_threads=1)
    except (RuntimeError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise InputError(f'folder "{folder}" holds no Whisper model that CTranslate2 can read: {reason}') from error
    return WhisperCt2(net, ctranslate2.StorageView, folder)
