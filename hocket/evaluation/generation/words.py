"""Wrong words and characters: edit distance to what should be heard, by the length of what should be heard.

Word error rate counts words replaced, left out and put in, character error rate characters, spaces included, after both
texts went through the normaliser (Morris et al. 2004; jiwer gives the same counts). Of a corpus it is the sum of errors
by the sum of words; the mean over utterances lets a short one count as much as a long one. Both may exceed 100 %:
what is put in counts in full.
"""

from dataclasses import dataclass

from hocket.errors import InputError
from hocket.evaluation.generation.normalising import Normaliser
from hocket.evaluation.hearing import edit_distance


@dataclass(frozen=True)
class Errors:
    """Counts of one utterance."""

    wrong_words: int
    words: int
    wrong_characters: int
    characters: int


def count_errors(said: str | None, heard: str, normalise: Normaliser, name: str = "the item") -> Errors:
    """What of `said` was not heard as it is.

    Raises:
        InputError: nothing is said, so that there is nothing that an error is a share of.
    """
    expected, found = normalise(said or ""), normalise(heard)
    if not any(map(str.isalnum, expected)):
        raise InputError(
            f'"{name}" has no words to compare with (its text is {said!r}): give it a text or leave it out'
        )
    wanted, words = expected.split(), found.split()
    return Errors(edit_distance(wanted, words), len(wanted), edit_distance(expected, found), len(expected))
