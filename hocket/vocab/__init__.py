"""Vocabulary: one id space for text, special tokens and every codebook level.

Owns text tokenizers, id blocks, special tokens and the fingerprint by which corpora and checkpoints recognise each
other. Knows nothing about time: which id stands where is the business of `hocket.interleave`.
"""

from hocket.vocab.text import (
    HuggingFaceTokenizer,
    SentencePieceTokenizer,
    TextTokenizer,
    load_tokenizer,
    train_bpe,
)
from hocket.vocab.vocabulary import Block, Vocabulary

__all__ = [
    "Block",
    "HuggingFaceTokenizer",
    "SentencePieceTokenizer",
    "TextTokenizer",
    "Vocabulary",
    "load_tokenizer",
    "train_bpe",
]
