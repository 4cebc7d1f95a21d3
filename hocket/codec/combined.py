"""Two codecs over one recording: a semantic one and an acoustic one, as AudioLM (Borsos et al., 2022) uses them.

    codes = Combined(load_codec("units-folder"), load_codec("mimi")).encode(wav, 24000)
    codes["semantic"], codes["acoustic"]        each a Codes of its own codec, rate and length

It is no `Codec`: the two streams have frame rates, lengths and identities of their own, which one `Codes` cannot hold.
A saved folder has one folder for each and is opened by `load_combined`; it costs no more than the two.
"""

import json
from pathlib import Path
from typing import Any, Self

import torch

from hocket.codec.base import Codec, Codes
from hocket.codec.loading import load_codec
from hocket.errors import InputError

KIND = "combined"
STREAMS = ("semantic", "acoustic")


class Combined:
    """Streams "semantic" and "acoustic" of the same audio; the acoustic one decodes."""

    def __init__(self, semantic: Codec, acoustic: Codec):
        if not acoustic.can_decode:
            raise InputError(f'the acoustic codec must decode; "{acoustic.identity.name}" has no vocoder')
        self.semantic, self.acoustic = semantic, acoustic

    def encode(
        self, wav: torch.Tensor, sample_rate: int, lengths: torch.Tensor | list[int] | None = None
    ) -> dict[str, Codes]:
        """Both codes of waveforms as `Codec.encode` takes them; each codec resamples for itself."""
        return {name: codec.encode(wav, sample_rate, lengths) for name, codec in self.codecs.items()}

    def decode(self, codes: dict[str, Codes] | Codes) -> torch.Tensor:
        """Waveforms of the acoustic codes alone, given by themselves or beside the semantic ones."""
        if isinstance(codes, Codes):
            return self.acoustic.decode(codes)
        if "acoustic" not in codes:
            raise InputError(f'there are no "acoustic" codes to decode, only: {", ".join(sorted(codes)) or "none"}')
        return self.acoustic.decode(codes["acoustic"])

    @property
    def codecs(self) -> dict[str, Codec]:
        """By the name of their stream."""
        return {"semantic": self.semantic, "acoustic": self.acoustic}

    @property
    def device(self) -> torch.device:
        return self.acoustic.device

    def to(self, device: str | torch.device) -> Self:
        for codec in self.codecs.values():
            codec.to(device)
        return self

    def save(self, folder: str | Path) -> None:
        """Writes `config.json` and a folder for each codec."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        for name, codec in self.codecs.items():
            codec.save(folder / name)
        hashes = {name: codec.identity.weight_hash for name, codec in self.codecs.items()}
        levels = {name: codec.levels for name, codec in self.codecs.items()}
        settings = {"kind": KIND, "weight_hash": hashes, "levels": levels}
        (folder / "config.json").write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")


def load_combined(folder: str | Path) -> Combined:
    """What `Combined.save` wrote; InputError for another folder, or where a codec in it is not the one saved."""
    folder = Path(folder)
    file = folder / "config.json"
    try:
        settings = json.loads(file.read_text(encoding="utf-8"))
        hashes, levels = settings["weight_hash"], settings["levels"]
        named = [(name, hashes[name], levels[name]) for name in STREAMS]
    except (OSError, json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError) as error:
        raise InputError(f'folder "{folder}" does not hold two combined codecs: {error}') from error
    return Combined(*(load_part(folder / name, stated, n_levels) for name, stated, n_levels in named))


def load_part(folder: Path, stated: str, levels: int) -> Codec:
    codec = load_codec(folder, levels)
    if codec.identity.weight_hash != stated:
        raise InputError(f'folder "{folder}" holds codec "{codec.identity.name}" with other weights than were combined')
    return codec


def open_folder(folder: Path, settings: dict[str, Any], levels: int | None) -> Codec:
    """`load_codec` cannot give two codecs as one."""
    raise InputError(f'folder "{folder}" holds two codecs, "semantic" and "acoustic"; open it with load_combined')
