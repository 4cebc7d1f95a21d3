"""Whose codes they are: a codec at hand, or the facts of one that is not.

    bundled, mimi, kyutai/mimi, a codec's folder    loaded, and its own identity taken
    facts.json, or the same written out             {"name": "mimi", "sample_rate": 24000, "hop": 1920,
                                                     "codebook_sizes": [2048, 2048, …]}

Facts may state `weight_hash` (SHA-256 of the weights, as `hocket inspect CODEC --json` shows) and `revision`. Without
a hash the codec is known by its name alone: such a corpus trains, but no loaded codec is ever taken for its own.
`hocket inspect CODEC --json` is a file of facts as it stands, and so is `hocket codecs NAME --json`.
"""

import json
from dataclasses import fields
from fractions import Fraction
from pathlib import Path
from typing import Any

from hocket.codec import CodecIdentity, load_codec
from hocket.data.shards import MAX_CODEBOOK
from hocket.errors import InputError, did_you_mean

UNKNOWN_WEIGHTS = "unknown:"
"""Begins the weight hash of a codec whose weights nobody has stated; the name follows."""

_FORM = 'such as {"name": "mimi", "sample_rate": 24000, "hop": 1920, "codebook_sizes": [2048, 2048]}'
_KNOWN = {known.name for known in fields(CodecIdentity)}
_NEEDED = ("name", "sample_rate", "hop", "codebook_sizes")


def read_identity(codec: str | Path, levels: int | None = None) -> CodecIdentity:
    """The identity of a codec by name, folder, file of facts or facts written out; cut to its first `levels` levels.

    Raises InputError where there is no such codec, or the facts are malformed.
    """
    text = str(codec).strip()
    if text.startswith("{"):
        identity = parse_facts(text, "the codec's facts")
    elif Path(text).suffix.lower() == ".json":
        if not Path(text).is_file():
            raise InputError(f'there is no file "{text}" of a codec\'s facts')
        identity = parse_facts(Path(text).read_text(encoding="utf-8"), f'"{text}"')
    else:
        identity = _load(text)
    return identity if levels is None else identity.with_levels(levels)


def _load(name: str) -> CodecIdentity:
    try:
        return load_codec(name).identity
    except InputError as error:
        raise InputError(f"{error}; or name a JSON file of its facts, {_FORM}") from error


def knows_weights(identity: CodecIdentity) -> bool:
    """Whether the weights were stated, so that a codec can be told to be the same."""
    return not identity.weight_hash.startswith(UNKNOWN_WEIGHTS)


def parse_facts(text: str, where: str) -> CodecIdentity:
    """The identity that JSON says. Raises InputError."""
    try:
        stored = json.loads(text)
    except json.JSONDecodeError as error:
        raise InputError(f"{where} are no valid JSON ({error}); write them {_FORM}") from error
    if isinstance(stored, dict) and isinstance(stored.get("codecs"), list) and len(stored["codecs"]) == 1:
        stored = stored["codecs"][0]
    if not isinstance(stored, dict):
        raise InputError(f"{where} are no JSON object; write them {_FORM}")
    return _identity(_normalised(stored), where)


def _normalised(stored: dict[str, Any]) -> dict[str, Any]:
    """Facts under the names of `CodecIdentity`, also from what `inspect` and `codecs` print."""
    found = dict(stored)
    if found.get("kind") == "codec" and "codec" in found:
        found["name"] = found["codec"]
    if "codebook_sizes" not in found and {"codebook_size", "levels"} <= set(found):
        found["codebook_sizes"] = [found["codebook_size"]] * int(found["levels"])
    if "hop" not in found and found.get("frame_rate") and found.get("sample_rate"):
        hop = Fraction(found["sample_rate"]) / Fraction(str(found["frame_rate"]))
        found["hop"] = int(hop) if hop.denominator == 1 else float(hop)
    return found


def _identity(found: dict[str, Any], where: str) -> CodecIdentity:
    for name in _NEEDED:
        if found.get(name) in (None, "", []):
            raise InputError(f"{where} lack {name}{did_you_mean(name, found)}; they are written {_FORM}")
    for name in ("sample_rate", "hop", "channels", "delay", "output_delay", "window", "window_stride"):
        _check_whole(found, name, where)
    sizes = found["codebook_sizes"]
    if not isinstance(sizes, list) or not all(type(n) is int and 1 < n <= MAX_CODEBOOK for n in sizes):
        raise InputError(
            f"{where} have codebook_sizes {json.dumps(sizes)}; they should list the entries of each level, "
            f"2 to {MAX_CODEBOOK:,}, as [2048, 2048]"
        )
    name = str(found["name"])
    given = {"revision": "unknown"} | {
        key: value for key, value in found.items() if key in _KNOWN and value is not None
    }
    given["weight_hash"] = found.get("weight_hash") or UNKNOWN_WEIGHTS + name
    return CodecIdentity.from_dict(given | {"name": name})


def _check_whole(found: dict[str, Any], name: str, where: str) -> None:
    value = found.get(name, 1)
    least = 1 if name in ("sample_rate", "hop", "channels") else 0
    if value is not None and (type(value) is not int or value < least):
        raise InputError(f"{where} have {name} {json.dumps(value)}, which should be a whole number, {least} or more")
