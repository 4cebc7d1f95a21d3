"""Filling in what is masked: MaskGIT level by level (SoundStorm, MAGNeT), and one pass a level (VALL-E, Bark).

    pass          frames of level 0        level 1         One forward pass of the whole document each; the number of
    0   prompt    a b ? ? ? ? ? ?          p q . . . .     passes does not grow with the audio. A pass draws all masked
    1             a b ? d ? ? g ?          p q . . . .     cells of the level, keeps those that score best, and masks
    2             a b c d e f g h          p q ? ? ? ?     the others again (`masking`); only these cells need the head.
    3             a b c d e f g h          p q r s t u

What is masked looks as it did in training: unknown codes of all levels are `<mask.…>`, prompts and given levels are
shown at all levels. 30 s of 8 levels at 12.5 Hz take 23 passes with 16 of the lowest level.

Documents of a batch lie end to end. How many cells each pass keeps is known beforehand, so that nothing is read back
from the device until the end. Each document has its own generator, and the numbers of a cell depend on its document,
level, pass and frame alone.

Shapes: N steps of all documents, R rows, D width, T frames, K levels, B documents, S passes of a level, U units (spans
of frames) of a document, filled up to the longest, L frames of a unit, M units that are drawn now, J legal ids.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from hocket.errors import InputError
from hocket.inference.drawing import Rules
from hocket.inference.item import check_request
from hocket.inference.masking import LevelSampling, MaskSampling
from hocket.inference.request import Progress, Request
from hocket.inference.sampling import Sampling
from hocket.interleave.batch import PlanBatch
from hocket.model import Model

Streams = dict[str, np.ndarray]


@dataclass(frozen=True)
class Filled:
    """What came out for one request."""

    streams: Streams  # int64 [T, K], every stream of the document
    log_probabilities: Streams  # float32 [T, K], of each code when it was drawn, at temperature 1; nan where given
    passes: int  # forward passes of the whole batch


@dataclass(frozen=True)
class Level:
    """A level to be filled in."""

    stream: str
    level: int
    legal: int  # number of its legal set
    sampling: Sampling
    passes: LevelSampling


class InPlaceSampler:
    """Fills in documents with a model that predicts in place.

    Raises:
        InputError: the model predicts step by step.
    """

    def __init__(self, model: Model):
        if not model.stage.in_place:
            raise InputError("this model predicts step by step; it is sampled by hocket.inference.Generator")
        self.model = model.eval()
        self._conditions = [name for name in model.layout.streams if name not in model.stage.predicted]

    @torch.inference_mode()
    def run(
        self,
        requests: Sequence[Request],
        sampling: Sampling | None = None,
        mask_sampling: MaskSampling | None = None,
        on_step: Progress | None = None,
    ) -> list[Filled]:
        """Fills in several documents together; each comes out as it would alone.

        Raises:
            InputError: a stream is missing, or its codes have another shape; a document exceeds the context; settings
                name a level that is not predicted, or do not fit how the model learned.
        """
        levels = self._levels(sampling or Sampling(), mask_sampling or MaskSampling())
        pack = Pack(self.model, requests)
        n_passes = sum(sum(_active(kept_B) for kept_B in pack.kept(level)) for level in levels)
        done = 0
        for level in levels:
            filling = Filling(pack, level, self._conditions)
            for step, kept_B in enumerate(pack.kept(level)):
                if _active(kept_B):
                    filling.run_pass(step, kept_B)
                    done += 1
                    if on_step:
                        on_step(done, n_passes)
        return pack.unpack(n_passes)

    def _levels(self, sampling: Sampling, settings: MaskSampling) -> list[Level]:
        stage, sampler = self.model.stage, sampling.bind(self.model)
        if sampler.window:
            raise InputError(
                "repetition_window is for codes that come one after another; these are predicted in place: leave it out"
            )
        names = [f"{stream}.{k}" for stream, k in stage.predicted_levels]
        for name in settings.levels:
            if name not in names:
                raise InputError(f'there are settings for level "{name}", but predicted are {", ".join(names)}')
        levels = []
        for number, (stream, k) in enumerate(stage.predicted_levels):
            passes, legal = (
                settings.of(names[number], number, stage.objective),
                stage.layout.legal_cells.index((stream, k)),
            )
            if passes.guided and not self._conditions:
                raise InputError(f"guidance needs a stream that is given whole; {stage.layout} has none: set it to 1")
            levels.append(Level(stream, k, legal, sampler.of(legal), passes))
        return levels


def _active(kept_B: Sequence[int]) -> bool:
    return any(kept_B)


class Pack:
    """Documents end to end: the ids of what is known, `<mask.…>` elsewhere.

    Raises:
        InputError: as `InPlaceSampler.run`.
    """

    def __init__(self, model: Model, requests: Sequence[Request]):
        self.model, self.requests = model, requests
        stage = model.stage
        if stage.layout.has_spans:
            raise InputError(f"{stage.layout} goes by spans, which codes that are predicted in place cannot")
        for request in requests:
            check_request(model, request)
        lengths = {name: [self._length(request, name) for request in requests] for name in stage.layout.streams}
        starts = [request.start for request in requests]
        ended = {name: [request.ends for request in requests] for name in stage.ended}
        self.plan: PlanBatch = stage.layout.batch(lengths, start=starts, ended=ended, given=stage.given)
        self._check_context()
        self.first = {name: np.cumsum([0, *n_B]) for name, n_B in lengths.items()}
        codes, self.known = self._codes()
        ids_NR = self.plan.interleave(codes, model.vocabulary)
        for name, k in stage.predicted_levels:
            hidden = self.plan.where[name][~self.known[name][:, k], k]
            ids_NR.reshape(-1)[hidden] = model.vocabulary.id(f"<mask.{stage.block(name, k)}>")
        device = model.device
        self.ids_C = torch.from_numpy(ids_NR.reshape(-1)).to(device)
        """The grid, flat; filled in place."""
        self.log_probability_C = torch.full(self.ids_C.shape, torch.nan, device=device)
        self.copies = torch.tensor(self.plan.copies).to(device) if len(self.plan.copied_cells[0]) else None
        self.starts = torch.tensor(self.plan.cu_seqlens).to(device)
        self.generators = [torch.Generator().manual_seed(request.seed) for request in requests]
        self.show_copies()

    def _length(self, request: Request, name: str) -> int:
        length, limit = len(request.given.get(name, ())), request.limits.get(name)
        if name not in request.given:
            assert limit is not None
            return limit
        if limit is not None and limit != length:
            raise InputError(f'"{name}" is given with {length} frames, and asked for with {limit}')
        if length < len(request.prompts.get(name, ())):
            raise InputError(
                f'the prompt of "{name}" has {len(request.prompts[name])} frames, more than the {length} of its levels '
                "that are given"
            )
        return length

    def _check_context(self) -> None:
        context, n_steps = self.model.config.context, int(np.diff(self.plan.cu_seqlens).max(initial=0))
        if n_steps > context:
            raise InputError(
                f"the document takes {n_steps} steps, more than the model's context of {context}; ask for less"
            )

    def _codes(self) -> tuple[Streams, Streams]:
        """Packed codes `[sum of lengths, K]` by stream, 0 where unknown; and which are known."""
        codes, known = {}, {}
        for name, n_levels in self.model.layout.streams.items():
            codes[name] = np.zeros((self.first[name][-1], n_levels), dtype=np.int64)
            known[name] = np.zeros(codes[name].shape, dtype=bool)
            for b, request in enumerate(self.requests):
                for source in (request.given.get(name), request.prompts.get(name)):
                    if source is not None:
                        place = slice(self.first[name][b], self.first[name][b] + len(source)), slice(source.shape[1])
                        codes[name][place], known[name][place] = source, True
        return codes, known

    def cells(self, stream: str, level: int) -> list[np.ndarray]:
        """The open cells of a level of each document, frame after frame: numbers of the flat grid, `[T]`."""
        cells, is_open = self.plan.where[stream][:, level], ~self.known[stream][:, level]
        bounds = self.first[stream]
        return [cells[a:b][is_open[a:b]] for a, b in zip(bounds[:-1], bounds[1:], strict=True)]

    def kept(self, level: Level) -> list[list[int]]:
        """How many units of each document each pass fixes: `[S][B]`."""
        span = level.passes.settings.span
        n_B = [-(-len(cells_T) // span) for cells_T in self.cells(level.stream, level.level)]
        left_BS = [[n, *level.passes.left(n)] for n in n_B]
        return [[left[s] - left[s + 1] for left in left_BS] for s in range(level.passes.steps)]

    def show_copies(self) -> None:
        """Fills the cells that show again what stands elsewhere."""
        if self.copies is not None:
            self.ids_C[self.copies[0]] = self.ids_C[self.copies[1]]

    def unpack(self, n_passes: int) -> list[Filled]:
        """The codes of each document."""
        ids_NR = self.ids_C.cpu().numpy().reshape(self.plan.shape)
        logp_NR = self.log_probability_C.cpu().numpy().reshape(self.plan.shape)
        codes = self.plan.documents(self.plan.deinterleave(ids_NR, self.model.vocabulary))
        logp = self.plan.documents(self.plan.deinterleave(logp_NR))
        return [Filled(*both, n_passes) for both in zip(codes, logp, strict=True)]


class Filling:
    """The passes of one level."""

    def __init__(self, pack: Pack, level: Level, conditions: Sequence[str]):
        self.pack, self.level, self.model = pack, level, pack.model
        device, settings = self.model.device, level.passes.settings
        cells_BUL, n_B = self._units(pack.cells(level.stream, level.level), settings.span)
        self.shape = cells_BUL.shape[:2]
        self.cells_XL = torch.from_numpy(cells_BUL).flatten(0, 1).to(device)  # X = B U
        self.open_X = (torch.arange(self.shape[1]) < torch.tensor(n_B)[:, None]).flatten().to(device)
        self.n_open_B = n_B
        self.uniform_SXL, self.noise_SX = self._numbers(n_B, settings.span)
        self.null_C: Tensor | None = None
        if level.passes.guided:
            cells = np.concatenate([pack.plan.where[name].reshape(-1) for name in conditions])
            self.null_C = torch.zeros_like(pack.ids_C, dtype=torch.bool)
            self.null_C[torch.from_numpy(cells).to(device)] = True
            if pack.copies is not None:
                self.null_C[pack.copies[0]] = self.null_C[pack.copies[1]]

    def _units(self, cells_BT: list[np.ndarray], span: int) -> tuple[np.ndarray, list[int]]:
        """Cells of each unit `[B, U, L]`, of which there are `n_B`. A short span repeats its last cell: drawn twice
        with one number, it comes out as one."""
        n_B = [-(-len(cells_T) // span) for cells_T in cells_BT]
        cells_BUL = np.zeros((len(n_B), max(n_B, default=0), span), dtype=np.int64)
        for b, cells_T in enumerate(cells_BT):
            if len(cells_T):
                filled = np.pad(cells_T, (0, n_B[b] * span - len(cells_T)), mode="edge")
                cells_BUL[b, : n_B[b]] = filled.reshape(-1, span)
        return cells_BUL, n_B

    def _numbers(self, n_B: list[int], span: int) -> tuple[Tensor, Tensor]:
        """In [0, 1): what each cell is drawn with in each pass `[S, X, L]`, and the noise of each unit `[S, X]`."""
        n_steps, (n_documents, n_units) = self.level.passes.steps, self.shape
        numbers_SBUL = torch.zeros(n_steps, n_documents, n_units, span + 1, dtype=torch.float64)
        for b, (generator, n) in enumerate(zip(self.pack.generators, n_B, strict=True)):
            numbers_SBUL[:, b, :n] = torch.rand(n_steps, n, span + 1, generator=generator, dtype=torch.float64)
        numbers_SXL = numbers_SBUL.flatten(1, 2).to(self.model.device)
        return numbers_SXL[..., :span], numbers_SXL[..., span]

    def run_pass(self, step: int, kept_B: Sequence[int]) -> None:
        """Draws all open units of the documents that fix some in this pass, and fixes the best."""
        units_M = self._drawn(kept_B)
        cells_ML = self.cells_XL[units_M]
        logits_MLJ = self._logits(cells_ML.flatten(), step).unflatten(0, cells_ML.shape)
        position_ML, sure_ML, logp_ML = self._draw(logits_MLJ, units_M, step)
        fixed_X = self._best(units_M, self._score(cells_ML, sure_ML, units_M, step), kept_B)
        ids_ML = self.model.head.legal_sets[self.level.legal].ids(position_ML)
        for held_C, new_ML in ((self.pack.ids_C, ids_ML), (self.pack.log_probability_C, logp_ML)):
            held_C[cells_ML] = torch.where(fixed_X[units_M, None], new_ML, held_C[cells_ML])
        self.pack.show_copies()
        self.open_X &= ~fixed_X
        self.n_open_B = [n - kept for n, kept in zip(self.n_open_B, kept_B, strict=True)]

    def _drawn(self, kept_B: Sequence[int]) -> Tensor:
        """The open units of the documents that fix some, in order; their number is known without asking the device."""
        n_drawn = sum(n for n, kept in zip(self.n_open_B, kept_B, strict=True) if kept)
        active_B = torch.tensor([kept > 0 for kept in kept_B], device=self.open_X.device)
        chosen_X = self.open_X & active_B.repeat_interleave(self.shape[1], output_size=len(self.open_X))
        return chosen_X.int().argsort(descending=True, stable=True)[:n_drawn]

    def _logits(self, cells_M: Tensor, step: int) -> Tensor:
        """Logits `[M, J]` of cells; one forward pass, of both halves where there is guidance."""
        pack, guidance = self.pack, self.level.passes.guidance(step)
        steps_M, starts = cells_M // pack.plan.n_rows, pack.starts
        ids_NR = pack.ids_C.view(pack.plan.shape)
        if self.null_C is None or guidance == 1:
            return self.model.head.logits(self.model.decoder(ids_NR, starts)[steps_M], self.level.legal)
        null = self.model.vocabulary.id("<null>")
        both_NR = torch.cat([ids_NR, pack.ids_C.masked_fill(self.null_C, null).view_as(ids_NR)])
        x_ND = self.model.decoder(both_NR, torch.cat([starts, starts[1:] + len(ids_NR)]))
        told_MJ = self.model.head.logits(x_ND[steps_M], self.level.legal)
        untold_MJ = self.model.head.logits(x_ND[len(ids_NR) + steps_M], self.level.legal)
        return untold_MJ + guidance * (told_MJ - untold_MJ)

    def _draw(self, logits_MLJ: Tensor, units_M: Tensor, step: int) -> tuple[Tensor, Tensor, Tensor]:
        """Positions among the legal ids, and their log-probabilities: at the temperature of sampling (which ranks
        them) and at 1; `[M, L]` each."""
        temperature = self.level.passes.temperature(step, self.level.sampling.temperature)
        shape, logits_F1J = logits_MLJ.shape[:2], logits_MLJ.flatten(0, 1)[:, None]
        ids_1J = torch.zeros(1, logits_MLJ.shape[-1], dtype=torch.int64, device=logits_MLJ.device)
        rules = Rules([replace(self.level.sampling, temperature=temperature)], ids_1J.shape[1], 0, ids_1J.device)
        uniform_F11 = self.uniform_SXL[step, units_M].flatten()[:, None, None]
        position_F1, logp_F1 = rules.draw(logits_F1J, uniform_F11, ids_1J)
        sure_F1 = logp_F1
        if temperature not in (0, 1):
            sure_FJ = (logits_F1J[:, 0] / temperature).log_softmax(-1)
            sure_F1 = sure_FJ.gather(1, position_F1)
        return position_F1.view(shape), sure_F1.view(shape), logp_F1.view(shape)

    def _score(self, cells_ML: Tensor, sure_ML: Tensor, units_M: Tensor, step: int) -> Tensor:
        """Which units are fixed first: those that score most; `[M]`."""
        settings, passes = self.level.passes.settings, self.level.passes
        noise_M = self.noise_SX[step, units_M].float()
        if settings.score == "random":
            return noise_M
        if settings.span_score == "max":
            score_M = sure_ML.amax(dim=1)
        else:
            is_own_ML = torch.ones_like(cells_ML, dtype=torch.bool)
            is_own_ML[:, 1:] = cells_ML[:, 1:] != cells_ML[:, :-1]
            score_M = (sure_ML * is_own_ML).sum(dim=1) / is_own_ML.sum(dim=1)
        return score_M - passes.noise(step) * torch.log(-torch.log(noise_M.clamp(1e-20, 1 - 1e-7)))

    def _best(self, units_M: Tensor, score_M: Tensor, kept_B: Sequence[int]) -> Tensor:
        """Which units are among the `kept_B` of their document that score most: bool `[X]`."""
        score_X = torch.full(self.open_X.shape, -torch.inf, device=score_M.device)
        score_X[units_M] = score_M
        rank_BU = score_X.view(self.shape).argsort(dim=1, descending=True, stable=True).argsort(dim=1)
        return (rank_BU < torch.tensor(kept_B, device=rank_BU.device)[:, None]).flatten()
