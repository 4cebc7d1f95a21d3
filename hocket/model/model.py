"""A language model over grids: decoder, heads, and all that is needed to read and write its files.

    model/
      config.json          dimensions, layout, identities of the codecs of all streams, hocket's version
      model.safetensors    plain weights, float32 or as trained
      vocabulary/          blocks, special tokens, text tokenizer
      layout_nodes.py      the layout's own nodes, where it has some

Shapes: N steps of packed documents, R rows, D width, M cells, J legal ids of a cell.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from hocket.codec import Codec, CodecIdentity, load_codec
from hocket.data.loading import Batch
from hocket.errors import InputError
from hocket.interleave import Layout, Stage, check_blocks, find_rows, load_layout, source_of
from hocket.model.config import ModelConfig
from hocket.model.decoder import Decoder
from hocket.model.depth import DepthHead
from hocket.model.fine import FineContext
from hocket.model.heads import LegalSet, LossParts, ParallelHead
from hocket.model.ring import RingStepper
from hocket.model.stepping import Stepper
from hocket.vocab import ALIGNED_TEXT, TEXT, Vocabulary

CONFIG_FILE, WEIGHTS_FILE, VOCABULARY_FOLDER = "config.json", "model.safetensors", "vocabulary"
NODES_FILE = "layout_nodes.py"
MAIN = "audio"
MODEL_FOLDER, CHECKPOINTS_FOLDER, LATEST_FILE = "model", "checkpoints", "latest"
FORMAT = 3
STAGE_KEYS = ("name", "objective", "attention", "head")


class Model(nn.Module):
    """Build one with `Model.build`, read one with `load_model`."""

    def __init__(
        self,
        config: ModelConfig,
        vocabulary: Vocabulary,
        stage: Stage,
        codec_identity: CodecIdentity,
        codec_source: str,
        codec_identities: Mapping[str, CodecIdentity] | None = None,
    ):
        super().__init__()
        self.stage = stage
        """The layout, what of it is given, and how it is learned: objective, attention, head."""
        self.config, self.vocabulary = config, vocabulary
        self.codec_identity, self.codec_source = codec_identity, codec_source
        self.codec_identities = {self.main_stream: codec_identity, **(codec_identities or {})}
        """By stream: which codec its codes are of. Files of older hockets tell only the main stream's."""
        causal = stage.attention == "causal"
        self.decoder = Decoder(config, vocabulary.size, vocabulary.id("<none>"), causal, self._fine_context())
        legal_sets = [
            LegalSet(names[0] if names else "", vocabulary.ranges(names) if names else ()) for names in stage.legal_sets
        ]
        self.head = ParallelHead(config.dim, vocabulary.size, legal_sets, softmax=config.softmax, z_loss=config.z_loss)
        """Predicts all rows of a step, or the first where there is a depth head."""
        self.depth = self._depth_head(legal_sets) if stage.head == "depth" else None
        """Predicts the other rows, one after another."""
        if config.text_rows == "frozen":
            freeze_rows(vocabulary.text_rows, self.decoder.embedding.weight, self.head.weight)

    @classmethod
    def build(
        cls,
        config: ModelConfig,
        vocabulary: Vocabulary,
        layout: Layout | Stage,
        codec_identity: CodecIdentity,
        *,
        codec_source: str | None = None,
        codec_identities: Mapping[str, CodecIdentity] | None = None,
        codebooks: Mapping[str, Sequence[Tensor]] | None = None,
        seed: int = 0,
    ) -> "Model":
        """A freshly initialised model; the same seed gives the same weights.

        Args:
            layout: a stage, or a layout alone: all of it predicted causally, step by step.
            codec_source: what `load_codec` takes to find the codec again; the codec's name unless given.
            codec_identities: the codecs of the other streams, by stream.
            codebooks: the codec's vectors by stream, a `[entries, width]` each level (`Codec.codebooks`); needed where
                `config.embeddings` is "codebooks".

        Raises:
            InputError: the embeddings are to start from codebooks and there are none; the vocabulary lacks a block or a
                token of the layout; two rows of a step share a block; a given stream is not in the layout.
        """
        stage = layout if isinstance(layout, Stage) else Stage(name="", layout=layout)
        layout = stage.layout
        check_blocks(layout, vocabulary)
        layout.find_levels(stage.given)
        if config.softmax == "full" and layout.n_rows > 1:
            raise InputError(
                f"{layout} has {layout.n_rows} rows, whose softmax over the full vocabulary would be one and the same: "
                "set model.softmax=legal, or choose a flat layout"
            )
        source = codec_source or codec_identity.name
        model = cls(config, vocabulary, stage, codec_identity, source, codec_identities)
        generator = torch.Generator().manual_seed(seed)
        model.decoder.initialise(generator)
        model.head.initialise(generator)
        if model.depth is not None:
            model.depth.initialise(generator)
        if config.embeddings == "codebooks":
            if not codebooks:
                raise InputError(
                    f'codec "{codec_identity.name}" shows no codebooks to start from; set model.embeddings=normal'
                )
            for stream, vectors_K in codebooks.items():
                blocks = [vocabulary[f"{stream}.{k}"] for k in range(layout.streams[stream])]
                model.decoder.start_from(blocks, vectors_K[: len(blocks)], generator)
        if model.depth is not None:
            model.depth.copy_embeddings(model.decoder.embedding.weight)
        return model

    def _fine_context(self) -> FineContext | None:
        """Where context is restricted; None for nowhere."""
        stage, vocabulary = self.stage, self.vocabulary
        if not self.config.fine_window:
            return None
        if not stage.in_place:
            raise InputError(
                f"model.fine_window is for levels that are predicted in place, but {stage.layout} is predicted step by "
                "step: leave it out, or set model.window"
            )
        levels = [(name, k) for name in stage.predicted for k in range(stage.layout.streams[name])]
        masks = {at: vocabulary.id(f"<mask.{stage.block(*at)}>") for at in stage.predicted_levels}
        blocks = [vocabulary[stage.block(*at)] for at in levels]
        codes = [(b.start, b.stop) for b in blocks] + [(mask, mask + 1) for mask in masks.values()]
        return FineContext(vocabulary.size, codes, [mask for (_, k), mask in masks.items() if k == 0])

    def _depth_head(self, legal_sets: Sequence[LegalSet]) -> DepthHead:
        rows = find_rows(self.layout, self.given)
        if self.stage.in_place:
            raise InputError(
                f'a depth head predicts row after row, which objective "{self.stage.objective}" does not: '
                "set interleave.head=parallel"
            )
        if len(rows.rows) < 2:
            raise InputError(
                f"{self.layout} has one predicted row, so that a depth head has nothing to predict: "
                "set interleave.head=parallel"
            )
        return DepthHead(self.config, self.vocabulary, rows, legal_sets, z_loss=self.config.z_loss)

    def forward(self, batch: Batch) -> LossParts:
        """The loss of packed documents.

        Next-token: step s of a document predicts its step s + 1; the shift from inputs to targets happens here and
        nowhere else. Other objectives predict `batch.target_NR` in place, from ids of which some are hidden.
        """
        x_ND = self.decoder(batch.ids_NR, batch.cu_seqlens)
        if self.stage.in_place:
            assert batch.target_NR is not None, "nothing is hidden: every cell would see what it predicts"
            return self.head(x_ND, batch.target_NR, batch.legal_NR, batch.weight_NR)
        starts_M1 = batch.is_start_N[1:, None]
        legal_MR = batch.legal_NR[1:].masked_fill(starts_M1, 0)
        weight_MR = batch.weight_NR[1:].masked_fill(starts_M1, 0)
        if self.depth is None:
            return self.head(x_ND[:-1], batch.ids_NR[1:], legal_MR, weight_MR)
        first = slice(self.depth.rows[0], self.depth.rows[0] + 1)
        led = self.head(x_ND[:-1], batch.ids_NR[1:, first], legal_MR[:, first], weight_MR[:, first])
        return _sum_parts(led, self.depth(x_ND[:-1], batch.ids_NR[1:], legal_MR, weight_MR, batch.seed))

    def distributions(self, batch: Batch) -> Iterator[tuple[int, Tensor, Tensor, Tensor]]:
        """What is predicted of each cell by the steps, and rows, before it: a legal set after the other.

        Yields the number of the set, step and row of its cells `[M]`, and log-probabilities `[M, J]` over its ids in
        float32. Next-token only.
        """
        assert not self.stage.in_place, "codes predicted in place have no distribution of their own"
        x_ND = self.decoder(batch.ids_NR, batch.cu_seqlens)
        legal_NR = batch.legal_NR.masked_fill(batch.is_start_N[:, None], 0)
        later: tuple[int, ...] = ()
        if self.depth is not None:
            later = self.depth.rows[1:]
            steps_M = (legal_NR[:, list(later)] > 0).any(dim=1).nonzero()[:, 0]
            h_MPE = self.depth.states(x_ND[steps_M - 1], batch.ids_NR[steps_M])
        for index in legal_NR.unique().tolist():
            step_M, row_M = (legal_NR == index).nonzero(as_tuple=True)
            if not index:
                continue
            if self.depth is not None and int(row_M[0]) in later:  # a legal set belongs to one row
                h_ME = h_MPE[torch.searchsorted(steps_M, step_M), 1 + later.index(int(row_M[0]))]
                logits_MJ = self.depth.logits(h_ME, index)
            else:
                logits_MJ = self.head.logits(x_ND[step_M - 1], index)
            yield index, step_M, row_M, logits_MJ.log_softmax(dim=-1)

    def stepper(self, batch: int, max_steps: int) -> Stepper:
        """Reads B documents step by step, and predicts the next step; next-token objectives only."""
        assert not self.stage.in_place, "codes predicted in place have no next step"
        return Stepper(self, batch, max_steps)

    def endless_stepper(self, batch: int = 1) -> Stepper:
        """A stepper without end: each step sees the last `context` steps."""
        assert not self.stage.in_place, "codes predicted in place have no next step"
        return RingStepper(self, batch)

    def hidden(self, ids_NR: Tensor, starts: Tensor | Sequence[int]) -> Tensor:
        """Hidden states `[N, D]` of packed documents; `starts` as in `Decoder.forward`."""
        return self.decoder(ids_NR, starts)

    @property
    def layout(self) -> Layout:
        return self.stage.layout

    @property
    def given(self) -> tuple[str, ...]:
        """Streams, or levels of them, that the model never predicts."""
        return self.stage.given

    @cached_property
    def codec(self) -> Codec:
        """The codec whose codes the model speaks, loaded when first asked for.

        Raises:
            InputError: it cannot be found, or it is not the one that the model was trained on.
        """
        codec = load_codec(self.codec_source, levels=self.codec_identity.levels)
        if codec.identity.fingerprint != self.codec_identity.fingerprint:
            raise InputError(
                f'the model was trained on codes of codec "{self.codec_identity.name}" with fingerprint '
                f'{self.codec_identity.fingerprint}; "{self.codec_source}" is now {codec.identity.fingerprint}'
            )
        return codec

    @property
    def device(self) -> torch.device:
        return self.head.weight.device

    @property
    def n_parameters(self) -> int:
        return sum(p.numel() for p in self.parameters())

    @property
    def main_stream(self) -> str:
        """The stream of codes that the codec decodes: `audio`, or the first that the layout has."""
        return main_stream(self.layout.streams) or "audio"

    @property
    def context_seconds(self) -> float:
        """Seconds of audio that the context holds."""
        rates = {
            name: self.codec_identity.frame_rate for name in self.vocabulary.streams if name in self.layout.streams
        }
        return float(self.config.context / self.layout.steps_per_second(rates)) if rates else 0.0

    def save(self, folder: str | Path) -> None:
        """Writes the model's files."""
        save_model_files(folder, self, self.state_dict())


