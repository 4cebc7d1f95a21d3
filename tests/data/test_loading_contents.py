"""What becomes of examples: nothing is lost, what a layout cannot use is named, words stay with their audio."""

import itertools
import tempfile
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from corpora import codec_of, random_rows, row_of, write_corpus

from hocket.data import Corpus, Documents, Mixture, PackedLoader, one_pass
from hocket.data.words import Word
from hocket.errors import InputError
from hocket.interleave import LossWeights, load_layout, unalign_text
from hocket.vocab import Vocabulary, train_bpe

CODEC, UNITS = codec_of(levels=2), codec_of(levels=1, rate=50)
STREAMS = {"audio": CODEC, "user": CODEC, "semantic": UNITS}
VOCABULARY = Vocabulary.build(
    train_bpe(["w0 w1 w2"], 256), {name: codec.codebook_sizes for name, codec in STREAMS.items()}
)
LENGTHS = (5, 80, 17, 33, 1, 64, 25)
LAYOUTS = [
    "Delay(audio)",
    "Flatten(audio)",
    "CoarseFirst(audio)",
    "Concat(Text(text), Delay(audio))",
    "Concat(Flatten(audio), Text(text))",
    "Stack(aligned_text, Delay(audio))",
    "Stack(Lead(Repeat(audio[:1], 2)), Parallel(semantic), Repeat(audio[1:], 2))",
    "Stack(Delay(audio), Delay(user))",
    'Alternate(text, Flatten(audio), spans="turn")',
    'Alternate(Flatten(audio), Flatten(user), spans="turn")',
    'Alternate(Text(text), Delay(audio), spans="either")',
    "Concat(Flatten(semantic), Delay(audio))",
]


@cache
def paired() -> Corpus:
    rows = random_rows(LENGTHS, STREAMS, texts=True, words=True)
    return write_corpus(Path(tempfile.mkdtemp()) / "paired", rows, STREAMS, rows_per_shard=3)


@cache
def three_kinds() -> Mixture:
    """Text alone in a corpus without codes, audio alone, and both."""
    folder = Path(tempfile.mkdtemp())
    texts = [row_of(f"text{i}", {}, f"w{i} w{i + 1}") for i in range(4)]
    only_text = write_corpus(folder / "text", texts, {})
    only_audio = write_corpus(
        folder / "audio", random_rows((9, 20), {"audio": CODEC}, prefix="audio"), {"audio": CODEC}
    )
    both = write_corpus(folder / "both", random_rows((11, 30), {"audio": CODEC}, True, prefix="both"), {"audio": CODEC})
    return Mixture([only_text, only_audio, both])


def loader_for(corpus, expression, **options) -> PackedLoader:
    layout = load_layout(expression, levels={name: codec.levels for name, codec in STREAMS.items()})
    settings: dict[str, Any] = {"batch_steps": 200, "context": 100, "seed": 0} | options
    return PackedLoader(corpus, layout, VOCABULARY, **settings)


def epoch_of(loader):
    batches = []
    while loader.epoch == 0:
        batches.append(next(loader))
    return batches


@pytest.mark.parametrize("packing", ["packed", "fixed", "padded"])
@pytest.mark.parametrize("expression", LAYOUTS)
def test_every_code_and_token_stands_in_an_epoch_once(expression, packing):
    corpus, found, wanted = paired(), Counter(), Counter()
    loader = loader_for(corpus, expression, packing=packing)
    batches = epoch_of(loader)
    for batch in batches:
        found.update(batch.ids_NR[batch.legal_NR > 0].tolist())  # copies are inputs only
    streams = loader._documents.layout.streams
    for example in corpus:
        for name in set(streams) - {"text", "aligned_text"}:
            wanted.update(VOCABULARY.ids(name, example.streams[name].astype(np.int64)).reshape(-1).tolist())
        if "text" in streams:
            wanted.update(VOCABULARY.encode_text(example.text or ""))
    structure = {*VOCABULARY.specials.values(), *(range(VOCABULARY.text_rows) if "aligned_text" in streams else ())}
    assert Counter({i: n for i, n in found.items() if i not in structure}) == wanted
    assert max(batch.n_steps for batch in batches) <= 200
    assert len({len(batch.cu_seqlens) for batch in batches}) == 1


@pytest.mark.parametrize("packing", ["fixed", "padded"])
def test_padding_counts_nothing_and_is_counted(packing):
    loader = loader_for(paired(), "Delay(audio)", packing=packing)
    for batch in epoch_of(loader):
        per_step = batch.weight_NR.sum(1)
        assert batch.n_real_steps + batch.n_padding == batch.n_steps
        assert int((batch.ids_NR[:, 0] == VOCABULARY.id("<wait>")).sum()) == batch.n_padding
        assert not per_step[batch.ids_NR[:, 0] == VOCABULARY.id("<wait>")].any()
        if packing == "fixed":
            assert batch.n_steps == 200
        else:
            assert len(set(np.diff(batch.bounds).tolist())) == 1
    assert batch.fill <= 1


