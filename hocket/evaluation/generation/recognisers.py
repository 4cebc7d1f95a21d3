"""Recognisers that hear what a model says, from folders on disk.

    model.bin, vocabulary.*       Whisper converted for faster-whisper (CTranslate2), one clip after another
    config.json of transformers   any AutoModelForSpeechSeq2Seq (Whisper, Moonshine, …) or CTC model (wav2vec 2, HuBERT,
                                  …), in batches

All take the likeliest token at each step. Whisper hears 30 s, the end silent: shorter padding makes it invent words.
CTC models whose first layer is normalised over time ("group") hear other things in a padded batch than alone, as their
authors state; they go one by one.

Shapes: S samples at 16 kHz.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from transformers import AutoConfig, AutoModelForCTC, AutoModelForSpeechSeq2Seq, AutoProcessor

from hocket.codec.adapters.transformers_codec import quiet_transformers
from hocket.errors import InputError
from hocket.evaluation.generation.loading import reading
from hocket.evaluation.judges import EVAL_EXTRA, RATE, open_whisper

LEAST_SECONDS = 0.1
"""Nothing is heard in less."""
MOST_TOKENS = 440
BATCH = 8


class Recogniser(Protocol):
    """Writes down what is said."""

    name: str

    def transcribe(self, wavs: Sequence[np.ndarray], language: str | None = None) -> list[str]:
        """What is heard in each of some waveforms, all of one language (its code; English unless given).

        Raises InputError where the model does not know the language.
        """
        ...


def open_recogniser(folder: str | Path, device: str = "cpu") -> Recogniser:
    """The recogniser that lies in a folder.

    Raises:
        InputError: the folder holds none, or faster-whisper is needed and not installed.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(
            f'there is no folder "{folder}" of a recogniser: give one of faster-whisper or of transformers'
        )
    if (folder / "model.bin").is_file():
        return FasterWhisper(folder)
    if not (folder / "config.json").is_file():
        raise InputError(f'"{folder}" holds no recogniser: neither model.bin (faster-whisper) nor config.json is there')
    return _open_transformers(folder, device)


class FasterWhisper:
    """Whisper by CTranslate2, on the CPU in int8."""

    def __init__(self, folder: Path):
        self.name = f"faster-whisper {folder.name}"
        try:
            self._listen = open_whisper(folder)
        except ImportError as error:
            raise InputError(f'"{folder}" needs {error.name}, which is not installed ({EVAL_EXTRA})') from error

    def transcribe(self, wavs: Sequence[np.ndarray], language: str | None = None) -> list[str]:
        return [self._hear(wav_S, _code(language)) for wav_S in wavs]

    def _hear(self, wav_S: np.ndarray, language: str) -> str:
        if _is_nothing(wav_S):
            return ""
        heard = self._listen(wav_S, language)
        if heard is None:
            raise InputError(f'{self.name} knows English alone, and a clip is in "{language}": give a multilingual one')
        return heard.strip()


class _Transformers:
    """What recognisers of transformers share: clips in which something can be heard go through in batches."""

    def __init__(self, folder: Path, model: Any, processor: Any, batch: int = BATCH):
        self.name = f"{model.config.model_type} {folder.name}"
        self._model, self._processor, self._batch = model.eval(), processor, batch

    @torch.inference_mode()
    def transcribe(self, wavs: Sequence[np.ndarray], language: str | None = None) -> list[str]:
        places = [i for i, wav_S in enumerate(wavs) if not _is_nothing(wav_S)]
        texts = [""] * len(wavs)
        for first in range(0, len(places), self._batch):
            some = places[first : first + self._batch]
            for i, text in zip(some, self._hear([wavs[i] for i in some], _code(language)), strict=True):
                texts[i] = text.strip()
        return texts

    def _hear(self, wavs: list[np.ndarray], language: str) -> list[str]:
        raise NotImplementedError

    def _inputs(self, wavs: list[np.ndarray], **more: Any) -> dict[str, torch.Tensor]:
        return dict(self._processor(wavs, sampling_rate=RATE, return_tensors="pt", **more).to(self._model.device))


class SequenceModel(_Transformers):
    """An encoder and a decoder that writes token after token."""

    def _hear(self, wavs: list[np.ndarray], language: str) -> list[str]:
        if self._model.config.model_type == "whisper":
            self._check_lengths(wavs)
            inputs, how = self._inputs(wavs, return_attention_mask=True), self._languages(language)
        else:
            inputs, how = self._inputs(wavs, padding=True), {}
        places = getattr(self._model.config, "max_target_positions", None)
        most = MOST_TOKENS if places is None else min(MOST_TOKENS, places - 8)
        with quiet_transformers():
            ids_BT = self._model.generate(**inputs, **how, max_new_tokens=most, do_sample=False, num_beams=1)
        return self._processor.batch_decode(ids_BT, skip_special_tokens=True)

    def _check_lengths(self, wavs: list[np.ndarray]) -> None:
        most = self._processor.feature_extractor.n_samples
        longest = max(map(len, wavs))
        if longest > most:
            raise InputError(
                f"{self.name} hears {most / RATE:g} s at once, and a clip lasts {longest / RATE:.1f} s: convert it for "
                "faster-whisper, which goes on in windows"
            )

    def _languages(self, language: str) -> dict[str, str]:
        settings = self._model.generation_config
        if getattr(settings, "is_multilingual", False):
            if f"<|{language}|>" not in getattr(settings, "lang_to_id", {}):
                raise InputError(f'{self.name} does not know the language "{language}" of a clip')
            return {"language": language, "task": "transcribe"}
        if language != "en":
            raise InputError(f'{self.name} knows English alone, and a clip is in "{language}": give a multilingual one')
        return {}


class FrameModel(_Transformers):
    """An encoder that names a letter, or none, at every frame (CTC)."""

    def __init__(self, folder: Path, model: Any, processor: Any):
        extractor = getattr(processor, "feature_extractor", processor)
        masked = bool(getattr(extractor, "return_attention_mask", False))
        super().__init__(folder, model, processor, BATCH if masked else 1)

    def _hear(self, wavs: list[np.ndarray], language: str) -> list[str]:
        inputs = self._inputs(wavs, padding=True)
        logits_BTV = self._model(**inputs).logits
        texts = []
        for wav_S, logits_TV in zip(wavs, logits_BTV, strict=True):
            n_frames = len(logits_TV) if len(wavs) == 1 else self._count_frames(len(wav_S))
            texts += self._processor.batch_decode(logits_TV[None, :n_frames].argmax(dim=-1))
        return texts

    def _count_frames(self, n_samples: int) -> int:
        return int(self._model._get_feat_extract_output_lengths(torch.tensor(n_samples)))


def _open_transformers(folder: Path, device: str) -> Recogniser:
    with reading(folder, "speech recognition"):
        config = AutoConfig.from_pretrained(folder, local_files_only=True)
        is_ctc = any("CTC" in name for name in config.architectures or ())
        auto: Any = AutoModelForCTC if is_ctc else AutoModelForSpeechSeq2Seq
        model = auto.from_pretrained(folder, local_files_only=True).to(device)
        processor = AutoProcessor.from_pretrained(folder, local_files_only=True)
    make: Callable[..., Recogniser] = FrameModel if is_ctc else SequenceModel
    return make(folder, model, processor)


def _code(language: str | None) -> str:
    return (language or "en").casefold().replace("_", "-").split("-")[0]


def _is_nothing(wav_S: np.ndarray) -> bool:
    return len(wav_S) < LEAST_SECONDS * RATE
