"""Texts and words as tokens, encoded once: flat files beside the corpus that every process maps.

    corpus/tokens-CORPUS-TOKENIZER[-words.STREAM]/
      tokens.uint16     all tokens, one text (or word) after the other; uint32 for 65,537 tokens or more
      offsets.int64     where each text (or word) begins, and the end
      rows.int64        words only: where the words of each row begin, and the end
      starts.float64    words only: seconds

The folder's name holds the fingerprints of corpus and tokenizer, so that a table can never be of another one. It is
written aside and renamed; processes that do so at the same time make the same files, and the first to rename wins.
Where the corpus' folder cannot be written, the table lies in the cache folder. Costs 2 bytes a token on disk; encoding
1,000,000 transcripts of ten words takes 44 s on one core, mapping them nothing.

Rows are those of the whole corpus, whatever split is looked at.

Shapes: N rows or words, M tokens, W words.
"""

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Self

import numpy as np
import pyarrow as pa

from hocket.data.corpus import Corpus
from hocket.data.places import cache_folder
from hocket.vocab.text import TextTokenizer

CHUNK = 4096  # texts that are encoded at once


@dataclass
class TokenTable:
    """The tokens of every row's text; a row without a text has none."""

    folder: Path
    tokens_M: np.ndarray  # uint16 or uint32
    offsets: np.ndarray  # int64 [N + 1]

    @classmethod
    def of(cls, corpus: Corpus, tokenizer: TextTokenizer) -> Self:
        """The table of a corpus' texts, encoded where there is none yet."""
        folder = _make(_name(corpus, tokenizer), corpus, lambda aside: _write_texts(aside, corpus, tokenizer))
        return cls.map(folder)

    @classmethod
    def map(cls, folder: Path) -> Self:
        """Map the files of a table."""
        return cls(folder, _map(folder, "tokens"), _map(folder, "offsets"))

    def __reduce__(self):
        """Mapped anew in another process."""
        return type(self).map, (self.folder,)

    def counts(self, rows: np.ndarray) -> np.ndarray:
        """Tokens of some rows, int64."""
        return self.offsets[rows + 1] - self.offsets[rows]

    def of_row(self, row: int) -> np.ndarray:
        """The tokens of one row."""
        return self.tokens_M[self.offsets[row] : self.offsets[row + 1]]


@dataclass
class WordTable(TokenTable):
    """The words of one stream of every row, with times: `offsets` go by word."""

    rows: np.ndarray  # int64 [N + 1], words of each row
    starts_W: np.ndarray  # float64, seconds from the row's start

    @classmethod
    def of(cls, corpus: Corpus, tokenizer: TextTokenizer | None, stream: str = "audio") -> Self:
        """The table of a corpus' words of a stream; without a tokenizer only of their times."""
        name = f"{_name(corpus, tokenizer)}-words.{stream}"
        return cls.map(_make(name, corpus, lambda aside: _write_words(aside, corpus, tokenizer, stream)))

    @classmethod
    def map(cls, folder: Path) -> Self:
        return cls(folder, *(_map(folder, name) for name in ("tokens", "offsets", "rows", "starts")))

    def n_words(self, rows: np.ndarray) -> np.ndarray:
        """Words of some rows, int64."""
        return self.rows[rows + 1] - self.rows[rows]

    def counts(self, rows: np.ndarray) -> np.ndarray:
        return self.offsets[self.rows[rows + 1]] - self.offsets[self.rows[rows]]

    def of_row(self, row: int) -> np.ndarray:
        return self.tokens_M[self.offsets[self.rows[row]] : self.offsets[self.rows[row + 1]]]

    def edges(self, row: int) -> np.ndarray:
        """Where the tokens of each word of a row begin, from 0, and the end: int64 `[W + 1]`."""
        first, stop = self.rows[row], self.rows[row + 1]
        return self.offsets[first : stop + 1] - self.offsets[first]

    def starts(self, row: int) -> np.ndarray:
        """When each word of a row starts, in seconds: float64 `[W]`."""
        return self.starts_W[self.rows[row] : self.rows[row + 1]]


def _name(corpus: Corpus, tokenizer: TextTokenizer | None) -> str:
    return f"tokens-{corpus.card.fingerprint[:16]}-{tokenizer.fingerprint if tokenizer else 'none'}"


def _map(folder: Path, name: str) -> np.ndarray:
    path = next(folder.glob(f"{name}.*"))
    dtype = np.dtype(path.suffix[1:])
    return np.memmap(path, dtype, mode="r") if path.stat().st_size else np.zeros(0, dtype)


def _make(name: str, corpus: Corpus, write: Callable[[Path], None]) -> Path:
    """The folder of a table, filled by `write(folder)` where there is none."""
    writable = os.access(corpus.folder, os.W_OK)
    folder = (corpus.folder if writable else cache_folder() / "tokens") / name
    if folder.is_dir():
        return folder
    aside = folder.with_name(f".{name}.{os.getpid()}")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    write(aside)
    try:
        aside.rename(folder)
    except OSError:
        if not folder.is_dir():
            raise
        shutil.rmtree(aside)  # another process was first, with the same files
    return folder


def _write_texts(aside: Path, corpus: Corpus, tokenizer: TextTokenizer) -> None:
    texts = (text or "" for column in corpus.columns("text") for part in _parts(column) for text in part.to_pylist())
    _write_tokens(aside, texts, tokenizer)


def _write_words(aside: Path, corpus: Corpus, tokenizer: TextTokenizer | None, stream: str) -> None:
    counts, starts, texts = [np.zeros(1, np.int64)], [np.zeros(0)], []
    for column in corpus.columns("words"):
        offsets, words = column.offsets.to_numpy(), column.values
        mine = np.array(words.field("stream").to_pylist(), object) == stream
        before = np.concatenate([[0], np.cumsum(mine)])
        row_counts = np.diff(before[offsets])
        counts.append(row_counts)
        starts.append(words.field("start").to_numpy()[mine])
        is_first = np.zeros(int(row_counts.sum()) + 1, bool)
        is_first[(np.cumsum(row_counts) - row_counts)[row_counts > 0]] = True
        spoken = words.field("text").filter(pa.array(mine)).to_pylist()
        texts += [text if first else f" {text}" for text, first in zip(spoken, is_first, strict=False)]
    _write(aside, "rows", np.cumsum(np.concatenate(counts)).astype(np.int64))
    _write(aside, "starts", np.concatenate(starts).astype(np.float64))
    _write_tokens(aside, iter(texts), tokenizer)


def _write_tokens(aside: Path, texts: Iterator[str], tokenizer: TextTokenizer | None) -> None:
    """Encode texts chunk by chunk; without a tokenizer none has tokens."""
    dtype = np.uint32 if tokenizer and tokenizer.size > 2**16 else np.uint16
    counts: list[int] = [0]
    with (aside / f"tokens.{np.dtype(dtype).name}").open("wb") as file:
        while chunk := list(islice(texts, CHUNK)):
            encoded = tokenizer.encode_batch(chunk) if tokenizer else [[]] * len(chunk)
            counts += map(len, encoded)
            file.write(np.array([token for tokens in encoded for token in tokens], dtype).tobytes())
    _write(aside, "offsets", np.cumsum(counts, dtype=np.int64))


def _write(aside: Path, name: str, array: np.ndarray) -> None:
    array.tofile(aside / f"{name}.{array.dtype.name}")


def _parts(column: pa.Array) -> Sequence[pa.Array]:
    return [column.slice(first, CHUNK) for first in range(0, len(column), CHUNK)]