def test_pieces_keep_the_text_that_is_said_in_them():
    rows = random_rows((160,), {"audio": CODEC}, texts=True, words=True)
    corpus = write_corpus(Path(tempfile.mkdtemp()) / "long", rows, {"audio": CODEC})
    layout = load_layout("Concat(Text(text), Delay(audio))", levels=2)
    documents = Documents(corpus, layout, VOCABULARY, 100)
    segments = documents.segments
    assert documents.facts.n_cut == 1
    assert (segments.steps <= 100).all()
    texts = [
        VOCABULARY.decode_text(documents._contents.text(segments.take(np.array([i])))[:, 0].tolist())
        for i in range(len(segments))
    ]
    assert "".join(texts) == rows[0].text
    for i, text in enumerate(texts):
        first_word = int(text.split()[0][1:])
        assert segments.start["audio"][i] == 4 * first_word
    edges = list(zip(segments.start["audio"].tolist(), segments.stop["audio"].tolist(), strict=True))
    assert [a for a, _ in edges[1:]] == [b for _, b in edges[:-1]]
    assert segments.begins.tolist() == [True] + [False] * (len(edges) - 1)


def test_words_stand_on_the_clock_of_the_audio():
    words = [Word(text="w1", start=0.2, end=0.3), Word(text="w2", start=0.8, end=0.9)]
    late = Word(text="w3", start=0.99, end=1.0)
    codes = {"audio": np.zeros((25, 2), np.uint16)}
    rows = [row_of("early", codes, "w1 w2", words=words), row_of("late", codes, "w1 w3", words=[words[0], late])]
    corpus = write_corpus(Path(tempfile.mkdtemp()) / "words", rows, {"audio": CODEC})
    batch = next(
        iter(
            one_pass(
                corpus,
                load_layout("Stack(aligned_text, Parallel(audio))", levels=2),
                VOCABULARY,
                batch_steps=80,
                context=40,
            )
        )
    )
    first = batch.ids_NR[1:26, 0] if batch.example_ids[0] == "early" else batch.ids_NR[28:53, 0]
    tokens, frames = unalign_text(VOCABULARY.codes("aligned_text", first), VOCABULARY.text_rows)
    assert VOCABULARY.decode_text(tokens.tolist()) == "w1 w2"
    assert int(frames[0]) == 5
    assert 20 in frames.tolist()
    assert batch.n_left_out == 1


def test_turns_of_two_speakers_go_by_their_words():
    words = [
        Word(text="a", start=0.2, end=0.3),
        Word(text="b", start=0.4, end=0.5, stream="user"),
        Word(text="c", start=0.8, end=0.9),
    ]
    codes = {name: np.full((25, 2), value, np.uint16) for name, value in (("audio", 1), ("user", 2))}
    corpus = write_corpus(
        Path(tempfile.mkdtemp()) / "turns", [row_of("x", codes, words=words)], {"audio": CODEC, "user": CODEC}
    )
    layout = load_layout('Alternate(Flatten(audio), Flatten(user), spans="turn")', levels=2)
    documents = Documents(corpus, layout, VOCABULARY, 400)
    spans = documents._contents.spans(documents.segments)
    assert spans == [{"audio": [0, 20, 25], "user": [0, 25, 25]}]


def test_text_and_audio_whole_in_either_order_need_no_times_of_words():
    lengths = (5, 80, 17, 33, 1, 64, 25)
    corpus = write_corpus(
        Path(tempfile.mkdtemp()) / "untimed", random_rows(lengths, {"audio": CODEC}, texts=True), {"audio": CODEC}
    )
    layout = load_layout('Alternate(Text(text), Delay(audio), spans="either")', levels=2)
    documents = Documents(corpus, layout, VOCABULARY, 200)
    assert documents.facts.lacking == {}
    assert len(documents.segments) == len(lengths)
    first = Counter()
    for epoch in range(8):
        numbers = np.arange(len(lengths))
        batch = documents.collate(numbers, epoch)
        steps = documents.exact_steps(documents.segments, np.full(len(lengths), epoch))
        assert steps.tolist() == np.diff(batch.bounds).tolist()
        assert (steps <= documents.segments.steps).all()
        names = [
            [VOCABULARY.name_of(i) for i in batch.ids_NR[a:b, 0].tolist()] for a, b in itertools.pairwise(batch.bounds)
        ]
        for n_frames, cells in zip(lengths, names, strict=True):
            turns = [cell for cell in cells if cell.startswith("<to.")]
            assert sorted(turns) == ["<to.audio>", "<to.text>"]
            assert cells[0] == "<bos>"
            assert f"<end.{turns[1][4:]}" in cells
            assert sum(cell.startswith("audio.0") for cell in cells) == n_frames
            first[turns[0]] += 1
    assert min(first.values()) > 15


