"""Long form: exactly as long as asked for, by overlapping windows, the same in one go and streamed."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from hocket.errors import InputError
from hocket.inference import Generator, Request, Sampling
from hocket.inference.autoregressive import Autoregressive
from hocket.inference.windows import Windows, find_overlap, is_long, refusal, window_frames
from tests.conftest import AUDIO_LAYOUTS, CODES, LEVELS
from tests.inference.late_codec import LateCodec
from tests.inference.test_session import model_of, stage_of
from tests.inference.test_streaming import joined

CONTEXT = 48


@pytest.fixture
def make_generator(make_model):
    def make(expression, **changes):
        model = make_model(expression, **{"context": CONTEXT, **changes})
        model.__dict__["codec"] = LateCodec()
        return Generator(model)

    return make


def long_request(n_frames, prompt=None, **more):
    prompts = {} if prompt is None else {"audio": prompt}
    return Request(prompts=prompts, limits={"audio": n_frames}, least={"audio": n_frames}, seed=3, **more)


def codes(n_frames, seed=0):
    return np.random.default_rng(seed).integers(0, CODES, (n_frames, LEVELS))


class Watch:
    """Makes loops, and keeps what each was asked for."""

    def __init__(self, model):
        self.model, self.requests = model, []

    def __call__(self, request):
        self.requests.append(request)
        return Autoregressive(self.model, [request], Sampling())


@pytest.mark.parametrize("expression", AUDIO_LAYOUTS)
@pytest.mark.parametrize("n_prompt", [0, 4])
def test_as_long_as_asked_for(make_generator, expression, n_prompt):
    generator = make_generator(expression)
    n_frames, prompt = 2 * window_frames(generator.model) + 5, codes(n_prompt)
    request = long_request(n_frames, prompt)
    assert is_long(generator.model, request)
    one, two = (generator.generate_batch([request])[0] for _ in range(2))
    assert np.array_equal(one.prompt_codes_TK, prompt)
    assert one.prompt_codes_TK.shape[0] + one.codes_TK.shape[0] == n_frames
    assert np.array_equal(one.codes_TK, two.codes_TK)
    drawn = ~np.isnan(one.log_probabilities["audio"])
    assert not drawn[:n_prompt].any()
    assert drawn[n_prompt:].all()
    wav_T, streams, last = joined(generator.stream(request))
    assert np.array_equal(streams["audio"], one.codes_TK)
    assert torch.equal(wav_T, one.wav_T)
    assert (last.step, last.ended) == (one.steps, one.ended)


def test_each_window_goes_on_from_the_one_before(make_generator):
    model = make_generator("Delay(audio)").model
    size, watch = window_frames(model), Watch(model)
    pieces = list(Windows(model, long_request(100, overlap=10), watch).pieces())
    made = np.concatenate([piece.streams["audio"] for piece in pieces])
    first = 0
    for number, request in enumerate(watch.requests):
        assert request.start == ("<cont>" if number else "<bos>")
        assert request.ends == (number == len(watch.requests) - 1)
        n_known = len(request.prompts["audio"])
        assert n_known == (10 if number else 0)
        assert np.array_equal(request.prompts["audio"], made[first : first + n_known])
        first += request.limits["audio"] - 10
    assert len({request.seed for request in watch.requests}) == len(watch.requests) == 3
    assert all(request.limits["audio"] == size for request in watch.requests[:-1])
    assert first + 10 == 100 == len(made)


def test_a_prompt_longer_than_the_context_goes_on_from_its_end(make_generator):
    generator = make_generator("Delay(audio)")
    watch, prompt = Watch(generator.model), codes(120)
    list(Windows(generator.model, long_request(130, prompt, overlap=12), watch).pieces())
    assert len(watch.requests) == 1
    assert np.array_equal(watch.requests[0].prompts["audio"], prompt[-12:])
    whole = generator.generate_batch([long_request(130, prompt)])[0]
    assert np.array_equal(whole.prompt_codes_TK, prompt)
    assert len(whole.codes_TK) == 10


def test_a_model_may_end_a_long_recording(make_generator):
    generator = make_generator("Parallel(audio)")
    request = replace(long_request(2000), least={})
    out = generator.generate_batch([request])[0]
    assert out.ended
    assert len(out.codes_TK) < 2000
    wav_T, _, last = joined(generator.stream(request))
    assert torch.equal(wav_T, out.wav_T)
    assert last.ended


@pytest.mark.parametrize("name", ["moshi", "moshi-mono"])
def test_several_streams_stay_side_by_side(name, identity):
    """What is given is cut where the windows are; text on the audio clock goes along."""
    model = model_of(stage_of(name), identity)
    model.config = replace(model.config, context=CONTEXT)
    given = {"user": codes(100)} if name == "moshi" else {}
    opened: dict[str, int] = dict.fromkeys(("audio", "aligned_text"), 100)
    request = Request(given=given, limits=opened, least=opened, seed=1)
    out = Generator(model).generate_batch([request])[0]
    assert {stream: len(held) for stream, held in out.streams.items()} == dict.fromkeys(model.layout.streams, 100)
    if given:
        assert np.array_equal(out.streams["user"], given["user"])


def test_memory_is_that_of_one_window(make_generator):
    model = make_generator("Delay(audio)").model
    watch = Watch(model)
    for _ in Windows(model, long_request(400), watch).pieces():
        pass
    assert max(sum(map(len, request.prompts.values())) for request in watch.requests) <= window_frames(model) // 2
    assert all(Autoregressive(model, [r], Sampling()).grid_BTR.shape[1] <= CONTEXT + LEVELS for r in watch.requests[:2])


def test_seconds_beyond_the_context(make_generator):
    generator = make_generator("Delay(audio)")
    one = generator.generate(seconds=6.0, seed=1)
    two = generator.generate(seconds=6.0, seed=1, overlap=0.2)
    assert len(one.codes_TK) == 150 or one.ended
    assert len(two.codes_TK) == 150 or two.ended
    assert np.array_equal(one.codes_TK[:40], two.codes_TK[:40])
    with pytest.raises(InputError, match=r"overlap must be from 0 to below 1.8 s, .*, not 5 s"):
        generator.generate(seconds=6.0, overlap=5)


def test_a_batch_of_long_and_short(make_generator):
    generator = make_generator("Delay(audio)")
    requests = [long_request(9), long_request(100), long_request(12)]
    together = generator.generate_batch(requests)
    for request, out in zip(requests, together, strict=True):
        assert np.array_equal(out.codes_TK, generator.generate_batch([request])[0].codes_TK)


@pytest.mark.parametrize(
    ("expression", "given", "reason"),
    [
        ("Concat(Text(text), Delay(audio))", (), "its text belongs to no frame"),
        ("Concat(Flatten(source), Flatten(audio))", ("source",), "hears all that it is given before it begins"),
        ('Alternate(Text(text), Flatten(audio), spans="turn")', (), "goes by turns, which are no windows"),
    ],
)
def test_what_has_no_windows(expression, given, reason, identity):
    model = model_of(replace(stage_of(expression), given=given), identity)
    assert reason in (refusal(model, given) or "")


def test_a_context_that_is_too_short(make_generator):
    generator = make_generator("Flatten(audio)", context=4)
    assert "holds no two frames" in (refusal(generator.model) or "")
    assert find_overlap(make_generator("Parallel(audio)").model, None) == (CONTEXT - 1) // 2
