"""What is heard from models: words, voices, quality and fluency of what they say, beside recordings and the codec.

Owns the judges (`find_panel`), what they hear (`Utterance`), and the protocols that bring both together.
"""

from hocket.evaluation.generation.asking import Maker, Template, protocols_of
from hocket.evaluation.generation.bench import Found
from hocket.evaluation.generation.fluency import Reader, auto_bleu, self_bleu
from hocket.evaluation.generation.normalising import find_normaliser
from hocket.evaluation.generation.outside import rate_outputs
from hocket.evaluation.generation.panel import Panel, find_panel
from hocket.evaluation.generation.protocols import (
    Continuation,
    Recognition,
    Speech,
    Unfit,
    run_continuation,
    run_recognition,
    run_tts,
)
from hocket.evaluation.generation.recognisers import Recogniser, open_recogniser
from hocket.evaluation.generation.utterances import Utterance, lend_voices, of_corpus, of_metalist, of_source
from hocket.evaluation.generation.voices import Embedder
from hocket.evaluation.generation.words import Errors, count_errors

__all__ = [
    "Continuation",
    "Embedder",
    "Errors",
    "Found",
    "Maker",
    "Panel",
    "Reader",
    "Recogniser",
    "Recognition",
    "Speech",
    "Template",
    "Unfit",
    "Utterance",
    "auto_bleu",
    "count_errors",
    "find_normaliser",
    "find_panel",
    "lend_voices",
    "of_corpus",
    "of_metalist",
    "of_source",
    "open_recogniser",
    "protocols_of",
    "rate_outputs",
    "run_continuation",
    "run_recognition",
    "run_tts",
    "self_bleu",
]
