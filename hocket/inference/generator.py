"""Autoregressive generation with a key and value cache.

A batch goes in lockstep: all documents start at step 0. Cells that a prompt forces are taken as they are, wherever
they lie (a delay pushes some past the prompt's edge); the others are drawn from their legal ids, all rows of a step
together, or one after another where the model has a depth head, which sees the rows before. When a stream's
leader draws `<end>`, the item's cursor moves to the plan for the length that is now known.

Shapes: B batch, T steps or frames or samples, R rows, K levels, D width.
"""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from hocket.codec import Codes, read_audio
from hocket.errors import InputError
from hocket.inference.sampling import Sampling
from hocket.interleave import Cursor
from hocket.interleave.plan import FILLER, NO_STREAM, Plan
from hocket.interleave.stream import StreamRef
from hocket.model import Model
from hocket.vocab import ALIGNED_TEXT, TEXT

Progress = Callable[[int, int], None]
Logits = Callable[[list[int], int], Tensor]
"""Items of a batch and a legal set to logits over its ids."""
UNITS = "semantic"  # a stream that no codec decodes


@dataclass(frozen=True, kw_only=True)
class Request:
    """One item to generate: what is given, how much is wanted."""

    given: dict[str, np.ndarray] = field(default_factory=dict)
    """Streams that are given whole: codes `[T, K]`, or text tokens `[T, 1]`."""
    prompts: dict[str, np.ndarray] = field(default_factory=dict)
    """The first frames of streams that are to be continued."""
    limits: dict[str, int] = field(default_factory=dict)
    """Most frames, the prompt's included, of each stream that is open."""
    seed: int = 0
    """Fixes this item's draws, whatever else is in the batch."""


@dataclass(kw_only=True)
class Generation:
    """What came out for one item."""

    streams: dict[str, np.ndarray]  # int64 [T, K], every stream of the document, prompt included
    codes_TK: np.ndarray  # int64, frames of audio after the prompt
    wav_T: Tensor  # float32, the continuation alone; empty where only units came out
    prompt_codes_TK: np.ndarray  # int64
    prompt_wav_T: Tensor  # float32, the prompt as the codec renders it
    full_wav_T: Tensor  # float32, prompt and continuation decoded together
    text: str | None  # what was given or recognised
    sample_rate: int  # Hz
    steps: int  # steps of the document
    seconds: float  # of the continuation
    wall_seconds: float  # that the whole batch took, codec included
    ended: bool  # the model ended the stream itself


