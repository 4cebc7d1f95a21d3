"""From a recipe to what is trained: corpus, vocabulary, layout, model."""

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import torch

from hocket.codec import CodecIdentity, load_codec
from hocket.data import Corpus, Mixture, PackedLoader
from hocket.data.corpus import name_codec
from hocket.errors import InputError
from hocket.interleave import Layout, Scheme, Stage, build_scheme, load_scheme
from hocket.interleave.parse import Levels
from hocket.interleave.stream import FrameRates
from hocket.model import Model, ModelConfig
from hocket.model.model import MAIN, main_stream
from hocket.model.warm_start import HocketModel, TextModel, open_source
from hocket.training.bundled import SEMANTIC, bundled_kind, make_bundled
from hocket.training.config import BUNDLED, CodecFacts, InterleaveGroup, Recipe
from hocket.training.engine import Engine
from hocket.training.objectives import build_objective, loading_options
from hocket.vocab import ALIGNED_TEXT, TEXT, TextTokenizer, Vocabulary, load_tokenizer, train_bpe


def open_corpus(recipe: Recipe, engine: Engine) -> Mixture:
    """The recipe's corpora, of the recipe's codec; the packaged speech is tokenised first where it is not yet."""
    source = recipe.data.corpus
    if source == BUNDLED:
        streams, runs = all_streams(recipe.interleave), Path(recipe.output).parent
        kind = bundled_kind(streams)
        source = runs / kind.folder
        _check_bundled(recipe, kind.streams)
        engine.on_main(lambda: make_bundled(runs, streams, recipe.codec.name or BUNDLED, str(engine.device)))
    return open_mixture(recipe, source)


def _check_bundled(recipe: Recipe, streams: Sequence[str]) -> None:
    """Refuse a layout that the bundled speech does not fit, before half a minute goes into making its corpus."""
    codec = load_codec(recipe.codec.name or BUNDLED).identity
    levels = dict.fromkeys(streams, min(recipe.codec.levels or codec.levels, codec.levels)) | {SEMANTIC: 1}
    find_stage(recipe.interleave, levels, dict.fromkeys((*streams, SEMANTIC, ALIGNED_TEXT), codec.frame_rate))


def open_mixture(recipe: Recipe, source: str | Path) -> Mixture:
    """Corpora that are there. InputError where they are not of the recipe's codec."""
    mixture = Mixture.open(source, temperature=recipe.data.temperature)
    if not mixture.streams:
        raise InputError(
            f'the corpus "{mixture.folder}" is text alone: name one with codes beside it, as data.corpus=TEXTS,SPOKEN'
        )
    found = mixture.streams[main_stream(mixture.streams) or next(iter(mixture.streams))]
    _check_facts(recipe.codec.facts, found, mixture.folder)
    if recipe.codec.name is not None:
        wanted = load_codec(recipe.codec.name, levels=found.levels).identity
        if wanted.fingerprint != found.fingerprint:
            raise InputError(
                f'the corpus "{mixture.folder}" is of {name_codec(found)}, not of {name_codec(wanted)}: '
                "add codec=corpus to take whatever codec it was made with"
            )
    return mixture


def _check_facts(facts: CodecFacts, found: CodecIdentity, folder: str) -> None:
    """Refuse a corpus whose codec has another shape than the one that the recipe is meant for."""
    if not facts.are_given:
        return
    wanted = (Fraction(facts.sample_rate or 0, facts.hop or 1), facts.entries)
    if (found.frame_rate, found.codebook_sizes[0]) != wanted or found.levels < (facts.levels or 0):
        raise InputError(
            f"the recipe is meant for {facts.name or 'a codec'} of {facts.levels} levels of {facts.entries:,} entries "
            f'at {float(wanted[0]):g} Hz, and the corpus "{folder}" has {found.levels} of {found.codebook_sizes[0]:,} '
            f"at {float(found.frame_rate):g} Hz: name another corpus, or another codec by codec.facts"
        )


