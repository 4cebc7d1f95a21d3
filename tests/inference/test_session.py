"""Sessions: equal to offline generation within the context, constant in work and memory past it."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from hocket.codec import load_codec
from hocket.errors import InputError
from hocket.inference import Generator, Request, Sampling
from hocket.inference.session import Session
from hocket.inference.unrolled import Unrolled
from hocket.inference.words import text_tokens
from hocket.interleave import Stage, find_rows, load_layout
from hocket.interleave.plan import NO_STREAM
from hocket.model import Model
from hocket.vocab import Vocabulary, train_bpe
from tests.conftest import TINY
from tests.inference.late_codec import LateCodec
from tests.interleave.cases import stages

LEVELS, CODES = 3, 12
PRESETS = ("moshi", "moshi-mono", "hibiki")
EXPRESSIONS = (
    "Parallel(audio)",
    "Delay(audio)",
    "Flatten(audio)",
    "Repeat(audio, 2)",
    "Stack(Lead(Delay(user), 1), Delay(audio))",
    "Stack(Flatten(audio), Repeat(user, 3))",
    "Stack(aligned_text, Delay(audio, [0, 2, 2]), Delay(user, [0, 1, ...]))",
)


def stage_of(name: str) -> Stage:
    if name in PRESETS:
        return stages(name, LEVELS)[0]
    layout = load_layout(name, LEVELS)
    return Stage(name=name, layout=layout, given=tuple({"user"} & set(layout.streams)))


def model_of(stage: Stage, identity, **changes) -> Model:
    sizes = {name: [CODES] * k for name, k in stage.layout.streams.items() if "text" not in name}
    vocabulary = Vocabulary.build(train_bpe(["abc"], 256), sizes)
    config = replace(TINY, context=256, **changes)
    model = Model.build(config, vocabulary, stage, identity, seed=1).eval()
    model.__dict__["codec"] = LateCodec()
    return model


def recording(n_frames, seed=0):
    return np.random.default_rng(seed).integers(0, CODES, (n_frames, LEVELS))


def answers(session, n_frames):
    """What a session says to a recording."""
    heard = recording(n_frames)
    turned = [session.step(heard[t] if session.heard else None) for t in range(n_frames)]
    return turned, np.concatenate([one.codes_TK for one in turned])


@pytest.mark.parametrize("name", [*PRESETS, *EXPRESSIONS])
@pytest.mark.parametrize("head", ["parallel", "depth"])
@pytest.mark.parametrize(
    "sampling", [Sampling(), Sampling(top_k=5, repetition_window=6, rows={"audio": {"top_p": 0.9}})]
)
def test_a_session_equals_offline_generation(name, head, sampling, identity):
    stage = replace(stage_of(name), head=head)
    if head == "depth" and len(find_rows(stage.layout, stage.given).rows) < 2:
        pytest.skip("one row is predicted")
    if "audio" not in stage.layout.streams:
        sampling = replace(sampling, rows={})
    model, n_frames = model_of(stage, identity), 70 if name == "hibiki" else 30
    session = Session(model, sampling, seed=5)
    turned, own_TK = answers(session, n_frames)
    more = n_frames + LEVELS + 1  # no end is in sight of what is compared
    given = {session.heard: recording(more)} if session.heard else {}
    opened = dict.fromkeys(set(stage.layout.streams) - set(given), more)
    request = Request(given=given, limits=opened, least=opened, seed=5)
    whole = Generator(model).generate_batch([request], sampling)[0]
    assert len(own_TK) >= n_frames - (50 if name == "hibiki" else 0) - LEVELS
    assert np.array_equal(own_TK, whole.streams[session.spoken][: len(own_TK)])
    wav_T = torch.cat([one.wav_T for one in turned])
    assert torch.equal(wav_T, whole.full_wav_T[: len(wav_T)])
    if "aligned_text" in stage.layout.streams:
        told = "".join(one.text for one in turned)
        assert whole.text.startswith(told)  # type: ignore
        assert len(told) > 0


def test_the_own_frame_comes_as_early_as_the_layout_lets_it(identity):
    """With moshi frame t is out once frame t is in; a delay of K - 1 takes no more than what is sampled ahead."""
    for name, late in (
        ("moshi", 0),
        ("moshi-mono", 0),
        ("Stack(aligned_text, Delay(audio, [0, 2, 2]), Delay(user, [0, 1, ...]))", 1),
    ):
        turned, _ = answers(Session(model_of(stage_of(name), identity)), 8)
        assert [len(one.codes_TK) for one in turned] == [0] * late + [1] * (8 - late)


@pytest.mark.parametrize("name", [*PRESETS, *EXPRESSIONS])
def test_unrolled_is_the_plan(name):
    stage = stage_of(name)
    plan = stage.layout.plan(dict.fromkeys(stage.layout.streams, 150), ended=(), given=stage.given)
    unrolled, names = Unrolled(stage.layout, stage.given), list(plan.levels)
    for step in range(unrolled.start + 60):
        found = unrolled.step(step)
        assert {row for row, _ in found.symbols} | {cell.row for cell in found.codes} == set(range(plan.n_rows))
        for row, symbol in found.symbols:
            assert plan.symbols[plan.source_TR[step, row]] == symbol
        for cell in found.codes:
            assert plan.stream_TR[step, cell.row] != NO_STREAM
            assert names[plan.stream_TR[step, cell.row]] == cell.stream
            assert (plan.frame_TR[step, cell.row], plan.level_TR[step, cell.row]) == (cell.frame, cell.level)
            assert cell.legal == (0 if cell.stream in stage.given else plan.legal_TR[step, cell.row])


@pytest.mark.parametrize("name", ["moshi", "hibiki", "moshi-mono"])
def test_memory_does_not_grow_past_the_context(name, identity):
    model = model_of(stage_of(name), identity)
    model.config = replace(model.config, context=8)
    session = Session(model)
    _, own_TK = answers(session, 140)
    held = [len(frames) for frames in session._frames.values()]
    assert len(own_TK) >= 15
    assert max(held) <= session._unrolled.most_lag + 1
    _, more_TK = answers(session, 20)
    assert [len(frames) for frames in session._frames.values()] == held
    assert len(more_TK) == 20


def test_the_same_seed_says_the_same(identity):
    model = model_of(stage_of("moshi"), identity)
    one, two, other = (answers(Session(model, seed=seed), 20)[1] for seed in (1, 1, 2))
    assert np.array_equal(one, two)
    assert not np.array_equal(one, other)


def test_what_is_heard_matters(identity):
    model = model_of(stage_of("moshi"), identity)
    one, two = Session(model), Session(model)
    heard = recording(20)
    changed = heard.copy()
    changed[10] = (changed[10] + 1) % CODES
    first, second = (np.concatenate([s.step(c).codes_TK for c in codes]) for s, codes in ((one, heard), (two, changed)))
    assert np.array_equal(first[:10], second[:10])
    assert not np.array_equal(first[10:], second[10:])


def test_sound_goes_both_ways_on_the_bundled_codec():
    """Fed with sound in pieces of any size, it answers as if fed with the codes of the whole."""
    codec = load_codec("bundled")
    stage = stages("moshi", 8)[0]
    sizes = {"audio": codec.codebook_sizes, "user": codec.codebook_sizes}
    model = Model.build(TINY, Vocabulary.build(train_bpe(["abc"], 256), sizes), stage, codec.identity, seed=1).eval()
    model.__dict__["codec"] = codec
    wav_T = torch.randn(codec.hop * 5, generator=torch.Generator().manual_seed(0)) * 0.1
    spoken = Session(model, seed=3)
    turned = [spoken.step(piece_T) for piece_T in wav_T.split(500)]
    turned.append(spoken.finish())
    typed = Session(model, seed=3)
    codes_TK = codec.encode(wav_T, codec.input_rate).tokens_BTK[0]
    others = [typed.step(codes_K) for codes_K in codes_TK]
    own_TK = np.concatenate([one.codes_TK for one in turned])
    assert np.array_equal(own_TK, np.concatenate([one.codes_TK for one in others]))
    assert len(torch.cat([one.wav_T for one in turned])) == len(own_TK) * codec.hop


def test_a_model_may_end_a_session(identity):
    model = model_of(stage_of("moshi-mono"), identity)
    with torch.no_grad():
        model.head.weight[model.vocabulary.id("<end.audio>")] *= 0
        model.depth.weight.mul_(1)  # type: ignore
    session, frames = Session(model, seed=0, may_end=True), 0
    while not session.ended and frames < 500:
        frames += len(session.step().codes_TK)
    assert session.ended
    assert frames == session._ends["audio"]
    with pytest.raises(InputError, match="this session has ended; begin a new one"):
        session.step()


@pytest.mark.parametrize(
    ("name", "frame", "sentence"),
    [
        ("moshi", None, r'hears "user": give step\(…\) a frame of it'),
        ("moshi", np.zeros(2, dtype=np.int64), r'a frame of "user" has 3 codes, not shape \(2,\)'),
        ("moshi-mono", np.zeros(3, dtype=np.int64), r"hears nothing: call step\(\) without a frame"),
    ],
)
def test_frames_that_do_not_fit(name, frame, sentence, identity):
    with pytest.raises(InputError, match=sentence):
        Session(model_of(stage_of(name), identity)).step(frame)


@pytest.mark.parametrize(
    ("expression", "sentence"),
    [
        ("Concat(Text(text), Delay(audio))", "does not go frame by frame, as a session must; moshi does"),
        ('Flatten(audio, order="level")', "does not go frame by frame"),
        ("Alternate(Text(text), Flatten(audio), ratio=(2, 5))", "do not share a clock, as those of a session must"),
    ],
)
def test_layouts_that_have_no_session(expression, sentence, identity):
    with pytest.raises(InputError, match=sentence):
        Session(model_of(stage_of(expression), identity))


def test_aligned_text_is_told_without_pads(identity):
    vocabulary = Vocabulary.build(train_bpe(["abc"], 256), {"audio": [CODES]})
    pad = vocabulary.text_rows
    assert text_tokens(vocabulary, "aligned_text", np.array([[pad], [pad + 1], [97], [98], [pad]])) == [97, 98]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_a_session_on_a_gpu(identity):
    model = model_of(stage_of("moshi"), identity).to("cuda")
    _, own_TK = answers(Session(model, seed=1), 20)
    assert own_TK.shape == (20, LEVELS)
