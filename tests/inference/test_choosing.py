"""Attempts that a model hears itself: the score is that of recognition, the first attempt is the plain one."""

import numpy as np
import pytest
import torch

from hocket.codec import load_codec
from hocket.errors import InputError
from hocket.inference import Generator, Request, Sampling
from hocket.inference.autoregressive import Autoregressive
from hocket.inference.choosing import attempts, score_texts
from hocket.interleave import load_layout
from hocket.model import Model
from hocket.vocab import Vocabulary, train_bpe
from tests.conftest import CODES, TINY

EITHER = 'Alternate(Text(text), Delay(audio), spans="either")'
LEVELS = 2


@pytest.fixture(scope="module")
def model():
    codec = load_codec("bundled")
    vocabulary = Vocabulary.build(train_bpe(["abc"], 256), {"audio": [CODES] * LEVELS})
    built = Model.build(TINY, vocabulary, load_layout(EITHER, levels=LEVELS), codec.identity, seed=1).eval()
    built.__dict__["codec"] = codec
    return built


def streams(n_frames, n_tokens, seed):
    rng = np.random.default_rng(seed)
    return {"text": rng.integers(97, 100, (n_tokens, 1)), "audio": rng.integers(0, CODES, (n_frames, LEVELS))}


@torch.inference_mode()
def test_a_score_is_what_recognition_would_give_the_text(model):
    """Forced along by a stepper, token after token, the text and its end have the same probability."""
    spoken = [streams(9, 4, 0), streams(5, 0, 1), streams(12, 6, 2)]
    for one, score in zip(spoken, score_texts(model, spoken), strict=True):
        n_tokens = len(one["text"])
        request = Request(given={"audio": one["audio"]}, limits={"text": n_tokens + 2})
        item = Autoregressive(model, [request], Sampling()).items[0]
        first = item.first_open_step
        stepper, ids_TR = model.stepper(1, item.n_steps), item.cells.ids_TR.clone()
        wanted = [*(one["text"][:, 0] + model.vocabulary["text"].start).tolist(), model.vocabulary.id("<end.text>")]
        stepper.feed(ids_TR[None, :first])
        total = 0.0
        for step, token in enumerate(wanted, start=first):
            pass_ = next(iter(stepper.passes(item.cells.legal_TR[step], ids_TR[None, step])))
            log_p_J = pass_.logits_BPJ[0, 0].log_softmax(-1)
            total += float(log_p_J[pass_.ids_PJ[0] == token])
            ids_TR[step, pass_.rows[0]] = token
            stepper.feed(ids_TR[None, step : step + 1])
        assert score == pytest.approx(total, rel=1e-4)


def test_the_best_attempt_is_kept_and_the_first_is_the_plain_one(model):
    generator = Generator(model)
    requests = [Request(given={"text": streams(0, n, n)["text"]}, limits={"audio": 12}, seed=n) for n in (2, 3)]
    best = generator.generate_batch(requests, best_of=4)
    for request, chosen in zip(requests, best, strict=True):
        tries = attempts(request, 4)
        assert tries[0] == request
        assert len({attempt.seed for attempt in tries}) == 4
        made = generator.generate_batch(tries)
        scores = score_texts(model, [attempt.streams for attempt in made])
        assert np.array_equal(chosen.streams["audio"], made[int(scores.argmax())].streams["audio"])


def test_a_model_that_does_not_recognise_has_no_best(model):
    other = Model.build(TINY, model.vocabulary, load_layout("Delay(audio)", levels=LEVELS), model.codec_identity)
    request = Request(limits={"audio": 3})
    with pytest.raises(InputError, match="train interleave=speech-text"):
        Generator(other).generate_batch([request], best_of=2)
    with pytest.raises(InputError, match="at least 1"):
        Generator(model).generate_batch([request], best_of=0)
