"""Lyra's SoundStream, where its published files are.

They are looked for in the folder that the environment variable HOCKET_LYRA names, then in `shared/data/lyra` beside the
repository. Without them, or without LiteRT, the tests run without this codec.
"""

import importlib.util
import os
from pathlib import Path

from hocket.codec.adapters.lyra import ENCODER, LyraCodec

BESIDE = Path(__file__).parents[4] / "shared" / "data" / "lyra"
FILES_FOLDER = Path(os.environ.get("HOCKET_LYRA", BESIDE))
AVAILABLE = (FILES_FOLDER / ENCODER).is_file() and importlib.util.find_spec("ai_edge_litert") is not None


def name_folder(folder: Path) -> Path:
    return FILES_FOLDER


def build_packed(folder: Path) -> Path:
    LyraCodec.open(FILES_FOLDER, packed=True).save(folder)
    return folder


BUILDERS = {"lyra": name_folder, "lyra_packed": build_packed} if AVAILABLE else {}
