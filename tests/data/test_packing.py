"""Packed batches: nothing lost, nothing leaking over, exact resume at any world size."""

import itertools
import tempfile
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from corpora import codec_of, random_rows, write_corpus

from hocket.data import Corpus
from hocket.data.loading import Documents, PackedLoader, one_pass
from hocket.data.loading.order import Order
from hocket.data.loading.packing import bucket_steps
from hocket.errors import InputError
from hocket.interleave import LossWeights, load_layout
from hocket.vocab import Vocabulary, train_bpe
from tests.conftest import CODES, LEVELS

LENGTHS = [3, 50, 7, 12, 90, 1, 33, 20, 5, 8, 61, 2]
LAYOUTS = ["Parallel(audio)", "Delay(audio)", "Flatten(audio)", "Concat(Text(text), Delay(audio))"]
CODEC = codec_of(LEVELS, CODES)
VOCABULARY = Vocabulary.build(train_bpe(["ab"], 256), {"audio": [CODES] * LEVELS})


@cache
def corpus_of(lengths: tuple[int, ...], texts: bool = True) -> Corpus:
    """Random codes of these lengths."""
    rows = random_rows(lengths, {"audio": CODEC}, texts=texts)
    return write_corpus(Path(tempfile.mkdtemp()) / "corpus", rows, {"audio": CODEC}, rows_per_shard=5)


def loader_for(expression="Delay(audio)", lengths=LENGTHS, context=40, batch_steps=64, **options):
    layout = load_layout(expression, levels=LEVELS)
    options = {"seed": 1, **options}
    corpus = corpus_of(tuple(lengths))
    return PackedLoader(corpus, layout, VOCABULARY, batch_steps=batch_steps, context=context, **options)


def documents_of(batch):
    return [batch.ids_NR[a:b] for a, b in itertools.pairwise(batch.bounds)]


def same(one, two) -> bool:
    return torch.equal(one.ids_NR, two.ids_NR) and one.example_ids == two.example_ids


def epoch_of(loader):
    batches = []
    while loader.epoch == 0:
        batches.append(next(loader))
    return batches


@pytest.mark.parametrize("expression", LAYOUTS)
def test_an_epoch_holds_every_code_once(expression):
    context = 400 if "Text" in expression else 40
    loader = loader_for(expression, context=context, batch_steps=max(64, context))
    corpus, frames = corpus_of(tuple(LENGTHS)), {}
    for batch in epoch_of(loader):
        assert batch.n_steps <= max(64, context)
        for name, ids_TR in zip(batch.example_ids, documents_of(batch), strict=True):
            assert len(ids_TR) <= context
            levels = [
                (ids_TR >= VOCABULARY[f"audio.{k}"].start) & (ids_TR < VOCABULARY[f"audio.{k}"].stop)
                for k in range(LEVELS)
            ]
            per_level = [ids_TR[mask] - VOCABULARY[f"audio.{k}"].start for k, mask in enumerate(levels)]
            frames.setdefault(name, []).append(torch.stack(per_level, dim=1))
    for i in range(len(corpus)):
        wanted = corpus[i].streams["audio"].astype(np.int64)
        parts = sorted(map(tuple, torch.cat(frames[f"clip{i}"]).tolist()))
        assert parts == sorted(map(tuple, wanted.tolist()))


def test_cut_examples_start_and_end_truly():
    starts, ends = {}, {}
    for batch in epoch_of(loader_for()):
        for name, ids_TR in zip(batch.example_ids, documents_of(batch), strict=True):
            starts.setdefault(name, []).append(VOCABULARY.name_of(int(ids_TR[0, 0])))
            ends.setdefault(name, []).append(bool((ids_TR == VOCABULARY.id("<end.audio>")).any()))
    assert all(sorted(s) == ["<bos>", *["<cont>"] * (len(s) - 1)] for s in starts.values())
    assert all(sum(e) == 1 for e in ends.values())
    assert len(starts["clip4"]) > 2


def test_the_order_follows_the_seed_and_changes_by_epoch():
    one, two, other = (loader_for(seed=s) for s in (3, 3, 4))
    first, again, others = ([next(loader) for _ in range(5)] for loader in (one, two, other))
    assert all(map(same, first, again))
    assert not all(map(same, first, others))
    loader = loader_for()
    first = [batch.example_ids for batch in epoch_of(loader)]
    second = [next(loader).example_ids for _ in range(len(first))]
    assert first != second


