"""Whether a layout can be read under a vocabulary: no two cells of a step hold codes of one block."""

import pytest

from hocket.errors import InputError
from hocket.interleave import load_layout
from hocket.interleave.blocks import check_blocks
from hocket.vocab import Vocabulary, train_bpe

TEXT = train_bpe(["a"], 256)
LEVELS = [8] * 4
OWN = Vocabulary.build(TEXT, {"audio": LEVELS, "user": LEVELS, "semantic": [8]})
SHARED = Vocabulary.build(TEXT, {"audio": LEVELS}, share={"user": "audio"})


def refused(expression: str, vocabulary: Vocabulary, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        check_blocks(load_layout(expression, 4), vocabulary)


@pytest.mark.parametrize(
    "expression",
    [
        "Stack(aligned_text, Delay(audio, [0, 1, ...]), Delay(user, [0, 1, ...]))",
        "Flatten(audio)",
        'Flatten(audio, order="level", groups=[2, ...])',
        "Stack(Lead(Repeat(semantic, 2), 1), audio)",
        "Concat(text, Delay(audio))",
        "Alternate(text, audio, spans='turn')",
    ],
)
def test_streams_with_blocks_of_their_own_fit(expression):
    check_blocks(load_layout(expression, 4), OWN)


@pytest.mark.parametrize(
    "expression",
    [
        "Alternate(audio, user, ratio=(3, 2))",
        "Alternate(Delay(audio), Delay(user), ratio=(3, 2))",
        "Concat(Delay(audio), Delay(user))",
        'Multispeaker(audio, user, by="turn")',
    ],
)
def test_streams_separated_in_time_may_share_blocks(expression):
    check_blocks(load_layout(expression, 4), SHARED)


def test_rows_of_one_step_may_not_share_blocks():
    sentence = r"two rows of one block at a step \(audio, user\), which their sum could not tell apart"
    refused("Stack(aligned_text, Delay(audio, [0, 1, ...]), Delay(user, [0, 1, ...]))", SHARED, sentence)
    refused("Multispeaker(audio, user)", SHARED, sentence)
    refused("Stack(Delay(audio, offset=40), user)", SHARED, sentence)
    refused("Stack(text, aligned_text)", OWN, "two rows of one block")


def test_what_the_vocabulary_lacks_is_said():
    refused("Stack(audio, source)", OWN, "source")
    refused('Concat(Marker("<task.sing>"), audio)', OWN, "task.sing")
    small = Vocabulary.build(None, {"audio": [8, 8]})
    refused("Delay(audio)", small, r'needs 4 levels of "audio"; the vocabulary has 2')
    refused("Concat(text, audio)", small, "text")


@pytest.mark.parametrize(
    "expression",
    ["Stack(Delay(audio, offset=1000), user)", "Stack(Alternate(text, semantic, audio, ratio=(90, 300, 1)), user)"],
)
def test_rows_that_meet_late_are_seen_too(expression):
    vocabulary = Vocabulary.build(TEXT, {"audio": LEVELS, "semantic": [8]}, share={"user": "audio"})
    refused(expression, vocabulary, "two rows of one block")
