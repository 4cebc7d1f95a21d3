"""Beam search against all documents that there can be, against greedy draws, and in batches."""

import itertools

import numpy as np
import pytest
import torch

from hocket.errors import InputError
from hocket.inference import Request, Sampling
from hocket.inference.autoregressive import Autoregressive
from hocket.inference.beam import beam_search
from hocket.model.stepping import NOTHING, Pass
from tests.conftest import CODES, LEVELS

RECOGNITION = "Concat(Flatten(audio), Text(text))"
LETTERS, MOST = 3, 5


def recording(n_frames, seed=0):
    return np.random.default_rng(seed).integers(0, CODES, (n_frames, LEVELS))


def request_for(n_frames=2, limit=MOST, seed=0):
    return Request(given={"audio": recording(n_frames, seed)}, limits={"text": limit})


class Oracle:
    """Three letters and the end, whose probabilities depend on the letters before and on how long the recording is."""

    def __init__(self, vocabulary, batch, sharpness):
        self._end, self._sharpness = vocabulary.id("<end.text>"), sharpness
        self._none, self.length = vocabulary.id("<none>"), 0
        self._past = [[] for _ in range(batch)]

    def feed(self, ids_BTR):
        self.length += ids_BTR.shape[1]
        for past, ids_T in zip(self._past, ids_BTR[:, :, 0].tolist(), strict=True):
            past.extend(ids_T)

    def select(self, indices_B):
        self._past = [list(self._past[i]) for i in indices_B.tolist()]

    def passes(self, legal_R, ids_BR):
        ids_J = torch.tensor([0, 1, 2, self._end, self._none])
        logits_BJ = torch.stack([self.logits(past) for past in self._past])
        yield Pass((0,), logits_BJ[:, None], ids_J[None])

    def logits(self, past):
        letters = [token for token in past if token < LETTERS]
        n_audio = sum(token >= LETTERS for token in past)
        seed = int("1" + "".join(map(str, letters)) + str(n_audio))
        logits_4 = torch.randn(4, generator=torch.Generator().manual_seed(seed)) * self._sharpness
        return torch.cat([logits_4, torch.tensor([NOTHING])])


@pytest.fixture
def make_oracle(make_model):
    def make(sharpness=1.0, context=128):
        model = make_model(RECOGNITION, context=context)
        model.stepper = lambda batch, max_steps: Oracle(model.vocabulary, batch, sharpness)
        return model

    return make


def all_documents(model, request, length_penalty):
    """Every text of up to five letters, best first: score, letters, whether it ended."""
    oracle = Oracle(model.vocabulary, 1, model.stepper(1, 1)._sharpness)
    plan = model.layout.plan({"audio": len(request.given["audio"]), "text": 0})
    start = [LETTERS] * (plan.n_steps - 1)
    found = []
    for n in range(MOST + 1):
        for letters in itertools.product(range(LETTERS), repeat=n):
            chosen = [*letters, 3] if n < MOST else letters
            past, total = list(start), 0.0
            for token in chosen:
                total += float(oracle.logits(past)[:4].double().log_softmax(-1)[token])
                past.append(token)
            found.append((total / ((5 + len(chosen)) / 6) ** length_penalty, letters, n < MOST))
    return sorted(found, reverse=True)


@pytest.mark.parametrize("length_penalty", [0.0, 0.6, 1.5])
@pytest.mark.parametrize("n_frames", [1, 2])
def test_wide_beams_find_what_a_search_of_everything_finds(make_oracle, length_penalty, n_frames):
    model, request = make_oracle(), request_for(n_frames)
    wanted = all_documents(model, request, length_penalty)[:7]
    found = beam_search(model, [request], beams=400, length_penalty=length_penalty, n_best=7)[0]
    for hypothesis, (score, letters, ended) in zip(found, wanted, strict=True):
        assert hypothesis.score == pytest.approx(score, abs=1e-5)
        assert hypothesis.streams["text"][:, 0].tolist() == list(letters)
        assert hypothesis.text == model.vocabulary.decode_text(letters)
        assert hypothesis.ended == ended
        assert np.array_equal(hypothesis.streams["audio"], request.given["audio"])


def test_a_few_beams_find_what_greedy_search_misses(make_oracle):
    better, same = 0, 0
    for n_frames in range(1, 12):
        model, request = make_oracle(), request_for(n_frames)
        best = all_documents(model, request, 0.0)[0][0]
        scores = [beam_search(model, [request], beams=b, length_penalty=0.0)[0][0].score for b in (1, 4)]
        assert scores[0] <= scores[1] + 1e-6 <= best + 2e-6
        better += scores[1] > scores[0] + 1e-6
        same += scores[1] > best - 1e-5
    assert better >= 2
    assert same >= 9