@dataclass(frozen=True, kw_only=True)
class ModelParts:
    """All that decides a model, before any weight is made."""

    config: ModelConfig
    vocabulary: Vocabulary
    stage: Stage
    streams: dict[str, CodecIdentity]
    """The codecs of the streams that the layout places."""
    main: str
    """The stream whose codec the model speaks."""
    codec_source: str
    start: TextModel | HocketModel | None

    def build(self, seed: int) -> Model:
        """A freshly initialised model."""
        self._check_memory()
        codebooks = load_codec(self.codec_source).codebooks if self.config.embeddings == "codebooks" else None
        identity = self.streams[self.main]
        model = Model.build(
            self.config,
            self.vocabulary,
            self.stage,
            identity,
            codec_source=self.codec_source,
            codec_identities=self.streams,
            codebooks={name: codebooks for name, of in self.streams.items() if of == identity} if codebooks else None,
            seed=seed,
        )
        if self.start:
            self.start.start(model, seed)
        return model

    def _check_memory(self) -> None:
        """Refuse a model whose float32 weights alone are more than this machine holds."""
        n_bytes = 4 * self.sketch().n_parameters
        there = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        if n_bytes > there:
            raise InputError(
                f"the model has {n_bytes / 4e9:,.1f} billion parameters, {n_bytes / 2**30:,.0f} GiB in float32, but "
                f"this machine {there / 2**30:,.0f} GiB of memory: lower model.dim, model.ffn_dim or model.n_layers"
            )

    def sketch(self) -> Model:
        """The same model without memory for its weights (torch's device "meta")."""
        with torch.device("meta"):
            return Model(self.config, self.vocabulary, self.stage, self.streams[self.main], self.codec_source)


def build_model(recipe: Recipe, corpus: Corpus | Mixture) -> Model:
    """A freshly initialised model for the corpus. InputError where layout, levels or text do not fit it."""
    return plan_model(recipe, corpus).build(recipe.training.seed)


def make_loader(recipe: Recipe, model: Model, corpus: Mixture, rank: int = 0, world_size: int = 1) -> PackedLoader:
    """What a process trains on; of the model only layout and vocabulary count."""
    return PackedLoader(
        corpus,
        model.layout,
        model.vocabulary,
        **recipe.data.options(),
        packing=recipe.data.packing,
        buffer=recipe.data.buffer,
        workers=recipe.data.workers,
        context=recipe.model.context,
        seed=recipe.training.seed,
        rank=rank,
        world_size=world_size,
        weights=recipe.training.loss_weights(),
        **hiding(recipe, model, learning=True),
    )


def hiding(recipe: Recipe, model: Model, *, learning: bool) -> dict[str, Any]:
    """What loading must know of the objective: what is given, which streams have ends, what is hidden."""
    objective = build_objective(model.stage, model.vocabulary, recipe.training, learning=learning)
    return loading_options(model.stage, objective)


def plan_model(recipe: Recipe, corpus: Corpus | Mixture) -> ModelParts:
    """What a recipe's model for a corpus is made of. InputError where layout, levels or text do not fit it."""
    streams = _cut_levels(corpus, recipe.codec.levels)
    main = main_stream(streams)
    rates = {name: identity.frame_rate for name, identity in streams.items()}
    levels = {name: identity.levels for name, identity in streams.items()}
    aligned = {ALIGNED_TEXT: rates[main]} if main else {}
    _check_streams(find_stage(recipe.interleave).layout, corpus)
    stage = find_stage(recipe.interleave, levels, rates | aligned)
    layout = stage.layout
    used = {name: streams[name] for name in layout.streams if name in streams}
    start = open_source(recipe.model.warm_start) if recipe.model.warm_start else None
    vocabulary = _vocabulary(recipe, corpus, layout, used, start)
    main = main_stream(used)
    if main is None:
        raise InputError(f"the layout {layout} places no codes of the corpus {corpus.folder} ({_names(corpus)})")
    source = (recipe.codec.name if main == MAIN else None) or _found_at(start, used[main])
    config = start.complete(asdict(recipe.model)) if start else ModelConfig(**asdict(recipe.model))
    return ModelParts(
        config=config,
        vocabulary=vocabulary,
        stage=stage,
        streams=used,
        main=main,
        codec_source=source,
        start=start,
    )


def _found_at(start: TextModel | HocketModel | None, codec: CodecIdentity) -> str:
    """Where the codec is to be found: where a model of ours that speaks it has it, else by its name."""
    if isinstance(start, HocketModel) and start.model.codec_identity.fingerprint == codec.fingerprint:
        return start.model.codec_source
    return codec.name


def _vocabulary(
    recipe: Recipe,
    corpus: Corpus | Mixture,
    layout: Layout,
    used: dict[str, CodecIdentity],
    start: TextModel | HocketModel | None,
) -> Vocabulary:
    """The id space of the streams that the layout places; with a warm start, text is its source's."""
    codecs = {name: identity.fingerprint for name, identity in used.items()}
    if isinstance(start, HocketModel):
        return start.vocabulary(codecs)
    text = rows = None
    if {TEXT, ALIGNED_TEXT} & set(layout.streams):
        text, rows = _text_tokenizer(recipe, corpus, layout, start), start.rows if start else None
    sizes = {name: identity.codebook_sizes for name, identity in used.items()}
    return Vocabulary.build(text, sizes, codecs, text_rows=rows, tokens=_token_groups(layout))


