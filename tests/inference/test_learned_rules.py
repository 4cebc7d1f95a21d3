"""Five layouts trained for real until greedy sampling follows their rule from unseen prompts, ends included.

Shapes: T frames, K levels.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch

from hocket.codec import CodecIdentity
from hocket.inference import Request, Sampling
from hocket.inference.autoregressive import Autoregressive
from hocket.inference.generator import sampled
from hocket.inference.in_place import InPlaceSampler
from hocket.interleave import Stage, load_layout, load_stage
from hocket.interleave.spans import Turn
from hocket.model import Model
from tests.conftest import CODES, batch_of
from tests.inference.oracles import build_model
from tests.inference.test_filling_in import train as train_in_place

pytestmark = pytest.mark.slow
LEVELS, MOST = 3, 40
GREEDY = Sampling(temperature=0)
IDENTITY = CodecIdentity(
    name="fake", revision="1", weight_hash="0", sample_rate=16000, hop=640, codebook_sizes=(CODES,) * LEVELS
)
Document = tuple[dict[str, np.ndarray], list[Turn] | None]


def held_out(first: np.ndarray) -> bool:
    """Beginnings that training does not see: a fifth."""
    return int(first.sum()) % 5 == 0


def beginnings(shape: tuple[int, ...], seed: int, unseen: bool) -> Iterator[np.ndarray]:
    rng = np.random.default_rng([seed, unseen])
    while True:
        first = rng.integers(0, CODES, shape)
        if held_out(first) == unseen:
            yield first


def spoken(first_K: np.ndarray) -> Document:
    """Level 0 goes up by five until it is 0, which ends it; each level is the one below plus its own last."""
    frames = [first_K % CODES]
    while frames[-1][0]:
        before, now = frames[-1], [(frames[-1][0] + 5) % CODES]
        for k in range(1, LEVELS):
            now.append((now[-1] + before[k]) % CODES)
        frames.append(np.array(now))
    return {"audio": np.stack(frames)}, None


def by_turns(first: np.ndarray) -> Document:
    """Turns of two letters and of one to three units; the first letter says how many and which, the second counts."""
    letter, count = first.tolist()
    text, units, turns = [], [], []
    while True:
        n = 1 + letter % 3
        turns += [("text", len(text), len(text) + 2), ("semantic", len(units), len(units) + n)]
        text += [letter, count]
        units += [(letter + 2 * i) % CODES for i in range(n)]
        if count == 0:
            break
        letter, count = (letter + 5) % CODES, count - 1
    return {"text": np.array(text)[:, None], "semantic": np.array(units)[:, None]}, turns


def grids(model: Model, documents: list[Document]):
    packed = []
    for streams, turns in documents:
        plan = model.layout.plan({name: len(codes) for name, codes in streams.items()}, spans=turns)
        ids_TR = plan.interleave(streams, model.vocabulary)
        packed.append((torch.from_numpy(ids_TR), torch.from_numpy(plan.legal_TR.astype(np.int64))))
    return batch_of(packed)


def train(model: Model, rule: Callable[[np.ndarray], Document], shape: tuple[int, ...], n_steps: int) -> None:
    firsts = beginnings(shape, 0, unseen=False)
    optimizer = torch.optim.AdamW(model.train().parameters(), lr=4e-3, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=n_steps, pct_start=0.1)
    for _ in range(n_steps):
        parts = model(grids(model, [rule(next(firsts)) for _ in range(24)]))
        optimizer.zero_grad()
        (parts.total / parts.weight).backward()
        optimizer.step()
        schedule.step()
    model.eval()


def follows(model: Model, rule: Callable[[np.ndarray], Document], shape: tuple[int, ...]) -> float:
    """The share of unseen beginnings from which the whole document comes out exactly, its end included."""
    firsts, requests, wanted = beginnings(shape, 1, unseen=True), [], []
    for seed in range(20):
        streams, turns = rule(next(firsts))
        first = next(iter(streams))
        n_prompt = turns[0][2] if turns else 1
        prompts = {first: streams[first][:n_prompt]}
        requests.append(Request(prompts=prompts, limits=dict.fromkeys(streams, MOST), seed=seed))
        wanted.append(streams)
    loop = Autoregressive(model, requests, GREEDY)
    for _ in loop.run():
        pass
    made = [sampled(loop, b) for b in range(len(requests))]
    return float(
        np.mean(
            [
                bool(loop.items[b].ended)
                and all(np.array_equal(item.streams[n], codes) for n, codes in streams.items())
                for b, (item, streams) in enumerate(zip(made, wanted, strict=True))
            ]
        )
    )


@pytest.mark.parametrize(
    ("expression", "head", "rule", "n_steps"),
    [
        ("Delay(audio)", "parallel", spoken, 500),
        ("Flatten(audio)", "parallel", spoken, 400),
        ("Delay(audio, [0, 1, ...])", "depth", spoken, 400),
        ('Alternate(Text(text), Flatten(semantic), spans="turn")', "parallel", by_turns, 500),
    ],
)
def test_a_rule_is_learned_and_followed(expression, head, rule, n_steps):
    layout = load_layout(expression, {"audio": LEVELS, "semantic": 1})
    stage = replace(Stage(name="", layout=layout), head=head)
    model = build_model(stage, IDENTITY, dim=64, ffn_dim=128, depth_dim=64, depth_ffn_dim=128)
    shape = (LEVELS,) if rule is spoken else (2,)
    train(model, rule, shape, n_steps)
    assert follows(model, rule, shape) >= 0.95


def test_soundstorm_fills_in_what_it_learned():
    levels = {"audio": LEVELS, "semantic": 1}
    stage = load_stage("soundstorm", levels, {"audio": 25, "semantic": 25})
    model = build_model(stage, IDENTITY, dim=64, ffn_dim=128)

    def document(rng: np.random.Generator) -> dict[str, np.ndarray]:
        """Level 0 is five times the unit, each level five times the one below plus its number."""
        units_T = rng.integers(0, CODES, 10)
        frames = [5 * units_T % CODES]
        for level in range(1, LEVELS):
            frames.append((5 * frames[-1] + level) % CODES)
        return {"semantic": units_T[:, None], "audio": np.stack(frames, axis=1)}

    train_in_place(model, document, 500)
    documents = [document(np.random.default_rng([1, seed])) for seed in range(20)]
    requests = [Request(given={"semantic": d["semantic"]}, limits={"audio": 10}) for d in documents]
    items = InPlaceSampler(model.eval()).run(requests, GREEDY)
    right = [np.array_equal(item.streams["audio"], d["audio"]) for item, d in zip(items, documents, strict=True)]
    assert np.mean(right) >= 0.95
