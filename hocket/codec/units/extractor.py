"""What turns audio into the features that are clustered into units, and how one is named.

An extractor works on one recording at a time, unpadded: most networks for speech normalise over the whole recording and
let padding through, so this is what makes a unit the same alone and in a batch.

Shapes: S samples, T frames, D feature width.
"""

import importlib
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

import torch

from hocket.codec.loading import find_folder
from hocket.errors import InputError, did_you_mean

MODULES = {
    "mfcc": "hocket.codec.units.mfcc",
    "hubert": "hocket.codec.units.self_supervised",
    "wavlm": "hocket.codec.units.self_supervised",
    "wav2vec2": "hocket.codec.units.self_supervised",
    "wav2vec2-bert": "hocket.codec.units.self_supervised",
    "whisper": "hocket.codec.units.whisper",
    "whisper-ct2": "hocket.codec.units.whisper_ct2",
}
"""The module of each kind; it has `open_extractor(kind, folder, layer) -> Extractor`. Imported when it is needed."""


class Extractor(torch.nn.Module, ABC):
    """Frozen features of a recording."""

    kind: str
    layer: int | None = None  # the layer of the network, counted from 1; None: what its whole encoder gives
    sample_rate: int  # Hz
    hop: int  # samples a frame
    width: int
    scaled: bool = False  # whether features are divided by their standard deviation before they are clustered
    delay: int = 0  # samples after a frame's end that its features depend on, where that is a fixed number

    @abstractmethod
    def features(self, wav_S: torch.Tensor) -> torch.Tensor:
        """Features float32 [T, D] of one waveform at `sample_rate`; T is 0 for one too short for a frame."""

    @property
    @abstractmethod
    def weight_hash(self) -> str:
        """SHA-256 over all that fixes what the features are."""

    @abstractmethod
    def save(self, folder: Path) -> None:
        """Writes the files that `open_extractor` reads; weights of layers that are not used are left out."""


def open_extractor(kind: str, folder: str | Path | None, layer: int | None = None) -> Extractor:
    """The extractor of a kind in `MODULES`, with the network in `folder` (or of this name on the Hugging Face hub).

    InputError for an unknown kind, a missing folder, weights that do not fit, or a layer that the network lacks.
    """
    if kind not in MODULES:
        raise InputError(f'no extractor of features is named "{kind}"{did_you_mean(kind, MODULES)}')
    module: Any = importlib.import_module(MODULES[kind])
    if kind == "mfcc":
        if folder or layer is not None:
            raise InputError('the extractor "mfcc" has neither a folder nor layers')
        return module.Mfcc()
    if not folder:
        raise InputError(f'the extractor "{kind}" needs the folder or hub name of its network: "{kind}:FOLDER"')
    return module.open_extractor(kind, find_folder(str(folder)), layer)


def parse_extractor(text: str, layer: int | None = None) -> Extractor:
    """From the command line: "mfcc", "hubert:FOLDER", "whisper-ct2:FOLDER"."""
    kind, _, folder = text.partition(":")
    return open_extractor(kind, folder or None, layer)


def check_layer(kind: str, layer: int | None, n_layers: int) -> None:
    if layer is not None and not 1 <= layer <= n_layers:
        raise InputError(f'this "{kind}" network has layers 1 to {n_layers}, so layer {layer} cannot be had')
