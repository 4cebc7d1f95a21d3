"""The judges of what a model says, together: whoever is at hand, and a sentence about each who is not.

recogniser   words: WER, CER and what perplexity reads      a folder, see `recognisers.py`
voices       similarity of speakers                          Resemblyzer where installed; a folder of WavLM
qualities    DNSMOS where installed; UTMOS                   a TorchScript file
reader       generative perplexity                           a folder of a language model
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hocket.evaluation.generation.fluency import Reader
from hocket.evaluation.generation.normalising import find_normaliser
from hocket.evaluation.generation.quality import Quality, open_dnsmos, open_utmos
from hocket.evaluation.generation.recognisers import Recogniser, open_recogniser
from hocket.evaluation.generation.voices import Embedder, Resemblyzer, WavLM
from hocket.evaluation.judges import EVAL_EXTRA, VOICES

SIMILARITY, SIMILARITY_WAVLM, DNSMOS, UTMOS = "similarity", "similarity_wavlm", "dnsmos", "utmos"


@dataclass(frozen=True, kw_only=True)
class Panel:
    """Judges by the column of the table that they fill."""

    recogniser: Recogniser | None = None
    voices: dict[str, Embedder] = field(default_factory=dict)
    qualities: dict[str, Quality] = field(default_factory=dict)
    reader: Reader | None = None

    @property
    def settings(self) -> dict[str, Any]:
        """Who judges, as plain values."""
        return {
            "recogniser": self.recogniser.name if self.recogniser else None,
            "normaliser": find_normaliser("en").name,
            "voices": {column: voice.name for column, voice in self.voices.items()},
            "qualities": sorted(self.qualities),
            "reader": self.reader.name if self.reader else None,
        }


def find_panel(
    *,
    recogniser: str | Path | None = None,
    wavlm: str | Path | None = None,
    utmos: str | Path | None = None,
    reader: str | Path | None = None,
    device: str = "cpu",
) -> tuple[Panel, list[str]]:
    """The judges that can be had here, and one sentence about each that is left out.

    Args:
        recogniser: a folder of Whisper for faster-whisper, or of any recogniser of transformers.
        wavlm: a folder of WavLMForXVector.
        utmos: a TorchScript file.
        reader: a folder of a causal language model with its tokenizer.

    Raises:
        InputError: a folder or file that is given holds no such model.
    """
    left_out: list[str] = []
    voices: dict[str, Embedder | None] = {SIMILARITY: _try(Resemblyzer, "speaker similarity", VOICES, left_out)}
    qualities = {DNSMOS: _try(open_dnsmos, "DNSMOS", EVAL_EXTRA, left_out)}
    voices |= {SIMILARITY_WAVLM: WavLM(wavlm, device)} if wavlm else {}
    qualities |= {UTMOS: open_utmos(utmos, device)} if utmos else {}
    missing = {
        "word errors are": (recogniser, "no recogniser was given (--whisper FOLDER or --asr FOLDER)"),
        "similarity by WavLM is": (wavlm, "no WavLMForXVector was given (--speaker-model FOLDER)"),
        "UTMOS is": (utmos, "no TorchScript file of it was given (--utmos FILE)"),
        "generative perplexity is": (reader, "no language model was given (--lm FOLDER)"),
    }
    left_out += [f"{what} left out: {reason}" for what, (given, reason) in missing.items() if not given]
    panel = Panel(
        recogniser=open_recogniser(recogniser, device) if recogniser else None,
        voices={column: voice for column, voice in voices.items() if voice},
        qualities={column: quality for column, quality in qualities.items() if quality},
        reader=Reader(reader, device) if reader else None,
    )
    return panel, left_out


def _try(make: Callable[[], Any], name: str, install: str, left_out: list[str]) -> Any:
    """What `make` makes; None, with a sentence, where its package is not installed."""
    try:
        return make()
    except ImportError as error:
        left_out.append(f"{name} is left out: {error.name or error} is not installed ({install})")
        return None
