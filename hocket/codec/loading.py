"""Finds a codec by name or folder."""

import json
from pathlib import Path

from safetensors import SafetensorError

from hocket.codec.base import Codec
from hocket.codec.spectral import KIND, SpectralCodec
from hocket.errors import InputError, did_you_mean

BUNDLED = {"bundled": Path(__file__).parent / "bundled"}


def load_codec(name: str | Path = "bundled", levels: int | None = None) -> Codec:
    """The codec of this name, or in this folder, cut to its first `levels` levels.

    Raises InputError for a name that is neither, a folder that holds no codec, or more levels than there are.
    """
    folder = BUNDLED.get(str(name), Path(name))
    if not folder.is_dir():
        raise InputError(f'no codec is named "{name}" and no such folder exists{did_you_mean(str(name), BUNDLED)}')
    codec = open_folder(folder)
    if levels is not None:
        codec.identity = codec.identity.with_levels(levels)
    return codec


def open_folder(folder: Path) -> Codec:
    settings_file, weight_file = folder / "config.json", folder / "model.safetensors"
    for file in (settings_file, weight_file):
        if not file.is_file():
            raise InputError(f'folder "{folder}" holds no codec: it has no {file.name}')
    try:
        settings = json.loads(settings_file.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise InputError(f'"{settings_file}" is not JSON: {error}') from error
    if not isinstance(settings, dict) or settings.get("kind") != KIND:
        raise InputError(f'"{settings_file}" does not describe a codec: its "kind" must be "{KIND}"')
    return open_spectral(folder, settings, weight_file.read_bytes())


def open_spectral(folder: Path, settings: dict, weights: bytes) -> Codec:
    """Codes mean nothing with other weights, so weights that are not the ones described are refused."""
    try:
        codec = SpectralCodec.open(settings, weights)
    except (KeyError, TypeError, RuntimeError, SafetensorError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f'the codec in folder "{folder}" is damaged, its files do not fit: {reason}') from error
    stated = settings["identity"].get("weight_hash")
    if stated != codec.identity.weight_hash:
        raise InputError(
            f'the codec in folder "{folder}" is damaged: model.safetensors has hash {codec.identity.weight_hash[:16]}, '
            f"config.json states {str(stated)[:16]}"
        )
    return codec
