"""Tiny cascades on disk, and oracles that follow one rule through all of their stages.

The rule: units count up, s[t] = s[t-1] + 1, and end after the last there is; level 0 of the audio at frame t is
5 s + 1 of the unit s of that time; level k is level k - 1 plus 3 k; all modulo the number of codes. Without units level
0 counts up. It looks at nothing but its own time, so that windows give what one long document would.

Shapes: B batch, T steps or frames, R rows, K levels, P rows of a pass, J legal ids, M cells, N steps of all documents.
"""

from collections.abc import Sequence
from fractions import Fraction
from functools import partial

import numpy as np
import torch

from hocket.codec import CodecIdentity, load_codec
from hocket.inference.pipeline import Pipeline
from hocket.interleave import load_stage
from hocket.model import Model
from hocket.model.stepping import NOTHING, Stepper
from hocket.vocab import Vocabulary, train_bpe
from tests.conftest import TINY

LEVELS = 6
CASCADES = {
    "audiolm": ("audiolm-stages/semantic", "audiolm-stages/coarse", "audiolm-stages/fine"),
    "soundstorm": ("audiolm-stages/semantic", "soundstorm"),
    "bark": ("bark/semantic", "bark/coarse", "bark/fine"),
    "valle": ("valle/ar", "valle/nar"),
}
WITH_TEXT = ("bark", "valle")
TOKENIZER = train_bpe(["abc"], 256)


def units_identity(hop: int = 640, units: int = 60) -> CodecIdentity:
    return CodecIdentity(
        name="fake-units", revision="1", weight_hash="5", sample_rate=16000, hop=hop, codebook_sizes=(units,)
    )


def save_stage(
    folder,
    preset: str,
    *,
    codes: int = 20,
    units: CodecIdentity | None = None,
    units_source: str = "fake-units",
    audio: CodecIdentity | None = None,
    context: int = 128,
    levels: int = LEVELS,
    tokenizer=TOKENIZER,
) -> str:
    """Writes a tiny model of a preset's stage; of each level of the bundled codec it knows the first few codes."""
    units = units or units_identity()
    audio = audio or load_codec("bundled").identity
    audio = audio.with_levels(levels)
    identities = {"semantic": units, "audio": audio}
    rates = {name: identity.frame_rate for name, identity in identities.items()}
    stage = load_stage(preset, {"audio": levels, "semantic": 1}, rates)
    sizes = {"semantic": units.codebook_sizes, "audio": [codes] * levels}
    sizes = {name: sizes[name] for name in stage.layout.streams if name in sizes}
    codecs = {name: identities[name].fingerprint for name in sizes}
    vocabulary = Vocabulary.build(tokenizer if "text" in stage.layout.streams else None, sizes, codecs)
    main = "audio" if "audio" in sizes else "semantic"
    config = type(TINY)(**{**TINY.__dict__, "context": context})
    model = Model.build(
        config,
        vocabulary,
        stage,
        identities[main],
        codec_source="bundled" if main == "audio" else units_source,
        codec_identities={name: identities[name] for name in sizes},
        seed=len(preset),
    )
    folder.mkdir(parents=True, exist_ok=True)
    model.save(folder)
    return str(folder)


def save_cascade(folder, name: str, **changes) -> str:
    """Writes all stages of a cascade; what `Pipeline.open` takes."""
    return ",".join(
        save_stage(folder / f"{number}-{preset.split('/')[-1]}", preset, **changes)
        for number, preset in enumerate(CASCADES[name])
    )


# --- the rule ---------------------------------------------------------------------------------------------------------