@pytest.mark.parametrize("consumed", [0, 1, 5, 17])
def test_resume_gives_what_comes_next(consumed):
    loader = loader_for()
    for _ in range(consumed):
        next(loader)
    state = loader.state_dict()
    resumed = loader_for()
    resumed.load_state_dict(state)
    assert all(same(next(resumed), next(loader)) for _ in range(12))


@pytest.mark.parametrize("world_size", [1, 2, 3, 5])
def test_ranks_share_the_sequence_of_one(world_size):
    alone = loader_for()
    ranks = [loader_for(rank=r, world_size=world_size) for r in range(world_size)]
    for _ in range(9):
        assert all(same(next(rank), next(alone)) for rank in ranks)


def test_a_change_of_world_size_skips_and_repeats_nothing():
    alone, two = loader_for(), [loader_for(rank=r, world_size=2) for r in range(2)]
    for _ in range(3):
        assert all(same(next(rank), next(alone)) for rank in two)
    three = [loader_for(rank=r, world_size=3) for r in range(3)]
    for loader in three:
        loader.load_state_dict(two[0].state_dict())
    for _ in range(4):
        assert all(same(next(rank), next(alone)) for rank in three)


def test_validation_sees_every_example_once():
    layout = load_layout("delay", levels=LEVELS)
    batches = list(one_pass(corpus_of(tuple(LENGTHS)), layout, VOCABULARY, batch_steps=64, context=64))
    assert sum(batch.n_frames for batch in batches) == sum(LENGTHS)


def test_stream_weights_reach_the_cells():
    layout = load_layout("Concat(Text(text), Delay(audio))", levels=LEVELS)
    documents = Documents(corpus_of((4,)), layout, VOCABULARY, 64, LossWeights(streams={"text": 0.5}))
    batch = documents.collate(np.array([0]))
    assert (batch.n_documents, batch.cu_seqlens[0], len(set(batch.cu_seqlens.tolist()))) == (1, 0, 2)
    is_text = [bool(s) and s[0] == "text" for s in layout.legal_sets]
    expected = torch.tensor(
        [0.0 if not s else 0.5 if t else 1.0 for s, t in zip(layout.legal_sets, is_text, strict=True)]
    )
    assert torch.equal(batch.weight_NR, expected[batch.legal_NR])


def test_packs_are_full_on_lengths_as_librispeechs():
    """Mean 12.3 s, most near 15 s, up to 35 s, at 12.5 Hz with eight delayed levels."""
    rng = np.random.default_rng(0)
    kind, n = rng.random(6000), 6000
    seconds = np.where(kind < 0.37, rng.uniform(1.5, 13, n), rng.normal(15, 0.9, n).clip(12, 17))
    steps = np.where(kind > 0.98, rng.uniform(17, 35, n), seconds) * 12.5 + 9
    order = Order(steps.astype(np.int32), [0, n], None, budget=4096, seed=0)
    window = order.window(order.start)
    packed = [int(order._steps[numbers].sum()) for numbers, _ in window.packs]
    assert max(packed) <= 4096
    assert sum(packed) / (4096 * len(packed)) > 0.99


def test_buckets_hold_documents_of_like_length():
    steps = np.random.default_rng(0).integers(3, 200, 500)
    buckets = bucket_steps(steps, 1000)
    assert sorted(np.concatenate(buckets)) == list(range(500))
    assert all(len(bucket) * steps[bucket].max() <= 1000 for bucket in buckets)
    assert sum(len(bucket) * steps[bucket].max() for bucket in buckets) < 1.05 * steps.sum()


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: loader_for(lengths=[]), "no example to train on"),
        (lambda: loader_for("Concat(Text(text), Delay(audio))"), 'example "clip4" takes 171 steps'),
        (lambda: loader_for("Flatten(audio)", context=3), "does not hold one frame"),
        (lambda: loader_for(seed=2).load_state_dict(loader_for(seed=9).state_dict()), "under seed 9, not 2"),
        (
            lambda: Documents(corpus_of((3,), texts=False), load_layout("tts-delay", LEVELS), VOCABULARY, 40),
            "text, but none of 1 examples has any: put x.txt beside x.wav",
        ),
        (lambda: Documents(corpus_of((3,)), load_layout("delay", 5), VOCABULARY, 40), "needs 5 levels"),
        (lambda: Documents(corpus_of((3,)), load_layout("Parallel(user)", 2), VOCABULARY, 40), 'stream "user"'),
    ],
)
def test_what_does_not_fit_gets_one_sentence(make, sentence):
    with pytest.raises(InputError, match=sentence):
        make()
