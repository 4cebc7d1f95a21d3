"""From a recipe to what is trained: corpus, vocabulary, layout, model."""

import shutil
import sys
from dataclasses import asdict
from pathlib import Path

from hocket.codec import CodecIdentity, load_codec
from hocket.data import Corpus, tokenize
from hocket.errors import InputError
from hocket.interleave import Layout, load_layout
from hocket.model import Model, ModelConfig
from hocket.progress import ProgressBar
from hocket.training.config import BUNDLED, Recipe
from hocket.training.engine import Engine
from hocket.vocab import TextTokenizer, Vocabulary, load_tokenizer, train_bpe

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
    layout = load_layout(recipe.interleave.layout, levels=identity.levels)
    text = _text_tokenizer(recipe, corpus, layout) if "text" in layout.streams else None
    vocabulary = Vocabulary.build(text, {"audio": identity.codebook_sizes}, {"audio": identity.fingerprint})
    source = recipe.codec.name or identity.name
    config = ModelConfig(**asdict(recipe.model))
    codebooks = load_codec(source).codebooks if config.embeddings == "codebooks" else None
    return Model.build(
        config,
        vocabulary,
        layout,
        identity,
        codec_source=source,
        codebooks={"audio": codebooks} if codebooks else None,
        seed=recipe.training.seed,
    )


def _cut_levels(corpus: Corpus, levels: int | None) -> CodecIdentity:
    identity = corpus.card.codec
    if levels is None:
        return identity
    if levels > identity.levels:
        raise InputError(f'codec.levels is {levels}, but the corpus "{corpus.folder}" has {identity.levels} levels')
    return identity.with_levels(levels)


def _text_tokenizer(recipe: Recipe, corpus: Corpus, layout: Layout) -> TextTokenizer:
    if recipe.vocab.text_tokenizer is not None:
        return load_tokenizer(recipe.vocab.text_tokenizer)
    if recipe.vocab.text_size == 0:
        raise InputError(f"the layout {layout} needs text: add vocab=bpe, or name a tokenizer in vocab.text_tokenizer")
    return train_bpe(corpus.texts("train"), recipe.vocab.text_size)
