"""The bundled speech through the bundled codec, as the demo does it."""

import json
from pathlib import Path

import numpy as np
import pytest

from hocket.codec import load_codec
from hocket.data import Corpus, Settings, describe, read_clips, tokenize
from hocket.data.sources import BUNDLED


@pytest.fixture(scope="module")
def few(tmp_path_factory) -> Path:
    """A manifest of every fortieth bundled clip, which has clips of both splits."""
    rows = [json.loads(line) for line in BUNDLED.read_text().splitlines()][::40]
    path = tmp_path_factory.mktemp("few") / "few.jsonl"
    path.write_text("".join(json.dumps(row | {"audio": str(BUNDLED.parent / row["audio"])}) + "\n" for row in rows))
    return path


def test_bundled_clips_through_the_bundled_codec(few, tmp_path):
    codec = load_codec("bundled")
    card = tokenize(few, tmp_path / "corpus", codec, settings=Settings(batch_seconds=20))
    corpus = Corpus.open(tmp_path / "corpus", codec.identity)
    assert card.codec == codec.identity
    assert {example.split for example in corpus} == {"train", "valid"}
    for clip, example in zip(read_clips(few), corpus, strict=True):
        wav_T = clip.read(codec.sample_rate)
        alone = codec.encode(wav_T[None], codec.sample_rate)
        np.testing.assert_array_equal(example.streams["audio"], alone.tokens_BTK[0].numpy())
        assert len(example.streams["audio"]) == -(-len(wav_T) // codec.hop)
        assert example.text == clip.text
    assert describe(corpus).streams["audio"].levels[0].entropy_bits > 3
