"""Requests made of examples of a corpus: what a model of a layout can be asked for, given what an example holds.

    Delay(audio)                                continue the example's start
    Concat(Text(text), Delay(audio))            speak its text
    Concat(Delay(audio), Text(text))            recognise it
    Stack(Lead(Repeat(semantic)), Parallel(…))  fill in the audio of its units
    Stack(…, Delay(user, …))                    answer its other speaker

Shapes: T frames, K levels.
"""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from hocket.data.corpus import Example
from hocket.errors import InputError
from hocket.inference.asking import RECOGNITION, SPEECH
from hocket.inference.generator import Generator
from hocket.inference.request import Request
from hocket.vocab import ALIGNED_TEXT, TEXT


def request_like(
    generator: Generator, example: Example, *, seconds: float, prompt_seconds: float = 0.0, seed: int = 0
) -> Request:
    """What to generate for an example, within the model's context.

    Args:
        seconds: how much audio to generate at most; streams that are given are cut to as much.
        prompt_seconds: how much of its start to continue, at most half of it, where it is continued.

    Raises:
        InputError: the example lacks a stream of the layout, or a text that is to be spoken.
    """
    codes, task = _codes(generator, example), generator.tasks[0]
    if task == RECOGNITION:
        return generator.request(streams=codes, seed=seed)
    main, rate = generator.audio, float(generator.model.codec_identity.frame_rate)
    length = len(codes[main]) if main else max(map(len, codes.values()), default=0)
    n_prompt = 0 if task == SPEECH else min(round(prompt_seconds * rate), length // 2)
    n_frames = n_prompt + max(1, round(seconds * rate))
    if any(name in generator.given for name in codes):
        n_frames = min(n_frames, length)
    while True:
        request = _part(generator, example, codes, n_prompt / max(length, 1), n_frames / max(length, 1), seed)
        if n_frames <= n_prompt + 1 or generator.fits(request):
            return request
        n_frames -= 1


def _codes(generator: Generator, example: Example) -> dict[str, np.ndarray]:
    """The example's codes of the layout's streams, as many levels as the layout has."""
    layout = generator.model.layout
    wanted = [name for name in layout.streams if name not in (TEXT, ALIGNED_TEXT)]
    missing = [name for name in wanted if name not in example.streams]
    if missing:
        raise InputError(f'{layout} needs the stream "{missing[0]}", and {example.id} has none')
    return {name: np.asarray(example.streams[name])[:, : layout.streams[name]].astype(np.int64) for name in wanted}


def request_part(
    generator: Generator, example: Example, *, prompt_frames: int, frames: int, least_frames: int = 0, seed: int = 0
) -> Request:
    """To make the first `frames` of an example's audio anew, of which `prompt_frames` are known; streams and text that
    the model is given are the example's. Raises InputError as `request_like`."""
    codes, main = _codes(generator, example), generator.audio
    length = max(len(codes[main]) if main else max(map(len, codes.values()), default=0), 1)
    request = _part(generator, example, codes, prompt_frames / length, frames / length, seed)
    return replace(request, least={main: least_frames}) if least_frames and main else request


def _part(
    generator: Generator, example: Example, codes: Mapping[str, np.ndarray], begun: float, until: float, seed: int
) -> Request:
    """A request for a share of an example: it is known up to `begun`, and wanted up to `until`."""
    given, prompts, limits = {}, {}, {}
    for name, codes_TK in codes.items():
        n_given, n_frames = generator.given.get(name, 0), max(1, round(until * len(codes_TK)))
        if n_given:
            given[name] = codes_TK[:n_frames, :n_given]
        if n_given < codes_TK.shape[1]:
            prompts[name] = codes_TK[: round(begun * len(codes_TK))]
            limits[name] = min(n_frames, len(codes_TK)) if n_given else n_frames
    if generator.text_is_given:
        given[TEXT] = _text(generator, example)
    if ALIGNED_TEXT in generator.model.layout.streams:
        limits[ALIGNED_TEXT] = limits[generator.audio] if generator.audio else max(limits.values())
    if TEXT in generator.model.layout.streams and TEXT not in given:
        limits[TEXT] = generator.most_text({**{name: len(given[name]) for name in given}, **limits})
    return Request(given=given, prompts=prompts, limits=limits, seed=seed)


def _text(generator: Generator, example: Example) -> np.ndarray:
    if example.text is None:
        raise InputError(f"{generator.model.layout} speaks a text, and {example.id} has none")
    return np.asarray(generator.model.vocabulary.encode_text(example.text), dtype=np.int64).reshape(-1, 1)
