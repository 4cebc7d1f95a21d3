"""A small codec with fixed random weights, and real speech."""

from pathlib import Path

import pytest
import torch

import hocket
from hocket.codec import Codec, SpectralCodec, load_codec, read_audio
from tests.codec.zoo.spectral import SMALL

SPEECH = Path(hocket.__file__).parent / "data" / "speech" / "audio"


@pytest.fixture(scope="session")
def small_codec() -> SpectralCodec:
    return SpectralCodec.random(0, "small", **SMALL)


@pytest.fixture(scope="session")
def bundled() -> Codec:
    return load_codec("bundled")


@pytest.fixture(scope="session")
def speech() -> list[torch.Tensor]:
    """Six recordings at 16 kHz, of different lengths."""
    files = sorted(SPEECH.glob("*.opus"))[:60:10]
    return [read_audio(file, 16000)[0] for file in files]
