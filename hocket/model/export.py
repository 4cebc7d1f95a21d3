"""A flat-layout model as a stock checkpoint that transformers loads, with its tokenizer.

    hocket export runs/units units-hf/
    AutoModelForCausalLM.from_pretrained("units-hf").generate(AutoTokenizer.from_pretrained("units-hf")("<bos>"))

Only layouts of one row (`Flatten`, `Concat` of flat parts, `CoarseFirst` of one level …) are what a stock model reads:
one id a step. The architecture follows from the configuration:

    no rotary positions in some blocks   SmolLM3ForCausalLM
    QK norm                              Qwen3ForCausalLM
    biases on queries, keys, values      Qwen2ForCausalLM
    a sliding window                     MistralForCausalLM
    none of these                        LlamaForCausalLM

Logits over the whole vocabulary are equal to 1e-5 in float32. What `generate` may draw is another matter, for a stock
model knows no legal sets:

    trained with model.softmax=full                        nothing needs to be done
    softmax legal, and all predicted cells share one set   the other ids are suppressed in generation_config.json
    softmax legal, and several sets                        refused, unless `unrestricted`: logits of ids outside a
                                                           cell's set were never trained and mean nothing

Shapes: V ids, D width.
"""

import importlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import split_torch_state_dict_into_shards
from safetensors.torch import save_file
from torch import Tensor

from hocket.errors import InputError, did_you_mean
from hocket.model.config import ModelConfig
from hocket.model.model import Model
from hocket.model.stock import INDEX_FILE, trunk_slots
from hocket.vocab.export import export_tokenizer

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
N_FRAMES = 24
"""Frames of each stream in the plan that is looked through for legal sets and ends; groups and periods are shorter."""


@dataclass(frozen=True, kw_only=True)
class ExportFacts:
    """What was written."""

    folder: str
    architecture: str
    vocabulary_size: int
    n_parameters: int
    dtype: str
    bos: str
    eos: list[str]
    n_suppressed: int  # ids that generate never draws
    restricted: bool  # generate draws what the model was trained to draw


def export_model(
    model: Model, folder: str | Path, *, dtype: str = "float32", unrestricted: bool = False
) -> ExportFacts:
    """Writes config.json, generation_config.json, safetensors, the tokenizer's files and a README.md.

    Args:
        folder: made where it does not exist; an existing one must be empty.
        dtype: of the weights in the files: "float32", "bfloat16" or "float16".
        unrestricted: export even where `generate` would draw ids whose logits were never trained.

    Raises:
        InputError: the model is none that a stock checkpoint can hold, with the reason.
    """
    _refuse_unexportable(model)
    if dtype not in DTYPES:
        raise InputError(f'there is no dtype "{dtype}"{did_you_mean(dtype, DTYPES)}')
    sets, ends = _predicted(model)
    is_full = model.config.softmax == "full"
    if len(sets) > 1 and not is_full and not unrestricted:
        raise InputError(
            f"the model was trained with model.softmax=legal and {model.layout} has {len(sets)} legal sets, between "
            "which a stock generate cannot switch: train with model.softmax=full, or give --unrestricted to export "
            "it for uses that mask ids themselves"
        )
    suppressed = [] if is_full or len(sets) != 1 else _outside(next(iter(sets)), model.vocabulary.size)
    folder = _empty(folder)
    config = _stock_config(model.config, model.vocabulary.size)
    config.architectures, config.dtype = [ARCHITECTURES[config.model_type]], DTYPES[dtype]
    config.bos_token_id, config.pad_token_id = (model.vocabulary.id(name) for name in ("<bos>", "<none>"))
    end_ids = [model.vocabulary.id(name) for name in ends]
    config.eos_token_id = end_ids if len(end_ids) > 1 else next(iter(end_ids), None)
    config.save_pretrained(folder)
    _write_generation(config, folder, suppressed)
    state = dict(_state(model, config))
    _write_weights(state, folder, DTYPES[dtype])
    export_tokenizer(model.vocabulary, folder)
    _name_end(folder, ends, model)
    facts = ExportFacts(
        folder=str(folder),
        architecture=config.architectures[0],
        vocabulary_size=model.vocabulary.size,
        n_parameters=sum(tensor.numel() for tensor in state.values()),
        dtype=dtype,
        bos="<bos>",
        eos=ends,
        n_suppressed=len(suppressed),
        restricted=is_full or len(sets) <= 1,
    )
    (folder / "README.md").write_text(_readme(model, facts), encoding="utf-8")
    return facts


