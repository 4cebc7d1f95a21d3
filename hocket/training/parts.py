"""From a recipe to what is trained: corpus, vocabulary, layout, model."""

import shutil
import sys
from dataclasses import asdict
from pathlib import Path

from hocket.codec import CodecIdentity, load_codec
from hocket.data import Corpus, Mixture, tokenize
from hocket.data.corpus import name_codec
from hocket.errors import InputError
from hocket.interleave import Layout, Stage, build_scheme, load_scheme
from hocket.interleave.parse import Levels
from hocket.interleave.stream import FrameRates
from hocket.model import Model, ModelConfig
from hocket.model.model import MAIN, main_stream
from hocket.model.warm_start import HocketModel, TextModel, open_source
from hocket.progress import ProgressBar
from hocket.training.config import BUNDLED, InterleaveGroup, Recipe
from hocket.training.engine import Engine
from hocket.vocab import ALIGNED_TEXT, TEXT, TextTokenizer, Vocabulary, load_tokenizer, train_bpe

BUNDLED_CORPUS = "bundled-corpus"
"""Folder beside the runs that holds the packaged speech, tokenised."""


def open_corpus(recipe: Recipe, engine: Engine) -> Mixture:
    """The recipe's corpora, of the recipe's codec; the packaged speech is tokenised first where it is not yet."""
    source, temperature = recipe.data.corpus, recipe.data.temperature
    if source == BUNDLED:
        folder = Path(recipe.output).parent / BUNDLED_CORPUS
        engine.on_main(lambda: _tokenize_bundled(folder, recipe.codec.name or BUNDLED, str(engine.device)))
        source = folder
    mixture = Mixture.open(source, temperature=temperature)
    if not mixture.streams:
        raise InputError(
            f'the corpus "{mixture.folder}" is text alone: name one with codes beside it, as data.corpus=TEXTS,SPOKEN'
        )
    if recipe.codec.name is not None:
        found = mixture.streams[main_stream(mixture.streams) or next(iter(mixture.streams))]
        wanted = load_codec(recipe.codec.name, levels=found.levels).identity
        if wanted.fingerprint != found.fingerprint:
            raise InputError(
                f'the corpus "{mixture.folder}" is of {name_codec(found)}, not of {name_codec(wanted)}: '
                "add codec=corpus to take whatever codec it was made with"
            )
    return mixture


def _tokenize_bundled(folder: Path, codec_name: str, device: str) -> None:
    codec = load_codec(codec_name)
    if (folder / "corpus.json").is_file() and Corpus.open(folder).card.codec.fingerprint != codec.identity.fingerprint:
        print(f"tokenising the bundled speech anew: {folder} is of another codec", file=sys.stderr)
        shutil.rmtree(folder)
    if not (folder / "corpus.json").is_file():
        with ProgressBar("tokenise the bundled speech") as bar:
            tokenize(BUNDLED, folder, codec, device=device, on_progress=bar.update)


def build_model(recipe: Recipe, corpus: Corpus | Mixture) -> Model:
    """A freshly initialised model for the corpus. InputError where layout, levels or text do not fit it."""
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
    source = (recipe.codec.name if main == MAIN else None) or used[main].name
    config = start.complete(asdict(recipe.model)) if start else ModelConfig(**asdict(recipe.model))
    codebooks = load_codec(source).codebooks if config.embeddings == "codebooks" else None
    model = Model.build(
        config,
        vocabulary,
        stage,
        used[main],
        codec_source=source,
        codebooks={name: codebooks for name in used if used[name] == used[main]} if codebooks else None,
        seed=recipe.training.seed,
    )
    if start:
        start.start(model, recipe.training.seed)
    return model


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
    for name in dict.fromkeys(leaf.ref.name for leaf in layout.leaves()):
        if name not in corpus.streams and name not in (TEXT, ALIGNED_TEXT):
            how = {MAIN: "default", "semantic": "--stream semantic=UNITS"}.get(
                name, "--channels, a name for each channel"
            )
            raise InputError(
                f'the layout {layout} needs a stream "{name}", but the corpus "{corpus.folder}" has {_names(corpus)}: '
                f"`hocket tokenize` makes it by {how}"
            )


def _names(corpus: Corpus | Mixture) -> str:
    return ", ".join(corpus.levels) or "text alone"


def find_stage(group: InterleaveGroup, levels: Levels = None, frame_rates: FrameRates | None = None) -> Stage:
    """The layout of a recipe, with how it is to be learned.

    Raises:
        InputError: there is no such layout or stage; its attention would see what it predicts; or its head does not go
            with its objective.
    """
    if not group.stages and "(" not in group.layout:
        scheme = load_scheme(group.layout, levels, frame_rates)
    else:
        held = {key: getattr(group, key) for key in ("layout", "given", "objective", "attention", "head")}
        content = {"stages": group.stages} if group.stages else held
        scheme = build_scheme("interleave", content, levels, frame_rates)
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
