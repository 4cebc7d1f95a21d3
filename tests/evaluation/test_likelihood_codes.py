"""Recordings as scored codes: those that tokenising makes, kept by content, refused in words."""

import shutil
from dataclasses import replace

import numpy as np
import pytest

from hocket.codec import load_codec
from hocket.data import Corpus, read_clips, tokenize
from hocket.errors import InputError
from hocket.evaluation.likelihood import CodeCache, Scorer, make_corpus, score_audio
from hocket.evaluation.likelihood import codes as codes_module
from hocket.interleave import Stage, load_layout
from hocket.model import Model
from hocket.vocab import Vocabulary, train_bpe
from tests.conftest import TINY

LEVELS = 2


@pytest.fixture(scope="module")
def clips():
    """Three short clips of the bundled speech."""
    return sorted(read_clips("bundled"), key=lambda clip: clip.seconds or 0)[:3]


@pytest.fixture(scope="module")
def codec():
    return load_codec("bundled", levels=LEVELS)


@pytest.fixture(scope="module")
def make(codec):
    """make(expression) -> a tiny model of the bundled codec's first levels."""

    def build(expression: str, **more) -> Model:
        layout = load_layout(expression, levels={"audio": LEVELS, "user": LEVELS, "semantic": 1})
        sizes = {n: codec.codebook_sizes[:k] for n, k in layout.streams.items() if "text" not in n}
        prints = {"audio": codec.identity.fingerprint}
        vocabulary = Vocabulary.build(train_bpe(["hello"], 256), sizes, prints)
        stage = Stage(name="", layout=layout)
        return Model.build(replace(TINY, context=256), vocabulary, stage, codec.identity, **more).eval()

    return build


def test_codes_are_those_of_a_tokenised_corpus(make, clips, codec, tmp_path):
    (tmp_path / "speech").mkdir()
    for clip in clips:
        shutil.copy(clip.audio, tmp_path / "speech")
    tokenize(tmp_path / "speech", tmp_path / "corpus", codec)
    wanted = {example.id: example.streams["audio"] for example in Corpus.open(tmp_path / "corpus")}
    model = make("Delay(audio)")
    made = make_corpus(model, read_clips(tmp_path / "speech"), cache=tmp_path / "cache")
    assert {example.id for example in made} == set(wanted)
    for example in made:
        assert np.array_equal(example.streams["audio"], wanted[example.id])
    found = score_audio(model, tmp_path / "speech", cache=tmp_path / "cache")
    assert found.bits == score_audio(model, [clip.audio for clip in clips], cache=tmp_path / "cache").bits
    assert found.corpus == str(tmp_path / "speech")
    assert found.bits["total"].value == pytest.approx(
        sum(s.nats for s in Scorer(model, Corpus.open(tmp_path / "corpus")).score()) / np.log(2) / found.seconds
    )


def test_a_file_is_encoded_once_whatever_its_name(clips, codec, tmp_path, monkeypatch, make):
    encoded = []
    original = codes_module.encode_waves
    monkeypatch.setattr(codes_module, "encode_waves", lambda c, waves: encoded.append(len(waves)) or original(c, waves))
    model, cache = make("Delay(audio)"), tmp_path / "cache"
    make_corpus(model, clips[:2], cache=cache)
    copy = tmp_path / "other.opus"
    shutil.copy(clips[0].audio, copy)
    again = [*clips, replace(clips[0], id="again", audio=copy)]
    corpus = make_corpus(model, again, cache=cache)
    assert sum(encoded) == 3
    assert np.array_equal(corpus[0].streams["audio"], corpus[3].streams["audio"])
    assert CodeCache(cache).codes({}, codec) == {}
    assert make_corpus(model, again, cache=cache).folder == corpus.folder


def test_units_come_from_their_own_codec(make, clips, codec, tmp_path):
    model = make("Concat(Flatten(semantic), Flatten(audio))")
    with pytest.raises(
        InputError, match=r'needs "semantic", whose codec the checkpoint cannot find: say .* semantic=FOLDER'
    ):
        make_corpus(model, clips, cache=tmp_path)
    corpus = make_corpus(model, clips, codecs={"semantic": "bundled"}, cache=tmp_path)
    assert {name: codes.shape[1] for name, codes in corpus[0].streams.items()} == {"semantic": 1, "audio": LEVELS}
    with pytest.raises(InputError, match='has no stream "units"'):
        make_corpus(model, clips, codecs={"units": "bundled"}, cache=tmp_path)


def test_streams_that_cannot_be_had_are_refused(make, clips, codec, tmp_path):
    dialogue = make("Stack(Delay(audio), Delay(user))", codec_identities={"user": codec.identity})
    with pytest.raises(InputError, match='needs "user", the codes of another speaker'):
        make_corpus(dialogue, clips, cache=tmp_path)
    speaking = make("Concat(Text(text), Delay(audio))")
    silent = [replace(clip, text=None) for clip in clips]
    with pytest.raises(InputError, match="needs the text of each recording, which 3 of 3 do not have"):
        make_corpus(speaking, silent, cache=tmp_path)
    assert make_corpus(speaking, clips, cache=tmp_path)[0].text
    other = make("Delay(audio)")
    other.vocabulary.codecs["audio"] = "another"
    with pytest.raises(InputError, match='"audio" was learned as codes with fingerprint another'):
        make_corpus(other, clips, codecs={"audio": "bundled"}, cache=tmp_path)


def test_files_that_are_missing_or_no_audio_are_named(make, clips, tmp_path):
    model = make("Delay(audio)")
    gone = [replace(clip, audio=tmp_path / f"{i}.wav") for i, clip in enumerate(clips)]
    with pytest.raises(InputError, match=r'2 of 3 recordings are missing, ".*1\.wav" first'):
        make_corpus(model, [clips[0], *gone[1:]], cache=tmp_path)
    (tmp_path / "0.wav").write_text("no sound")
    with pytest.raises(InputError, match=clips[0].name):
        make_corpus(model, gone[:1], cache=tmp_path)
    with pytest.raises(InputError, match="text alone"):
        make_corpus(model, [replace(clips[0], audio=None)], cache=tmp_path)
    with pytest.raises(InputError, match="no recordings"):
        score_audio(model, [], cache=tmp_path)
