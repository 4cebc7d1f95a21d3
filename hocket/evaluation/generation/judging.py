"""What judges make of the outputs of a protocol, a row for each, kept as they are found.

    transcript      what is heard in all of an output, the prompt that it begins with included: against the text
    continuation    what is heard after the prompt: what perplexity and repetition are of
    similarity      of the voice after the prompt to the prompt's recording; `…_original`: to the true recording
    dnsmos, utmos   of what comes after the prompt

Errors of words stand only where what is to be said is known.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from hocket.evaluation.generation.normalising import find_normaliser
from hocket.evaluation.generation.outputs import ITEMS, Output, Tell, after_prompt, hear
from hocket.evaluation.generation.panel import Panel
from hocket.evaluation.generation.utterances import Utterance
from hocket.evaluation.generation.voices import compare
from hocket.evaluation.generation.words import count_errors
from hocket.evaluation.items import Items
from hocket.evaluation.results import ORIGINAL

BATCH = 8
Points = dict[str, np.ndarray | None]
"""A voice as each of the embedders has it."""


class Judging:
    """Hears the outputs of one protocol.

    Args:
        folder: of the evaluation.
        settings: plain values that decide what the outputs are.
        says_text: models say the utterances' texts, so that words can be wrong.
        reads: what comes after the prompt is read for perplexity and repetition.
    """

    def __init__(
        self, folder: Path, protocol: str, panel: Panel, settings: dict[str, Any], *, says_text: bool, reads: bool
    ):
        self._folder, self._panel, self._says_text, self._reads = folder, panel, says_text, reads
        settings = {"outputs": settings, "judges": panel.settings, "says_text": says_text, "reads": reads}
        self._items = Items(folder / ITEMS / f"{protocol}.jsonl", settings)
        self._points: dict[str, Points] = {}

    def rows(
        self,
        outputs: Sequence[Output],
        utterances: dict[str, Utterance],
        prompts: dict[str, Output],
        tell: Tell = lambda n: None,
    ) -> list[dict[str, Any]]:
        """A row of each output, in batches that are always the same.

        Args:
            utterances: by id.
            prompts: by id of the utterance, the recording whose voice is to be kept.
        """
        originals = {one.utterance: one for one in outputs if one.kind == ORIGINAL and one.wav}
        for first in range(0, len(outputs), BATCH):
            some = outputs[first : first + BATCH]
            if not all(self._is_there(one) for one in some):
                self._judge(some, utterances, prompts, originals)
            tell(len(some))
        return [self._items[one.id] for one in outputs]

    def _is_there(self, output: Output) -> bool:
        return output.id in self._items and self._items[output.id]["digest"] == output.digest

    def _judge(
        self,
        outputs: Sequence[Output],
        utterances: dict[str, Utterance],
        prompts: dict[str, Output],
        originals: dict[str, Output],
    ) -> None:
        wavs = {one.id: hear(self._folder, one) for one in outputs if one.wav}
        parts = {one.id: after_prompt(wavs[one.id], one) for one in outputs if one.wav}
        whole = self._transcribe(outputs, utterances, wavs) if self._says_text else {}
        later = self._transcribe(outputs, utterances, parts) if self._reads else {}
        nats = self._panel.reader.read(list(later.values())) if self._panel.reader and later else []
        read = dict(zip(later, nats, strict=False))
        for one in outputs:
            scores: dict[str, Any] = self._words(one, utterances[one.utterance], whole.get(one.id))
            if one.id in read:
                scores |= {"nats": read[one.id][0], "tokens": read[one.id][1]}
            if one.id in parts:
                scores |= self._sound(one, parts[one.id], prompts.get(one.utterance), originals.get(one.utterance))
            row: dict[str, Any] = asdict(one) | {"transcript": whole.get(one.id), "continuation": later.get(one.id)}
            row |= {"text": utterances[one.utterance].text, "scores": scores}
            self._items.add(row.pop("id"), **row)

    def _transcribe(
        self, outputs: Sequence[Output], utterances: dict[str, Utterance], wavs: dict[str, np.ndarray]
    ) -> dict[str, str]:
        """What is heard in each output, by id; what a model wrote stands for itself."""
        found = {one.id: one.transcript for one in outputs if one.transcript is not None}
        listen = self._panel.recogniser
        if listen is not None:
            languages = {one.id: utterances[one.utterance].language for one in outputs if one.id in wavs}
            for language in dict.fromkeys(languages.values()):
                ids = [id for id in languages if languages[id] == language]
                texts = listen.transcribe([wavs[id] for id in ids], language)
                found |= dict(zip(ids, texts, strict=True))
        return found

    def _words(self, output: Output, utterance: Utterance, transcript: str | None) -> dict[str, Any]:
        if transcript is None:
            return {}
        normaliser = find_normaliser(utterance.language)
        return asdict(count_errors(utterance.text, transcript, normaliser, utterance.id))

    def _sound(self, output: Output, part_S: np.ndarray, prompt: Output | None, original: Output | None) -> dict:
        judged = {column: judge(part_S) for column, judge in self._panel.qualities.items()}
        own = self._embed(part_S)
        for tail, other in (("", prompt), ("_original", original if output.kind != ORIGINAL else None)):
            if other is not None:
                points = self._points_of(other)
                judged |= {f"{column}{tail}": compare(own[column], points[column]) for column in own}
        return {column: score for column, score in judged.items() if score is not None}

    def _embed(self, wav_S: np.ndarray) -> Points:
        return {column: voice.embed(wav_S) for column, voice in self._panel.voices.items()}

    def _points_of(self, output: Output) -> Points:
        """The voice of a prompt or an original, heard once."""
        if output.id not in self._points:
            self._points[output.id] = self._embed(after_prompt(hear(self._folder, output), output))
        return self._points[output.id]


Progress = Callable[[int, int], None]


class Count:
    """Counts what is done of everything that is to be made and judged."""

    def __init__(self, total: int, on_progress: Progress | None):
        self._done, self._total, self._on_progress = 0, total, on_progress

    def __call__(self, n: int) -> None:
        self._done += n
        if self._on_progress:
            self._on_progress(self._done, self._total)
