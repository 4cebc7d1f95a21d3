"""What the adapters on transformers' codec classes share: loading, identity, saving, and batches of equal length.

An adapter names its class and says how equal waveforms [B, C, S] become codes [B, T, K] and back. Items of different
lengths never meet in one call, since most of these classes let padding change codes.

Shapes: B batch, C channels, S samples, T codec frames, K levels.
"""

import hashlib
import json
import shutil
from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from safetensors import SafetensorError
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.utils import logging

from hocket.codec.base import Codec
from hocket.codec.batching import by_equal_shape
from hocket.codec.identity import CodecIdentity, check_weight_hash
from hocket.errors import InputError

IDENTITY_FILE = "hocket.json"
COPIED = ("*.json", "*.safetensors", "*.bin")
BATCH_SECONDS = 30.0


class FolderCodec(Codec):
    """A codec whose network is a class of transformers and comes from a folder of its files."""

    net_class: ClassVar[type[PreTrainedModel]]

    def __init__(self, net: PreTrainedModel, identity: CodecIdentity, folder: Path):
        """`folder` holds the files that the network was loaded from; `save` copies them."""
        self.net: Any = net.eval()
        self.identity, self.folder = identity, folder

    @classmethod
    @abstractmethod
    def describe(cls, config: PreTrainedConfig) -> dict[str, Any]:
        """What the class's config says of the identity: all its fields but name, revision and weight_hash."""

    @classmethod
    def open(cls, folder: Path, levels: int | None) -> Self:
        """From a folder that transformers' `save_pretrained` wrote, or a download of one from the hub."""
        net = load_network(cls.net_class, folder)
        stated = read_identity(folder)
        name, revision = (stated.name, stated.revision) if stated else name_of(folder)
        described = cls.describe(net.config)
        identity = CodecIdentity(name=name, revision=revision, weight_hash=hash_weights(net), **described)
        if stated:
            check_weight_hash(folder, identity, stated.weight_hash)
        return cls(net, identity.with_levels(identity.levels if levels is None else levels), folder)

    def save(self, folder: str | Path) -> None:
        """Copies the files that the codec was loaded from and writes its identity beside them."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        if folder.resolve() != self.folder.resolve():
            for pattern in COPIED:
                for file in self.folder.glob(pattern):
                    shutil.copy(file, folder / file.name)
        whole = replace(self.identity, **self.describe(self.net.config))
        content = json.dumps({"identity": whole.to_dict()}, indent=2) + "\n"
        (folder / IDENTITY_FILE).write_text(content, encoding="utf-8")


class TransformersCodec(FolderCodec):
    """A codec that computes items of one length together."""

    @abstractmethod
    def _encode_equal(self, wav_BCS: torch.Tensor) -> torch.Tensor:
        """Codes [B, T, K] of waveforms of one length S >= 1."""

    @abstractmethod
    def _decode_equal(self, codes_BTK: torch.Tensor) -> torch.Tensor:
        """Waveforms [B, C, at least T * hop] of codes of one length T >= 1."""

    def _encode_items(self, items: list[torch.Tensor]) -> list[torch.Tensor]:
        return by_equal_shape(items, self._encode_stack, self._most(items))

    def _encode_stack(self, wav_BCS: torch.Tensor) -> torch.Tensor:
        if not wav_BCS.shape[2]:
            return torch.zeros(len(wav_BCS), 0, self.levels, dtype=torch.int64, device=self.device)
        return self._encode_equal(wav_BCS)

    def _decode_items(self, items: list[torch.Tensor]) -> list[torch.Tensor]:
        return by_equal_shape(items, self._decode_stack, 8)

    def _decode_stack(self, codes_BTK: torch.Tensor) -> torch.Tensor:
        """Some classes' decoders give fewer samples than T * hop; the last ones are then silence."""
        n_samples = self.samples_of(codes_BTK.shape[1])
        if not n_samples:
            return torch.zeros(len(codes_BTK), self.identity.channels, 0, device=self.device)
        wav_BCS = self._decode_equal(codes_BTK)[..., :n_samples]
        return torch.nn.functional.pad(wav_BCS, (0, n_samples - wav_BCS.shape[-1]))

    def _most(self, items: list[torch.Tensor]) -> int:
        """How many of these items may be computed at once."""
        longest = max((item_CS.shape[1] for item_CS in items), default=1)
        return max(1, int(BATCH_SECONDS * self.sample_rate / max(longest, 1)))


def load_network(net_class: type[PreTrainedModel], folder: Path, **options: Any) -> PreTrainedModel:
    """The class's network in float32 from a folder; InputError where weights are missing or do not fit.

    `options` go to `from_pretrained`: a changed `config`, a `key_mapping` of names. transformers' own report on weights
    that were not asked for is held back.
    """
    try:
        with quiet_transformers():
            loaded: Any = net_class.from_pretrained(
                folder, dtype=torch.float32, local_files_only=True, output_loading_info=True, **options
            )
    except (OSError, RuntimeError, ValueError, KeyError, TypeError, SafetensorError) as error:
        reason = str(error).strip().splitlines()[0]
        raise InputError(
            f'the codec in folder "{folder}" cannot be loaded as {net_class.__name__}: {reason}'
        ) from error
    net, info = loaded
    missing = sorted(info["missing_keys"]) + sorted(str(key) for key in info["mismatched_keys"])
    if missing:
        raise InputError(
            f'the codec in folder "{folder}" is damaged: {len(missing)} weights of {net_class.__name__} are missing '
            f'or of another shape, the first "{missing[0]}"'
        )
    return net


def save_network(net: Any, folder: Path) -> None:
    """As `save_pretrained`, with the names that the network itself has for its weights."""
    with quiet_transformers():
        net.save_pretrained(folder, save_original_format=False)


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Neither reports nor progress bars of transformers meanwhile."""
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def hash_weights(net: torch.nn.Module) -> str:
    """SHA-256 over names, shapes and float32 values, so that files of another format have the same hash."""
    digest = hashlib.sha256()
    for name, tensor in sorted(net.state_dict().items()):
        digest.update(f"{name} {list(tensor.shape)} ".encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def read_identity(folder: Path) -> CodecIdentity | None:
    """What `save` wrote beside the weights, if it did."""
    file = folder / IDENTITY_FILE
    if not file.is_file():
        return None
    try:
        return CodecIdentity.from_dict(json.loads(file.read_text(encoding="utf-8"))["identity"])
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError) as error:
        raise InputError(f'"{file}" does not state the identity of a codec: {error}') from error


def name_of(folder: Path) -> tuple[str, str]:
    """Name and revision: from the hub's cache folder `models--org--name/snapshots/REVISION`, or the folder's name."""
    if folder.parent.name == "snapshots":
        return folder.parents[1].name.removeprefix("models--").replace("--", "/"), folder.name
    return folder.resolve().name, "local"
