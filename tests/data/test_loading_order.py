"""The order of batches: exact resume with workers, mixtures, random spans and other world sizes."""

import json
import tempfile
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from corpora import codec_of, random_rows, write_corpus

from hocket.data import Corpus, Mixture, PackedLoader
from hocket.data.loading.order import Order
from hocket.errors import InputError
from hocket.interleave import load_layout
from hocket.vocab import Vocabulary, train_bpe

CODEC = codec_of(levels=2)
VOCABULARY = Vocabulary.build(train_bpe(["w0 w1 w2"], 256), {"audio": CODEC.codebook_sizes})
SPANS = 'Alternate(text, Flatten(audio), spans="word", words=((1, 3), (1, 3)))'
EITHER = 'Alternate(Text(text), Delay(audio), spans="either")'


@cache
def corpus_of(name: str, n_rows: int, longest: int = 40) -> Corpus:
    lengths = np.random.default_rng(len(name)).integers(4, longest, n_rows).tolist()
    rows = random_rows(lengths, {"audio": CODEC}, texts=True, words=True, prefix=name)
    return write_corpus(Path(tempfile.mkdtemp()) / name, rows, {"audio": CODEC}, rows_per_shard=30)


def mixture(kind: str) -> Mixture:
    if kind == "one":
        return Mixture([corpus_of("a", 60)])
    weights = [0.7, 0.3] if kind == "weights" else None
    return Mixture([corpus_of("a", 60), corpus_of("bb", 25)], weights, 2.0 if kind == "temperature" else 1.0)


def loader_for(kind="one", expression="Delay(audio)", **options) -> PackedLoader:
    settings: dict[str, Any] = {"batch_steps": 256, "context": 200, "seed": 5, "buffer": 16} | options
    return PackedLoader(mixture(kind), load_layout(expression, levels=2), VOCABULARY, **settings)


def same(one, two) -> bool:
    tensors = ("ids_NR", "legal_NR", "weight_NR", "cu_seqlens")
    equal = all(torch.equal(getattr(one, name), getattr(two, name)) for name in tensors)
    return equal and (one.example_ids, one.n_frames) == (two.example_ids, two.n_frames)


@pytest.mark.parametrize("kind", ["one", "joined", "weights", "temperature"])
@pytest.mark.parametrize("expression", ["Delay(audio)", SPANS, EITHER])
def test_what_comes_next_after_a_restore_is_the_same_bit_for_bit(kind, expression):
    loader = loader_for(kind, expression)
    for consumed in (0, 3, 11):
        for _ in range(consumed):
            next(loader)
        resumed = loader_for(kind, expression)
        resumed.load_state_dict(json.loads(json.dumps(loader.state_dict())))
        assert resumed.state_dict() == loader.state_dict()
        assert all(same(next(resumed), next(loader)) for _ in range(15))


def test_workers_change_nothing_and_the_state_is_of_what_was_consumed():
    alone, ahead = loader_for("weights", SPANS), loader_for("weights", SPANS, workers=2)
    assert all(same(next(ahead), next(alone)) for _ in range(5))
    assert ahead.state_dict() == alone.state_dict()
    resumed = loader_for("weights", SPANS, workers=2)
    resumed.load_state_dict(ahead.state_dict())
    assert all(same(next(resumed), next(alone)) for _ in range(5))
    ahead.close()
    resumed.close()


@pytest.mark.parametrize("kind", ["one", "joined"])
@pytest.mark.parametrize("expression", ["Delay(audio)", SPANS, EITHER])
def test_every_example_once_an_epoch_over_changes_of_world_size(kind, expression):
    seen, state, options = Counter(), {}, {"batch_steps": 128, "context": 128}
    alone, once = loader_for(kind, expression, **options), Counter()
    while alone.epoch == 0:
        once.update(next(alone).example_ids)
    for world_size, rounds in ((1, 2), (2, 2), (3, 1), (1, 100)):
        ranks = [loader_for(kind, expression, rank=r, world_size=world_size, **options) for r in range(world_size)]
        for loader in ranks if state else ():
            loader.load_state_dict(state)
        for _ in range(rounds):
            if ranks[0].epoch == 0:
                seen.update(name for loader in ranks for name in next(loader).example_ids)
        assert all(loader.state_dict() == ranks[0].state_dict() for loader in ranks)
        state = ranks[0].state_dict()
    names = [name for corpus in mixture(kind).corpora for name in (corpus.id(i) for i in range(len(corpus)))]
    assert seen == once
    assert seen.keys() == set(names)
    assert expression == SPANS or seen == Counter(names)


