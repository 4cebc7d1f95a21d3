"""CSM (Sesame, 2025; transformers' `CsmForConditionalGeneration`) as a model of ours, to sample from or to go on with.

    CSM                                            here, layout Concat(Text(text), Parallel(audio)), head depth
    embed_text_tokens                              text rows of the embedding
    embed_audio_tokens, 2,051 rows a codebook      rows of audio.0 …, 2,048 codes each
    backbone_model.layers, norm                    the trunk
    lm_head                                        rows of audio.0 in the head
    depth_decoder.model                            the depth head's projection, blocks and norm
    depth_decoder.codebooks_head                   its output rows of audio.1 …
    codec_model                                    the folder mimi/, a codec of ours

Logits of every code are equal to 1e-5 in float32, the trunk's and the depth head's. Three things have no counterpart:

- Entries 2,048 to 2,050 of each codebook (padding, and two that no codec gives) are left out.
- CSM ends with a frame of which every code is 0, a legal frame. Here the end is an id, `<end.audio>`. It is read as
  that frame is (the sum of its embeddings) and has the head row of code 0, so that end and code 0 are equally likely.
  Where CSM would end, sampling ends at once or plays a frame of zeros first; where CSM means a true code 0 in its
  first codebook, sampling ends too, every other time. Some training sets this right, for a corpus has true ends.
- CSM predicts no text: `text` is given, the rows of text in the head are those of a fresh start.

A document is `<bos>` (CSM's begin of text), the text as CSM was trained to read it ("[0]Hello." for speaker 0),
`<end.text>` (its end of text), frames, `<end.audio>`.

Shapes: V ids, D width of the trunk, E width of the depth head, K codebooks.
"""

import importlib
import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer
from torch import Tensor

from hocket.codec import load_codec
from hocket.errors import InputError
from hocket.interleave import load_stage
from hocket.model.config import ModelConfig
from hocket.model.decoder import TransformerBlock
from hocket.model.depth import DepthHead
from hocket.model.model import Model
from hocket.model.stock import StockFolder, block_slots, fill, trunk_slots
from hocket.model.warm_start import dimensions_of
from hocket.vocab import Vocabulary, load_tokenizer

LAYOUT, STREAM = "csm", "audio"
CODEC_FOLDER, CODEC_PREFIX = "mimi", "codec_model."
TEXT_TABLE = "embed_text_tokens.weight"
AUDIO_TABLE = "backbone_model.embed_tokens.embed_audio_tokens.weight"
DEPTH_TABLE, DEPTH_HEAD = "depth_decoder.model.embed_tokens.weight", "depth_decoder.codebooks_head.weight"
PROJECTION, HEAD = "depth_decoder.model.inputs_embeds_projector.weight", "lm_head.weight"
KEPT = (TEXT_TABLE, AUDIO_TABLE, DEPTH_TABLE, DEPTH_HEAD, PROJECTION, HEAD)
SAME = ("norm_eps", "qk_norm", "bias")
"""What trunk and depth head share here."""


def import_csm(
    source: str, folder: str | Path, *, codec: str | None = None, context: int | None = None, seed: int = 0
) -> Model:
    """Reads a CSM and writes it as a model folder.

    Args:
        source: a Hugging Face name or a folder.
        folder: made where it does not exist; an existing one must be empty.
        codec: what `load_codec` takes to find the codec of its codes; the codec that the model carries unless given.
        context: longest document in steps; the source's unless given.
        seed: draws the few rows that CSM has no counterpart of.

    Raises:
        InputError: it is no CSM, or one that the decoder does not compute, or its files are incomplete.
    """
    files = StockFolder(source)
    if files.model_type != "csm":
        raise InputError(
            f'{source} is a model of type "{files.model_type}", not a CSM; text models are started from with '
            "model.warm_start"
        )
    folder = Path(folder)
    if folder.exists() and any(folder.iterdir()):
        raise InputError(f"{folder} is not empty: name a new folder to import into")
    transformers = importlib.import_module("transformers")  # here, since it takes two seconds
    config = transformers.AutoConfig.from_pretrained(files.path)
    trunk, kept = _read(files, config, None if codec else folder / CODEC_FOLDER)
    codec_source = codec or str((folder / CODEC_FOLDER).resolve())
    identity = load_codec(codec_source, levels=config.num_codebooks).identity
    vocabulary = Vocabulary.build(
        load_tokenizer(files.path),
        {STREAM: identity.codebook_sizes},
        {STREAM: identity.fingerprint},
        text_rows=config.text_vocab_size,
    )
    stage = load_stage(LAYOUT, levels={STREAM: config.num_codebooks})
    shape = _shape(config, source, context or config.max_position_embeddings)
    model = Model.build(shape, vocabulary, stage, identity, codec_source=codec_source, seed=seed)
    _Filling(model, config, kept, _end_of_text(files.path)).fill(trunk)
    model.save(folder)
    return model.eval()


