"""The bundled speech as whatever corpus a layout asks for, made once beside the runs.

    layout of               folder                what is in it
    audio                   bundled-corpus        the clips, with their texts
    text, semantic          bundled-words         those in which something is said, word times, `semantic`
    user, left, source …    bundled-audio-user …  dialogues of two channels, mixed from the clips, with times of words
    (what they are made of) bundled-sources       manifests, dialogues as FLAC, units

What stands in for real data is said when it is made, and in the corpus' card as far as it holds (its source is the
manifest in bundled-sources, whose rows say "word_times": "spread"):

- Times of words are not measured: the words of a clip are spread over what is heard of it, by their letters.
- `semantic` are units of MFCC, k-means with 64 clusters fitted to the bundled speech itself, every second of them, so
  25 a second: they follow the sound more than its meaning.
- Dialogues have one voice on both sides, for there is one in the bundled speech, and say nothing to each other; a
  "translation" from `source` to `target` translates nothing.

So a layout can be seen to train from these, and nothing else can. It takes 10 to 20 s on one core, the first time.
"""

import json
import shutil
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path

import soundfile
from torch import Tensor

from hocket.codec import Codec, load_codec
from hocket.codec.units import UnitCodec
from hocket.data import Clip, Corpus, StreamCodec, read_clips, tokenize
from hocket.data.dialogues import STREAMS, Dialogue, Utterance, heard, make_utterance, mix_dialogue, spread_words
from hocket.data.unit_fitting import fit_units
from hocket.progress import ProgressBar
from hocket.training.checkpoints import write_text
from hocket.training.config import BUNDLED
from hocket.vocab import ALIGNED_TEXT, TEXT

AUDIO, SEMANTIC = "audio", "semantic"
PAIRS = (("audio", "user"), ("left", "right"), ("target", "source"))
"""Streams of the channels 0 and 1 of a dialogue."""
PLAIN, WORDS, SOURCES = "bundled-corpus", "bundled-words", "bundled-sources"
UNITS = 64
DIALOGUES = {"train": 20, "valid": 2}
DIALOGUE_SECONDS = 12.0
SAMPLE_RATE = 16000
SILENCE = "silence/"
"""Clips in which nothing is said, so that there is no word at which to cut them."""
SPREAD = "word times are spread evenly over what is heard, not measured"


