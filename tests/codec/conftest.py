"""A small codec with fixed random weights, and real speech."""

from pathlib import Path

import pytest
import torch

import hocket
from hocket.codec import Codec, SpectralCodec, load_codec, read_audio

SPEECH = Path(hocket.__file__).parent / "data" / "speech" / "audio"
SMALL = {
    "levels": 3,
    "entries": 16,
    "latent": 8,
    "encoder_width": 16,
    "encoder_hidden": 16,
    "encoder_blocks": 1,
    "decoder_width": 16,
    "decoder_hidden": 16,
    "decoder_blocks": 1,
}


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
