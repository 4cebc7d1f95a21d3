"""`vocabulary.json`: the parts of a vocabulary, what follows from them for people to read, and the fingerprint.

    {"format": 2, "text_file": "tokenizer.json", "text_rows": 512, "parts": [{"streams": {"audio": [1024, 1024]}}],
     "fingerprint": "…", "blocks": [["text", 0, 512], …], "specials": {"<pad>": 512, …}, …}

Only format, text file, text rows, parts and fingerprint are read back; a fingerprint that the rebuilt vocabulary does
not have shows that a file was changed.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hocket.errors import InputError
from hocket.vocab.blocks import Part
from hocket.vocab.text import TextTokenizer, load_tokenizer

FILE_NAME = "vocabulary.json"
FORMAT = 2
OLDEST_FORMAT = 1
"""What a file without a number has: no padding of aligned text, no markers of a switch."""


@dataclass(frozen=True, kw_only=True)
class Saved:
    """What a file holds."""

    text: TextTokenizer | None
    text_rows: int
    parts: tuple[Part, ...]
    fingerprint: str


def fingerprint(facts: dict) -> str:
    """16 hexadecimal digits for plain values."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]


def save(folder: str | Path, text: TextTokenizer | None, text_rows: int, parts: Sequence[Part], facts: dict) -> None:
    """Writes `vocabulary.json` and, with text, the tokenizer's file; `facts` are what the fingerprint covers."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    content = {
        "format": FORMAT,
        "text_file": text.file_name if text else None,
        "text_rows": text_rows,
        "parts": [part.plain() for part in parts],
        "fingerprint": fingerprint(facts),
        **facts,
    }
    (folder / FILE_NAME).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    if text:
        text.save(folder)


def read(folder: str | Path) -> Saved:
    """Reads what `save` wrote.

    Raises:
        InputError: there is no such file, it is of another format, or it is damaged.
    """
    path = Path(folder) / FILE_NAME
    if not path.exists():
        raise InputError(f"{folder} holds no vocabulary: {FILE_NAME} is missing")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        found = content.get("format", OLDEST_FORMAT)
        if found != FORMAT:
            age = "an older" if isinstance(found, int) and found < FORMAT else "a newer"
            raise InputError(
                f"the vocabulary in {folder} was saved by {age} hocket (format {found}, this one reads {FORMAT}), "
                "and its ids mean other things; build it anew and train with that"
            )
        text_file = content["text_file"]
        return Saved(
            text=load_tokenizer(Path(folder) / text_file) if text_file else None,
            text_rows=content["text_rows"],
            parts=tuple(Part.read(part) for part in content["parts"]),
            fingerprint=content["fingerprint"],
        )
    except (json.JSONDecodeError, KeyError, AttributeError, TypeError) as error:
        raise InputError(f"{path} is damaged: {error}") from error


def check(folder: str | Path, found: str, saved: str) -> None:
    """Refuses a vocabulary whose fingerprint is not the one that was saved with it."""
    if found != saved:
        raise InputError(
            f"the vocabulary in {folder} was changed after it was saved: its fingerprint is {found}, "
            f"the file says {saved}"
        )