def freeze_rows(n_rows: int, *tables: Tensor) -> None:
    """Keeps the first rows of tables as they are: they get no gradient, and the table's `frozen_rows` tells optimizers
    not to decay it."""

    def mask(gradient_VD: Tensor) -> Tensor:
        return torch.cat([torch.zeros_like(gradient_VD[:n_rows]), gradient_VD[n_rows:]])

    for table in tables:
        table.frozen_rows = n_rows  # type: ignore[attr-defined]
        table.register_hook(mask)


def _sum_parts(one: LossParts, other: LossParts) -> LossParts:
    by_block = dict(one.by_block)
    for block, (nats, count) in other.by_block.items():
        before = by_block.get(block, (0.0, 0.0))
        by_block[block] = (before[0] + nats, before[1] + count)
    return LossParts(one.total + other.total, one.weight + other.weight, by_block)


def main_stream(streams: Iterable[str]) -> str | None:
    """`audio` where it is among the streams, otherwise the first of codes; None where there is none."""
    codes = [name for name in streams if name not in (TEXT, ALIGNED_TEXT)]
    return MAIN if MAIN in codes else next(iter(codes), None)


def save_model_files(folder: str | Path, model: Model, state_dict: Mapping[str, Tensor]) -> None:
    """Writes a model's files with weights that may come from elsewhere (gathered by an engine)."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in state_dict.items()}
    safetensors.torch.save_file(weights, folder / WEIGHTS_FILE)
    model.vocabulary.save(folder / VOCABULARY_FOLDER)
    content = {
        "format": FORMAT,
        "model": asdict(model.config),
        "layout": model.layout.expression,
        "layout_nodes": _save_nodes(model.layout, folder),
        "stage": {key: getattr(model.stage, key) for key in STAGE_KEYS} | {"given": list(model.given)},
        "levels": model.layout.streams,
        "codec": model.codec_identity.to_dict(),
        "codec_source": model.codec_source,
        "codecs": {name: identity.to_dict() for name, identity in model.codec_identities.items()},
        "vocabulary_fingerprint": model.vocabulary.fingerprint,
    }
    (folder / CONFIG_FILE).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def _save_nodes(layout: Layout, folder: Path) -> str | None:
    """Copies the file that the layout's own nodes come from, so that the folder is whole; its name."""
    source = source_of(layout)
    if source is None:
        return None
    (folder / NODES_FILE).write_text(source[1], encoding="utf-8")
    return NODES_FILE


