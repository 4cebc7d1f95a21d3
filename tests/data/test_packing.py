"""Packed batches: nothing lost, nothing leaking over, exact resume at any world size."""

import itertools
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from hocket.data import Corpus
from hocket.data.packing import Documents, PackedLoader, one_pass, pack
from hocket.errors import InputError
from hocket.interleave import LossWeights, load_layout
from hocket.vocab import Vocabulary, train_bpe
from tests.conftest import CODES, LEVELS


class Example:
    def __init__(self, number: int, n_frames: int, text: str | None):
        rng = np.random.default_rng(number)
        self.id, self.text = f"clip{number}", text
        self.streams = {"audio": rng.integers(0, CODES, (n_frames, LEVELS)).astype(np.uint16)}


class FakeCorpus(Corpus):
    """What the packer asks of a corpus, over random codes."""

    lengths: dict[str, np.ndarray]  # pyright: ignore[reportIncompatibleMethodOverride]
    lengths = {}  # noqa: RUF012  (each corpus sets its own)

    def __init__(self, lengths, texts=True):
        self._examples = [Example(i, n, "ab" * (i % 3 + 1) if texts else None) for i, n in enumerate(lengths)]
        self.lengths = {"audio": np.array(lengths, dtype=np.int64)}
        self.folder, self.card = Path("fake"), SimpleNamespace(codec=SimpleNamespace(levels=LEVELS))

    def __len__(self):
        return len(self._examples)

    def __getitem__(self, index):
        return self._examples[index]


LENGTHS = [3, 50, 7, 0, 12, 90, 1, 33, 20, 5, 8, 61, 2]
LAYOUTS = ["Parallel(audio)", "Delay(audio)", "Flatten(audio)", "Concat(Text(text), Delay(audio))"]
VOCABULARY = Vocabulary.build(train_bpe(["ab"], 256), {"audio": [CODES] * LEVELS})


def loader_for(expression="Delay(audio)", lengths=LENGTHS, context=40, batch_steps=64, **options):
    layout = load_layout(expression, levels=LEVELS)
    options = {"seed": 1, **options}
    return PackedLoader(FakeCorpus(lengths), layout, VOCABULARY, batch_steps=batch_steps, context=context, **options)


def documents_of(batch):
    bounds = batch.cu_seqlens.tolist()
    return [batch.ids_NR[a:b] for a, b in itertools.pairwise(bounds)]


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
    corpus, frames = FakeCorpus(LENGTHS), {}
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
    assert len(starts["clip5"]) > 2


def test_the_order_follows_the_seed_and_changes_by_epoch():
    one, two, other = (loader_for(seed=s) for s in (3, 3, 4))
    firsts = [next(loader) for loader in (one, two, other)]
    assert same(firsts[0], firsts[1])
    assert not same(firsts[0], firsts[2])
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
    batches = list(one_pass(FakeCorpus(LENGTHS), layout, VOCABULARY, batch_steps=64, context=64))
    assert sum(batch.n_frames for batch in batches) == sum(LENGTHS)


def test_stream_weights_reach_the_cells():
    layout = load_layout("Concat(Text(text), Delay(audio))", levels=LEVELS)
    documents = Documents(FakeCorpus([4]), layout, VOCABULARY, 64, LossWeights(streams={"text": 0.5}))
    batch = documents.collate(np.array([0]))
    is_text = [bool(s) and s[0] == "text" for s in layout.legal_sets]
    expected = torch.tensor(
        [0.0 if not s else 0.5 if t else 1.0 for s, t in zip(layout.legal_sets, is_text, strict=True)]
    )
    assert torch.equal(batch.weight_NR, expected[batch.legal_NR])


def test_packs_are_full_on_speech_like_lengths():
    steps = np.random.default_rng(0).gamma(4.0, 80.0, 5000).clip(10, 900).astype(int)
    packs = pack(np.arange(len(steps)), steps, 4096)
    assert sorted(np.concatenate(packs)) == list(range(5000))
    assert all(steps[p].sum() <= 4096 for p in packs)
    assert steps.sum() / (4096 * len(packs)) > 0.98


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: loader_for(lengths=[]), "no example to train on"),
        (lambda: loader_for("Concat(Text(text), Delay(audio))"), 'example "clip5" takes 100 steps'),
        (lambda: loader_for("Flatten(audio)", context=3), "does not hold one frame"),
        (lambda: loader_for().load_state_dict({"epoch": 0, "batch": 0, "seed": 9}), "under seed 9"),
        (
            lambda: Documents(FakeCorpus([3], texts=False), load_layout("tts-delay", LEVELS), VOCABULARY, 40),
            '1 of 1 examples have none, "clip0" first',
        ),
        (lambda: Documents(FakeCorpus([3]), load_layout("delay", 5), VOCABULARY, 40), "needs 5 levels"),
        (lambda: Documents(FakeCorpus([3]), load_layout("Parallel(user)", 2), VOCABULARY, 40), 'stream "user"'),
    ],
)
def test_what_does_not_fit_gets_one_sentence(make, sentence):
    with pytest.raises(InputError, match=sentence):
        make()
