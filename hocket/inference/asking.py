"""What a model can be asked for, and requests made of what a user gives.

It follows from the model's layout:

    Delay(audio)                                    continues a prompt
    Concat(Text(text), Delay(audio))                speaks a text, in the voice of a prompt if there is one
    Concat(Delay(audio), Text(text))                recognises a recording
    Concat(Flatten(source), Flatten(target))        turns speech into speech
    Alternate(Text(text), …, spans="either")        speaks and recognises
    Stack(…) predicted in place                     fills a length that is known beforehand

Shapes: T frames or samples, K levels.
"""

import math
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path

import numpy as np
from torch import Tensor

from hocket.errors import InputError, did_you_mean
from hocket.inference.item import given_levels
from hocket.inference.prompts import encode_prompt
from hocket.inference.request import Request
from hocket.inference.windows import find_overlap, refusal
from hocket.interleave import Alternate, Repeat
from hocket.model import Model
from hocket.vocab import ALIGNED_TEXT, TEXT

UNITS = "semantic"  # a stream that no codec decodes
SOURCE = "source"  # the stream of what is to be turned into other speech
CONTINUATION, SPEECH, RECOGNITION, CONVERSION = "continuation", "tts", "recognition", "s2s"


class Asking:
    """Makes requests for one model."""

    def __init__(self, model: Model):
        self.model = model.eval()
        self.outputs = tuple(name for name in model.stage.predicted)
        """The streams that the model writes."""
        codes = [name for name in self.outputs if name not in (TEXT, ALIGNED_TEXT)]
        self.audio = min(codes, key=lambda name: (name != "audio", name == UNITS), default=None)
        """The stream of codes that is heard; None where only text comes out."""
        self.given = {name: n for name, n in given_levels(model).items() if n}

    @property
    def in_place(self) -> bool:
        """Whether codes are predicted in passes over a document, instead of step by step."""
        return self.model.stage.in_place

    @property
    def tasks(self) -> tuple[str, ...]:
        """What the layout can be asked for: `continuation`, `tts`, `recognition`, `s2s`; the first is the usual one."""
        if self._is_either:
            return (SPEECH, RECOGNITION)
        if self._text_is_last:
            return (RECOGNITION,)
        if self._source:
            return (CONVERSION,)
        return (SPEECH,) if self.text_is_given else (CONTINUATION,)

    def request(
        self,
        prompt: Tensor | str | Path | None = None,
        text: str | None = None,
        seconds: float | None = None,
        seed: int = 0,
        sample_rate: int | None = None,
        prompt_seconds: float | None = None,
        task: str | None = None,
        streams: Mapping[str, np.ndarray] | None = None,
        overlap: float | None = None,
        min_seconds: float | None = None,
    ) -> Request:
        """Reads and encodes what is given; the arguments are those of `generate`.

        Args:
            prompt_seconds: use only so much of the prompt's start.
            min_seconds: the model may not end its audio before so much, after the prompt.
        """
        task = self._find_task(task, prompt is not None, text is not None)
        given = {name: np.asarray(codes, dtype=np.int64) for name, codes in (streams or {}).items()}
        prompts: dict[str, np.ndarray] = {}
        self._check_text(task, text)
        heard = self._heard(task)
        if prompt is not None:
            if heard is None:
                raise InputError(f"{self.model.layout} has no place for a prompt of audio; leave it out")
            codes_TK = self._encode(prompt, heard, sample_rate, prompt_seconds)
            (given if task in (RECOGNITION, CONVERSION) else prompts)[heard] = codes_TK
        elif task in (RECOGNITION, CONVERSION) and heard not in given:
            verb = "recognises speech" if task == RECOGNITION else "turns speech into speech"
            raise InputError(f"{self.model.layout} {verb}: give the recording as prompt")
        if text is not None:
            tokens_T1 = np.asarray(self.model.vocabulary.encode_text(text), dtype=np.int64).reshape(-1, 1)
            (given if self.text_is_given or self._is_either else prompts)[TEXT] = tokens_T1
        self._check_given(given)
        if seconds is not None and not seconds > 0:
            raise InputError(f"seconds must be more than 0, not {seconds}")
        limits = self._limits(task, given, prompts, seconds)
        shared = None if overlap is None else find_overlap(self.model, overlap)
        least = self._least(min_seconds, prompts, limits)
        return Request(given=given, prompts=prompts, limits=limits, seed=seed, overlap=shared, least=least)

    # --- what a layout can do ---------------------------------------------------------------------------------------

    @cached_property
    def _is_either(self) -> bool:
        nodes = self.model.layout.span_nodes()
        return bool(nodes) and nodes[0].spans == "either"

    @cached_property
    def _text_is_last(self) -> bool:
        return not self._is_either and self.model.layout.leaves()[-1].ref.name == TEXT and not self._alternates

    @cached_property
    def text_is_given(self) -> bool:
        """Text stands whole before all else; otherwise it is begun, and the model goes on with it."""
        has_text = TEXT in self.model.layout.streams and not self._text_is_last and not self._is_either
        return has_text and (TEXT in self.given or not self._alternates)

    @cached_property
    def _alternates(self) -> bool:
        return any(isinstance(node, Alternate) for node in self.model.layout.walk())

    @cached_property
    def _source(self) -> str | None:
        """A whole stream of the codec's codes that the model hears and turns into another."""
        levels = self.model.layout.streams
        whole = [
            name for name, n in self.given.items() if n == levels[name] and name not in (TEXT, ALIGNED_TEXT, UNITS)
        ]
        return "source" if "source" in whole else None

    @property
    def recognises(self) -> bool:
        """Audio is given, text comes out, whatever is asked for."""
        return self.tasks == (RECOGNITION,)

    def _heard(self, task: str) -> str | None:
        """The stream that a prompt of audio is of."""
        if task == CONVERSION:
            return self._source
        if task == RECOGNITION:
            return next((n for n in self.model.layout.streams if n not in (TEXT, ALIGNED_TEXT)), None)
        return self.audio if self.audio != UNITS and not self.given.get(self.audio or "") else None

    def _find_task(self, task: str | None, has_prompt: bool, has_text: bool) -> str:
        if task is None:
            return RECOGNITION if self._is_either and has_prompt and not has_text else self.tasks[0]
        if task not in self.tasks:
            raise InputError(f"{self.model.layout} cannot be asked for {task}" + did_you_mean(task, self.tasks))
        return task

    def _check_text(self, task: str, text: str | None) -> None:
        layout = self.model.layout
        needs = task == SPEECH and TEXT in layout.streams and (self.text_is_given or self._is_either)
        if needs and text is None:
            raise InputError(f"{layout} speaks a text: give one with --text (text=…)")
        if text is not None and (TEXT not in layout.streams or task == RECOGNITION):
            raise InputError(f"{layout} has no place for a given text; leave it out")

    def _check_given(self, given: Mapping[str, np.ndarray]) -> None:
        levels = self.model.layout.streams
        for name in given:
            if name not in levels:
                raise InputError(f'{self.model.layout} has no stream "{name}"' + did_you_mean(name, levels))
        missing = [name for name in self.given if name not in given]
        if missing:
            raise InputError(
                f"{self.model.layout} is given {', '.join(missing)}: say with --stream NAME=FILE (streams={{…}}) which "
                "codes these are"
            )

    def _limits(
        self, task: str, given: Mapping[str, np.ndarray], prompts: Mapping[str, np.ndarray], seconds: float | None
    ) -> dict[str, int]:
        """Most frames of each open stream."""
        rate = float(self.model.codec_identity.frame_rate)
        open_streams = [n for n in self.model.layout.streams if n not in given]
        wanted = max(1, round(seconds * rate)) if seconds is not None else self._as_long_as(given) or round(5 * rate)
        limits = {
            name: wanted + len(prompts.get(name, ())) for name in open_streams if name not in (TEXT, ALIGNED_TEXT)
        }
        limits |= {name: len(codes) for name, codes in given.items() if self.given.get(name, 0) and name == self.audio}
        if ALIGNED_TEXT in open_streams:
            limits[ALIGNED_TEXT] = max(limits.values(), default=wanted)
        if task == RECOGNITION:
            limits = {TEXT: self._room_for_text(given)}
        elif TEXT in open_streams:
            limits[TEXT] = self.most_text(limits, len(prompts.get(TEXT, ())))
        self._check_context(given, prompts, limits, seconds or wanted / rate)
        return limits

    def _least(
        self, seconds: float | None, prompts: Mapping[str, np.ndarray], limits: Mapping[str, int]
    ) -> dict[str, int]:
        """Fewest frames of the audio."""
        if seconds is None:
            return {}
        if self.audio is None or self.in_place:
            raise InputError(f"{self.model.layout} ends no audio that min_seconds could hold back; leave it out")
        least = len(prompts.get(self.audio, ())) + round(seconds * float(self.model.codec_identity.frame_rate))
        if not 0 <= least <= limits.get(self.audio, 0):
            raise InputError(f"min_seconds must be from 0 to the seconds that are asked for, not {seconds:g}")
        return {self.audio: least}

    def _as_long_as(self, given: Mapping[str, np.ndarray]) -> int:
        """Frames of audio that go beside what is given on the same clock; 0 where nothing is."""
        layout = self.model.layout
        paces = {leaf.ref.name: leaf.pace for leaf in layout.leaves() if isinstance(leaf, Repeat)}
        clocked = [name for name in given if name == self._source or name in paces]
        return max((math.floor(len(given[name]) * paces.get(name, 1)) for name in clocked), default=0)

    def _steps(self, lengths: Mapping[str, int]) -> int:
        layout = self.model.layout
        return int(layout.count_steps({name: lengths.get(name, 0) for name in layout.streams}, ended=False))

    def most_text(self, lengths: Mapping[str, int], n_prompt: int = 0) -> int:
        """As much text as the context holds beside other streams, at least one token after the prompt."""
        if self.model.layout.has_spans:
            return self.model.config.context
        low, high = n_prompt + 1, self.model.config.context
        while low < high:
            middle = (low + high + 1) // 2
            fits = self._steps({**lengths, TEXT: middle}) < self.model.config.context
            low, high = (middle, high) if fits else (low, middle - 1)
        return low

    def fits(self, request: Request) -> bool:
        """Whether a request's document is no longer than the model's context."""
        given = {name: len(codes) for name, codes in request.given.items()}
        return self._steps({**request.limits, **given}) <= self.model.config.context

    def _room_for_text(self, given: Mapping[str, np.ndarray]) -> int:
        context, layout = self.model.config.context, self.model.layout
        lengths = {name: len(codes) for name, codes in given.items()}
        room = context - int(layout.count_steps({**dict.fromkeys(layout.streams, 0), **lengths}))
        if room < 1:
            raise InputError(self._too_long(f"the recording of {max(lengths.values())} frames"))
        return room

    def _check_context(
        self, given: Mapping[str, np.ndarray], prompts: Mapping[str, np.ndarray], limits: dict[str, int], seconds: float
    ) -> None:
        if not refusal(self.model, given):
            return
        context, rate = self.model.config.context, float(self.model.codec_identity.frame_rate)
        fixed = {name: len(codes) for name, codes in given.items()}
        start = {name: len(prompts.get(name, ())) for name in limits if name not in fixed}
        prompt = len(prompts.get(self.audio or "", ()))
        if self._steps({**start, **fixed}) >= context:
            what = f"the prompt of {prompt / rate:.1f} s" if prompt else "what is given"
            raise InputError(self._too_long(what))
        if self.model.layout.has_spans:
            return
        wanted = self._steps({**limits, **fixed})
        if wanted > context:
            more = 0
            grows = [n for n in limits if n != TEXT and n not in fixed]
            while self._steps({**limits, **fixed, **{n: start[n] + more + 1 for n in grows}}) <= context:
                more += 1
            raise InputError(
                f"{seconds:g} s after a prompt of {prompt / rate:.1f} s take {wanted} steps, more than the "
                f"model's context of {context}; ask for at most {math.floor(more / rate * 10) / 10:g} s"
            )

    def _too_long(self, what: str) -> str:
        return (
            f"{what} is longer than the model's context of {self.model.config.context} steps "
            f"({self.model.context_seconds:.1f} s of audio); give a shorter one"
        )

    # --- audio in ---------------------------------------------------------------------------------------------------

    def _encode(
        self, prompt: Tensor | str | Path, stream: str, sample_rate: int | None, seconds: float | None = None
    ) -> np.ndarray:
        """Codes `[T, K]` of the frames that the prompt determines: whole ones, without the codec's look-ahead."""
        codes_TK = encode_prompt(self.model.codec, prompt, sample_rate, seconds)
        return codes_TK[:, : self.model.layout.streams[stream]]