def _refuse_unexportable(model: Model) -> None:
    stage, layout = model.stage, model.layout
    if layout.n_rows > 1:
        raise InputError(
            f"{layout} has {layout.n_rows} rows a step, and a stock text model reads one id a step: only flat layouts "
            "such as flatten can be exported"
        )
    if stage.objective != "next-token" or stage.attention != "causal":
        raise InputError(
            f"the model has objective {stage.objective} and {stage.attention} attention; a stock text model is causal "
            "and predicts the next token"
        )
    c = model.config
    if c.no_rope_every and (c.qk_norm or c.window):
        what = "QK norm" if c.qk_norm else "a sliding window"
        raise InputError(f"no stock architecture has both blocks without rotary positions and {what}")


def _empty(folder: str | Path) -> Path:
    folder = Path(folder)
    if folder.is_file() or (folder.is_dir() and any(folder.iterdir())):
        raise InputError(f"{folder} is not empty: name a new folder to export into")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _predicted(model: Model) -> tuple[set[tuple[tuple[int, int], ...]], list[str]]:
    """Id ranges of each kind of predicted cell, and the end tokens that a document may end with."""
    layout, vocabulary = model.layout, model.vocabulary
    by_spans = [name for node in layout.span_nodes() for name in node.part_streams]
    sets, ends = set(), []
    for longer in layout.streams:
        lengths = {name: N_FRAMES * (1 + (name == longer)) for name in layout.streams}
        last_turn = [name for name in by_spans if name == longer]
        turns = [name for name in by_spans if name != longer] + last_turn
        spans = [(name, 0, lengths[name]) for name in turns] or None
        plan = layout.plan(lengths, given=model.given, spans=spans)
        sets |= {vocabulary.ranges(plan.legal_sets[i]) for i in set(plan.legal_TR.flatten().tolist()) if i}
        last = int(plan.source_TR[-1, 0])
        symbol = plan.symbols[last] if last < len(plan.symbols) else ""
        if symbol.startswith("<end.") and symbol not in ends:
            ends.append(symbol)
    return sets, ends


def _outside(ranges: Iterable[tuple[int, int]], size: int) -> list[int]:
    legal = {i for start, stop in ranges for i in range(start, stop)}
    return [i for i in range(size) if i not in legal]


ARCHITECTURES = {
    "llama": "LlamaForCausalLM",
    "mistral": "MistralForCausalLM",
    "qwen2": "Qwen2ForCausalLM",
    "qwen3": "Qwen3ForCausalLM",
    "smollm3": "SmolLM3ForCausalLM",
}


def _family(c: ModelConfig) -> str:
    if c.no_rope_every:
        return "smollm3"
    if c.qk_norm:
        return "qwen3"
    if c.bias:
        return "qwen2"
    return "mistral" if c.window else "llama"


def _stock_config(c: ModelConfig, vocabulary_size: int) -> Any:
    """transformers' configuration of the same decoder."""
    family = _family(c)
    rope: dict[str, Any] = {"rope_type": "default", "rope_theta": c.rope_theta}
    if c.rope_scaling:
        names = ("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings")
        rope |= {"rope_type": "llama3", **dict(zip(names, c.rope_scaling, strict=True))}
        rope[names[-1]] = int(rope[names[-1]])
    settings: dict[str, Any] = {
        "vocab_size": vocabulary_size,
        "hidden_size": c.dim,
        "intermediate_size": c.ffn_dim,
        "num_hidden_layers": c.n_layers,
        "num_attention_heads": c.n_heads,
        "num_key_value_heads": c.n_kv_heads,
        "head_dim": c.head_width,
        "max_position_embeddings": c.context,
        "rms_norm_eps": c.norm_eps,
        "rope_parameters": rope,
        "tie_word_embeddings": False,
    }
    if family in ("qwen3", "smollm3"):
        settings["attention_bias"] = c.bias
    if family in ("qwen2", "qwen3"):
        settings |= {"use_sliding_window": c.window > 0, "sliding_window": c.window or None, "max_window_layers": 0}
    if family == "mistral":
        settings["sliding_window"] = c.window
    if family == "smollm3":
        settings["no_rope_layer_interval"] = c.no_rope_every
    transformers = importlib.import_module("transformers")  # here, since it takes two seconds
    return transformers.AutoConfig.for_model(family, **settings)


