"""Scores a codec's reconstructions of held-out speech, beside the originals, at several numbers of levels.

STOI and PESQ-WB come from `pystoi` and `pesq` (the `eval` extra). `--dnsmos` needs `speechmos`, `--whisper FOLDER`
needs `faster-whisper`, `jiwer` and the folder of a converted Whisper model. Speeds are measured on one thread.

    python scripts/evaluate_codec.py bundled SPEECH_FOLDER... --levels 8 4 --json scores.json
"""

import argparse
import contextlib
import importlib
import json
import re
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from pesq import PesqError, pesq  # pyright: ignore[reportMissingImports]
from pystoi import stoi  # pyright: ignore[reportMissingImports]

from hocket.codec import Codec, Codes, load_codec, read_audio

SPLIT = Path(__file__).parents[1] / "hocket" / "codec" / "bundled" / "split.json"
ENGLISH_WITH_TEXT = ("prompts_en", "ljspeech")
MIN_SECONDS, MAX_SECONDS = 1.0, 12.0  # PESQ and STOI need some speech
MAX_WORD_SECONDS = 2.5


@dataclass
class Clip:
    set_name: str
    wav_S: torch.Tensor
    text: str | None


def held_out_clips(folder: Path, split: dict, limit: int) -> list[Clip]:
    """The clips of a set that the split holds out, evenly thinned to `limit`; very short ones are joined by speaker."""
    rule = split["held_out"][folder.name]
    rows = [json.loads(line) for line in (folder / "manifest.jsonl").read_text(encoding="utf-8").splitlines()]
    ids, speakers = set(rule.get("ids", [])), set(rule.get("speakers", []))
    kept = [row for row in rows if row["id"] in ids or row.get("speaker") in speakers]
    clips = [Clip(folder.name, read_audio(folder / row["audio"], 16000)[0], row.get("text")) for row in kept]
    if all(row["duration"] < MAX_WORD_SECONDS for row in kept):
        clips = join_words(clips, [row["speaker"] for row in kept])
    clips = [clip for clip in clips if MIN_SECONDS <= len(clip.wav_S) / 16000 <= MAX_SECONDS]
    return [clips[i] for i in sorted({round(x) for x in np.linspace(0, len(clips) - 1, min(limit, len(clips)))})]


def join_words(clips: list[Clip], speakers: list[str]) -> list[Clip]:
    """Ten single words of one speaker after another as one clip, without text."""
    by_speaker = {name: [clip for clip, own in zip(clips, speakers, strict=True) if own == name] for name in speakers}
    groups = [own[i : i + 10] for own in by_speaker.values() for i in range(0, len(own), 10)]
    return [Clip(group[0].set_name, torch.cat([clip.wav_S for clip in group]), None) for group in groups]


class Judge:
    """Scores one waveform against its original; what is not installed or asked for is left out."""

    def __init__(self, dnsmos: bool, whisper: str | None):
        self.dnsmos = self.whisper = None
        if dnsmos:
            self.dnsmos = importlib.import_module("speechmos.dnsmos")
        if whisper:
            library = importlib.import_module("faster_whisper")
            self.whisper = library.WhisperModel(whisper, device="cpu", compute_type="int8", cpu_threads=1)

    def score(self, wav_S: torch.Tensor, clip: Clip) -> dict[str, float]:
        original_S, output_S = clip.wav_S.numpy(), wav_S.numpy()
        scores = {"stoi": float(stoi(original_S, output_S, 16000))}
        with contextlib.suppress(PesqError):  # it finds no utterance in some very short clips
            scores["pesq_wb"] = float(pesq(16000, original_S, output_S, "wb"))
        if self.dnsmos:
            scores["dnsmos"] = float(self.dnsmos.run(np.clip(output_S, -1, 1), sr=16000)["ovrl_mos"])
        if self.whisper and clip.text and clip.set_name in ENGLISH_WITH_TEXT:
            scores |= self.word_errors(output_S, clip.text)
        return scores

    def word_errors(self, wav_S: np.ndarray, text: str) -> dict[str, float]:
        assert self.whisper is not None
        jiwer = importlib.import_module("jiwer")
        segments, _ = self.whisper.transcribe(wav_S, language="en", beam_size=1, condition_on_previous_text=False)
        heard, said = normalise(" ".join(segment.text for segment in segments)), normalise(text)
        out = jiwer.process_words(said, heard or "-")
        return {"word_errors": out.substitutions + out.deletions + out.insertions, "words": len(said.split())}


