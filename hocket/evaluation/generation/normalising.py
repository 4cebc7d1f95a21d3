"""Texts as they are compared: Whisper's normaliser, so that spelling and punctuation do not count as wrong words.

    English      "It's the colour, Mr. Lee: twenty-one."  →  "it is the color mister lee 21"
    any other    "¿Qué hora es?"                          →  "qué hora es"        lower case, no punctuation

As in Radford et al. 2022, appendix C, with its quirks: "one oh two" is "102".

The classes are those of transformers. English needs OpenAI's list of British spellings, which the package
`whisper-normalizer` carries; without it British and American spellings count as different words, and the name says so.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

from transformers.models.whisper.english_normalizer import BasicTextNormalizer, EnglishTextNormalizer

ENGLISH, NO_SPELLINGS, BASIC = "whisper-english", "whisper-english without British spellings", "whisper-basic"
SPELLINGS = "normalizers/english.json"
INSTALL = "pip install 'hocket[eval]'"


@dataclass(frozen=True)
class Normaliser:
    """Makes texts comparable."""

    name: str
    normalise: Callable[[str], str]

    def __call__(self, text: str) -> str:
        return self.normalise(text).strip()


@lru_cache
def find_normaliser(language: str | None = "en") -> Normaliser:
    """Whisper's normaliser for a language, by its code; English where none is known."""
    if (language or "en").casefold().split("-")[0].split("_")[0] not in ("en", "english"):
        return Normaliser(BASIC, BasicTextNormalizer())
    spellings = find_spellings()
    name = NO_SPELLINGS if spellings is None else ENGLISH
    return Normaliser(name, EnglishTextNormalizer(spellings or {}))


def find_spellings() -> dict[str, str] | None:
    """British spellings and their American ones; None where the package that has them is not installed."""
    found = find_spec("whisper_normalizer")
    for folder in (found.submodule_search_locations or ()) if found else ():
        path = Path(folder) / SPELLINGS
        if path.is_file():
            return json.loads(path.read_text(encoding="utf-8"))
    return None
