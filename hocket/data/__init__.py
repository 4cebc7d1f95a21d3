"""Data: from recordings to batches. This room owns the sources of audio, the tokenising job and the corpus.

A corpus is a folder of Arrow shards that is mapped, never loaded; it knows its codec and says so. What a layout does
with an example is not known here.
"""

from hocket.data.clips import BadAudio, Clip
from hocket.data.corpus import Corpus, CorpusCard, Example
from hocket.data.packing import Batch, Documents, PackedLoader, one_pass
from hocket.data.sources import read_clips
from hocket.data.statistics import CorpusStatistics, describe
from hocket.data.tokenizing import tokenize
from hocket.data.workspace import Rejected, read_rejected

__all__ = [
    "BadAudio",
    "Batch",
    "Clip",
    "Corpus",
    "CorpusCard",
    "CorpusStatistics",
    "Documents",
    "Example",
    "PackedLoader",
    "Rejected",
    "describe",
    "one_pass",
    "read_clips",
    "read_rejected",
    "tokenize",
]