class SlowUnits(UnitCodec):
    """Units of every second frame: layouts repeat units to the clock of the audio, and none may be faster than that."""

    no_stream = "it is made for corpora alone"

    @property
    def streams_encoding(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        return False

    @classmethod
    def open(cls, folder: Path) -> "SlowUnits":
        """Of units as `fit_units` saves them."""
        units = load_codec(str(folder))
        assert isinstance(units, UnitCodec)
        slow = cls(units.net.extractor, units.net.centroids_ED.data, units.identity.name, scale_D=units.net.scale_D)
        slow.identity = replace(slow.identity, hop=2 * slow.identity.hop)
        return slow

    def _encode_items(self, items: list[Tensor]) -> list[Tensor]:
        return [units_TK[::2] for units_TK in super()._encode_items(items)]


@dataclass(frozen=True)
class BundledKind:
    """One of the corpora that are made of the bundled speech."""

    folder: str
    streams: tuple[str, ...]
    """Of codes."""
    says: str = ""
    """What stands in for real data."""


def bundled_kind(streams: Iterable[str]) -> BundledKind:
    """The corpus for a layout of these streams; the nearest where none has them all."""
    wanted = set(streams)
    for pair in PAIRS:
        if wanted & set(pair) - {AUDIO}:
            says = f"dialogues are mixed from clips of one voice, and {SPREAD}"
            return BundledKind(f"bundled-{'-'.join(pair)}", pair, says)
    if wanted & {TEXT, ALIGNED_TEXT, SEMANTIC}:
        return BundledKind(WORDS, (AUDIO, SEMANTIC), f"{SPREAD}; semantic are {UNITS} units of MFCC")
    return BundledKind(PLAIN, (AUDIO,))


def make_bundled(runs: Path, streams: Iterable[str], codec_name: str = BUNDLED, device: str = "cpu") -> Path:
    """The folder of the bundled speech for a layout of these streams, made where it is not there yet.

    Args:
        runs: the folder that runs lie in.
        streams: all streams of the layout, text among them.
        codec_name: of the speech; units of `semantic` are fitted whatever it is.
    """
    kind, codec = bundled_kind(streams), load_codec(codec_name)
    folder = runs / kind.folder
    if (folder / "corpus.json").is_file():
        found = Corpus.open(folder).card.streams[kind.streams[0]]
        if found.fingerprint == codec.identity.fingerprint:
            return folder
        print(f"tokenising the bundled speech anew: {folder} is of another codec", file=sys.stderr)
        shutil.rmtree(folder)
    sources = runs / SOURCES
    if kind.says:
        print(f"making {folder} of the bundled speech: {kind.says}", file=sys.stderr)
    source, codecs = _prepare(kind, sources, codec)
    with ProgressBar("tokenise the bundled speech") as bar:
        tokenize(source, folder, codecs, device=device, on_progress=bar.update)
    return folder


def _prepare(kind: BundledKind, sources: Path, codec: Codec) -> tuple[str | Path, Codec | Mapping[str, StreamCodec]]:
    """What is tokenised, and how its streams are encoded."""
    if kind.folder == PLAIN:
        return BUNDLED, codec
    if kind.folder == WORDS:
        return write_words(sources / "words.jsonl"), {
            AUDIO: StreamCodec(codec),
            SEMANTIC: StreamCodec(SlowUnits.open(fit_bundled_units(sources / "units"))),
        }
    return write_dialogues(sources / "dialogues"), {
        name: StreamCodec(codec, channel=channel) for channel, name in enumerate(kind.streams)
    }


def fit_bundled_units(folder: Path) -> Path:
    """Units of MFCC, fitted once; the same on every machine but for the last bits of arithmetic."""
    if not (folder / "config.json").is_file():
        shutil.rmtree(folder, ignore_errors=True)
        fit_units([BUNDLED], "mfcc", UNITS, folder, name="bundled-units")
    return folder


def write_words(path: Path) -> Path:
    """A manifest of the bundled clips with times of words, spread over what is heard; nothing where it is there."""
    if path.is_file():
        return path
    rows = []
    for clip in read_clips(BUNDLED):
        if clip.id.startswith(SILENCE):
            continue
        wav_S = clip.read(SAMPLE_RATE).numpy()
        begin, end, _ = heard(wav_S, SAMPLE_RATE)
        words = [vars(word) for word in spread_words(clip.text or "", begin, end)]
        rows.append(_row(clip.id, Path(str(clip.audio)), clip.text, clip.speaker, clip.split, words))
    return _write_manifest(path, rows)


def write_dialogues(folder: Path) -> Path:
    """Dialogues of two channels as FLAC, with their manifest; no clip is on both sides, no dialogue of two splits."""
    manifest = folder / "manifest.jsonl"
    if manifest.is_file():
        return manifest
    folder.mkdir(parents=True, exist_ok=True)
    rows, clips = [], read_clips(BUNDLED)
    for split, n_dialogues in DIALOGUES.items():
        sides = _sides([c for c in clips if c.split == split and not c.id.startswith(SILENCE)])
        for number in range(n_dialogues):
            dialogue = _mix(sides, len(rows))
            name = f"{split}-{number:02d}"
            soundfile.write(folder / f"{name}.flac", dialogue.wav_2S.T, dialogue.sample_rate, "PCM_16")
            words = [vars(word) for word in dialogue.words]
            rows.append(_row(name, folder / f"{name}.flac", _own_text(dialogue), None, split, words))
    return _write_manifest(manifest, rows)


def _mix(sides: tuple[list[Utterance], list[Utterance]], number: int) -> Dialogue:
    """A dialogue in which both sides say something."""
    for trial in count():
        dialogue = mix_dialogue(*sides, seed=[number, trial], seconds=DIALOGUE_SECONDS)
        if {word.stream for word in dialogue.words} == set(STREAMS):
            return dialogue
    raise AssertionError


def _sides(clips: list[Clip]) -> tuple[list[Utterance], list[Utterance]]:
    """Clips that fit into a dialogue more than twice, in turn."""
    short = [clip for clip in clips if clip.text and (clip.seconds or 0) < DIALOGUE_SECONDS / 2]
    utterances = [make_utterance(clip, SAMPLE_RATE) for clip in short]
    return utterances[0::2], utterances[1::2]


def _own_text(dialogue: Dialogue) -> str:
    return " ".join(word.text for word in dialogue.words if word.stream == AUDIO)


def _row(
    name: str, audio: Path, text: str | None, speaker: str | None, split: str | None, words: list[dict]
) -> dict[str, object]:
    row = {"id": name, "audio": str(audio.resolve()), "text": text, "speaker": speaker, "split": split}
    return {key: value for key, value in row.items() if value is not None} | {"words": words, "word_times": "spread"}


def _write_manifest(path: Path, rows: list[dict[str, object]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    return path
