"""Models that start from a text model of Hugging Face, or go on from one of hocket's own.

    source                          here
    embedding rows 0 … rows         the text block (and the ids that no text has, which are never legal)
    lm_head rows, or tied ones      the same rows of the head, a copy of their own
    layers, final norm              the trunk, fused (`hocket.model.stock`)
    begin of text                   <bos> and <cont>, since trained models lean on their first step
    end of text                     <end.text>
    nothing                         all other new rows, by `model.embeddings`

The families are those whose layers this decoder computes: Llama, Mistral, Qwen2, Qwen3 and SmolLM3. A setting that it
does not compute is refused by name; logits on text equal transformers' to 1e-5 in float32. Weights are read shard by
shard, float32 or half precision as stored, into float32 parameters: beside the model one tensor is in memory, and the
embedding until the new rows are made.

What new rows start as is told in `hocket.model.new_rows`.

Shapes: V ids, D width.
"""

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError

from hocket.errors import InputError
from hocket.model.config import SHAPE_KEYS, ModelConfig
from hocket.model.model import Model, load_model
from hocket.model.new_rows import Rows
from hocket.model.stock import StockFolder, fill, trunk_slots
from hocket.vocab import TextTokenizer, Vocabulary, load_tokenizer

FAMILIES = ("llama", "mistral", "qwen2", "qwen3", "smollm3")
IGNORED = "rotary_emb.inv_freq"
"""Old checkpoints store it; it follows from the configuration."""
EMBEDDING, HEAD = "embed_tokens.weight", "lm_head.weight"


@dataclass(frozen=True)
class TextModel:
    """A text model that a model can start from. `open_source` finds one."""

    folder: StockFolder
    config: Any
    """Its transformers configuration, which knows the defaults of its family."""

    @property
    def source(self) -> str:
        return self.folder.source

    @property
    def rows(self) -> int:
        """Embedding rows; more than the tokenizer has ids, often."""
        return self.config.vocab_size

    def tokenizer(self) -> TextTokenizer:
        """Its text tokenizer. InputError where the folder has none that can be read."""
        return load_tokenizer(self.folder.path)

    def complete(self, settings: Mapping[str, Any]) -> ModelConfig:
        """A configuration with the source's dimensions.

        Args:
            settings: of a `ModelConfig`; None where the recipe says nothing.

        Raises:
            InputError: a setting contradicts the source, or the source has what the decoder does not compute.
        """
        context = settings.get("context") or ModelConfig().context
        return complete(settings, dimensions_of(self.config, self.source, context), self.source)

    @torch.no_grad()
    def start(self, model: Model, seed: int = 0) -> None:
        """Fills a model's weights; its vocabulary may have text rows or none.

        Raises:
            InputError: a weight is missing, of another shape, or unknown.
        """
        slots = trunk_slots(model.decoder)
        missing, kept = set(slots), {}
        for stored, tensor in self.folder.tensors():
            name = stored.removeprefix("model.")
            if name in (EMBEDDING, HEAD):
                kept[name] = tensor
            elif name in slots:
                fill(name, slots[name], tensor)
                missing.discard(name)
            elif not name.endswith(IGNORED) and not (name.endswith("o_proj.bias") and not tensor.any()):
                raise InputError(f"{self.source} has a weight {stored}, which a {self.folder.model_type} here lacks")
        if missing or EMBEDDING not in kept:
            name = min(missing, default=EMBEDDING)
            raise InputError(f"the weights of {self.source} are incomplete: {name} is missing")
        embedding_VD = kept[EMBEDDING]
        fill(EMBEDDING, torch.empty(self.rows, model.config.dim, device="meta"), embedding_VD)
        head_VD = embedding_VD if self.config.tie_word_embeddings else kept.get(HEAD, embedding_VD)
        Rows(model, embedding_VD, head_VD, seed).fill(self._named(model.vocabulary))

    def _named(self, vocabulary: Vocabulary) -> dict[int, int]:
        """Special tokens that start as the row of a text token: their ids, and that row."""
        begin, end = (_first(getattr(self.config, f"{name}_token_id", None)) for name in ("bos", "eos"))
        pairs = {"<bos>": begin, "<cont>": begin, "<end.text>": end}
        known = vocabulary.specials
        return {known[n]: row for n, row in pairs.items() if n in known and row is not None and 0 <= row < self.rows}


@dataclass(frozen=True)
class HocketModel:
    """A model of hocket's own that another one goes on from, as an imported CSM."""

    source: str
    model: Model

    def complete(self, settings: Mapping[str, Any]) -> ModelConfig:
        """A configuration with the source's dimensions. InputError where a setting contradicts it."""
        own = asdict(self.model.config)
        return complete(settings, {key: own[key] for key in SHAPE_KEYS}, self.source)

    def vocabulary(self, codecs: Mapping[str, str]) -> Vocabulary:
        """The source's vocabulary, for streams of these codecs.

        Raises:
            InputError: it lacks a stream, or has it of another codec.
        """
        vocabulary = self.model.vocabulary
        for stream, fingerprint in codecs.items():
            found = vocabulary.codecs.get(stream)
            if found != fingerprint:
                said = f"of a codec with fingerprint {found}" if stream in vocabulary.streams else "not at all"
                raise InputError(
                    f'the corpus has stream "{stream}" of a codec with fingerprint {fingerprint}; {self.source} has it '
                    f"{said}"
                )
        return vocabulary

    @torch.no_grad()
    def start(self, model: Model, seed: int = 0) -> None:
        """Copies all weights. InputError where the models differ in more than their layout."""
        try:
            model.load_state_dict(self.model.state_dict())
        except RuntimeError as error:
            reason = " ".join(str(error).split())[:200]
            raise InputError(f"the weights of {self.source} do not fit the recipe's model: {reason}") from error