def _write_generation(config: Any, folder: Path, suppressed: list[int]) -> None:
    transformers = importlib.import_module("transformers")
    generation = transformers.GenerationConfig(
        bos_token_id=config.bos_token_id,
        eos_token_id=config.eos_token_id,
        pad_token_id=config.pad_token_id,
        suppress_tokens=suppressed or None,
        max_length=config.max_position_embeddings,
        do_sample=True,
    )
    generation.save_pretrained(folder)


def _state(model: Model, config: Any) -> Iterable[tuple[str, Tensor]]:
    """Weights under their stock names. A bias that the family has and the decoder has not is zero."""
    yield "model.embed_tokens.weight", model.decoder.embedding.weight.data
    yield "lm_head.weight", model.head.weight.data
    for name, view in trunk_slots(model.decoder).items():
        yield f"model.{name}", view
    if getattr(config, "attention_bias", False):
        for layer in range(model.config.n_layers):
            yield f"model.layers.{layer}.self_attn.o_proj.bias", torch.zeros(model.config.dim)


def _write_weights(state: dict[str, Tensor], folder: Path, dtype: torch.dtype) -> None:
    """Safetensors in shards of at most 5 GB, of which one at a time is copied."""
    sizes = {name: torch.empty(tensor.shape, dtype=dtype, device="meta") for name, tensor in state.items()}
    split = split_torch_state_dict_into_shards(sizes)
    for file, names in split.filename_to_tensors.items():
        shard = {name: state[name].to(dtype, copy=True).contiguous() for name in names}
        save_file(shard, folder / file, metadata={"format": "pt"})
    if split.is_sharded:
        index = {"metadata": split.metadata, "weight_map": split.tensor_to_filename}
        (folder / INDEX_FILE).write_text(json.dumps(index, indent=1) + "\n", encoding="utf-8")


def _name_end(folder: Path, ends: list[str], model: Model) -> None:
    """Adds the end token, by which tools stop, to what the tokenizer's files say."""
    if not ends:
        return
    path = folder / "tokenizer_config.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    vocabulary = model.vocabulary
    first = vocabulary.text.size if vocabulary.text else 0
    content["eos_token"] = vocabulary.speller.spelled[vocabulary.id(ends[0]) - first]
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def _readme(model: Model, facts: ExportFacts) -> str:
    endings = " or ".join(f"`{end}`" for end in facts.eos) or "its length"
    blocks = "\n".join(f"| {b.name} | {b.start} | {b.stop - 1} |" for b in model.vocabulary.blocks)
    codec = model.codec_identity
    if not facts.restricted:
        drawn = (
            "**Logits outside the legal ids of a position mean nothing**: the model was trained with a softmax over "
            "each position's legal ids alone. Mask all others before sampling; `generate` as it is draws nonsense."
        )
    elif facts.n_suppressed:
        drawn = f"`generate` never draws the {facts.n_suppressed} ids that the model was not trained to predict."
    else:
        drawn = "The model was trained with a softmax over the whole vocabulary: `generate` needs no mask."
    return f"""# A model of audio codes

A {facts.architecture} of {facts.n_parameters:,} parameters, exported by hocket. It reads `{model.layout}`, one id a
step, of codes of {codec.name} ({codec.levels} x {float(codec.frame_rate):g} Hz, fingerprint {codec.fingerprint}).
A document starts with `{facts.bos}` and ends with {endings}; the context holds {model.config.context} steps.

{drawn}

| block | first id | last id |
|---|---|---|
{blocks}

A code is its id minus the first id of its block; the tokenizer spells it `<audio.0:517>`.
"""