def _shape(config: Any, source: str, context: int) -> ModelConfig:
    """The dimensions of trunk and depth head."""
    trunk = dimensions_of(config, source, context)
    depth = dimensions_of(config.depth_decoder_config, source, config.num_codebooks + 1)
    for key in SAME:
        if trunk[key] != depth[key]:
            raise InputError(f"{source} has {key} {trunk[key]} in its backbone and {depth[key]} in its depth decoder")
    names = {"n_layers": "layers", "n_heads": "heads", "n_kv_heads": "kv_heads"}
    for key in ("dim", "n_layers", "n_heads", "head_dim", "n_kv_heads", "ffn_dim", "rope_theta", "rope_scaling"):
        trunk[f"depth_{names.get(key, key)}"] = depth[key]
    return ModelConfig(**trunk, context=context)


def _read(files: StockFolder, config: Any, codec_folder: Path | None) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Weights of the transformer blocks, and those that are taken apart; the codec's are written into its folder."""
    blocks, kept, codec = {}, {}, {}
    for name, tensor in files.tensors():
        if name.startswith(CODEC_PREFIX):
            codec[name.removeprefix(CODEC_PREFIX)] = tensor
        elif name in KEPT:
            kept[name] = tensor
        else:
            blocks[name] = tensor
    kept.setdefault(AUDIO_TABLE, kept.get(DEPTH_TABLE))  # tied: stored once
    kept.setdefault(DEPTH_TABLE, kept.get(AUDIO_TABLE))
    for name in KEPT:
        if kept.get(name) is None:
            raise InputError(f"the weights of {files.source} are incomplete: {name} is missing")
    if codec_folder is not None:
        codec_folder.mkdir(parents=True)
        config.codec_config.save_pretrained(codec_folder)
        save_file(codec, codec_folder / "model.safetensors", metadata={"format": "pt"})
    return blocks, kept


def _end_of_text(path: Path) -> int | None:
    """The id that closes a text in CSM's prompts: its tokenizer's end token."""
    settings = path / "tokenizer_config.json"
    content = json.loads(settings.read_text(encoding="utf-8")) if settings.is_file() else {}
    token = content.get("eos_token")
    name = token.get("content") if isinstance(token, dict) else token
    return Tokenizer.from_file(str(path / "tokenizer.json")).token_to_id(name) if name else None


class _Filling:
    """Puts CSM's weights where they belong."""

    def __init__(self, model: Model, config: Any, kept: dict[str, Tensor], end_of_text: int | None):
        self.model, self.config, self.kept, self.end_of_text = model, config, kept, end_of_text
        self.vocabulary = model.vocabulary
        self.blocks = [self.vocabulary[f"{STREAM}.{k}"] for k in range(config.num_codebooks)]

    @torch.no_grad()
    def fill(self, weights: dict[str, Tensor]) -> None:
        """
        Args:
            weights: of the transformer blocks and their last norms.
        """
        depth = self.model.depth
        assert isinstance(depth, DepthHead)
        slots = {f"backbone_model.{name}": slot for name, slot in trunk_slots(self.model.decoder).items()}
        slots |= {"depth_decoder.model.norm.weight": depth.norm.weight.data}
        slots |= {PROJECTION: depth.get_parameter("projection.weight").data}
        for layer, block in enumerate(depth.blocks):
            assert isinstance(block, TransformerBlock)
            slots |= {f"depth_decoder.model.layers.{layer}.{name}": slot for name, slot in block_slots(block).items()}
        weights = weights | {PROJECTION: self.kept[PROJECTION]}
        for name, slot in slots.items():
            if name not in weights:
                raise InputError(f"the CSM's weights are incomplete: {name} is missing")
            fill(name, slot, weights[name])
        table = self.model.decoder.embedding.weight
        self._embed(self.kept[DEPTH_TABLE], table)
        depth.copy_embeddings(table)
        self._embed(self.kept[AUDIO_TABLE], table)
        self._head(depth)

    def _embed(self, audio_VD: Tensor, table_VD: Tensor) -> None:
        text_VD, vocabulary = self.kept[TEXT_TABLE], self.vocabulary
        table_VD[: len(text_VD)].copy_(text_VD)
        for k, block in enumerate(self.blocks):
            first = k * self.config.vocab_size
            table_VD[block.start : block.stop].copy_(audio_VD[first : first + block.size])
        zeros = torch.arange(len(self.blocks)) * self.config.vocab_size + self.config.codebook_eos_token_id
        table_VD[vocabulary.id("<end.audio>")] = audio_VD[zeros].float().sum(dim=0)
        for name, row in (
            ("<bos>", self.config.bos_token_id),
            ("<cont>", self.config.bos_token_id),
            ("<end.text>", self.end_of_text),
        ):
            if row is not None:
                table_VD[vocabulary.id(name)].copy_(text_VD[row])

    def _head(self, depth: DepthHead) -> None:
        first, head_VD, heads_KEV = self.blocks[0], self.kept[HEAD], self.kept[DEPTH_HEAD]
        weight_VD = self.model.head.weight
        weight_VD[first.start : first.stop].copy_(head_VD[: first.size])
        weight_VD[self.vocabulary.id("<end.audio>")].copy_(head_VD[self.config.codebook_eos_token_id])
        for k, block in enumerate(self.blocks[1:]):
            ids = torch.arange(block.start, block.stop)
            depth.weight[depth.output_V[ids]] = heads_KEV[k].T[: block.size].to(depth.weight.dtype)