def test_fewer_packs_than_ranks_still_give_every_rank_a_batch():
    alone = loader_for(batch_steps=4096)
    ranks = [loader_for(batch_steps=4096, rank=r, world_size=7) for r in range(7)]
    for _ in range(3):
        assert all(same(next(rank), next(alone)) for rank in ranks)
    assert alone.epoch > 3


@pytest.mark.parametrize("weights", [[0.7, 0.3], [1, 99]])
def test_the_steps_of_a_mixture_are_at_its_shares(weights):
    corpora = [corpus_of("a", 60), corpus_of("bb", 25)]
    layout = load_layout("Delay(audio)", levels=2)
    loader = PackedLoader(
        Mixture(corpora, weights), layout, VOCABULARY, batch_steps=256, context=200, seed=0, buffer=64
    )
    steps = Counter()
    for _ in range(600):
        batch = next(loader)
        for name, n in zip(batch.example_ids, np.diff(batch.bounds).tolist(), strict=True):
            steps[name.rstrip("0123456789")] += n
    assert steps["a"] / steps.total() == pytest.approx(weights[0] / sum(weights), abs=0.01)
    assert set(loader.drawn) == {str(corpus.folder) for corpus in corpora}


def test_temperature_lifts_the_small_corpus():
    def share(kind):
        loader = loader_for(kind)
        names = [name for _ in range(60) for name in next(loader).example_ids]
        return sum(name.startswith("bb") for name in names) / len(names)

    assert share("joined") < 0.34 < share("temperature")


def test_random_spans_are_drawn_anew_each_epoch_and_by_example():
    def drawn(loader, epoch):
        while loader.epoch < epoch:
            next(loader)
        documents = {}
        while loader.epoch == epoch:
            batch = next(loader)
            assert batch.n_steps <= loader._documents._budget
            for name, a, b in zip(batch.example_ids, batch.bounds, batch.bounds[1:], strict=False):
                documents[name] = batch.ids_NR[a:b, 0].tolist()
        return documents

    first, second = (drawn(loader_for(expression=SPANS, context=400, batch_steps=400), epoch) for epoch in (0, 1))
    mixed = drawn(loader_for("joined", SPANS, context=400, batch_steps=700, buffer=50), 0)
    assert first.keys() == second.keys()
    assert sum(first[name] == second[name] for name in first) < len(first) / 4
    assert all(mixed[name] == first[name] for name in first)


@pytest.mark.parametrize(
    ("kind", "options", "sentence"),
    [
        ("one", {"batch_steps": 300}, "saved under batch_steps 256, not 300"),
        ("one", {"seed": 6}, "saved under seed 5, not 6"),
        ("weights", {}, "saved under corpora .* not"),
        ("one", {"packing": "padded"}, "saved under packing packed, not padded"),
        ("one", {"expression": "Parallel(audio)"}, "saved under layout Delay.* not Parallel"),
    ],
)
def test_a_state_of_another_order_is_refused(kind, options, sentence):
    with pytest.raises(InputError, match=sentence):
        loader_for(kind, **options).load_state_dict(loader_for().state_dict())


def test_windows_of_an_epoch_are_of_equal_size_and_memory_is_a_permutation():
    steps = np.random.default_rng(0).integers(10, 30, 5000).astype(np.int32)
    order, taken = Order(steps, [0, 5000], None, budget=100, buffer=700, seed=1), []
    position = order.start
    while order.epoch(position) == 0:
        window = order.window(position)
        taken.append(np.concatenate([numbers for numbers, _ in window.packs]))
        position = window.end
    assert sorted(np.concatenate(taken)) == list(range(5000))
    assert max(map(len, taken)) - min(map(len, taken)) <= 1
    assert sum(array.nbytes for array in order._orders.values()) <= 2 * 4 * 5000
