"""Makes two-channel dialogues out of single utterances: real voices on two streams, with word times.

    python scripts/mix_dialogues.py LJSpeech/manifest.jsonl prompts/manifest.jsonl dialogues --n 20 --seconds 60
    hocket tokenize dialogues CORPUS …

SRC is any source of clips with text, of at least two speakers together; a source that names no speakers counts as one.
DST gets FLAC files (channel 0 the model's own voice, channel 1 the user) and a manifest.jsonl with text, words of both
streams, speakers, split and turns. The same arguments give the same bytes.

Word times: those of the source. Where it has none, words are spread evenly over what is heard and the row says
`"word_times": "spread"`; for real times send the source through `hocket align` first.

Splits: those of the source where all clips have one. Otherwise, with enough speakers, a tenth of them by hash is kept
for "valid", and with fewer speakers a tenth of the utterances. No dialogue mixes two splits.
"""

import argparse
import hashlib
import json
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import soundfile

from hocket.data.clips import BadAudio, Clip
from hocket.data.dialogues import STREAMS, Dialogue, Utterance, make_utterance, mix_dialogue
from hocket.data.sources import open_source
from hocket.errors import InputError

VALID_SHARE = 0.1
MIN_SPEAKERS = 20
"""From so many speakers on, whole speakers are held out."""

POOL_SHARE = 1.5
"""Speech of each speaker that is at hand for a dialogue, as a share of its length."""

Speakers = dict[str, list[Clip]]


def draw(*parts: object) -> float:
    """A number in [0, 1) that depends on the parts alone."""
    digest = hashlib.sha256("/".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def read_speakers(sources: Iterable[str]) -> dict[str, Speakers]:
    """Clips with text by split and speaker."""
    found = [(clip.speaker or src, clip) for src in sources for clip in clips_with_text(src)]
    speakers = sorted({speaker for speaker, _ in found})
    if len(speakers) < 2:
        have = f'only "{speakers[0]}"' if speakers else "none with text"
        raise InputError(f"a dialogue needs two speakers and there is {have}; give another source beside it")
    rule = split_rule(found, speakers)
    splits: dict[str, Speakers] = defaultdict(lambda: defaultdict(list))
    for speaker, clip in found:
        splits[rule(speaker, clip)][speaker].append(clip)
    pairs = {split: of for split, of in splits.items() if len(of) > 1}
    if not pairs:
        raise InputError("a dialogue needs two speakers and no split of the source has two; give another beside it")
    return pairs


def clips_with_text(src: str) -> Iterator[Clip]:
    for item in open_source(src):
        if isinstance(item, Clip) and item.audio is not None and (item.text or item.words):
            yield item


def split_rule(found: list[tuple[str, Clip]], speakers: list[str]):
    """Which split an utterance belongs to."""
    if all(clip.split for _, clip in found):
        return lambda speaker, clip: clip.split
    if len(speakers) >= MIN_SPEAKERS:
        held_out = set(sorted(speakers, key=draw)[: round(VALID_SHARE * len(speakers))])
        return lambda speaker, clip: "valid" if speaker in held_out else "train"
    return lambda speaker, clip: "valid" if draw(speaker, clip.id) < VALID_SHARE else "train"


@lru_cache(maxsize=2000)
def read_utterance(clip: Clip, sample_rate: int, speaker: str) -> Utterance | None:
    try:
        return make_utterance(clip, sample_rate, speaker)
    except BadAudio as bad:
        print(f"left out: {bad}", file=sys.stderr)
        return None


def pool(clips: list[Clip], speaker: str, rng: np.random.Generator, options: argparse.Namespace) -> list[Utterance]:
    """Utterances of a speaker that fit into a dialogue, chosen by chance."""
    found: list[Utterance] = []
    for i in rng.permutation(len(clips)):
        one = read_utterance(clips[i], options.sample_rate, speaker)
        if one is not None and one.seconds < options.seconds / 2:
            found.append(one)
        if sum(one.seconds for one in found) > POOL_SHARE * options.seconds:
            break
    return found


def mix(number: int, split: str, speakers: Speakers, options: argparse.Namespace) -> tuple[Dialogue, list[str]]:
    rng = np.random.default_rng([options.seed, number])
    pair = [sorted(speakers)[i] for i in rng.permutation(len(speakers))[:2]]
    sides = [pool(speakers[speaker], speaker, rng, options) for speaker in pair]
    for speaker, side in zip(pair, sides, strict=True):
        if not side:
            raise InputError(f'"{speaker}" has no utterance below {options.seconds / 2:g} s in {split}; use --seconds')
    return mix_dialogue(*sides, seed=[options.seed, number, 1], seconds=options.seconds), pair


def row(dialogue: Dialogue, id: str, file: str, split: str, pair: list[str]) -> dict:
    own = [word.text for word in dialogue.words if word.stream == "audio"]
    return {
        "id": id,
        "audio": file,
        "duration": dialogue.seconds,
        "text": " ".join(own),
        "speaker": pair[0],
        "speakers": pair,
        "split": split,
        "word_times": "source" if all(turn.utterance.timed for turn in dialogue.turns) else "spread",
        "words": [vars(word) for word in dialogue.words],
        "turns": [
            {"stream": STREAMS[turn.channel], "start": round(turn.begin, 3), "end": round(turn.end, 3),
             "text": turn.utterance.text, "clip": turn.utterance.id}
            for turn in sorted(dialogue.turns, key=lambda turn: turn.begin)
        ],
    }  # fmt: skip


def write(options: argparse.Namespace) -> list[Dialogue]:
    splits = read_speakers(options.src)
    draws = [draw(options.seed, number) for number in range(options.n)]
    options.dst.mkdir(parents=True, exist_ok=True)
    dialogues, rows = [], []
    for number in range(options.n):
        wanted = "valid" if draws[number] <= max(VALID_SHARE, min(draws)) else "train"
        split = wanted if wanted in splits else sorted(splits)[0]
        dialogue, pair = mix(number, split, splits[split], options)
        id = f"dialogue-{number:06d}"
        soundfile.write(options.dst / f"{id}.{options.format}", dialogue.wav_2S.T, dialogue.sample_rate, "PCM_16")
        rows.append(row(dialogue, id, f"{id}.{options.format}", split, pair))
        dialogues.append(dialogue)
    lines = [json.dumps(one, ensure_ascii=False) + "\n" for one in rows]
    (options.dst / "manifest.jsonl").write_text("".join(lines), encoding="utf-8")
    return dialogues


def report(dialogues: list[Dialogue]) -> str:
    shares = {name: np.mean([one.shares()[name] for one in dialogues]) for name in dialogues[0].shares()}
    gaps = np.array([gap for one in dialogues for gap in one.gaps()] or [np.nan])
    hours = sum(one.seconds for one in dialogues) / 3600
    n_turns = sum(len(one.turns) for one in dialogues)
    return "\n".join(
        [
            f"{len(dialogues)} dialogues, {hours:.2f} h, {n_turns} utterances",
            "  ".join(f"{name} {100 * share:.1f} %" for name, share in shares.items()),
            f"gaps: median {1000 * np.median(gaps):.0f} ms, {100 * np.mean(gaps < 0):.0f} % overlap",
        ]
    )


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("src", nargs="+")
    parser.add_argument("dst", type=Path)
    parser.add_argument("--n", type=int, default=20, help="dialogues")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=60.0, help="of each dialogue")
    parser.add_argument("--sample-rate", type=int, default=24000)
    parser.add_argument("--format", choices=("flac", "wav"), default="flac")
    try:
        print(report(write(parser.parse_args(arguments))))
    except InputError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