@pytest.mark.parametrize(
    ("expression", "given", "used", "left_out"),
    [
        ("Concat(Text(text), Delay(audio))", (), 8, 0),
        ("Concat(Text(text), Delay(audio))", ("text",), 4, 4),
        ("Concat(Delay(audio), Text(text))", ("audio",), 6, 2),
        ("Delay(audio)", (), 4, 4),
    ],
)
def test_kinds_of_examples_stand_in_one_sequence(expression, given, used, left_out):
    loader = loader_for(three_kinds(), expression, missing="keep", given=given)
    names = Counter(name for batch in epoch_of(loader) for name in batch.example_ids)
    assert (len(names), set(names.values())) == (used, {1})
    assert (loader.facts.n_used, sum(loader.facts.left_out.values())) == (used, left_out)
    for batch in epoch_of(loader_for(three_kinds(), expression, missing="keep", given=given)):
        for name, (a, b) in zip(batch.example_ids, itertools.pairwise(batch.bounds), strict=True):
            ends = {VOCABULARY.name_of(i) for i in batch.ids_NR[a:b].reshape(-1).tolist()} & {
                "<end.text>",
                "<end.audio>",
            }
            kinds = {"<end.text>": not name.startswith("audio"), "<end.audio>": not name.startswith("text")}
            assert ends == {end for end, has in kinds.items() if has and end[5:-1] in loader._documents.layout.streams}
            assert float(batch.weight_NR[a:b].sum()) > 0


def test_what_has_one_stream_alone_has_one_turn():
    batches = list(
        epoch_of(loader_for(three_kinds(), 'Alternate(Text(text), Delay(audio), spans="either")', missing="keep"))
    )
    markers = {}
    for batch in batches:
        for name, (a, b) in zip(batch.example_ids, itertools.pairwise(batch.bounds), strict=True):
            cells = [VOCABULARY.name_of(i) for i in batch.ids_NR[a:b, 0].tolist()]
            markers[name] = [cell for cell in cells if cell.startswith(("<to.", "<end."))]
    assert len(markers) == 8
    for name, found in markers.items():
        kind = name.rstrip("0123456789")
        if kind == "both":
            assert [cell[1:3] for cell in found] == ["to", "to", "en"]
            assert found[2][5:] == found[1][4:]
        else:
            assert found == [f"<to.{kind}>", f"<end.{kind}>"]


def test_examples_that_lack_a_stream_are_refused_or_dropped_by_name():
    layout = load_layout("Concat(Text(text), Delay(audio))", levels=2)
    with pytest.raises(InputError, match='needs text, but 2 of 8 examples have none, "audio0" first'):
        Documents(three_kinds(), layout, VOCABULARY, 100)
    dropped = Documents(three_kinds(), layout, VOCABULARY, 100, missing="drop").facts
    assert (dropped.n_used, dropped.left_out, dropped.left_out_first) == (
        2,
        {"they lack a stream": 6},
        ["text0", "text1", "text2"],
    )
    assert "4 have no audio" in str(dropped)
    with pytest.raises(InputError, match='nothing to predict in 7 of 7 examples, "clip0" first'):
        Documents(paired(), load_layout("Delay(audio)", levels=2), VOCABULARY, 100, given=["audio"])


def test_what_is_too_long_is_refused_on_demand():
    with pytest.raises(
        InputError, match=r'example "clip1" takes 162 steps and data.long is refuse, but .* \(2 examples'
    ):
        loader_for(paired(), "Flatten(audio)", long="refuse")


def test_texts_are_encoded_once_and_mapped():
    corpus = paired()
    layout = load_layout("Concat(Text(text), Delay(audio))", levels=2)
    first = Documents(corpus, layout, VOCABULARY, 200)
    tables = sorted(corpus.folder.glob("tokens-*"))
    stamps = [(file, file.stat().st_mtime_ns) for table in tables for file in sorted(table.iterdir())]
    again = Documents(Corpus.open(corpus.folder), layout, VOCABULARY, 200)
    assert stamps == [
        (f, f.stat().st_mtime_ns) for t in sorted(corpus.folder.glob("tokens-*")) for f in sorted(t.iterdir())
    ]
    assert isinstance(first._contents._texts[0].tokens_M, np.memmap)
    assert first._contents._texts[0].tokens_M.dtype == np.uint16
    everything = np.arange(len(corpus))
    assert torch.equal(first.collate(everything[:2]).ids_NR, again.collate(everything[:2]).ids_NR)


def test_texts_of_a_folder_that_cannot_be_written_lie_in_the_cache(monkeypatch, tmp_path):
    corpus = write_corpus(tmp_path / "c", random_rows((5, 6), {"audio": CODEC}, texts=True), {"audio": CODEC})
    monkeypatch.setenv("HOCKET_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("os.access", lambda path, mode: False)
    Documents(corpus, load_layout("Concat(Text(text), Delay(audio))", levels=2), VOCABULARY, 200)
    assert not list(corpus.folder.glob("tokens-*"))
    assert len(list((tmp_path / "cache" / "tokens").iterdir())) == 1


def test_weights_of_pads_reach_aligned_text():
    layout = load_layout("Stack(aligned_text, Delay(audio))", levels=2)
    batch = Documents(paired(), layout, VOCABULARY, 100, LossWeights(pad=0.25)).collate(np.array([0]))
    pads = batch.ids_NR[:, 0] == VOCABULARY.id("<pad>")
    assert pads.any()
    assert set(batch.weight_NR[pads, 0].tolist()) == {0.25}