def normalise(text: str) -> str:
    return " ".join(re.findall(r"[a-z0-9']+", text.lower()))


def mean_scores(rows: list[dict[str, float]]) -> dict[str, float]:
    """Means over clips; word errors become one rate in percent over all words."""
    out: dict[str, float] = {"clips": len(rows)}
    for name in ("stoi", "pesq_wb", "dnsmos"):
        values = [row[name] for row in rows if name in row]
        if values:
            out[name] = round(float(np.mean(values)), 3)
    words = sum(row.get("words", 0) for row in rows)
    if words:
        out["wer_percent"] = round(100 * sum(row.get("word_errors", 0) for row in rows) / words, 1)
    return out


def evaluate(codec: Codec, clips: list[Clip], levels: list[int], judge: Judge) -> dict:
    """Scores by set and number of levels ("original" for the recordings themselves), and speeds."""
    scores: dict[str, dict[str, list]] = {clip.set_name: {} for clip in clips}
    encode_seconds = decode_seconds = audio_seconds = 0.0
    for clip in clips:
        started = time.perf_counter()
        codes = codec.encode(clip.wav_S, 16000)
        encode_seconds += time.perf_counter() - started
        audio_seconds += len(clip.wav_S) / 16000
        variants = {"original": clip.wav_S}
        for count in levels:
            cut = Codes(codes.tokens_BTK[..., :count], codes.lengths_B, codes.codec.with_levels(count))
            started = time.perf_counter()
            variants[str(count)] = codec.decode(cut)[0, : len(clip.wav_S)]
            decode_seconds += (time.perf_counter() - started) / len(levels)
        for name, wav_S in variants.items():
            scores[clip.set_name].setdefault(name, []).append(judge.score(wav_S, clip))
    return {
        "codec": codec.identity.to_dict(),
        "audio_seconds": round(audio_seconds, 1),
        "encode_times_real_time": round(audio_seconds / encode_seconds),
        "decode_times_real_time": round(audio_seconds / decode_seconds),
        "scores": {
            set_name: {name: mean_scores(rows) for name, rows in by_variant.items()}
            for set_name, by_variant in scores.items()
        },
    }


def print_table(result: dict) -> None:
    columns = ("clips", "stoi", "pesq_wb", "dnsmos", "wer_percent")
    print("| set | levels | " + " | ".join(columns) + " |")
    print("|---|---|" + "---|" * len(columns))
    for set_name, by_variant in result["scores"].items():
        for variant, row in by_variant.items():
            print(f"| {set_name} | {variant} | " + " | ".join(str(row.get(name, "")) for name in columns) + " |")
    speeds = result["encode_times_real_time"], result["decode_times_real_time"]
    print(f"\nencode {speeds[0]} x, decode {speeds[1]} x real time, {result['audio_seconds']} s of audio")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("codec", help='"bundled" or a codec folder')
    parser.add_argument("folders", type=Path, nargs="+", help="sets with a manifest.jsonl, named as in the split")
    parser.add_argument("--split", type=Path, default=SPLIT)
    parser.add_argument("--levels", type=int, nargs="+", default=[8, 4])
    parser.add_argument("--limit", type=int, default=15, help="clips of each set")
    parser.add_argument("--dnsmos", action="store_true")
    parser.add_argument("--whisper", help="folder of a converted Whisper model")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    split = json.loads(arguments.split.read_text(encoding="utf-8"))
    clips = [clip for folder in arguments.folders for clip in held_out_clips(folder, split, arguments.limit)]
    judge = Judge(arguments.dnsmos, arguments.whisper)
    result = evaluate(load_codec(arguments.codec), clips, arguments.levels, judge)
    print_table(result)
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
