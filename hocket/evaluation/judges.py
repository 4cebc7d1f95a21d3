"""What a reconstruction is judged by, at 16 kHz beside its original. Each judge but one needs a package of its own.

    column      range, best    package                          what it says
    mel         0 …, 0         none                             distance of log-mel spectra, five window lengths (nats)
    stoi        0 to 1, 1      pystoi                           intelligibility by correlated envelopes
    pesq_wb     1 to 4.64      pesq                             ITU-T P.862.2, quality of telephone speech
    visqol      1 to 5         visqol-python[lattice]           ViSQOL v3 in speech mode
    dnsmos      1 to 5         speechmos, librosa, onnxruntime  overall quality guessed without the original
    wer         0 …, 0 (%)     faster-whisper, jiwer            words that Whisper hears wrongly, against the text
    similarity  -1 to 1, 1     Resemblyzer, librosa, webrtcvad  cosine of the two speaker embeddings

A judge that has nothing to go by (PESQ finds no utterance in some short clips) gives no score for that clip; columns
state how many clips they cover. Whisper always hears 30 s, the end silent: shorter padding makes it invent words.

Shapes: S samples.
"""

import importlib
import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hocket.codec.learning.losses import MultiScaleDistance
from hocket.errors import InputError

RATE = 16000  # Hz
LONGEST_WINDOW = 2048
MIN_VOICE_SECONDS = 0.4
EVAL_EXTRA = "pip install 'hocket[eval]'"
VOICES = "pip install librosa webrtcvad-wheels && pip install --no-deps Resemblyzer"


@dataclass(frozen=True)
class Heard:
    """An original and what a codec made of it, float32 of one length at 16 kHz, with what is said in it."""

    original_S: np.ndarray
    output_S: np.ndarray
    text: str | None = None
    language: str | None = None


Scores = dict[str, float]
Judge = Callable[[Heard], Scores]
"""Scores by name, none where a clip cannot be judged. All are averaged over clips; `words` and `wrong` are summed."""


@dataclass(frozen=True)
class JudgeKind:
    """How a judge comes to be. `make` raises ImportError where its packages are missing."""

    column: str
    name: str
    install: str
    make: Callable[[], Judge]


def find_judges(whisper: str | None = None) -> tuple[dict[str, Judge], list[str]]:
    """The judges that can be had here, by column, and one sentence about each that is left out.

    `whisper`: a folder of a Whisper model converted for faster-whisper. Raises InputError where it is none.
    """
    judges: dict[str, Judge] = {"mel": judge_mel()}
    left_out = []
    for kind in KINDS:
        try:
            judges[kind.column] = kind.make()
        except ImportError as error:
            left_out.append(f"{kind.name} is left out: {error.name or error} is not installed ({kind.install})")
    if whisper is None:
        left_out.append("word errors are left out: no Whisper model was given (--whisper FOLDER)")
        return judges, left_out
    try:
        judges["wer"] = judge_words(whisper)
    except ImportError as error:
        left_out.append(f"word errors are left out: {error.name} is not installed ({EVAL_EXTRA})")
    return judges, left_out


