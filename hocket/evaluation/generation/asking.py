"""What models and pipelines are asked for under the protocols, and which protocols they can be judged by.

    continuation   they go on from audio, with or without the text
    revoice        they are given what is said in another form (semantic units, some levels): content is fixed
    tts            they speak a text, in the voice of a prompt where there is one
    recognition    they write down what is said

Shapes: T frames, K levels.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from hocket.codec import Codec
from hocket.errors import InputError
from hocket.evaluation.continuations import AUDIO
from hocket.evaluation.generation.utterances import Utterance
from hocket.inference import Generator, Request
from hocket.inference.asking import RECOGNITION, SPEECH, UNITS
from hocket.inference.examples import request_part
from hocket.inference.pipeline import Pipeline
from hocket.vocab import ALIGNED_TEXT, TEXT

CONTINUATION, REVOICE, TTS = "continuation", "revoice", "tts"
SECONDS_A_BYTE, SECONDS_MORE = 0.12, 2.0
"""The most that speech lasts, by the bytes of its text: English is spoken at about 15 a second."""
BYTES_A_SECOND = 15.0

Maker = Generator | Pipeline


def protocols_of(maker: Maker) -> tuple[str, ...]:
    """What this model or pipeline can be judged by."""
    if isinstance(maker, Generator):
        return _protocols_of_model(maker)
    if AUDIO not in maker.outputs:
        return ()
    if maker.given:
        return (REVOICE,) if fixes_content(maker) else (CONTINUATION,)
    return (TTS, CONTINUATION) if is_given_text(maker) else (CONTINUATION,)


def _protocols_of_model(generator: Generator) -> tuple[str, ...]:
    found = [RECOGNITION] if RECOGNITION in generator.tasks else []
    codes = [name for name in generator.given if name not in (TEXT, ALIGNED_TEXT)]
    if not generator.is_heard or generator.tasks[0] not in (CONTINUATION, SPEECH):
        return tuple(found)
    if fixes_content(generator):
        return (REVOICE, *found)
    if SPEECH in generator.tasks and not codes:
        return (TTS, CONTINUATION, *found)
    return (CONTINUATION, *found)


def fixes_content(maker: Maker) -> bool:
    """Whether the codes that it is given hold what is said: semantic units, or levels of the audio itself."""
    return bool({UNITS, AUDIO} & set(maker.given))


def is_given_text(maker: Maker) -> bool:
    """Whether it is told the words beforehand."""
    if isinstance(maker, Generator):
        return maker.text_is_given or SPEECH in maker.tasks
    made = any(TEXT in stage.made for stage in maker.parts)
    return any(stage.reads_text for stage in maker.parts) and not made


def codec_of(maker: Maker) -> Codec:
    """The codec of what is heard."""
    return maker.model.codec if isinstance(maker, Generator) else maker.codecs.open(AUDIO)


def main_stream(maker: Maker) -> str:
    """The stream that is heard."""
    return (maker.audio if isinstance(maker, Generator) else None) or AUDIO


def with_codes(maker: Maker, utterance: Utterance) -> Utterance:
    """The utterance with the codes of its audio; encoded, where it does not come from a corpus.

    Raises InputError where there is nothing to encode.
    """
    stream = main_stream(maker)
    if stream in utterance.streams:
        return utterance
    if utterance.recording is None:
        raise InputError(f'"{utterance.id}" has neither codes of "{stream}" nor a recording at hand')
    codec = codec_of(maker)
    codes = encode(codec, utterance.read(codec.input_rate))
    return replace(utterance, streams={**utterance.streams, stream: codes})


@torch.inference_mode()
def encode(codec: Codec, wav_S: torch.Tensor) -> np.ndarray:
    """Codes `[T, K]` of a recording at the codec's input rate."""
    codes = codec.encode(wav_S[None], codec.input_rate)
    return codes.tokens_BTK[0, : int(codes.lengths_B[0])].cpu().numpy()


def whole_frames(codec: Codec, seconds: float) -> int:
    """Frames that so much audio determines: without the codec's look-ahead."""
    return (round(seconds * codec.sample_rate) - codec.identity.delay) // codec.hop


def codes_heard(maker: Maker, utterance: Utterance) -> np.ndarray:
    """The codes `[T, K]` of what is heard, as many levels as the maker has: what a perfect model would make."""
    codes_TK = utterance.streams[main_stream(maker)]
    levels = maker.model.layout.streams[main_stream(maker)] if isinstance(maker, Generator) else codes_TK.shape[1]
    return np.asarray(codes_TK)[:, :levels].astype(np.int64)


def ask_to_continue(
    maker: Maker, utterance: Utterance, prompt_seconds: float, least_seconds: float, seed: int
) -> Request | Any:
    """To go on from the start of an utterance up to its length."""
    codec, n_frames = codec_of(maker), len(utterance.streams[main_stream(maker)])
    prompt = whole_frames(codec, prompt_seconds)
    if isinstance(maker, Generator) and SPEECH in maker.tasks and not maker.text_is_given:
        return _ask_either(maker, utterance, prompt, n_frames, seed)
    if isinstance(maker, Generator):
        least = (
            min(prompt + round(least_seconds * float(codec.frame_rate)), n_frames)
            if least_seconds and not maker.in_place
            else 0
        )
        return request_part(
            maker, utterance.like(), prompt_frames=prompt, frames=n_frames, least_frames=least, seed=seed
        )
    rest = (n_frames - prompt) / float(codec.frame_rate)
    asked: dict[str, Any] = {"seed": seed, "seconds": rest}
    asked |= {"text": utterance.text} if is_given_text(maker) else {}
    asked |= {"streams": _given_streams(maker, utterance)} if maker.given else {}
    asked |= {"min_seconds": min(least_seconds, rest)} if least_seconds and not maker.in_place else {}
    wav_S = _start(codec, utterance, prompt_seconds)
    return maker.request(prompt=wav_S, sample_rate=codec.sample_rate, prompt_seconds=prompt_seconds, **asked)


