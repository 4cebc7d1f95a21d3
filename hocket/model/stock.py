"""What stock text models call their weights, and a folder of such weights read one tensor at a time.

    stock                                                       here, row by row
    layers.0.self_attn.q_proj | k_proj | v_proj                 blocks.0.qkv
    layers.0.mlp.gate_proj | up_proj                            blocks.0.gate_up
    layers.0.self_attn.o_proj, mlp.down_proj                    blocks.0.out, down
    layers.0.input_layernorm, post_attention_layernorm          blocks.0.attention_norm, ffn_norm
    layers.0.self_attn.q_norm, k_norm                           blocks.0.q_norm, k_norm
    norm                                                        norm

A slot is a view of a parameter under its stock name. Reading fills slots, writing copies them out; nothing else knows
how the fused matrices are put together. Shards are mapped, not loaded: beside the model itself one tensor is in memory
at a time.
"""

import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OfflineModeIsEnabled
from safetensors import SafetensorError, safe_open
from torch import Tensor

from hocket.errors import InputError
from hocket.model.decoder import Decoder, TransformerBlock

CONFIG_FILE = "config.json"
WEIGHTS_FILE, INDEX_FILE = "model.safetensors", "model.safetensors.index.json"
HUB_FILES = ["*.json", "*.safetensors", "tokenizer.model"]


def block_slots(block: TransformerBlock) -> dict[str, Tensor]:
    """Views of a block's parameters by stock name, `self_attn.q_proj.weight` and so on."""
    c = block.config
    widths = [n * c.head_width for n in (c.n_heads, c.n_kv_heads, c.n_kv_heads)]
    slots = {
        "input_layernorm.weight": block.attention_norm.weight.data,
        "post_attention_layernorm.weight": block.ffn_norm.weight.data,
        "self_attn.o_proj.weight": block.out.weight.data,
        "mlp.down_proj.weight": block.down.weight.data,
    }
    for name, view in zip("qkv", block.qkv.weight.data.split(widths), strict=True):
        slots[f"self_attn.{name}_proj.weight"] = view
    if c.bias:
        for name, view in zip("qkv", block.qkv.bias.data.split(widths), strict=True):
            slots[f"self_attn.{name}_proj.bias"] = view
    for name, view in zip(("gate", "up"), block.gate_up.weight.data.split(c.ffn_dim), strict=True):
        slots[f"mlp.{name}_proj.weight"] = view
    if c.qk_norm:
        slots |= {f"self_attn.{name}.weight": getattr(block, name).weight.data for name in ("q_norm", "k_norm")}
    return slots


def trunk_slots(decoder: Decoder) -> dict[str, Tensor]:
    """Views of all of a decoder's parameters but its embedding, by stock name."""
    slots = {"norm.weight": decoder.norm.weight.data}
    for layer, block in enumerate(decoder.blocks):
        assert isinstance(block, TransformerBlock)
        slots |= {f"layers.{layer}.{name}": view for name, view in block_slots(block).items()}
    return slots


def fill(name: str, slot: Tensor, tensor: Tensor) -> None:
    """Copies a tensor into its slot, in the slot's precision. InputError where their shapes differ."""
    if slot.shape != tensor.shape:
        raise InputError(
            f"the weight {name} has shape {list(tensor.shape)}, but its config.json says {list(slot.shape)}"
        )
    slot.copy_(tensor)


class StockFolder:
    """config.json and safetensors of a stock model, in a folder or on the Hugging Face hub."""

    def __init__(self, source: str | Path):
        """
        Args:
            source: a folder, or a hub name such as `Qwen/Qwen3-0.6B`, which is fetched.

        Raises:
            InputError: there is no such folder or model, or it has no config.json.
        """
        self.source, self.path = str(source), _find(str(source))
        self.config = _read_json(self.path / CONFIG_FILE, self.source)

    @property
    def model_type(self) -> str:
        return str(self.config.get("model_type"))

    def tensors(self) -> Iterator[tuple[str, Tensor]]:
        """Every weight by name, shard after shard, each tensor read when it is reached.

        Raises:
            InputError: there are no safetensors, or a shard is missing or broken.
        """
        for shard in self._shards():
            try:
                with ExitStack() as stack:
                    file = stack.enter_context(safe_open(shard, framework="pt"))
                    for name in file.keys():  # noqa: SIM118 (the file is no dict)
                        yield name, file.get_tensor(name)
            except (SafetensorError, FileNotFoundError) as error:
                reason = str(error).splitlines()[0]
                raise InputError(f"the weights in {shard} cannot be read: {reason}") from error

    def _shards(self) -> list[Path]:
        named = self.config.get("transformers_weights")  # where the usual names hold the weights of other software
        found = [name for name in ([named] if named else [WEIGHTS_FILE, INDEX_FILE]) if (self.path / name).is_file()]
        if not found:
            raise InputError(f"{self.path} holds no {named or WEIGHTS_FILE}; weights in other formats are not read")
        if not found[0].endswith(".json"):
            return [self.path / found[0]]
        names = _read_json(self.path / found[0], self.source).get("weight_map", {}).values()
        return [self.path / name for name in sorted(set(names))]


def _find(source: str) -> Path:
    if Path(source).is_dir():
        return Path(source)
    try:
        return Path(snapshot_download(source, allow_patterns=HUB_FILES))
    except (
        HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OfflineModeIsEnabled, OSError,
    ) as error:  # fmt: skip
        reason = str(error).strip().splitlines()[0]
        raise InputError(
            f'"{source}" is no folder here and cannot be fetched from the Hugging Face hub '
            f"({type(error).__name__}: {reason}); give the folder of a model's files"
        ) from error


def _read_json(path: Path, source: str) -> dict[str, Any]:
    if not path.is_file():
        raise InputError(f"{source} is no model: it has no {path.name}")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is no JSON: {error}") from error
    if not isinstance(content, dict):
        raise InputError(f"{path} does not describe a model: it is no JSON object")
    return content