class Generator:
    """Generates with one model."""

    def __init__(self, model: Model):
        if model.stage.in_place:
            raise InputError(
                f'this model predicts in place (objective "{model.stage.objective}"): it can be trained and scored, '
                "but not sampled yet"
            )
        self.model = model.eval()
        self._none = model.vocabulary.id("<none>")
        streams = [s for s in model.layout.streams if s not in (TEXT, ALIGNED_TEXT)]
        if not streams:
            raise InputError(f"{model.layout} has no audio stream to generate")
        if model.layout.span_nodes():
            raise InputError(
                f"{model.layout} goes by spans; a model of it can be trained and scored, but not sampled yet"
            )
        self._audio = min(streams, key=lambda name: (name != "audio", name == UNITS))
        self.recognises = model.layout.leaves()[-1].ref.name == TEXT
        """The layout puts text last: audio is given, text comes out."""

    def generate(
        self,
        prompt: Tensor | str | Path | None = None,
        text: str | None = None,
        seconds: float = 5.0,
        sampling: Sampling | None = None,
        seed: int = 0,
        sample_rate: int | None = None,
        on_step: Progress | None = None,
    ) -> Generation:
        """Continues a prompt, speaks a text, or recognises a recording: whatever the model's layout says.

        Args:
            prompt: an audio file, or a waveform `[T]` at `sample_rate` (the codec's input rate unless given).
            text: what to speak, for layouts in which text comes first.
            seconds: how much audio to generate at most, after the prompt.
            sampling: temperature, top-k, top-p.
            seed: the same seed gives the same result on the same machine.

        Raises:
            InputError: the prompt cannot be read or is shorter than a frame; prompt and seconds exceed the context;
                the layout needs text and none is given, or has no place for it.
        """
        request = self.request(prompt, text, seconds, seed, sample_rate)
        return self.generate_batch([request], sampling, on_step=on_step)[0]

    def request(
        self,
        prompt: Tensor | str | Path | None = None,
        text: str | None = None,
        seconds: float = 5.0,
        seed: int = 0,
        sample_rate: int | None = None,
        prompt_seconds: float | None = None,
    ) -> Request:
        """Reads and encodes what is given; the arguments are those of `generate`.

        Args:
            prompt_seconds: use only so much of the prompt's start.
        """
        others = [name for name in self.model.layout.streams if name not in (TEXT, self._audio)]
        if others:
            raise InputError(
                f"{self.model.layout} has further streams ({', '.join(others)}): make a Request of their codes, "
                "and give it to generate_batch"
            )
        codes_TK = self._encode(prompt, sample_rate, prompt_seconds)
        given = self._text_stream(text)
        if self.recognises:
            if not len(codes_TK):
                raise InputError(f"{self.model.layout} recognises speech: give the recording as prompt")
            given[self._audio] = codes_TK
            return Request(given=given, limits={TEXT: self._room_for_text(given)}, seed=seed)
        if not seconds > 0:
            raise InputError(f"seconds must be more than 0, not {seconds}")
        wanted = max(1, round(seconds * float(self.model.codec_identity.frame_rate)))
        limits = {self._audio: len(codes_TK) + wanted}
        self._check_context(given, limits, len(codes_TK), seconds)
        return Request(given=given, prompts={self._audio: codes_TK}, limits=limits, seed=seed)

    @torch.inference_mode()
    def generate_batch(
        self, requests: Sequence[Request], sampling: Sampling | None = None, on_step: Progress | None = None
    ) -> list[Generation]:
        """Generates several items together; each comes out as it would alone."""
        began = time.perf_counter()
        items = [Item(self.model, request) for request in requests]
        self._run(items, sampling or Sampling(), on_step)
        finished = [self._finish(item) for item in items]
        for generation in finished:
            generation.wall_seconds = time.perf_counter() - began
        return finished

    def _run(self, items: list["Item"], sampling: Sampling, on_step: Progress | None) -> None:
        decoder, device = self.model.decoder, self.model.device
        n_steps = max(item.plan.n_steps for item in items)
        grid_BTR = torch.full((len(items), n_steps, self.model.layout.n_rows), self._none)
        for b, item in enumerate(items):
            grid_BTR[b, : item.plan.n_steps] = torch.from_numpy(item.known_ids())
        step = min(item.first_open_step for item in items)
        cache = decoder.new_cache(len(items), n_steps)
        if step < n_steps:
            hidden_BD = decoder.step(grid_BTR[:, :step].to(device), cache)[:, -1]
        while step < n_steps:
            self._choose(items, grid_BTR, step, hidden_BD, sampling)
            n_steps = max(item.plan.n_steps for item in items)
            step += 1
            if on_step:
                on_step(step, n_steps)
            if step < n_steps:
                hidden_BD = decoder.step(grid_BTR[:, step - 1 : step].to(device), cache)[:, -1]
        for b, item in enumerate(items):
            item.grid_TR = grid_BTR[b, : item.plan.n_steps].numpy()

    def _choose(self, items: list["Item"], grid_BTR: Tensor, step: int, hidden_BD: Tensor, sampling: Sampling) -> None:
        """Draws the open cells of one step."""
        _show_copies(items, grid_BTR, step)
        for rows, logits in self._passes(hidden_BD, grid_BTR[:, step]):
            self._draw(items, grid_BTR, step, rows, logits, sampling)
            for b, item in enumerate(items):
                if item.close_if_ended(step, grid_BTR[b, step]):
                    unused_R = torch.from_numpy(item.plan.source_TR[step] == FILLER)
                    grid_BTR[b, step, unused_R] = self._none  # drawn beside the end, for a frame that is none
                    later = item.known_ids()[step + 1 :]
                    grid_BTR[b, step + 1 :] = self._none
                    grid_BTR[b, step + 1 : step + 1 + len(later)] = torch.from_numpy(later)
            if not any(row > max(rows) for item in items for row, _ in item.open_cells(step)):
                break
        _show_copies(items, grid_BTR, step)

    def _passes(self, hidden_BD: Tensor, ids_BR: Tensor) -> Iterator[tuple[Sequence[int], Logits]]:
        """Rows of a step that are drawn together, and their logits; `ids_BR` holds what was drawn before."""
        head, depth = self.model.head, self.model.depth

        def from_trunk(batch: list[int], legal: int) -> Tensor:
            return head.logits(hidden_BD[batch], legal)

        if depth is None:
            yield range(ids_BR.shape[1]), from_trunk
            return
        yield depth.rows[:1], from_trunk
        for row, h_BE in depth.in_turn(hidden_BD, ids_BR):
            yield [row], lambda batch, legal, h_BE=h_BE: depth.logits(h_BE[batch], legal)

    def _draw(
        self,
        items: list["Item"],
        grid_BTR: Tensor,
        step: int,
        rows: Sequence[int],
        logits: Logits,
        sampling: Sampling,
    ) -> None:
        """Draws the open cells of some rows of a step, all cells with the same legal set together."""
        cells: dict[int, list[tuple[int, int]]] = {}
        for b, item in enumerate(items):
            for row, legal in item.open_cells(step):
                if row in rows:
                    cells.setdefault(legal, []).append((b, row))
        for legal, places in cells.items():
            batch, chosen = [b for b, _ in places], [r for _, r in places]
            logits_MJ = logits(batch, legal)
            uniform_M = torch.stack([items[b].uniform_TR[step, r] for b, r in places]).to(logits_MJ.device)
            ids_M = self.model.head.legal_sets[legal].ids(sampling.choose(logits_MJ, uniform_M)).cpu()
            grid_BTR[batch, step, chosen] = ids_M

    def _finish(self, item: "Item") -> Generation:
        vocabulary, codec = self.model.vocabulary, self.model.codec
        assert item.grid_TR is not None
        streams = item.plan.deinterleave(item.grid_TR, vocabulary)
        codes_TK = streams[self._audio]
        prompt_TK = item.request.prompts.get(self._audio)
        start = len(codes_TK) if prompt_TK is None else len(prompt_TK)
        lengths_B = torch.tensor([len(codes_TK)])
        tokens_BTK = torch.from_numpy(codes_TK)[None]
        wav_T = torch.zeros(0)
        if len(codes_TK) and self._audio != UNITS:
            codes = Codes(tokens_BTK.to(codec.device), lengths_B.to(codec.device), self.model.codec_identity)
            wav_T = codec.decode(codes)[0].cpu()
        cut = start * codec.hop
        text = vocabulary.decode_text(streams[TEXT][:, 0].tolist()) if TEXT in streams else None
        return Generation(
            streams=streams,
            codes_TK=codes_TK[start:],
            wav_T=wav_T[cut:],
            prompt_codes_TK=codes_TK[:start],
            prompt_wav_T=wav_T[:cut],
            full_wav_T=wav_T,
            text=text,
            sample_rate=codec.sample_rate,
            steps=item.plan.n_steps,
            seconds=(len(codes_TK) - start) / float(codec.frame_rate),
            wall_seconds=0.0,
            ended=item.ended,
        )

    def _encode(
        self, prompt: Tensor | str | Path | None, sample_rate: int | None, seconds: float | None = None
    ) -> np.ndarray:
        """Codes `[T, K]` of the frames that the prompt determines: whole ones, without the codec's look-ahead."""
        levels = self.model.layout.streams[self._audio]
        if prompt is None:
            return np.zeros((0, levels), dtype=np.int64)
        codec, name = self.model.codec, "the prompt"
        if not isinstance(prompt, Tensor):
            name, (prompt, sample_rate) = str(prompt), read_audio(prompt, codec.input_rate)
        rate = sample_rate or codec.input_rate
        prompt = prompt if seconds is None else prompt[..., : round(seconds * rate)]
        codes = codec.encode(prompt[None], rate)
        samples = prompt.shape[-1] * codec.sample_rate // rate - codec.identity.delay
        n_frames = min(samples // codec.hop, codes.tokens_BTK.shape[1])
        if n_frames < 1:
            raise InputError(
                f"{name} lasts {prompt.shape[-1] / rate:.3f} s, which is less than one frame of codec "
                f'"{codec.identity.name}" ({codec.hop / codec.sample_rate:.3f} s)'
            )
        return codes.tokens_BTK[0, :n_frames, :levels].cpu().numpy()

    def _text_stream(self, text: str | None) -> dict[str, np.ndarray]:
        has_text = TEXT in self.model.layout.streams
        if has_text and not self.recognises and text is None:
            raise InputError(f"{self.model.layout} speaks a text: give one with --text (text=…)")
        if text is not None and (not has_text or self.recognises):
            raise InputError(f"{self.model.layout} has no place for a given text; leave it out")
        if text is None:
            return {}
        return {TEXT: np.asarray(self.model.vocabulary.encode_text(text), dtype=np.int64).reshape(-1, 1)}

    def _room_for_text(self, given: dict[str, np.ndarray]) -> int:
        context, layout = self.model.config.context, self.model.layout
        frames = len(given[self._audio])
        room = context - int(layout.count_steps({self._audio: frames, TEXT: 0}))
        if room < 1:
            raise InputError(self._too_long(f"the recording of {frames} frames"))
        return room

    def _check_context(
        self, given: dict[str, np.ndarray], limits: dict[str, int], prompt_frames: int, seconds: float
    ) -> None:
        text = {name: len(tokens) for name, tokens in given.items()}
        rate = float(self.model.codec_identity.frame_rate)

        def steps(frames: int) -> int:
            return int(self.model.layout.count_steps({**text, self._audio: frames}, ended=False))

        if steps(prompt_frames) >= self.model.config.context:
            raise InputError(self._too_long(f"the prompt of {prompt_frames / rate:.1f} s"))
        wanted = steps(limits[self._audio])
        if wanted > self.model.config.context:
            fits = prompt_frames
            while steps(fits + 1) <= self.model.config.context:
                fits += 1
            raise InputError(
                f"{seconds:g} s after a prompt of {prompt_frames / rate:.1f} s take {wanted} steps, more than the "
                f"model's context of {self.model.config.context}; ask for at most "
                f"{math.floor((fits - prompt_frames) / rate * 10) / 10:g} s"
            )

    def _too_long(self, what: str) -> str:
        return (
            f"{what} is longer than the model's context of {self.model.config.context} steps "
            f"({self.model.context_seconds:.1f} s of audio); give a shorter one"
        )


def _show_copies(items: list["Item"], grid_BTR: Tensor, step: int) -> None:
    """Fills the cells of a step that show again what was drawn."""
    for b, item in enumerate(items):
        for row, from_step, from_row in item.copies(step):
            grid_BTR[b, step, row] = grid_BTR[b, from_step, from_row]


class Item:
    """One document of a batch in the making."""

    def __init__(self, model: Model, request: Request):
        self.request, self._model = request, model
        self._check()
        lengths = {name: len(tokens) for name, tokens in request.given.items()}
        self._cursor = Cursor(model.layout, lengths, request.limits, given=model.given)
        shape = (self.plan.n_steps, model.layout.n_rows)
        generator = torch.Generator().manual_seed(request.seed)
        self.uniform_TR = torch.rand(shape, generator=generator, dtype=torch.float64)
        self.grid_TR: np.ndarray | None = None
        self.ended = False
        self._frames = lengths | {name: len(tokens) for name, tokens in request.prompts.items()}
        self._ends: dict[int, str] = {model.vocabulary.id(f"<end.{name}>"): name for name in request.limits}
        self._look()

    @property
    def plan(self) -> Plan:
        return self._cursor.plan

    @property
    def first_open_step(self) -> int:
        return int(self._open_TR.any(axis=1).argmax()) if self._open_TR.any() else self.plan.n_steps

    def _check(self) -> None:
        """Every stream is given or open, and those that the model never predicts are given."""
        fixed = {StreamRef.parse(name).name for name in self._model.given}
        for name in self._model.layout.streams:
            if name not in self.request.given and (name in fixed or name not in self.request.limits):
                raise InputError(f'the model needs the stream "{name}": put its codes into Request.given')

    def known_ids(self) -> np.ndarray:
        """The plan's grid with what is known; `<none>` elsewhere."""
        streams = {}
        for name, n_levels in self.plan.levels.items():
            codes_TK = np.zeros((self.plan.lengths[name], n_levels), dtype=np.int64)
            source = self.request.given.get(name, self.request.prompts.get(name))
            if source is not None:
                codes_TK[: len(source)] = source
            streams[name] = codes_TK
        ids_TR = self.plan.interleave(streams, self._model.vocabulary)
        return np.where(self._unknown_TR, self._model.vocabulary.id("<none>"), ids_TR)

    def open_cells(self, step: int) -> list[tuple[int, int]]:
        """Row and legal set of the cells of a step that are to be drawn."""
        if step >= self.plan.n_steps:
            return []
        rows = self._open_TR[step].nonzero()[0].tolist()
        return [(row, int(self.plan.legal_TR[step, row])) for row in rows]

    def close_if_ended(self, step: int, ids_R: Tensor) -> bool:
        """Follows the plan for the known length once a leader drew its end."""
        if step >= self.plan.n_steps:
            return False
        drawn = {self._ends.get(int(ids_R[row])): row for row, _ in self.open_cells(step)}
        ended = {name: int(self.plan.frame_TR[step, row]) for name, row in drawn.items() if name is not None}
        if ended:
            self._ends = {token: name for token, name in self._ends.items() if name not in ended}
            self._cursor.close_all(ended, step)
            self.ended = True
            self._look()
        return bool(ended)

    def copies(self, step: int) -> list[tuple[int, int, int]]:
        """Row of each cell that shows again what was drawn; step and row of where it was drawn."""
        return self._copies.get(step, [])

    def _look(self) -> None:
        known_TR = self.plan.known(self._frames | {name: n + 1 for name, n in self._whole().items()})
        self._unknown_TR = ~known_TR & (self.plan.stream_TR != NO_STREAM)
        self._open_TR = self._unknown_TR & (self.plan.legal_TR > 0)
        self._copies: dict[int, list[tuple[int, int, int]]] = {}
        for cell, primary in self.plan.copies.T.tolist():
            step, row = divmod(cell, self.plan.n_rows)
            if self._unknown_TR[step, row]:
                from_step, from_row = divmod(primary, self.plan.n_rows)
                self._copies.setdefault(step, []).append((row, from_step, from_row))

    def _whole(self) -> dict[str, int]:
        """Streams that are given whole; their end marker is known as well."""
        return {name: len(tokens) for name, tokens in self.request.given.items()}
