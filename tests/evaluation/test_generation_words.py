"""Words as they are compared, and how much of language there is in them: by hand-computed values."""

import importlib.util
import math

import pytest
import torch

from hocket.errors import InputError
from hocket.evaluation.generation import auto_bleu, count_errors, find_normaliser, self_bleu
from hocket.evaluation.generation.fluency import Reader
from hocket.evaluation.generation.normalising import BASIC, ENGLISH, NO_SPELLINGS
from tests.evaluation.speech_models import save_gpt2


@pytest.mark.parametrize(
    ("text", "normalised"),
    [
        ("It's Mr. Lee: one oh two!", "it is mister lee 102"),
        ("Twenty-one dollars", "$21"),
        ("[noise] uh, press the * key", "press the key"),
    ],
)
def test_english_is_normalised_as_whisper_does(text, normalised):
    assert find_normaliser("en")(text) == normalised


def test_british_spellings_count_where_their_list_is_at_hand():
    known = importlib.util.find_spec("whisper_normalizer") is not None
    normaliser = find_normaliser(None)
    assert normaliser.name == (ENGLISH if known else NO_SPELLINGS)
    assert normaliser("colour") == ("color" if known else "colour")


def test_other_languages_lose_punctuation_alone():
    normaliser = find_normaliser("es-MX")
    assert normaliser.name == BASIC
    assert normaliser("¿Qué hora es?") == "qué hora es"


def test_errors_are_counted_and_insertions_in_full():
    counts = count_errors("Press one, now.", "press 1 now now now now now", find_normaliser("en"))
    assert (counts.wrong_words, counts.words) == (4, 3)
    assert (counts.wrong_characters, counts.characters) == (16, 13)
    assert count_errors("ab cd", "", find_normaliser("fr")).wrong_characters == 5


@pytest.mark.parametrize("said", [None, "", "...", "[noise]"])
def test_an_empty_reference_is_refused_by_name(said):
    with pytest.raises(InputError, match='"clip-7" has no words to compare with'):
        count_errors(said, "hello", find_normaliser("en"), "clip-7")


@pytest.mark.parametrize(("said", "heard"), [("a b c d", "b c x d e f"), ("press the pound key", "Press the Pankey")])
def test_counts_are_those_of_jiwer(said, heard):
    jiwer = pytest.importorskip("jiwer")
    counts, normalise = count_errors(said, heard, find_normaliser("en")), find_normaliser("en")
    assert counts.wrong_words / counts.words == pytest.approx(jiwer.wer(normalise(said), normalise(heard)))
    assert counts.wrong_characters / counts.characters == pytest.approx(jiwer.cer(normalise(said), normalise(heard)))


@pytest.mark.parametrize(
    ("words", "score"),
    [
        ("", 0.0),
        ("a", 0.0),
        ("a b c", 0.0),
        ("a b a b", math.sqrt(4 / 4 * 2 / 3)),
        ("a a a", 0.0),  # all words again, but the two pairs overlap
        ("a b c a b", math.sqrt(4 / 5 * 2 / 4)),
        ("a b c a", 0.0),
    ],
)
def test_auto_bleu_by_hand(words, score):
    assert auto_bleu(words.split()) == pytest.approx(score)


def test_self_bleu_by_hand():
    utterances = [text.split() for text in ("a b c", "a b d", "x a a")]
    # a b c: 2 of 3 words, 1 of 2 pairs; x a a: "a" once, as often as another has it, no pair
    assert self_bleu(utterances) == pytest.approx([math.sqrt(1 / 3), math.sqrt(1 / 3), 0.0])
    assert self_bleu([["a", "b"], ["a", "b"]]) == pytest.approx([1.0, 1.0])
    assert self_bleu([["a"], []]) == pytest.approx([0.0, 0.0])


@pytest.fixture(scope="module")
def reader(tmp_path_factory):
    return Reader(save_gpt2(tmp_path_factory.mktemp("gpt2")))


def test_a_language_model_reads_after_its_start_token(reader):
    ids = torch.tensor([[0, 2, 3, 4]])
    with torch.inference_mode():
        log_p = reader._model(ids).logits.log_softmax(dim=-1)[0]
    nats = -(log_p[0, 2] + log_p[1, 3] + log_p[2, 4])
    assert reader.read(["a b c"])[0] == (pytest.approx(float(nats), rel=1e-5), 3)


def test_texts_read_together_are_read_as_alone(reader):
    texts = ["a b c a b", "", "c", "b b b b b b b b", *["a c"] * 8]
    together, alone = reader.read(texts), [reader.read([text])[0] for text in texts]
    assert [tokens for _, tokens in together] == [5, 0, 1, 8, *[2] * 8]
    assert [nats for nats, _ in together] == pytest.approx([nats for nats, _ in alone], rel=1e-5)
    assert reader.read([""]) == [(0.0, 0)]


def test_what_is_too_long_to_be_read_is_refused(reader, tmp_path):
    with pytest.raises(InputError, match="reads 12 tokens, and a transcript has 13"):
        reader.read(["a " * 12])
    with pytest.raises(InputError, match="holds no model of a language that can be loaded"):
        Reader(tmp_path)
