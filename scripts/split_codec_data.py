"""Makes `hocket/codec/bundled/split.json`: what the bundled codec never sees in training.

Give the folder of each set that `hocket codec train` is to read; set names are folder names. Held out are the clips
that the bundled speech holds out, some of `ljspeech`, whole speakers of `digits`, a tenth of `commands` by hash (which
names no speakers, so these may be in training), all of `prompts_fr`, whose speaker is nowhere else, and
the two synthetic voices of `synthetic_heldout`.
"""

import argparse
import hashlib
import json
from pathlib import Path

ROOT = Path(__file__).parents[1]
BUNDLED_SPEECH = ROOT / "hocket" / "data" / "speech" / "manifest.jsonl"
DESTINATION = ROOT / "hocket" / "codec" / "bundled" / "split.json"


def read_rows(manifest: Path) -> list[dict]:
    return [json.loads(line) for line in manifest.read_text(encoding="utf-8").splitlines()]


def by_hash(rows: list[dict], count: int) -> list[str]:
    ids = [row["id"] for row in rows if row["duration"] >= 2]
    return sorted(sorted(ids, key=lambda name: hashlib.sha256(name.encode()).digest())[:count])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", type=Path, nargs="+")
    rows = {folder.name: read_rows(folder / "manifest.jsonl") for folder in parser.parse_args().folders}
    valid = sorted("en/" + row["id"] for row in read_rows(BUNDLED_SPEECH) if row["split"] == "valid")
    missing = set(valid) - {row["id"] for row in rows["prompts_en"]}
    assert not missing, missing
    held_out = {
        "prompts_en": {"ids": valid},
        "ljspeech": {"ids": by_hash(rows["ljspeech"], 15)},
        "commands": {
            "group": "speakers not named",
            "ids": by_hash(rows["commands"], len(rows["commands"]) // 10),
        },
        "digits": {"speakers": ["jackson", "theo"]},
        "prompts_fr": {"speakers": sorted({row["speaker"] for row in rows["prompts_fr"]})},
        "synthetic_heldout": {"speakers": sorted({row["speaker"] for row in rows["synthetic_heldout"]})},
    }
    DESTINATION.write_text(json.dumps({"held_out": held_out}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