def rule(start: int, n_frames: int, n_units: int, codes: int, ratio: Fraction) -> tuple[np.ndarray, np.ndarray]:
    """Units `[T, 1]` from a first one on, and the audio `[T, K]` of their time, at `ratio` units a frame."""
    n_semantic = min(int(n_frames * ratio), n_units - start)
    semantic_T = start + np.arange(n_semantic)
    n_audio = -(-(n_semantic + 1) // ratio) - 1
    level_T = (5 * semantic_T[[int(t * ratio) for t in range(n_audio)]] + 1) % codes
    return semantic_T[:, None], levels_above(level_T, codes)


def first_code(tokens: Sequence[int]) -> int:
    """Where units, or level 0, begin without a prompt."""
    return sum(tokens) % 7 if tokens else 3


def levels_above(level_T: np.ndarray, codes: int, levels: int = LEVELS) -> np.ndarray:
    """All levels `[T, K]` of what level 0 holds."""
    return (level_T[:, None] + 3 * np.arange(levels).cumsum()) % codes


class RuleStepper(Stepper):
    """Certain of the rule, and always in favour of an end where the audio may have one."""

    def __init__(self, model: Model, ratio: Fraction, batch: int, max_steps: int):
        super().__init__(model, batch, max_steps)
        self._vocabulary, self._layout, self._ratio = model.vocabulary, model.layout, ratio
        self._fed: list[list[int]] = [[] for _ in range(batch)]

    def feed(self, ids_BTR):
        for fed, ids_TR in zip(self._fed, ids_BTR.tolist(), strict=True):
            fed += [token for ids_R in ids_TR for token in ids_R]
        super().feed(ids_BTR)

    def select(self, indices_B):
        self._fed = [list(self._fed[b]) for b in indices_B.tolist()]
        super().select(indices_B)

    def passes(self, legal_R, ids_BR):
        cells = self._layout.legal_cells
        for pass_ in super().passes(legal_R, ids_BR):
            logits_BPJ = torch.full_like(pass_.logits_BPJ, NOTHING)
            for b, fed in enumerate(self._fed):
                for p, row in enumerate(pass_.rows):
                    stream, level = cells[legal_R[row]] or ("", 0)
                    for rank, token in enumerate(self._wanted(fed, stream, level)):
                        logits_BPJ[b, p][pass_.ids_PJ[p] == token] = 50.0 - rank
            yield pass_._replace(logits_BPJ=logits_BPJ)

    def _codes(self, fed: list[int], block: str) -> list[int]:
        found = self._vocabulary[block]
        return [token - found.start for token in fed if found.start <= token < found.stop]

    def _wanted(self, fed: list[int], stream: str, level: int) -> list[int]:
        """Ids, the one that is wanted most first."""
        vocabulary, block = self._vocabulary, self._vocabulary[f"{stream}.{level}"]
        held = self._codes(fed, block.name)
        units = self._codes(fed, "semantic.0") if stream == "audio" and "semantic" in vocabulary.streams else None
        if level:
            code = _at(self._codes(fed, f"audio.{level - 1}"), len(held)) + 3 * level
        elif units is not None:
            code = 5 * _at(units, int(len(held) * self._ratio)) + 1
        else:
            code = held[-1] + 1 if held else first_code(self._codes(fed, "text") if vocabulary.text else [])
        end = [vocabulary.id(f"<end.{stream}>")]
        if level or units is not None:
            return [*end, block.start + code % block.size]
        return [block.start + code] if code < block.size else end


def _at(codes: list[int], place: int) -> int:
    """0 for a document that is not at this stream and level: it is not drawn."""
    return codes[place] if place < len(codes) else 0


class RuleInPlace:
    """Stands in for the decoder and the head of a model that predicts in place: looks at a step and the one before."""

    def __init__(self, model: Model):
        self._model = model
        model.__dict__["decoder"] = self.decoder
        model.head.__dict__["logits"] = self.logits

    def decoder(self, ids_NR, starts):
        return torch.stack([ids_NR, ids_NR.roll(1, dims=0)], dim=-1).flatten(1).float()

    def logits(self, x_MD, legal):
        vocabulary, stage = self._model.vocabulary, self._model.stage
        stream, level = stage.layout.legal_cells[legal]
        size = vocabulary[f"{stream}.{level}"].size
        if level:
            code_M = self._code(x_MD[:, 0::2], f"audio.{level - 1}") + 3 * level
        else:
            code_M = 5 * self._code(x_MD[:, 1::2], "semantic.0") + 1
        return 50 * torch.nn.functional.one_hot(code_M % size, size).float()

    def _code(self, ids_MR, block: str):
        found = self._model.vocabulary[block]
        is_code_MR = (ids_MR >= found.start) & (ids_MR < found.stop)
        return ((ids_MR - found.start) * is_code_MR).sum(dim=1).long()


def follow_rule(pipeline: Pipeline) -> None:
    """Makes oracles of all stages."""
    rates = pipeline.clock.rates
    ratio = rates.get("semantic", Fraction(1)) / rates["audio"]
    for stage in pipeline.parts:
        model = stage.model
        if model.stage.in_place:
            RuleInPlace(model)
        else:
            model.__dict__["stepper"] = partial(RuleStepper, model, ratio)
