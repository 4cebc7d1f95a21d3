"""Makes `hocket/data/speech`: the bundled recordings, their manifest and the held-out split.

Needs the Debian packages `asterisk-core-sounds-en`, `asterisk-core-sounds-en-g722` and `ffmpeg`. Run once by a
maintainer; what it writes is committed. The same packages give the same choice of clips and the same split (the
bytes of the Opus files depend on ffmpeg's encoder version).

The split is by text, not by chance alone: the prompts repeat whole sentences ("press 1 to mute or unmute
yourself"), so a clip may be held out only if few of its word trigrams occur in any other clip.
"""

import gzip
import hashlib
import json
import re
import subprocess
from pathlib import Path

SOUNDS = Path("/usr/share/asterisk/sounds/en_US_f_Allison")
TEXTS = Path("/usr/share/doc/asterisk-core-sounds-en/core-sounds-en.txt.gz")
DESTINATION = Path(__file__).parents[1] / "hocket" / "data" / "speech"

MIN_DURATION, MAX_DURATION = 1.3, 40.0  # seconds
BIT_RATE = "19k"
DEMO_PROMPT = "demo-echotest"
HELD_OUT_SECONDS = 75.0
MAX_SHARED_TRIGRAMS = 0.25


def read_texts() -> dict[str, str]:
    with gzip.open(TEXTS, "rt", encoding="utf-8") as file:
        lines = file.read().splitlines()
    pairs = (line.split(":", 1) for line in lines if ":" in line and not line.startswith(";"))
    return {name.strip(): " ".join(text.split()) for name, text in pairs if "[" not in text}


def decode(name: str) -> bytes:
    """16 kHz mono 16-bit samples of one prompt."""
    command = ["ffmpeg", "-v", "error", "-f", "g722", "-i", str(SOUNDS / f"{name}.g722")]
    return subprocess.run([*command, "-ar", "16000", "-f", "s16le", "-"], check=True, capture_output=True).stdout


def trigrams(text: str) -> set[tuple[str, ...]]:
    words = re.findall(r"[a-z0-9']+", text.lower())
    return set(zip(words, words[1:], words[2:], strict=False))


def held_out(durations: dict[str, float], texts: dict[str, str]) -> set[str]:
    """Clips whose wording stands nowhere else, in the order of a hash, until there are enough seconds."""
    grams = {name: trigrams(texts[name]) for name in durations}

    def is_distinct(name: str) -> bool:
        others = set().union(*(grams[other] for other in grams if other != name))
        return len(grams[name]) >= 3 and len(grams[name] & others) <= MAX_SHARED_TRIGRAMS * len(grams[name])

    chosen, seconds = {DEMO_PROMPT}, durations[DEMO_PROMPT]
    for name in sorted(durations, key=lambda name: hashlib.blake2s(name.encode()).digest()):
        if seconds < HELD_OUT_SECONDS and name not in chosen and is_distinct(name) and durations[name] < 15:
            chosen.add(name)
            seconds += durations[name]
    return chosen


def main() -> None:
    texts = read_texts()
    samples = {name: decode(name) for name in sorted(texts) if (SOUNDS / f"{name}.g722").exists()}
    durations = {name: len(pcm) / 2 / 16000 for name, pcm in samples.items()}
    durations = {name: d for name, d in durations.items() if MIN_DURATION <= d <= MAX_DURATION}
    valid = held_out(durations, texts)
    (DESTINATION / "audio").mkdir(parents=True, exist_ok=True)
    rows = []
    for name, duration in durations.items():
        file = Path("audio") / f"{name.replace('/', '-')}.opus"
        encode = ["ffmpeg", "-v", "error", "-y", "-f", "s16le", "-ar", "16000", "-ac", "1", "-i", "-"]
        options = [
            "-c:a",
            "libopus",
            "-b:a",
            BIT_RATE,
            "-application",
            "voip",
            "-map_metadata",
            "-1",
            "-fflags",
            "+bitexact",
        ]
        target = str(DESTINATION / file)
        subprocess.run([*encode, *options, target], input=samples[name], check=True)
        row = {"id": name, "audio": str(file), "text": texts[name], "speaker": "allison", "language": "en"}
        rows.append(row | {"duration": round(duration, 3), "split": "valid" if name in valid else "train"})
    lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    (DESTINATION / "manifest.jsonl").write_text("".join(lines), encoding="utf-8")
    size = sum(f.stat().st_size for f in DESTINATION.rglob("*") if f.is_file())
    print(f"{len(rows)} clips, {sum(durations.values()) / 60:.1f} min, {size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
