"""A recording as the codes that a model goes on from.

Shapes: T frames or samples, C channels, K levels.
"""

from pathlib import Path

import numpy as np
from torch import Tensor

from hocket.codec import Codec, read_audio
from hocket.errors import InputError
from hocket.interleave.checks import is_whole
from hocket.interleave.plan import kind_of


def encode_prompt(
    codec: Codec, prompt: Tensor | str | Path, sample_rate: int | None = None, seconds: float | None = None
) -> np.ndarray:
    """Codes `[T, K]` of the frames that a prompt determines: whole ones, without the codec's look-ahead.

    Args:
        prompt: an audio file, or a waveform of floats `[T]` or `[C, T]` at `sample_rate` (the codec's input rate unless
            given).
        seconds: use only so much of the prompt's start.

    Raises:
        InputError: the prompt cannot be read, is no waveform, or is shorter than a frame.
    """
    name = "the prompt"
    if not isinstance(prompt, Tensor):
        name, (prompt, sample_rate) = str(prompt), read_audio(prompt, codec.input_rate)
    rate = codec.input_rate if sample_rate is None else sample_rate
    _check(prompt, rate)
    prompt = prompt if seconds is None else prompt[..., : round(seconds * rate)]
    codes = codec.encode(prompt[None], rate)
    samples = prompt.shape[-1] * codec.sample_rate // rate - codec.identity.delay
    n_frames = min(samples // codec.hop, codes.tokens_BTK.shape[1])
    if n_frames < 1:
        raise InputError(
            f"{name} lasts {prompt.shape[-1] / rate:.3f} s, which is less than one frame of codec "
            f'"{codec.identity.name}" ({codec.hop / codec.sample_rate:.3f} s)'
        )
    return codes.tokens_BTK[0, :n_frames].cpu().numpy()


def _check(wav: Tensor, rate: int) -> None:
    if wav.ndim not in (1, 2) or not wav.is_floating_point():
        raise InputError(f"a prompt is a waveform of floats [T] or [channels, T], not {kind_of(wav)}")
    if not is_whole(rate, 1):
        raise InputError(f"a sample rate is a whole number of Hz above 0, not {rate!r}")
