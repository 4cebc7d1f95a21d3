"""Data: from recordings to batches. This room owns the sources of audio, the tokenising job and the corpus.

A corpus is a folder of Arrow shards that is mapped, never loaded; it knows its codecs and says so. What a layout does
with an example is not known here.
"""

from hocket.data.card import CorpusCard
from hocket.data.clips import BadAudio, Clip, Rejected
from hocket.data.corpus import Corpus, Example
from hocket.data.loading import Batch, Documents, Mixture, PackedLoader, one_pass
from hocket.data.preparing import Preparation
from hocket.data.sources import open_source, read_clips
from hocket.data.statistics import CorpusStatistics, describe
from hocket.data.tokenizing import Settings, StreamCodec, read_rejected, tokenize
from hocket.data.words import Word

__all__ = [
    "BadAudio",
    "Batch",
    "Clip",
    "Corpus",
    "CorpusCard",
    "CorpusStatistics",
    "Documents",
    "Example",
    "Mixture",
    "PackedLoader",
    "Preparation",
    "Rejected",
    "Settings",
    "StreamCodec",
    "Word",
    "describe",
    "one_pass",
    "open_source",
    "read_clips",
    "read_rejected",
    "tokenize",
]
