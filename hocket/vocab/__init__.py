"""Vocabulary: one id space for text, special tokens and every codebook level.

Owns text tokenizers, id blocks, special tokens and the fingerprint by which corpora and checkpoints recognise each
other. Knows nothing about time: which id stands where is the business of `hocket.interleave`.
"""

from hocket.vocab.blocks import ALIGNED_TEXT, TEXT, Block
from hocket.vocab.export import export_tokenizer
from hocket.vocab.text import (
    HuggingFaceTokenizer,
    SentencePieceTokenizer,
    TextTokenizer,
    load_tokenizer,
    train_bpe,
)
from hocket.vocab.timestamps import timestamp_code, timestamp_seconds, timestamps
from hocket.vocab.vocabulary import Vocabulary

__all__ = [
    "ALIGNED_TEXT",
    "TEXT",
    "Block",
    "HuggingFaceTokenizer",
    "SentencePieceTokenizer",
    "TextTokenizer",
    "Vocabulary",
    "export_tokenizer",
    "load_tokenizer",
    "timestamp_code",
    "timestamp_seconds",
    "timestamps",
    "train_bpe",
]
