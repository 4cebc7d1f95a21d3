"""What is asked of a model, and what comes out.

Shapes: T frames or samples, K levels.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from torch import Tensor

from hocket.interleave.spans import Turn

Progress = Callable[[int, int], None]
"""Called with what is done and how much there is: steps, or passes."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """One item to generate: what is given, how much is wanted."""

    given: dict[str, np.ndarray] = field(default_factory=dict)
    """Streams that are given whole: codes `[T, K]`, or text tokens `[T, 1]`; of a stream of which the model is given
    some levels, these alone."""
    prompts: dict[str, np.ndarray] = field(default_factory=dict)
    """The first frames of streams that are to be continued: codes `[T, K]` of all levels."""
    limits: dict[str, int] = field(default_factory=dict)
    """Most frames, the prompt's included, of each stream that is open."""
    least: dict[str, int] = field(default_factory=dict)
    """Fewest frames, the prompt's included, of streams that are open: before, no end is drawn."""
    seed: int = 0
    """Fixes this item's draws, whatever else is in the batch."""
    start: str = "<bos>"
    """`<cont>` where the document's true start is cut off."""
    ends: bool = True
    """False where the document's true end is cut off: no stream carries an end marker unless it is drawn."""
    overlap: int | None = None
    """Frames of the past with which each window of a long document begins; half of a window unless given."""
    turns: tuple[Turn, ...] = ()
    """For layouts by spans, the turns so far, of which the last goes on: (stream, first frame, the one after the last).
    Unless given: one for each given stream, then one for each prompt."""


@dataclass(kw_only=True)
class Generation:
    """What came out for one item."""

    streams: dict[str, np.ndarray]  # int64 [T, K], every stream of the document, prompt included
    made: tuple[str, ...]  # streams that were not given whole, the one that is heard first
    log_probabilities: dict[str, np.ndarray]  # float32 [T, K], of each code that was drawn; nan of those that were not
    codes_TK: np.ndarray  # int64, frames of audio after the prompt
    wav_T: Tensor  # float32, the continuation alone; empty where only units or text came out
    prompt_codes_TK: np.ndarray  # int64
    prompt_wav_T: Tensor  # float32, the prompt as the codec renders it
    full_wav_T: Tensor  # float32, prompt and continuation decoded together
    text: str | None  # what was given or recognised
    sample_rate: int  # Hz
    steps: int  # steps of the document, or passes over it
    seconds: float  # of the continuation
    wall_seconds: float  # that the whole batch took, codec included
    ended: bool  # the model ended every stream itself