def open_source(source: str) -> TextModel | HocketModel:
    """What to start from: a Hugging Face name or folder of a text model, or a run or model folder of hocket's.

    Raises:
        InputError: it is neither, or a text model of a family that is not supported.
    """
    path = Path(source)
    if path.is_dir() and ((path / "latest").is_file() or (path / "model").is_dir() or _is_ours(path)):
        return HocketModel(source, load_model(path))
    folder = StockFolder(source)
    if folder.model_type not in FAMILIES:
        hint = "; hocket import-model makes a hocket model of it" if folder.model_type == "csm" else ""
        raise InputError(
            f'{source} is a model of type "{folder.model_type}"; '
            f"a warm start is possible from {', '.join(FAMILIES)}{hint}"
        )
    transformers = importlib.import_module("transformers")  # here, since it takes two seconds
    try:
        config = transformers.AutoConfig.from_pretrained(folder.path)
    except (ValueError, TypeError, StrictDataclassError) as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"the config.json of {source} cannot be used: {reason}") from error
    return TextModel(folder, config)


def _is_ours(path: Path) -> bool:
    return (path / "vocabulary").is_dir() and (path / "config.json").is_file()


def complete(settings: Mapping[str, Any], dimensions: Mapping[str, Any], source: str) -> ModelConfig:
    """Settings that are not None over a source's dimensions, which they must not contradict."""
    given = {key: value for key, value in settings.items() if value is not None}
    for key, value in given.items():
        if key in dimensions and value != dimensions[key]:
            raise InputError(
                f"model.{key} is {value}, but model.warm_start={source} has {dimensions[key]}: leave model.{key} out "
                "(model=pretrained does)"
            )
    return ModelConfig(**{**given, **dimensions, "warm_start": source})


def dimensions_of(config: Any, source: str, context: int) -> dict[str, Any]:
    """The decoder's dimensions by what transformers' configuration says, for documents of `context` steps.

    Raises:
        InputError: the source has what the decoder does not compute.
    """
    family = config.model_type
    _refuse(source, family, _not_computed(config))
    rope = config.rope_parameters
    return {
        "dim": config.hidden_size,
        "n_layers": config.num_hidden_layers,
        "n_heads": config.num_attention_heads,
        "head_dim": getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads,
        "n_kv_heads": config.num_key_value_heads,
        "ffn_dim": config.intermediate_size,
        "rope_theta": float(rope["rope_theta"]),
        "rope_scaling": _stretch(config) if rope["rope_type"] == "llama3" else [],
        "no_rope_every": _no_rope_every(config, source) if family == "smollm3" else 0,
        "norm_eps": float(config.rms_norm_eps),
        "qk_norm": family == "qwen3",
        "bias": family == "qwen2" or bool(getattr(config, "attention_bias", False)),
        "window": _window(config, source, context),
    }


def _not_computed(config: Any) -> str | None:
    """The first setting that the decoder does not compute, in words."""
    rope = config.rope_parameters
    if config.hidden_act not in ("silu", "swish"):
        return f'the activation "{config.hidden_act}" (silu is)'
    if getattr(config, "mlp_bias", False):
        return "biases in the feed-forward part (mlp_bias)"
    if rope["rope_type"] not in ("default", "llama3"):
        return f'rotary positions of type "{rope["rope_type"]}" (default and llama3 are)'
    if rope.get("partial_rotary_factor", 1.0) != 1.0:
        return "rotary positions on a part of each head (partial_rotary_factor)"
    if getattr(config, "quantization_config", None):
        return "quantised weights (quantization_config)"
    return None


def _refuse(source: str, family: str, what: str | None) -> None:
    if what is not None:
        raise InputError(
            f'{source}, a model of type "{family}", cannot be started from: it has {what}, not computed here'
        )


def _stretch(config: Any) -> list[float]:
    rope = config.rope_parameters
    original = rope.get("original_max_position_embeddings") or config.max_position_embeddings
    return [float(x) for x in (rope["factor"], rope["low_freq_factor"], rope["high_freq_factor"], original)]


def _no_rope_every(config: Any, source: str) -> int:
    """N where every N-th block is without rotary positions, 0 where none is. InputError for other patterns."""
    turns = [bool(x) for x in config.no_rope_layers[: config.num_hidden_layers]]
    if all(turns):
        return 0
    every = turns.index(False) + 1
    if turns != [(layer + 1) % every != 0 for layer in range(len(turns))]:
        _refuse(source, config.model_type, f"rotary positions in an irregular choice of blocks ({turns})")
    return every


def _window(config: Any, source: str, context: int) -> int:
    """The sliding window of all blocks; 0 where there is none, or none that the context notices."""
    window = getattr(config, "sliding_window", None)
    if config.model_type == "llama" or not window:
        return 0
    slides = [kind == "sliding_attention" for kind in getattr(config, "layer_types", None) or []]
    if config.model_type == "mistral" or (slides and all(slides)):
        return int(window)
    if any(slides) and context > window:
        _refuse(
            source,
            config.model_type,
            f"a sliding window of {window} steps in some blocks only, which model.context={context} exceeds",
        )
    return 0


def _first(token_id: int | Sequence[int] | None) -> int | None:
    """Of several end tokens the first."""
    return token_id[0] if isinstance(token_id, Sequence) and token_id else token_id  # type: ignore[return-value]