def load(name: str) -> Any:
    """A package that is not ours, its import's warnings unheard."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return importlib.import_module(name)


def judge_mel() -> Judge:
    distance = MultiScaleDistance(RATE)

    @torch.no_grad()
    def judge(heard: Heard) -> Scores:
        padding = (0, max(0, LONGEST_WINDOW - len(heard.output_S)))
        pair = [torch.from_numpy(wav_S)[None] for wav_S in (heard.output_S, heard.original_S)]
        output_1S, original_1S = (torch.nn.functional.pad(wav_1S, padding) for wav_1S in pair)
        return {"mel": float(distance(output_1S, original_1S).mel)}

    return judge


def judge_stoi() -> Judge:
    library = load("pystoi")

    def judge(heard: Heard) -> Scores:
        with warnings.catch_warnings():
            warnings.simplefilter("error", RuntimeWarning)
            try:
                return {"stoi": float(library.stoi(heard.original_S, heard.output_S, RATE))}
            except RuntimeWarning:  # less than 0.4 s of speech
                return {}

    return judge


def judge_pesq() -> Judge:
    library = load("pesq")

    def judge(heard: Heard) -> Scores:
        try:
            return {"pesq_wb": float(library.pesq(RATE, heard.original_S, heard.output_S, "wb"))}
        except library.PesqError:
            return {}

    return judge


def judge_visqol() -> Judge:
    api = load("visqol").VisqolApi()
    load("ai_edge_litert")
    api.create(mode="speech", use_lattice_model=True)

    def judge(heard: Heard) -> Scores:
        original_S, output_S = heard.original_S.astype(np.float64), heard.output_S.astype(np.float64)
        try:
            return {"visqol": float(api.measure_from_arrays(original_S, output_S, RATE).moslqo)}
        except (IndexError, ValueError):  # too short for one of its patches
            return {}

    return judge


def judge_dnsmos() -> Judge:
    library = load("speechmos.dnsmos")
    return lambda heard: {"dnsmos": float(library.run(heard.output_S.clip(-1, 1), sr=RATE)["ovrl_mos"])}


def judge_voice() -> Judge:
    embed = open_resemblyzer()

    def judge(heard: Heard) -> Scores:
        original_D, output_D = embed(heard.original_S), embed(heard.output_S)
        if original_D is None or output_D is None:
            return {}
        return {"similarity": float(original_D @ output_D)}

    return judge


def open_resemblyzer() -> Callable[[np.ndarray], np.ndarray | None]:
    """What Resemblyzer makes of a voice at 16 kHz: a vector of length 1; None of silence and of too little speech.

    Raises ImportError where it is not installed.
    """
    library = load("resemblyzer")
    encoder = library.VoiceEncoder("cpu", verbose=False)

    def embed(wav_S: np.ndarray) -> np.ndarray | None:
        if not wav_S.any():
            return None
        voice_S = library.preprocess_wav(wav_S)
        return encoder.embed_utterance(voice_S) if len(voice_S) >= MIN_VOICE_SECONDS * RATE else None

    return embed


def judge_words(folder: str) -> Judge:
    listen, jiwer = open_whisper(folder), load("jiwer")

    def judge(heard: Heard) -> Scores:
        language = (heard.language or "en").split("-")[0]
        said = normalise(heard.text or "")
        transcript = listen(heard.output_S, language) if said else None
        if transcript is None:
            return {}
        out = jiwer.process_words(said, normalise(transcript))
        return {"wrong": out.substitutions + out.deletions + out.insertions, "words": len(said.split())}

    return judge


def open_whisper(folder: str | Path) -> Callable[[np.ndarray, str], str | None]:
    """What a Whisper model hears in samples at 16 kHz of a language; None in one that it does not know.

    Raises:
        InputError: the folder holds no model that faster-whisper can load.
        ImportError: faster-whisper is not installed.
    """
    if not Path(folder).is_dir():
        raise InputError(f'there is no folder "{folder}" of a Whisper model; give one converted for faster-whisper')
    library = load("faster_whisper")
    try:
        model = library.WhisperModel(str(folder), device="cpu", compute_type="int8", cpu_threads=1)
    except (RuntimeError, ValueError, OSError) as error:
        raise InputError(f'"{folder}" holds no Whisper model that faster-whisper can load: {error}') from error

    def listen(wav_S: np.ndarray, language: str = "en") -> str | None:
        if language != "en" and not model.model.is_multilingual:
            return None
        segments, _ = model.transcribe(
            wav_S, language=language, beam_size=1, condition_on_previous_text=False, temperature=0.0
        )
        return " ".join(segment.text for segment in segments)

    return listen


def normalise(text: str) -> str:
    """Lower case, words only."""
    return " ".join(re.findall(r"[\w']+", text.casefold()))


KINDS = (
    JudgeKind("stoi", "STOI", EVAL_EXTRA, judge_stoi),
    JudgeKind("pesq_wb", "PESQ", EVAL_EXTRA, judge_pesq),
    JudgeKind("visqol", "ViSQOL", EVAL_EXTRA, judge_visqol),
    JudgeKind("dnsmos", "DNSMOS", EVAL_EXTRA, judge_dnsmos),
    JudgeKind("similarity", "speaker similarity", VOICES, judge_voice),
)
