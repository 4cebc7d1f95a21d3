from pathlib import Path

from hocket.codec import SpectralCodec

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


def build_small(folder: Path) -> Path:
    SpectralCodec.random(0, "small", **SMALL).save(folder)
    return folder


def name_bundled(folder: Path) -> str:
    return "bundled"


BUILDERS = {"small": build_small, "bundled": name_bundled}
