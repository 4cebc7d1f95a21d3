"""Finds a codec by name or folder."""

import json
from pathlib import Path

from hocket.codec.base import Codec
from hocket.codec.spectral import KIND, SpectralCodec
from hocket.errors import InputError, did_you_mean

BUNDLED = "bundled"
BUNDLED_FOLDER = Path(__file__).parent / "bundled"
CONFIG_FILE, WEIGHTS_FILE = "config.json", "model.safetensors"


def load_codec(name: str | Path = BUNDLED, levels: int | None = None) -> Codec:
    """A frozen codec, by name (`bundled`) or from a folder that `Codec.save` wrote.

    Args:
        levels: use only the first so many levels; all of them unless given.

    Raises:
        InputError: there is no such codec, the folder holds none, or it has fewer levels.
    """
    folder = BUNDLED_FOLDER if str(name) == BUNDLED else Path(name)
    if not folder.is_dir():
        raise InputError(f'there is no codec "{name}"{did_you_mean(str(name), [BUNDLED])}; or give a codec\'s folder')
    config, weights = folder / CONFIG_FILE, folder / WEIGHTS_FILE
    for path in (config, weights):
        if not path.is_file():
            raise InputError(f'"{folder}" is no codec: it has no {path.name}')
    try:
        settings = json.loads(config.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise InputError(f'"{config}" is no JSON: {error}') from error
    if not isinstance(settings, dict) or settings.get("kind") != KIND:
        raise InputError(f'"{folder}" is no codec that hocket can load: its {CONFIG_FILE} does not say kind "{KIND}"')
    codec = SpectralCodec.open(settings, weights.read_bytes())
    if levels is not None:
        codec.identity = codec.identity.with_levels(levels)
    return codec