def flat_models(make_model):
    """Recognition, flattened codes, turns of speech and text: random models, sure of themselves; and a stream that is
    made."""
    layouts = {
        RECOGNITION: "text",
        "Flatten(audio)": "audio",
        'Flatten(audio, order="level")': "audio",
        "Concat(Delay(audio), Text(text))": "text",
        "Concat(Text(text), Flatten(audio))": "audio",
        'Alternate(text, Flatten(audio), spans="either")': "text",
    }
    for expression, stream in layouts.items():
        model = make_model(expression)
        model.head.weight.data *= 20
        yield model, stream


def open_request(model, stream, seed=0, limit=9, n_frames=3):
    is_open = stream == "audio" or model.layout.has_spans
    limits = {name: limit for name in model.layout.streams if name == stream or is_open}
    heard = {"audio": recording(n_frames, seed)}
    return Request(given={} if is_open else heard, prompts=heard if is_open else {}, limits=limits)


def test_one_beam_is_greedy_search(make_model):
    for model, stream in flat_models(make_model):
        request = open_request(model, stream)
        loop = Autoregressive(model, [request], Sampling(temperature=0))
        assert list(loop.run())
        found = beam_search(model, [request], beams=1)[0][0]
        item = loop.items[0]
        wanted = item.plan.deinterleave(loop.grid(0), model.vocabulary)
        assert {n: c.tolist() for n, c in found.streams.items()} == {n: c.tolist() for n, c in wanted.items()}
        assert found.steps == item.n_steps
        assert found.ended == (item.ended >= set(request.limits))
        log_probability = np.nansum(loop.log_probabilities(0))
        assert found.log_probability == pytest.approx(log_probability, abs=1e-4)


def test_a_batch_finds_what_each_finds_alone(make_model):
    for model, stream in flat_models(make_model):
        requests = [
            open_request(model, stream, seed, limit, n) for seed, limit, n in ((1, 9, 3), (2, 12, 7), (3, 7, 1))
        ]
        together = beam_search(model, requests, beams=3, n_best=3)
        for request, found in zip(requests, together, strict=True):
            alone = beam_search(model, [request], beams=3, n_best=3)[0]
            assert len(found) == len(alone) > 0
            for one, other in zip(found, alone, strict=True):
                assert np.array_equal(one.streams[stream], other.streams[stream])
                assert one.score == pytest.approx(other.score, abs=1e-4)


def test_a_score_is_that_of_its_own_log_probabilities(make_model):
    for model, stream in flat_models(make_model):
        for hypothesis in beam_search(model, [open_request(model, stream)], beams=4, n_best=4, length_penalty=0.5)[0]:
            codes = sum(float(np.nansum(logged)) for logged in hypothesis.log_probabilities.values())
            n_codes = sum(int(np.isfinite(logged).sum()) for logged in hypothesis.log_probabilities.values())
            assert hypothesis.log_probability <= codes + 1e-5  # ends and turns are chosen, too
            lengths = range(n_codes, n_codes + 10)
            scores = [hypothesis.log_probability / ((5 + n) / 6) ** 0.5 for n in lengths]
            assert min(abs(hypothesis.score - score) for score in scores) < 1e-9


def test_a_document_with_nothing_to_choose(make_oracle):
    found = beam_search(make_oracle(), [request_for(limit=0), request_for(limit=2)], beams=2)
    assert found[0][0].text == ""
    assert not found[0][0].ended
    assert len(found[1]) == 1
    assert beam_search(make_oracle(), [], beams=2) == []


def test_progress_goes_up_to_the_last_step(make_oracle):
    calls = []
    beam_search(make_oracle(), [request_for()], beams=2, on_step=lambda *call: calls.append(call))
    steps = [step for step, _ in calls]
    assert steps == list(range(steps[0], steps[0] + len(steps)))
    assert steps[-1] <= calls[-1][1]


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"beams": 0}, "beams must be a whole number of hypotheses from 1 on, not 0"),
        ({"n_best": 2.0}, "n_best must be a whole number"),
        ({"beams": 2, "n_best": 3}, "beam search keeps 2 hypotheses, so it cannot return the best 3: raise beams"),
        ({"length_penalty": -1}, r"length_penalty must be 0 \(none\) or more, not -1"),
        ({"length_penalty": float("nan")}, "length_penalty must be"),
    ],
)
def test_impossible_settings_are_refused(make_oracle, wrong, sentence):
    with pytest.raises(InputError, match=sentence):
        beam_search(make_oracle(), [request_for()], **wrong)


def test_layouts_of_several_cells_a_step_are_refused(make_model):
    with pytest.raises(InputError, match=r"beam search chooses one cell a step, but Delay\(.*\) has 3 of them"):
        beam_search(make_model("Delay(audio)"), [Request(limits={"audio": 5})])