def _ask_either(generator: Generator, utterance: Utterance, prompt: int, n_frames: int, seed: int) -> Request:
    """Of a model that speaks and recognises: the text is given, and the start of its speech."""
    request = generator.request(text=utterance.text, task=SPEECH, seconds=1.0, seed=seed)
    codes = codes_heard(generator, utterance)[:prompt]
    stream = main_stream(generator)
    return replace(request, prompts={stream: codes}, limits={**request.limits, stream: n_frames})


def _start(codec: Codec, utterance: Utterance, seconds: float) -> torch.Tensor:
    if utterance.recording is None:
        raise InputError(f'the recording of "{utterance.id}" is not at hand, and a pipeline goes on from sound')
    return utterance.read(codec.sample_rate)[: round(seconds * codec.sample_rate)]


def _given_streams(maker: Pipeline, utterance: Utterance) -> dict[str, np.ndarray]:
    missing = [name for name in sorted(maker.given) if name not in utterance.streams]
    if missing:
        raise InputError(f'the pipeline is given "{missing[0]}", and {utterance.id} has none: evaluate on a corpus')
    return {name: np.asarray(utterance.streams[name]) for name in maker.given}


def can_hear(generator: Generator, seconds: float) -> bool:
    """Whether a recording of this length, and some text after it, fit into the model's context."""
    layout, frames = generator.model.layout, math.ceil(seconds * float(generator.model.codec_identity.frame_rate))
    heard = next(name for name in layout.streams if name not in (TEXT, ALIGNED_TEXT))
    return int(layout.count_steps({**dict.fromkeys(layout.streams, 0), heard: frames})) < generator.model.config.context


def ask_to_speak(maker: Maker, utterance: Utterance, text: str, seed: int) -> Request | Any:
    """To say a text, in the voice of the utterance's prompt where there is one and the model takes it."""
    codec, prompt = codec_of(maker), utterance.prompt if takes_voice(maker) else None
    seconds = speech_seconds(maker, utterance, text)
    asked: dict[str, Any] = {"seed": seed}
    if prompt is not None:
        asked |= {"prompt": prompt.read(codec.sample_rate), "sample_rate": codec.sample_rate}
    if isinstance(maker, Pipeline):
        asked |= {"prompt_text": utterance.prompt_text} if prompt is not None else {}
        return maker.request(text=text, seconds=seconds, **asked)
    said = f"{utterance.prompt_text} {text}" if prompt is not None and utterance.prompt_text else text
    frame = 1 / float(codec.frame_rate)
    return _stretch(maker, maker.request(text=said, task=SPEECH, seconds=frame, **asked), round(seconds / frame))


def speech_seconds(maker: Maker, utterance: Utterance, text: str) -> float:
    """The most that a text may last; of models that are told the length, the recording's, or one by its letters."""
    n_bytes = len(text.encode())
    if maker.in_place:
        return utterance.seconds or max(1.0, n_bytes / BYTES_A_SECOND)
    return SECONDS_MORE + SECONDS_A_BYTE * n_bytes


def takes_voice(maker: Maker) -> bool:
    """Whether speech can begin with a prompt: not where further streams would have to begin with it too."""
    if isinstance(maker, Pipeline):
        return True
    codes = [name for name in maker.outputs if name not in (TEXT, ALIGNED_TEXT)]
    return len(codes) == 1 and not maker.given.get(codes[0])


def _stretch(generator: Generator, request: Request, n_frames: int) -> Request:
    """The request with so many frames after the prompt, or as many as the context holds."""
    grows = [name for name in request.limits if name not in request.given and name != TEXT]

    def with_frames(n: int) -> Request:
        longer = {name: len(request.prompts.get(name, ())) + n for name in grows}
        return replace(request, limits={**request.limits, **longer})

    low, high = 1, n_frames
    if generator.model.layout.has_spans or generator.fits(with_frames(high)):
        return with_frames(high)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if generator.fits(with_frames(middle)) else (low, middle - 1)
    return with_frames(low)


@dataclass(frozen=True)
class Template:
    """How a model's texts are written: `{text}`, or with the voice before it, `{speaker}: {text}`."""

    pattern: str = "{text}"

    def __post_init__(self) -> None:
        fields = set(re.findall(r"{(\w*)}", self.pattern))
        if "text" not in fields or fields - {"text", "speaker", "language"}:
            raise InputError(
                f"a template holds {{text}}, and perhaps {{speaker}} and {{language}}, not {self.pattern!r}"
            )

    def fill(self, utterance: Utterance) -> str:
        """What a model is given for the text of an utterance."""
        facts: Mapping[str, str | None] = {"speaker": utterance.speaker, "language": utterance.language}
        for name, value in facts.items():
            if value is None and f"{{{name}}}" in self.pattern:
                raise InputError(f'"{utterance.id}" has no {name}, which the template {self.pattern!r} needs')
        return self.pattern.format(text=utterance.text or "", **facts)

    def read(self, answer: str) -> str:
        """The text in what a model wrote; all of it where it is written otherwise."""
        pieces = re.split(r"({\w+})", self.pattern)
        groups = {"{text}": "(?P<text>.*)"}
        pattern = "".join(groups.get(p, ".*?" if re.fullmatch(r"{\w+}", p) else re.escape(p)) for p in pieces)
        found = re.fullmatch(pattern, answer, re.DOTALL)
        return found["text"] if found else answer
