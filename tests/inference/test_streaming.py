"""Streamed equals offline: for every next-token stage of every preset, with both heads, and on the bundled codec."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from hocket.codec import load_codec
from hocket.errors import InputError
from hocket.inference import Generator, Request, Sampling
from hocket.inference.item import given_levels
from hocket.inference.streaming import known_frames
from hocket.inference.words import Words
from hocket.interleave import find_rows
from hocket.vocab import Vocabulary, train_bpe
from tests.conftest import CODES, LEVELS, MODEL_LAYOUTS
from tests.inference.late_codec import LateCodec
from tests.inference.test_presets import TRAINABLE, build, streams_for

STAGES = {}
for _name, _stage in ((name, stage) for name, stage in TRAINABLE.items() if "(" not in name):  # presets
    for _head in ("parallel", "depth") if len(find_rows(_stage.layout, _stage.given).rows) > 1 else ("parallel",):
        STAGES[f"{_name}-{_head}"] = replace(_stage, head=_head)


def joined(chunks):
    """Sound, streams and the last chunk of a generation that was streamed."""
    chunks = list(chunks)
    assert [chunk.is_last for chunk in chunks] == [False] * (len(chunks) - 1) + [True]
    streams = {name: np.concatenate([chunk.streams[name] for chunk in chunks]) for name in chunks[-1].streams}
    return torch.cat([chunk.wav_T for chunk in chunks]), streams, chunks[-1]


def request_of(model, n_prompt, seed=3):
    streams = streams_for(model, 1)
    heard = {name: n for name, n in given_levels(model).items() if n}
    return Request(
        given={name: codes[:, : heard[name]] for name, codes in streams.items() if name in heard},
        prompts={name: codes[:n_prompt] for name, codes in streams.items() if name not in heard},
        limits={name: 8 + i for i, name in enumerate(streams) if name not in heard},
        seed=seed,
    )


@pytest.mark.parametrize("name", STAGES)
def test_streamed_equals_offline(name, identity):
    model = build(STAGES[name], identity)
    model.__dict__["codec"] = LateCodec()
    generator = Generator(model)
    request = request_of(model, n_prompt=3)
    whole = generator.generate_batch([request])[0]
    wav_T, streams, last = joined(generator.stream(request, chunk_frames=1))
    assert torch.equal(wav_T, whole.wav_T)
    assert (last.text, last.ended, last.step) == (whole.text, whole.ended, whole.steps)
    for stream, codes_TK in streams.items():
        known = known_frames(model, request).get(stream, 0)
        assert np.array_equal(codes_TK, whole.streams[stream][known:])
    wav_T, streams, _ = joined(generator.stream(request, chunk_frames=2, include_prompt=True))
    assert torch.equal(wav_T, whole.full_wav_T)
    assert all(np.array_equal(codes_TK, whole.streams[stream]) for stream, codes_TK in streams.items())


@pytest.fixture
def make_generator(make_model):
    def make(expression, codec=None, **changes):
        model = make_model(expression, **changes)
        model.__dict__["codec"] = codec or LateCodec()
        return Generator(model)

    return make


def open_request(model, n_frames, seed=0):
    text = np.array(model.vocabulary.encode_text("xy"))[:, None]
    given = {"text": text} if "text" in model.layout.streams else {}
    return Request(given=given, limits=dict.fromkeys(set(model.layout.streams) - set(given), n_frames), seed=seed)


@pytest.mark.parametrize("expression", MODEL_LAYOUTS)
def test_frames_come_as_soon_as_the_plan_has_them(make_generator, expression):
    """After each step come the frames that the plan calls ready, no sooner and no later."""
    generator = make_generator(expression)
    request = open_request(generator.model, 10)
    whole = generator.generate_batch([request])[0]
    lengths = {name: len(codes_TK) for name, codes_TK in whole.streams.items()}
    plan = generator.model.layout.plan(lengths)
    told = 0
    for chunk in generator.stream(request, chunk_frames=1):
        told += len(chunk.codes_TK)
        assert told == plan.ready(chunk.step - 1)["audio"]
    assert told == lengths["audio"]


@pytest.mark.parametrize(
    ("expression", "first"),
    [("Delay(audio)", LEVELS + 1), ("Delay(audio, [0, 1, ...])", 3), ("Parallel(audio)", 2), ("Flatten(audio)", 4)],
)
def test_the_first_chunk_comes_with_the_first_frame(make_generator, expression, first):
    generator = make_generator(expression)
    request = open_request(generator.model, 10)
    assert next(generator.stream(request)).step == first
    late = make_generator('Flatten(audio, order="level")')
    assert len(list(late.stream(request))) <= 1 + 10


def test_chunks_have_as_many_frames_as_asked_for(make_generator):
    generator = make_generator("Delay(audio)")
    request = replace(open_request(generator.model, 11), least={"audio": 11})
    assert [len(chunk.codes_TK) for chunk in generator.stream(request, chunk_frames=4)] == [4, 4, 3]
    assert [len(chunk.codes_TK) for chunk in generator.stream(request)] == [1, 1, 2, 4, 3]
    with pytest.raises(InputError, match="chunk_frames is a whole number of frames from 1 on, not 0"):
        generator.stream(request, chunk_frames=0)


def test_on_the_bundled_codec_bit_for_bit():
    codec = load_codec("bundled")
    model = build(TRAINABLE["delay"], codec.identity)
    model.__dict__["codec"] = codec
    generator = Generator(model)
    codes_TK = np.random.default_rng(0).integers(0, CODES, (35, 8))
    request = Request(prompts={"audio": codes_TK}, limits={"audio": 75}, least={"audio": 75}, seed=1)
    whole = generator.generate_batch([request])[0]
    wav_T, _, _ = joined(generator.stream(request))
    assert len(wav_T) == 40 * codec.hop
    assert torch.equal(wav_T, whole.wav_T)


def test_generate_streams(make_generator):
    generator = make_generator("Delay(audio)")
    wav_T, _, last = joined(generator.generate(seconds=0.6, seed=2, stream=True))
    whole = generator.generate(seconds=0.6, seed=2)
    assert torch.equal(wav_T, whole.wav_T)
    assert last.sample_rate == whole.sample_rate


def test_sampling_and_guidance_hold_in_streams(make_generator):
    generator = make_generator("Delay(audio)")
    request = open_request(generator.model, 12)
    sampling = Sampling(top_k=3, repetition_window=4)
    whole = generator.generate_batch([request], sampling)[0]
    assert torch.equal(joined(generator.stream(request, sampling))[0], whole.wav_T)


def test_a_codec_that_cannot_stream_is_refused_before_anything_is_made(make_generator):
    codec = load_codec("bundled")
    codec.streams_decoding = False  # type: ignore
    generator = make_generator("Delay(audio)", codec)
    with pytest.raises(InputError, match=r'codec "bundled" cannot decode piece by piece: .*; generate without stream'):
        generator.stream(open_request(generator.model, 4))


@pytest.mark.parametrize("text", ["abc déjà vu", "日本語 と emoji 🙂!", "", "a"])
@pytest.mark.parametrize("size", [1, 2, 5])
def test_text_comes_piece_by_piece(text, size):
    vocabulary = Vocabulary.build(train_bpe(["abc abc"], 260), {"audio": [4]})
    tokens, words = vocabulary.encode_text(text), Words(vocabulary)
    pieces = [words.push(tokens[i : i + size]) for i in range(0, len(tokens), size)]
    assert "".join(pieces) + words.finish() == text
    assert not any("\N{REPLACEMENT CHARACTER}" in piece for piece in pieces)
