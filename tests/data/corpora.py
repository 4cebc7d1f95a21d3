"""Corpora written directly, without audio or a codec: rows, shards and card."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hocket.codec import CodecIdentity
from hocket.data import Corpus
from hocket.data.card import CARD_FILE, CorpusCard, Counts, ShardCard
from hocket.data.shards import Row, datasets_metadata, json_bytes, sha256, shard_bytes, shard_name
from hocket.data.words import Word


def codec_of(levels: int = 3, size: int = 12, rate: int = 25, weights: str = "0") -> CodecIdentity:
    """A codec that there is not: `rate` frames a second."""
    return CodecIdentity(
        name="fake", revision="1", weight_hash=weights, sample_rate=rate * 640, hop=640, codebook_sizes=(size,) * levels
    )


def row_of(name: str, streams: Mapping[str, np.ndarray], text: str | None = None, **more: Any) -> Row:
    """A row of given codes."""
    return Row(
        id=name,
        streams=streams,
        text=text,
        **{"split": "train", "recording": name, "duration": 1.0, "audio": name} | more,
    )


def random_rows(
    lengths: Sequence[int],
    streams: Mapping[str, CodecIdentity],
    texts: bool = False,
    words: bool = False,
    prefix: str = "clip",
    seed: int = 0,
) -> list[Row]:
    """Rows of random codes of so many frames of the first stream; one word of text for every four frames."""
    rng, rows = np.random.default_rng(seed), []
    rate = next(iter(streams.values())).frame_rate if streams else 25
    for i, n in enumerate(lengths):
        codes = {}
        for stream, codec in streams.items():
            n_frames = int(n * codec.frame_rate / rate)
            codes[stream] = rng.integers(0, codec.codebook_sizes[0], (n_frames, codec.levels)).astype(np.uint16)
        spoken = [f"w{j}" for j in range(max(n // 4, 1))]
        timed = [Word(text=w, start=j * 4 / float(rate), end=(j * 4 + 3) / float(rate)) for j, w in enumerate(spoken)]
        text = " ".join(spoken) if texts else None
        rows.append(row_of(f"{prefix}{i}", codes, text, words=timed if words else (), duration=n / float(rate)))
    return rows


def write_corpus(
    folder: Path, rows: Sequence[Row], streams: Mapping[str, CodecIdentity], rows_per_shard: int = 1000
) -> Corpus:
    """A finished corpus in a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    levels, shards = {name: codec.levels for name, codec in streams.items()}, []
    for first in range(0, max(len(rows), 1), rows_per_shard):
        part = rows[first : first + rows_per_shard]
        content, name = shard_bytes(part, levels), shard_name(len(shards))
        (folder / name).write_bytes(content)
        shards.append(ShardCard(file=name, n_examples=len(part), n_bytes=len(content), sha256=sha256(content)))
    card = CorpusCard(
        streams=dict(streams),
        source="made",
        source_fingerprint="0",
        settings={},
        counts=Counts.of(rows),
        n_rejected=0,
        shards=shards,
        fingerprint=sha256("".join(shard.sha256 for shard in shards).encode()),
    )
    for name, content in datasets_metadata([s.file for s in shards], levels, card.fingerprint).items():
        (folder / name).write_bytes(content)
    (folder / CARD_FILE).write_bytes(json_bytes(card.to_dict()))
    return Corpus.open(folder)