def _check_streams(layout: Layout, corpus: Corpus | Mixture) -> None:
    """Refuse a layout of streams that the corpus lacks, with how such a corpus is made."""
    for name in placed_streams(layout):
        if name not in corpus.streams and name not in (TEXT, ALIGNED_TEXT):
            how = {MAIN: "default", "semantic": "--stream semantic=UNITS"}.get(
                name, "--channels, a name for each channel"
            )
            raise InputError(
                f'the layout {layout} needs a stream "{name}", but the corpus "{corpus.folder}" has {_names(corpus)}: '
                f"`hocket tokenize` makes it by {how}"
            )


def placed_streams(layout: Layout) -> list[str]:
    """The streams that a layout places, known before their levels are."""
    return list(dict.fromkeys(leaf.ref.name for leaf in layout.leaves()))


def _names(corpus: Corpus | Mixture) -> str:
    return ", ".join(corpus.levels) or "text alone"


def all_streams(group: InterleaveGroup) -> list[str]:
    """The streams of a recipe's layout, or of all stages of its cascade."""
    stages = _scheme(group).stages
    return list(dict.fromkeys(name for stage in stages for name in placed_streams(stage.layout)))


def find_stage(group: InterleaveGroup, levels: Levels = None, frame_rates: FrameRates | None = None) -> Stage:
    """The layout of a recipe, with how it is to be learned.

    Raises:
        InputError: there is no such layout or stage; its attention would see what it predicts; or its head does not go
            with its objective.
    """
    scheme = _scheme(_alone(group), levels, frame_rates)
    if group.stage is None and len(scheme.stages) > 1:
        names = ", ".join(stage.name for stage in scheme.stages)
        raise InputError(f"this layout is a cascade of models: choose one with interleave.stage=… (there are: {names})")
    stage = scheme.stage(group.stage)
    named = f"interleave={group.layout} " if "(" not in group.layout else ""
    if stage.attention == "bidirectional" and not stage.in_place:
        raise InputError(
            'the layout wants attention "bidirectional" and objective "next-token", so that every step would see what '
            f"it predicts: add {named}interleave.objective=masked, or interleave.attention=causal"
        )
    if stage.head == "depth" and stage.in_place:
        raise InputError(
            f'the layout wants head "depth" and objective "{stage.objective}", but what is predicted in place is '
            f"predicted in all rows at once: add {named}interleave.head=parallel"
        )
    return stage


def _alone(group: InterleaveGroup) -> InterleaveGroup:
    """The chosen stage without the others of its cascade, whose streams a corpus may lack."""
    chosen = [stage for stage in group.stages if group.stage is not None and stage.get("name") == group.stage]
    return replace(group, stages=chosen) if chosen else group


def _scheme(group: InterleaveGroup, levels: Levels = None, frame_rates: FrameRates | None = None) -> Scheme:
    if not group.stages and "(" not in group.layout:
        return load_scheme(group.layout, levels, frame_rates)
    held = {key: getattr(group, key) for key in ("layout", "given", "objective", "attention", "head")}
    return build_scheme("interleave", {"stages": group.stages} if group.stages else held, levels, frame_rates)


def _cut_levels(corpus: Corpus | Mixture, levels: int | None) -> dict[str, CodecIdentity]:
    """The codecs of the corpus by stream; `levels` is meant for all streams of codes that have so many or more."""
    streams = corpus.streams
    if levels is None or not streams:
        return streams
    most = max(identity.levels for identity in streams.values())
    if levels > most:
        raise InputError(f'codec.levels is {levels}, but the corpus "{corpus.folder}" has {most} levels')
    return {name: identity.with_levels(min(levels, identity.levels)) for name, identity in streams.items()}


def _token_groups(layout: Layout) -> dict[str, list[str]]:
    """The named tokens that a layout's markers place, by group: `<task.asr>` is token "asr" of group "task"."""
    groups: dict[str, list[str]] = {}
    for token in layout.markers:
        group, dot, name = token.strip("<>").partition(".")
        if dot:
            groups.setdefault(group, []).append(name)
    return groups


def _text_tokenizer(recipe: Recipe, corpus: Corpus | Mixture, layout: Layout, start: TextModel | None) -> TextTokenizer:
    if start:
        if recipe.vocab.text_tokenizer is not None:
            raise InputError(
                f"vocab.text_tokenizer={recipe.vocab.text_tokenizer} is not the tokenizer of "
                f"model.warm_start={start.source}, whose own is taken: leave it out"
            )
        return start.tokenizer()
    if recipe.vocab.text_tokenizer is not None:
        return load_tokenizer(recipe.vocab.text_tokenizer)
    if recipe.vocab.text_size == 0:
        raise InputError(f"the layout {layout} needs text: add vocab=bpe, or name a tokenizer in vocab.text_tokenizer")
    return train_bpe(corpus.texts("train"), recipe.vocab.text_size)
