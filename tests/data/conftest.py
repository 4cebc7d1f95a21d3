"""Small recordings and a codec that costs nothing, for the tests of sources, tokenising and corpora."""

from pathlib import Path

import pytest
from energy_codec import EnergyCodec
from recordings import write_noise


@pytest.fixture
def codec() -> EnergyCodec:
    return EnergyCodec()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Six clips of different lengths in a folder, three of them with text, two in a subfolder."""
    src = tmp_path / "audio"
    (src / "more").mkdir(parents=True)
    for i, name in enumerate(["a", "b", "c", "d", "more/e", "more/f"]):
        write_noise(src / f"{name}.wav", seconds=0.3 + 0.17 * i, seed=i)
    for name in ["a", "c", "more/f"]:
        (src / f"{name}.txt").write_text(f"This is {name}.\n")
    return src
