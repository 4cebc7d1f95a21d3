"""From a recipe to what is trained: corpus, vocabulary, layout, model."""

import shutil
import sys
from dataclasses import asdict
from pathlib import Path

from hocket.codec import CodecIdentity, load_codec
from hocket.data import Corpus, tokenize
from hocket.errors import InputError
from hocket.interleave import Layout, Stage, build_scheme, load_scheme
from hocket.interleave.stream import FrameRates
from hocket.model import Model, ModelConfig
from hocket.progress import ProgressBar
from hocket.training.config import BUNDLED, InterleaveGroup, Recipe
from hocket.training.engine import Engine
from hocket.vocab import TextTokenizer, Vocabulary, load_tokenizer, train_bpe

TRAINABLE = {"objective": "next-token", "attention": "causal", "head": "parallel"}
BUNDLED_CORPUS = "bundled-corpus"
"""Folder beside the runs that holds the packaged speech, tokenised."""


def open_corpus(recipe: Recipe, engine: Engine) -> Corpus:
    """The recipe's corpus, of the recipe's codec; the packaged speech is tokenised first where it is not yet."""
    folder = Path(recipe.data.corpus)
    if recipe.data.corpus == BUNDLED:
        folder = Path(recipe.output).parent / BUNDLED_CORPUS
        engine.on_main(lambda: _tokenize_bundled(folder, recipe.codec.name or BUNDLED, str(engine.device)))
    corpus = Corpus.open(folder)
    if recipe.codec.name is None:
        return corpus
    return Corpus.open(folder, load_codec(recipe.codec.name, levels=corpus.card.codec.levels).identity)


def _tokenize_bundled(folder: Path, codec_name: str, device: str) -> None:
    codec = load_codec(codec_name)
    if (folder / "corpus.json").is_file() and Corpus.open(folder).card.codec.fingerprint != codec.identity.fingerprint:
        print(f"tokenising the bundled speech anew: {folder} is of another codec", file=sys.stderr)
        shutil.rmtree(folder)
    if not (folder / "corpus.json").is_file():
        with ProgressBar("tokenise the bundled speech") as bar:
            tokenize(BUNDLED, folder, codec, device=device, on_progress=bar.update)


def build_model(recipe: Recipe, corpus: Corpus) -> Model:
    """A freshly initialised model for the corpus. InputError where layout, levels or text do not fit it."""
    identity = _cut_levels(corpus, recipe.codec.levels)
    rate = identity.frame_rate
    stage = find_stage(recipe.interleave, identity.levels, {"audio": rate, "aligned_text": rate})
    layout = stage.layout
    text = _text_tokenizer(recipe, corpus, layout) if "text" in layout.streams else None
    vocabulary = Vocabulary.build(
        text, {"audio": identity.codebook_sizes}, {"audio": identity.fingerprint}, tokens=_token_groups(layout)
    )
    source = recipe.codec.name or identity.name
    config = ModelConfig(**asdict(recipe.model))
    codebooks = load_codec(source).codebooks if config.embeddings == "codebooks" else None
    return Model.build(
        config,
        vocabulary,
        layout,
        identity,
        codec_source=source,
        given=stage.given,
        codebooks={"audio": codebooks} if codebooks else None,
        seed=recipe.training.seed,
    )


def find_stage(group: InterleaveGroup, levels: int | None = None, frame_rates: FrameRates | None = None) -> Stage:
    """The layout of a recipe, with how it is to be learned.

    Raises:
        InputError: there is no such layout or stage; or it needs an objective, an attention or a head that the training
            room lacks.
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
    for key, known in TRAINABLE.items():
        if getattr(stage, key) != known:
            raise InputError(
                f'the layout wants {key} "{getattr(stage, key)}", which cannot be trained yet: '
                f"add {named}interleave.{key}={known} to train it so, or choose another layout"
            )
    return stage


def _cut_levels(corpus: Corpus, levels: int | None) -> CodecIdentity:
    identity = corpus.card.codec
    if levels is None:
        return identity
    if levels > identity.levels:
        raise InputError(f'codec.levels is {levels}, but the corpus "{corpus.folder}" has {identity.levels} levels')
    return identity.with_levels(levels)


def _token_groups(layout: Layout) -> dict[str, list[str]]:
    """The named tokens that a layout's markers place, by group: `<task.asr>` is token "asr" of group "task"."""
    groups: dict[str, list[str]] = {}
    for token in layout.markers:
        group, dot, name = token.strip("<>").partition(".")
        if dot:
            groups.setdefault(group, []).append(name)
    return groups


def _text_tokenizer(recipe: Recipe, corpus: Corpus, layout: Layout) -> TextTokenizer:
    if recipe.vocab.text_tokenizer is not None:
        return load_tokenizer(recipe.vocab.text_tokenizer)
    if recipe.vocab.text_size == 0:
        raise InputError(f"the layout {layout} needs text: add vocab=bpe, or name a tokenizer in vocab.text_tokenizer")
    return train_bpe(corpus.texts("train"), recipe.vocab.text_size)
