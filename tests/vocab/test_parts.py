"""Sharing, token groups, reserved blocks, text rows, growth, saving."""

import itertools
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hocket.errors import InputError
from hocket.vocab import Vocabulary, timestamp_code, timestamp_seconds, timestamps, train_bpe

TEXT = train_bpe(["ab"], 256)
NAMES = ["audio", "semantic", "user", "image", "language", "task"]


@st.composite
def added(draw, names=tuple(NAMES)):
    """Arguments of a build or a growth; each name is a stream, one that shares, a group, a reserved block or absent."""
    streams, share, tokens, reserved = {}, {}, {}, {}
    for name in names:
        kind = draw(st.sampled_from(["stream", "share", "group", "reserved", "absent"]))
        if kind == "stream" or (kind == "share" and not streams):
            streams[name] = draw(st.lists(st.integers(1, 50), min_size=1, max_size=4))
        elif kind == "share":
            share[name] = draw(st.sampled_from(sorted(streams)))
        elif kind == "group":
            tokens[name] = [f"t{i}" for i in range(draw(st.integers(1, 5)))]
        elif kind == "reserved":
            reserved[name] = draw(st.integers(1, 50))
    return {"streams": streams, "share": share, "tokens": tokens, "reserved": reserved}


@st.composite
def vocabularies(draw):
    text = draw(st.sampled_from([None, TEXT]))
    parts = draw(added(NAMES[:3]))
    if text is None and not any(parts.values()):
        parts["reserved"] = {"image0": 4}
    rows = TEXT.size + draw(st.integers(0, 5)) if text else None
    return Vocabulary.build(text, text_rows=rows, **parts)


def assert_sound(vocabulary):
    edges = [(b.start, b.stop) for b in vocabulary.blocks]
    assert edges[0][0] == 0
    assert all(a[1] == b[0] for a, b in itertools.pairwise(edges))
    names = [vocabulary.name_of(i) for i in range(vocabulary.size)]
    assert len(set(names)) == vocabulary.size
    assert len(set(vocabulary.specials.values())) == len(vocabulary.specials)
    owners = [s for s in vocabulary.all_streams if s not in vocabulary.share and s != "aligned_text"]
    spans = [(o, o + n) for s in owners for o, n in zip(vocabulary.offsets(s), vocabulary.sizes(s), strict=True)]
    assert all(a[1] <= b[0] for a, b in itertools.pairwise(sorted(spans)))


@given(vocabularies(), added(("user2", "image2", "task2")), added(("a", "b")))
@settings(deadline=None)
def test_growth_keeps_every_id_and_nothing_collides(vocabulary, first, second):
    assert_sound(vocabulary)
    for new in (first, second):
        if not any(new.values()):
            continue
        grown = vocabulary.grow(**new)
        assert_sound(grown)
        assert grown.blocks[: len(vocabulary.blocks)] == vocabulary.blocks
        assert [grown.name_of(i) for i in range(vocabulary.size)] == [
            vocabulary.name_of(i) for i in range(vocabulary.size)
        ]
        assert all(grown.id(name) == vocabulary.id(name) for name in vocabulary.specials)
        vocabulary = grown


@given(vocabularies(), added(("user2", "image2")))
@settings(deadline=None, max_examples=25)
def test_a_grown_vocabulary_is_saved_and_loaded(tmp_path_factory, vocabulary, new):
    folder = tmp_path_factory.mktemp("vocabulary")
    grown = vocabulary.grow(**new) if any(new.values()) else vocabulary
    grown.save(folder)
    loaded = Vocabulary.load(folder)
    assert loaded.fingerprint == grown.fingerprint
    assert (loaded.blocks, loaded.specials, loaded.parts) == (grown.blocks, grown.specials, grown.parts)
    assert (loaded.fingerprint == vocabulary.fingerprint) == (grown is vocabulary)


def test_specials_of_every_kind():
    vocabulary = Vocabulary.build(
        TEXT, {"audio": [4, 4]}, share={"user": "audio"}, tokens={"language": ["en", "de"]}, reserved={"image": 9}
    )
    first = vocabulary["special"].start
    assert (vocabulary.id("<pad>"), vocabulary.id("<epad>")) == (first, first + 1)
    streams = ["text", "audio", "user", "image"]
    expected = [f"<end.{s}>" for s in [*streams, "aligned_text", "language"]] + [f"<to.{s}>" for s in streams]
    expected += [f"<mask.{b}>" for b in ("text", "audio.0", "audio.1", "user.1", "image", "language")]
    assert all(vocabulary.id(name) >= first for name in expected)
    assert vocabulary.id("<mask.user.1>") == vocabulary.id("<mask.audio.1>")
    assert vocabulary.id("<language.de>") == vocabulary["language"].start + vocabulary.code("language", "de")
    assert vocabulary.ranges(["language", "<language.de>"]) == ((vocabulary["language"].start, vocabulary.size),)
    assert vocabulary.all_streams == ("text", "aligned_text", "audio", "user", "image", "language")


