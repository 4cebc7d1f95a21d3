"""Finds a codec by name or folder.

A name is "bundled", a short name of the catalogue ("mimi"), a name on the Hugging Face hub ("kyutai/mimi") or a
folder. What a folder holds is told by its files: hocket's own codecs say their `kind` in config.json, transformers'
classes their `model_type`, Lyra's SoundStream comes as TFLite files. The module of each kind is imported when a codec
of that kind is opened, since transformers' classes take seconds to import.
"""

import importlib
import json
import re
from pathlib import Path
from typing import Any

from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled

from hocket.codec.base import Codec
from hocket.codec.catalogue import CATALOGUE
from hocket.errors import InputError, did_you_mean

BUNDLED = Path(__file__).parent / "bundled"
HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")
LYRA_FILE = "soundstream_encoder.tflite"
HUB_FILES = ["*.json", "*.safetensors", "*.bin", "*.tflite", "*.binarypb", "vocabulary.txt"]

OPENERS = {
    "combined": "hocket.codec.combined",
    "dac": "hocket.codec.adapters.dac",
    "encodec": "hocket.codec.adapters.encodec",
    "higgs_audio_v2_tokenizer": "hocket.codec.adapters.xcodec",
    "lyra": "hocket.codec.adapters.lyra",
    "mimi": "hocket.codec.adapters.mimi",
    "neucodec": "hocket.codec.adapters.xcodec2",
    "spectral": "hocket.codec.spectral",
    "xcodec": "hocket.codec.adapters.xcodec",
    "xcodec2": "hocket.codec.adapters.xcodec2",
    "units": "hocket.codec.units.codec",
}
"""The module that opens each kind; it has `open_folder(folder, settings, levels) -> Codec`."""


def load_codec(name: str | Path = "bundled", levels: int | None = None) -> Codec:
    """The codec of this name, or in this folder, cut to its first `levels` levels (all that it has, unless given).

    Raises InputError for a name that is neither, a folder that holds no codec, weights that cannot be fetched, or
    more levels than there are.
    """
    folder = find_folder(str(name))
    settings = read_settings(folder)
    opener = importlib.import_module(OPENERS[settings["kind"]])
    return opener.open_folder(folder, settings, levels)


def find_folder(name: str) -> Path:
    """The folder of a codec's files, fetched from the hub for a hub name."""
    if name == "bundled":
        return BUNDLED
    if Path(name).is_dir():
        return Path(name)
    known = {entry.short: entry.hub for entry in CATALOGUE}
    hub_name = known.get(name, name)
    if hub_name is None:
        raise InputError(f'the files of codec "{name}" are on no hub; give the folder that holds them')
    if not HUB_NAME.fullmatch(hub_name) and "/" in name:
        raise InputError(f'there is no folder "{name}"')
    if not HUB_NAME.fullmatch(hub_name):
        hint = did_you_mean(name, ["bundled", *known])
        raise InputError(f'no codec is named "{name}" and no such folder exists{hint}')
    try:
        return Path(snapshot_download(hub_name, allow_patterns=HUB_FILES))
    except (HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled, OSError) as error:
        reason = str(error).strip().splitlines()[0]
        raise InputError(
            f'codec "{hub_name}" is no folder here and cannot be fetched from the Hugging Face hub '
            f"({type(error).__name__}: {reason}); give the folder of its files"
        ) from error


def read_settings(folder: Path) -> dict[str, Any]:
    """A codec folder's config.json, with the `kind` of what it holds."""
    file = folder / "config.json"
    if not file.is_file() and (folder / LYRA_FILE).is_file():
        return {"kind": "lyra"}
    if not file.is_file():
        raise InputError(f'folder "{folder}" holds no codec: it has no config.json')
    try:
        settings = json.loads(file.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise InputError(f'"{file}" is not JSON: {error}') from error
    kind = (settings.get("kind") or settings.get("model_type")) if isinstance(settings, dict) else None
    if kind not in OPENERS:
        raise InputError(
            f'"{file}" does not describe a codec: its "kind" or "model_type" must be one of '
            f"{', '.join(sorted(OPENERS))}, not {json.dumps(kind)}"
        )
    return settings | {"kind": kind}


def is_codec_name(name: str) -> bool:
    """Whether `load_codec` would take this for a name rather than a folder: a short name, or one of the hub's form."""
    return name == "bundled" or name in {entry.short for entry in CATALOGUE} or bool(HUB_NAME.fullmatch(name))


def is_codec_folder(folder: Path) -> bool:
    return any((folder / name).is_file() for name in ("config.json", LYRA_FILE))
