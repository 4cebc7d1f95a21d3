"""What a corpus is: its card, how its codebooks are used, what was rejected; a picture of durations, a row as sound.

Reads all codes and all texts once.

Shapes: T frames, K levels, S samples, C channels.
"""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hocket.codec import Codec, CodecIdentity, Codes, load_codec, write_audio
from hocket.data import Corpus, Example, Rejected, describe, read_rejected
from hocket.data.corpus import name_codec
from hocket.data.importing.identity import knows_weights
from hocket.data.shards import AUDIO
from hocket.errors import InputError
from hocket.evaluation.plots import draw_durations

BUNDLED = "bundled"
MOST_REASONS = 8


@dataclass(frozen=True, kw_only=True)
class Sample:
    """A row of a corpus that is to be heard."""

    wav: Path
    """The file to write."""
    row: str | None = None
    """The row's id; the first of train unless given."""
    codec: str | None = None
    """What `load_codec` takes; found by the corpus card unless given."""


def inspect_corpus(folder: str, *, svg: Path | None = None, sample: Sample | None = None) -> dict[str, Any]:
    """The card, hours by split, use of each codebook, texts, durations, and why rows were rejected.

    Args:
        folder: the corpus.
        svg: a file for a picture of the durations; PNG by its suffix.
        sample: a row to decode.

    Raises:
        InputError: it is no corpus, has no such row, or the codec is another one or not to be had.
    """
    corpus = Corpus.open(folder)
    card, statistics = corpus.card, describe(corpus)
    streams = {
        name: {"codec": codec_facts(card.streams[name])} | asdict(use) for name, use in statistics.streams.items()
    }
    facts = {
        "kind": "corpus",
        "name": folder,
        "source": card.source,
        "examples": len(corpus),
        "hours": statistics.hours,
        "splits": {name: asdict(split) for name, split in card.splits.items()},
        "streams": streams,
        "texts": statistics.n_texts,
        "letters": statistics.n_letters,
        "aligned": card.counts.n_aligned,
        "words": statistics.n_words,
        "languages": card.counts.languages,
        "rejected": card.n_rejected,
        "reasons": group_reasons(read_rejected(folder)),
        "settings": card.settings,
        "duration_edges": list(statistics.duration_edges),
        "duration_counts": statistics.duration_counts,
        "fingerprint": card.fingerprint,
    }
    if svg:
        facts["durations"] = _draw(corpus, svg)
    if sample:
        facts["sample"] = write_sample(corpus, sample)
    return facts


def codec_facts(identity: CodecIdentity) -> dict[str, Any]:
    """A codec's identity with what follows from it."""
    facts = identity.to_dict() | {"codec": identity.name, "levels": identity.levels}
    facts |= {"frame_rate": float(identity.frame_rate), "bits_per_second": identity.bits_per_second}
    return {key: value for key, value in facts.items() if key != "name"} | {"fingerprint": identity.fingerprint}


def group_reasons(rejected: Sequence[Rejected], most: int = MOST_REASONS) -> list[dict[str, Any]]:
    """Reasons that differ only in numbers and quoted names counted together: {"reason", "count", "example"}.

    The most frequent first; what is beyond `most` kinds is one last entry.
    """
    kinds = Counter(_kind(item.reason) for item in rejected)
    examples = {_kind(item.reason): item for item in reversed(rejected)}
    named = [
        {"reason": examples[kind].reason, "count": count, "example": examples[kind].audio}
        for kind, count in kinds.most_common(most)
    ]
    left = len(rejected) - sum(entry["count"] for entry in named)
    return [*named, {"reason": "other reasons", "count": left, "example": ""}] if left else named


def _kind(reason: str) -> str:
    return re.sub(r"\d[\d.,]*", "0", re.sub(r'"[^"]*"', '""', reason))


def _draw(corpus: Corpus, path: Path) -> str:
    by_split = {name: corpus.split(name).durations for name in corpus.card.splits}
    with_audio = {name: durations[durations > 0] for name, durations in by_split.items()}
    if not any(map(len, with_audio.values())):
        raise InputError(f'the corpus "{corpus.folder}" holds no audio, so there are no durations to draw')
    draw_durations(with_audio, path)
    return str(path)


def write_sample(corpus: Corpus, sample: Sample) -> dict[str, Any]:
    """Decode a row into a wav file. Raises InputError for what `inspect_corpus` does."""
    if not corpus.levels:
        raise InputError(f'the corpus "{corpus.folder}" is text alone, so no row can be decoded')
    stream = AUDIO if AUDIO in corpus.levels else next(iter(corpus.levels))
    codec = find_codec(corpus.card.streams[stream], sample.codec, str(corpus.folder))
    if not codec.can_decode:
        raise InputError(f'codec "{codec.identity.name}" of the stream "{stream}" has no vocoder to decode with')
    example = _find_row(corpus, sample.row)
    codes_TK = torch.from_numpy(example.streams[stream].astype(np.int64))
    codes = Codes(codes_TK[None], torch.tensor([len(codes_TK)]), codec.identity)
    with torch.inference_mode():
        wav_CS = codec.decode(codes)[0].reshape(codec.identity.channels, -1)
    write_audio(sample.wav, wav_CS.mean(dim=0), codec.sample_rate)
    return {
        "wav": str(sample.wav),
        "id": example.id,
        "stream": stream,
        "seconds": wav_CS.shape[1] / codec.sample_rate,
        "text": example.text,
    }


def find_codec(identity: CodecIdentity, named: str | None, folder: str) -> Codec:
    """The codec that made a stream: the one that is named, the bundled one, or the one of the card's name.

    Raises InputError where it is another one, or nobody knows whether it is the same.
    """
    if not knows_weights(identity):
        raise InputError(
            f'the corpus "{folder}" was imported from facts about {name_codec(identity)} without the hash of its '
            "weights, so no codec can be told to be the one; state weight_hash and import again to decode it"
        )
    if named is not None:
        codec = load_codec(named, identity.levels)
        if codec.identity.fingerprint != identity.fingerprint:
            raise InputError(f'the corpus "{folder}" is of {name_codec(identity)}, not of {name_codec(codec.identity)}')
        return codec
    bundled = load_codec(BUNDLED)
    if identity.levels <= bundled.levels and bundled.identity.with_levels(identity.levels) == identity:
        return load_codec(BUNDLED, identity.levels)
    try:
        codec = load_codec(identity.name, identity.levels)
    except InputError as error:
        raise InputError(f'the corpus "{folder}" is of {name_codec(identity)}; say where it is by --codec') from error
    if codec.identity.fingerprint != identity.fingerprint:
        raise InputError(
            f'the corpus "{folder}" is of {name_codec(identity)}, but the codec of that name here is '
            f"{name_codec(codec.identity)}; say where the right one is by --codec"
        )
    return codec


def _find_row(corpus: Corpus, id: str | None) -> Example:
    if id is None:
        train = corpus.split("train")
        return train[0] if len(train) else corpus[0]
    for index in range(len(corpus)):
        if corpus.id(index) == id:
            return corpus[index]
    raise InputError(f'the corpus "{corpus.folder}" has no row "{id}"')
