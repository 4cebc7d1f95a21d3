"""Generation over every layout: forced cells, legal ids, ends, batches, seeds, limits."""

import numpy as np
import pytest
import torch

from hocket.errors import InputError
from hocket.inference import Generator, Request, Sampling
from hocket.model.stepping import Stepper
from tests.conftest import ALL_LAYOUTS, AUDIO_LAYOUTS, CODES, LEVELS


class FakeCodec:
    """Decodes a frame to a constant that names its codes, so that wavs can be compared."""

    hop, sample_rate, device, frame_rate = 4, 100, torch.device("cpu"), 25

    def decode(self, codes):
        return (codes.tokens_BTK.float().mean(-1) / CODES).repeat_interleave(self.hop, dim=1)


@pytest.fixture
def make_generator(make_model):
    def make(expression, **changes):
        model = make_model(expression, **changes)
        model.__dict__["codec"] = FakeCodec()
        return Generator(model)

    return make


def prompt_codes(n, seed=0):
    return np.random.default_rng(seed).integers(0, CODES, (n, LEVELS))


def request_for(generator, n_prompt, limit, seed=0):
    if generator.recognises:
        return Request(given={"audio": prompt_codes(n_prompt, seed)}, limits={"text": limit}, seed=seed)
    given = (
        {"text": np.array(generator.model.vocabulary.encode_text("xy"))[:, None]}
        if "text" in generator.model.layout.streams
        else {}
    )
    return Request(given=given, prompts={"audio": prompt_codes(n_prompt, seed)}, limits={"audio": limit}, seed=seed)


@pytest.mark.parametrize("expression", AUDIO_LAYOUTS)
@pytest.mark.parametrize("n_prompt", [0, 1, 5])
def test_a_continuation_keeps_its_prompt(make_generator, expression, n_prompt):
    generator = make_generator(expression)
    out = generator.generate_batch([request_for(generator, n_prompt, 12)])[0]
    assert (out.prompt_codes_TK == prompt_codes(n_prompt)).all()
    assert out.codes_TK.shape[1] == LEVELS
    assert len(out.codes_TK) <= 12 - n_prompt
    assert len(out.codes_TK) == 12 - n_prompt or out.ended
    assert ((out.codes_TK >= 0) & (out.codes_TK < CODES)).all()
    assert len(out.full_wav_T) == 4 * (n_prompt + len(out.codes_TK)) == len(out.prompt_wav_T) + len(out.wav_T)


@pytest.mark.parametrize("expression", ALL_LAYOUTS)
@pytest.mark.parametrize("sampling", [Sampling(), Sampling(temperature=0), Sampling(top_k=4, top_p=0.9)])
def test_a_batch_equals_its_items_alone(make_generator, expression, sampling):
    generator = make_generator(expression)
    requests = [request_for(generator, n, 14 + n, seed) for n, seed in ((3, 1), (7, 2), (1, 3))]
    together = generator.generate_batch(requests, sampling)
    for request, item in zip(requests, together, strict=True):
        alone = generator.generate_batch([request], sampling)[0]
        assert np.array_equal(alone.codes_TK, item.codes_TK)
        assert alone.text == item.text
        assert alone.ended == item.ended


@pytest.mark.parametrize("expression", AUDIO_LAYOUTS)
def test_the_same_seed_gives_the_same_codes(make_generator, expression):
    generator = make_generator(expression)
    one, two, other = (generator.generate_batch([request_for(generator, 2, 20, s)])[0] for s in (5, 5, 6))
    assert np.array_equal(one.codes_TK, two.codes_TK)
    assert not np.array_equal(one.codes_TK, other.codes_TK)


class RuleStepper(Stepper):
    """An oracle: certain of a rule's grid, ends included, cell by cell."""

    def __init__(self, model, wanted_TR, batch, max_steps):
        super().__init__(model, batch, max_steps)
        self._wanted_TR = wanted_TR
        self._ends = torch.tensor([model.vocabulary.id(f"<end.{name}>") for name in model.layout.streams])

    def passes(self, legal_R, ids_BR):
        for pass_ in super().passes(legal_R, ids_BR):
            wanted_P1 = self._wanted_TR[self.length, list(pass_.rows), None]
            is_wanted_PJ = pass_.ids_PJ == wanted_P1
            beside_end = torch.isin(self._wanted_TR[self.length], self._ends).any()
            assert is_wanted_PJ.any(dim=1).all() or beside_end, "a cell was asked for what the plan does not put there"
            yield pass_._replace(logits_BPJ=torch.where(is_wanted_PJ, 50.0, pass_.logits_BPJ.clamp_max(0)))


@pytest.mark.parametrize("expression", ALL_LAYOUTS)
@pytest.mark.parametrize("n_frames", [0, 1, 6, 9])
def test_an_oracle_is_followed_exactly(make_generator, expression, n_frames):
    """The rule's grid comes out cell by cell, its end included: no off-by-one can hide."""
    generator = make_generator(expression)
    codes_TK = prompt_codes(n_frames, seed=4)
    n_text = 4
    if generator.recognises:
        request = Request(given={"audio": codes_TK}, limits={"text": 9})
    else:
        request = request_for(generator, 0, 11)
        n_text = 2
    tokens = generator.model.vocabulary.encode_text("xyxz")
    streams = {"audio": codes_TK, "text": np.array(tokens)[:n_text, None]}
    streams = {name: streams[name] for name in generator.model.layout.streams}
    plan = generator.model.layout.plan({name: len(codes) for name, codes in streams.items()})
    wanted_TR = torch.from_numpy(plan.interleave(streams, generator.model.vocabulary))
    generator.model.stepper = lambda *shape: RuleStepper(generator.model, wanted_TR, *shape)
    out = generator.generate_batch([request], Sampling(temperature=0))[0]
    assert np.array_equal(out.streams["audio"], codes_TK)
    assert out.ended
    assert out.steps == plan.n_steps
    if generator.recognises:
        assert out.text == "xyxz"


def test_too_long_requests_say_what_fits(make_generator):
    """Of layouts that do not go in windows."""
    generator = make_generator("Concat(Text(text), Flatten(audio))", context=40)
    with pytest.raises(InputError, match=r"more than the model's context of 40; ask for at most 0.4 s"):
        generator.request(text="x", seconds=3.0)
    generator._encode = lambda *arguments: prompt_codes(50)
    with pytest.raises(InputError, match=r"the prompt of 2.0 s is longer than the model's context of 40 steps"):
        generator.request(torch.zeros(1), text="x", seconds=1.0)


@pytest.mark.parametrize(
    ("expression", "arguments", "sentence"),
    [
        ("Concat(Text(text), Delay(audio))", {}, "speaks a text"),
        ("Delay(audio)", {"text": "hello"}, "no place for a given text"),
        ("Delay(audio)", {"seconds": 0}, "more than 0"),
        ("Concat(Flatten(audio), Text(text))", {}, "give the recording as prompt"),
    ],
)
def test_requests_that_do_not_fit_the_layout(make_generator, expression, arguments, sentence):
    with pytest.raises(InputError, match=sentence):
        make_generator(expression).request(**arguments)