def find_model_folder(folder: str | Path) -> Path:
    """The folder with the model's files: `folder` itself, its `model/`, or the latest checkpoint of a run.

    Raises:
        InputError: there is none.
    """
    folder = Path(folder)
    candidates = [folder, folder / MODEL_FOLDER]
    if (folder / LATEST_FILE).is_file():
        step = (folder / LATEST_FILE).read_text(encoding="utf-8").strip()
        candidates.append(folder / CHECKPOINTS_FOLDER / step / MODEL_FOLDER)
    for candidate in candidates:
        if (candidate / CONFIG_FILE).is_file() and (candidate / WEIGHTS_FILE).is_file():
            return candidate
    reason = "there is no such folder" if not folder.exists() else f"it holds neither {CONFIG_FILE} nor a run's latest"
    raise InputError(f"{folder} is no hocket checkpoint: {reason}; give a run folder such as runs/demo")


def load_model(folder: str | Path, device: str | torch.device = "cpu") -> Model:
    """Reads a model from a run, a checkpoint or a model folder.

    Where its layout has nodes of its own, the folder's `layout_nodes.py` is run: load only what you trust.

    Raises:
        InputError: the folder is none of these, a file is broken, or its parts do not belong together.
    """
    folder = find_model_folder(folder)
    content = _read_config(folder)
    vocabulary = Vocabulary.load(folder / VOCABULARY_FOLDER)
    if vocabulary.fingerprint != content["vocabulary_fingerprint"]:
        raise InputError(
            f"{folder} holds a vocabulary with fingerprint {vocabulary.fingerprint}, but its model was trained with "
            f"{content['vocabulary_fingerprint']}"
        )
    nodes = content["layout_nodes"]
    expression = content["layout"] if nodes is None else f"{folder / nodes}:{content['layout']}"
    layout = load_layout(expression, levels={n: k for n, k in content["levels"].items() if n != "text"})
    identity = CodecIdentity.from_dict(content["codec"])
    held = content["stage"] | {"given": tuple(content["stage"]["given"])}
    stage = Stage(layout=layout, **held)
    identities = {name: CodecIdentity.from_dict(values) for name, values in content.get("codecs", {}).items()}
    config = ModelConfig(**content["model"])
    model = Model(config, vocabulary, stage, identity, content["codec_source"], identities)
    try:
        model.load_state_dict(safetensors.torch.load_file(folder / WEIGHTS_FILE))
    except (SafetensorError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"the weights in {folder / WEIGHTS_FILE} cannot be used: {reason}") from error
    return model.to(device).eval()


def _read_config(folder: Path) -> dict[str, Any]:
    path = folder / CONFIG_FILE
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise InputError(f"{path} is no JSON: {error}") from error
    wanted = {
        "format",
        "model",
        "layout",
        "layout_nodes",
        "stage",
        "levels",
        "codec",
        "codec_source",
        "vocabulary_fingerprint",
    }
    if not isinstance(content, dict) or not wanted <= set(content):
        raise InputError(f"{folder} is no hocket checkpoint: its {CONFIG_FILE} is not one of hocket's")
    if content["format"] != FORMAT:
        raise InputError(f"{folder} has checkpoint format {content['format']}; this hocket reads format {FORMAT}")
    return content
