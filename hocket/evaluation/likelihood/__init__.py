"""Likelihood: how well a model can name real speech, and whether true speech is likelier to it than false.

`scorer` gives nats by block and level of each example of a corpus, `summary` makes bits per second of audio of them,
`codes` turns any audio into such a corpus, `tasks` are the paired tasks of the field.
"""

from hocket.evaluation.likelihood.codes import CodeCache, find_codecs, make_corpus, score_audio
from hocket.evaluation.likelihood.scorer import Scorer, weights_of
from hocket.evaluation.likelihood.summary import bound_of, score_corpus, split_nats, summarise
from hocket.evaluation.likelihood.tally import NORMALISATIONS, Score, Tally, add_up
from hocket.evaluation.likelihood.tasks import TASKS, find_task, make_tiny_task, run_task

__all__ = [
    "NORMALISATIONS",
    "TASKS",
    "CodeCache",
    "Score",
    "Scorer",
    "Tally",
    "add_up",
    "bound_of",
    "find_codecs",
    "find_task",
    "make_corpus",
    "make_tiny_task",
    "run_task",
    "score_audio",
    "score_corpus",
    "split_nats",
    "summarise",
    "weights_of",
]