def test_shared_blocks_are_the_same_ids():
    vocabulary = Vocabulary.build(None, {"audio": [4, 8], "user": [4, 8]}, {"audio": "x"}, share={"user": "audio"})
    assert vocabulary["user.1"] == vocabulary["audio.1"]
    assert vocabulary.shares("user.0", "audio.0")
    assert not vocabulary.shares("user.0", "audio.1")
    assert vocabulary.id("<end.user>") != vocabulary.id("<end.audio>")
    assert vocabulary.codecs["user"] == "x"
    assert vocabulary.ranges(["audio.0", "user.0"]) == vocabulary.ranges(["audio.0"])
    assert vocabulary.fingerprint != Vocabulary.build(None, {"audio": [4, 8], "user": [4, 8]}).fingerprint


def test_unused_text_rows_are_never_legal():
    vocabulary = Vocabulary.build(TEXT, {"audio": [4]}, text_rows=300)
    assert vocabulary.ranges(["text"]) == ((0, 256),)
    assert vocabulary.id("<pad>") == 300
    assert vocabulary.name_of(256) == "<unused:256>"
    assert vocabulary.ranges(["text", "<pad>", "<epad>"]) == ((0, 256), (300, 302))
    assert vocabulary.sizes("aligned_text") == (302,)
    assert vocabulary.shares("text", "aligned_text")


def test_timestamps_go_to_seconds_and_back(tmp_path):
    names = timestamps(30.0, 0.02)
    assert (len(names), names[0], names[1], names[-1]) == (1501, "0.00", "0.02", "30.00")
    Vocabulary.build(None, tokens={"timestamp": names}).save(tmp_path)
    loaded = Vocabulary.load(tmp_path)
    assert timestamp_code(loaded.tokens["timestamp"], 1.237) == 62
    assert timestamp_seconds(names, 62) == 1.24
    assert loaded.name_of(loaded["timestamp"].start + 62) == "<timestamp.1.24>"
    seconds = [float(name) for name in names]
    assert timestamp_code(names, seconds).tolist() == list(range(1501))
    assert timestamp_seconds(names, list(range(1501))).tolist() == seconds


BASE = Vocabulary.build(TEXT, {"audio": [4, 4]}, {"audio": "x"}, tokens={"task": ["asr"]})


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: Vocabulary.build(None, {"audio": [4], "user": [5]}, share={"user": "audio"}), "have \\[5\\] entries"),
        (lambda: Vocabulary.build(None, {"audio": [4]}, share={"user": "adio"}), 'did you mean "audio"'),
        (lambda: Vocabulary.build(None, {"a": [4]}, share={"a": "a"}), "owns none"),
        (
            lambda: Vocabulary.build(None, {"a": [4], "b": [4]}, {"a": "x", "b": "y"}, share={"b": "a"}),
            "different codecs",
        ),
        (lambda: Vocabulary.build(None, {"a": [4]}, {"b": "x"}), 'given for "b", which is no code stream'),
        (lambda: Vocabulary.build(TEXT, text_rows=10), "text_rows is 10, but the text tokenizer has 256 ids"),
        (lambda: Vocabulary.build(None, {"a": [4]}, text_rows=10), "there is no text tokenizer"),
        (lambda: Vocabulary.build(None, tokens={"task": ["a b"]}), "without spaces"),
        (lambda: Vocabulary.build(None, tokens={"task": "asr"}), "takes a list of names"),
        (lambda: Vocabulary.build(None, tokens={"task": ["a", "b", "a"]}), 'names "a" twice'),
        (lambda: Vocabulary.build(None, tokens={"end": ["a"]}), "are special tokens"),
        (lambda: Vocabulary.build(None, tokens={"task": []}), "has no tokens"),
        (lambda: Vocabulary.build(None, reserved={"image": 0}), "at least one entry"),
        (lambda: Vocabulary.build(None, reserved={"aligned_text": 5}), "cannot name"),
        (lambda: Vocabulary.build(None, {"a": [4]}, reserved={"a": 5}), 'the name "a" is taken'),
        (lambda: BASE.grow({"audio": [4]}), 'the name "audio" is taken'),
        (lambda: BASE.grow(), "none were given"),
        (lambda: BASE.grow(share={"user": "audio"}).grow(share={"other": "user"}), "owns none"),
        (lambda: BASE.code("task", "ars"), 'did you mean "asr"'),
        (lambda: BASE.id("<task.tts>"), 'did you mean "<task.asr>"'),
        (lambda: timestamps(1.0, 0.3), "no whole number of steps"),
        (lambda: timestamps(-1, 0.5), "above 0"),
        (lambda: timestamp_code(timestamps(1.0, 0.5), 1.3), "1.3 seconds lie outside"),
        (lambda: timestamp_seconds(timestamps(1.0, 0.5), 3), "3 timestamps"),
        (lambda: timestamp_code(("en", "de"), 1.0), "are no timestamps"),
    ],
)
def test_what_cannot_be_is_refused_in_a_sentence(call, sentence):
    with pytest.raises(InputError, match=sentence):
        call()


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda c: c.pop("format"), "saved by an older hocket"),
        (lambda c: c.update(format=99), "saved by a newer hocket"),
        (lambda c: c.pop("parts"), "is damaged"),
        (lambda c: c["parts"][0]["tokens"].update(task=["tts"]), "changed after it was saved"),
    ],
)
def test_files_of_other_formats_are_refused(tmp_path, change, sentence):
    BASE.save(tmp_path)
    content = json.loads((tmp_path / "vocabulary.json").read_text())
    change(content)
    (tmp_path / "vocabulary.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match=sentence):
        Vocabulary.load(tmp_path)
