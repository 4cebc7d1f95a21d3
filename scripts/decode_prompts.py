"""Turns a folder of Debian's G.722 telephone prompts into FLAC and a manifest that `hocket codec train` reads.

apt-get install asterisk-core-sounds-es-g722 ffmpeg
python scripts/decode_prompts.py /usr/share/asterisk/sounds/es_MX_f_Allison DESTINATION --language es
"""

import argparse
import json
import subprocess
from pathlib import Path

import soundfile

MAX_SAMPLES = 16000 * 600  # more than any prompt has; the header of an empty one states no length


def decode(source: Path, destination: Path) -> float:
    """Writes 16 kHz mono FLAC; seconds of audio."""
    destination.parent.mkdir(parents=True, exist_ok=True)
    command = ["ffmpeg", "-v", "error", "-y", "-f", "g722", "-i", str(source), "-ar", "16000", str(destination)]
    subprocess.run(command, check=True)
    with soundfile.SoundFile(str(destination)) as file:
        return len(file.read(MAX_SAMPLES)) / file.samplerate


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path)
    parser.add_argument("destination", type=Path)
    parser.add_argument("--language", required=True)
    arguments = parser.parse_args()
    rows = []
    for path in sorted(arguments.source.rglob("*.g722")):
        name = path.relative_to(arguments.source).with_suffix("")
        duration = decode(path, arguments.destination / f"{name}.flac")
        if not duration:  # some prompts are empty in some languages
            continue
        row = {"id": f"{arguments.language}/{name}", "audio": f"{name}.flac", "duration": round(duration, 3)}
        rows.append(row | {"lang": arguments.language, "speaker": arguments.source.name, "text": None})
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (arguments.destination / "manifest.jsonl").write_text(lines, encoding="utf-8")


if __name__ == "__main__":
    main()
