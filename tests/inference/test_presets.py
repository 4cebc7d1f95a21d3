"""Every next-token stage of every preset learns, is sampled, gives its streams back, and is decoded to sound."""

import numpy as np
import pytest
import torch

from hocket.codec import CodecIdentity, load_codec
from hocket.inference import Generator, Request, Sampling
from hocket.interleave import Stage
from hocket.model import Model
from hocket.vocab import Vocabulary, train_bpe
from tests.conftest import CODES, TINY, batch_of
from tests.interleave.cases import CASES, lengths_for, plan_for, stages

LEVELS, MOST = 8, 9  # of the bundled codec; of dia
FRAMES = [5, 7, 4, 6]
TRAINABLE = {
    f"{case}/{stage.name}" if stage.name != case else case: stage
    for case in CASES
    for stage in stages(case, MOST if case == "dia" else LEVELS)
    if stage.objective == "next-token"
}


@pytest.fixture(scope="module")
def codec():
    return load_codec("bundled")


def build(stage: Stage, identity: CodecIdentity) -> Model:
    """A tiny model of the stage, for the first few codes of each level."""
    sizes = {name: [CODES] * k for name, k in stage.layout.streams.items() if "text" not in name}
    vocabulary = Vocabulary.build(train_bpe(["abc"], 256), sizes)
    return Model.build(TINY, vocabulary, stage, identity, seed=1)


def streams_for(model: Model, seed: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    lengths = lengths_for(model.layout, FRAMES)
    return {
        n: rng.integers(0, min(model.vocabulary.sizes(n)), (lengths[n], k)) for n, k in model.layout.streams.items()
    }


@pytest.mark.parametrize("name", TRAINABLE)
def test_a_stage_learns_its_documents_by_heart(name, identity):
    model = build(TRAINABLE[name], identity).train()
    streams = streams_for(model, 0)
    plan = plan_for(model.layout, {n: len(c) for n, c in streams.items()}, given=model.given)
    ids_TR = plan.interleave({name: codes[: plan.lengths[name]] for name, codes in streams.items()}, model.vocabulary)
    batch = batch_of([(torch.from_numpy(ids_TR), torch.from_numpy(plan.legal_TR.astype(np.int64)))])
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    losses = []
    for _ in range(15):
        loss = model(batch)
        losses.append(float((loss.total / loss.weight).detach()))
        (loss.total / loss.weight).backward()
        optimizer.step()
        optimizer.zero_grad()
    assert losses[-1] < 0.7 * losses[0]


@pytest.mark.parametrize("name", TRAINABLE)
def test_a_stage_is_sampled_and_undone(name, codec):
    model = build(TRAINABLE[name], codec.identity)
    model.__dict__["codec"] = codec if name != "dia" else Silence()
    streams = streams_for(model, 1)
    heard = {name.partition("[")[0] for name in model.given}
    given = {name: codes for name, codes in streams.items() if name in heard}
    prompts = {name: codes[:3] for name, codes in streams.items() if name not in heard}
    limits = {name: 8 + i for i, name in enumerate(streams) if name not in heard}
    request = Request(given=given, prompts=prompts, limits=limits, seed=3)
    other = Request(given=given, prompts=prompts, limits=limits, seed=4)
    out, again = (
        Generator(model).generate_batch([request, other], Sampling())[0],
        Generator(model).generate_batch([request])[0],
    )
    for name, codes_TK in out.streams.items():
        assert np.array_equal(codes_TK, again.streams[name])
        if name in given:
            assert np.array_equal(codes_TK, given[name])
        else:
            assert np.array_equal(codes_TK[: len(prompts[name])], prompts[name])
            assert len(codes_TK) <= limits[name]
        assert ((codes_TK >= 0) & (codes_TK < np.array(model.vocabulary.sizes(name))[: codes_TK.shape[1]])).all()
    n_frames = len(out.codes_TK) + len(out.prompt_codes_TK)
    assert len(out.full_wav_T) == n_frames * model.codec.hop * Generator(model).is_heard
    assert torch.isfinite(out.full_wav_T).all()


class Silence:
    """A codec of 9 levels that only says how long the audio is."""

    hop, sample_rate, device, frame_rate = 4, 100, torch.device("cpu"), 25

    def decode(self, codes):
        return torch.zeros(len(codes.tokens_BTK), codes.tokens_BTK.shape[1] * self.hop)
