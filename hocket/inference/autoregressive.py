"""The loop over steps: a batch of documents goes in lockstep, all from step 0.

    step        0    1    2    3    4    5
    item 0      bos  P    P    .    .    end          P known from a prompt, . drawn
    item 1      bos  P    P    P    P    .            longer prompts are taken as they come

What all items know is read in one go; then, step by step, cells that a prompt forces are taken as they are, and the
others are drawn from their legal ids. An item whose stream ends follows the plan for the length that is now known.
Items that are done leave the batch once they are half of it.

Shapes: B batch, T steps, R rows, P rows of a pass, J legal ids, W tokens of the past, U numbers of a draw.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from hocket.inference.choice import Choice
from hocket.inference.guidance import Guidance, double, dropped_cells
from hocket.inference.item import DRAWS, Item
from hocket.inference.request import Request
from hocket.inference.sampling import Sampling, last_cells
from hocket.interleave.plan import Plan
from hocket.model import Model


class Autoregressive:
    """Samples documents of one causal model together.

    Args:
        requests: one for each document.
        sampling: how cells are drawn.
        guidance: how much more the conditions count than the model alone would let them.

    Raises:
        InputError: as `Item`; guidance of a model that is given nothing; settings of rows that the layout lacks.
    """

    def __init__(self, model: Model, requests: Sequence[Request], sampling: Sampling, guidance: Guidance | None = None):
        self.model = model
        self.items = [Item(model, request) for request in requests]
        most = max(item.most_steps for item in self.items)
        none = model.vocabulary.id("<none>")
        self.grid_BTR = torch.full((len(self.items), most, model.layout.n_rows), none)
        """What every document holds so far."""
        self.log_probability_BTR = torch.full(self.grid_BTR.shape, torch.nan)
        for b, item in enumerate(self.items):
            self._lay_out(b, item, 0)
        self._guidance = guidance if guidance and not guidance.is_off else None
        self._conditions = self._guidance.conditions(model.stage) if self._guidance else ()
        self._choose = Choice(sampling.bind(model))
        self._conditional: dict[Plan, Tensor] = {}  # cells of conditions, bool [T, R]
        self._alive = list(range(len(self.items)))  # items in the stepper's batch, in its order
        self._stepper = model.stepper(len(self.items) * (2 if self._guidance else 1), most)
        self.step = min(item.first_open_step for item in self.items)
        """Steps before this one are complete."""

    @property
    def n_steps(self) -> int:
        """Steps of the longest document, as far as is known."""
        return max(item.n_steps for item in self.items)

    @torch.inference_mode()
    def run(self) -> Iterator[int]:
        """Goes through the steps; after each, yields how many are complete."""
        if self.step < self.n_steps:
            self._feed(0)
        while self.step < self.n_steps:
            self._make(self.step)
            self.step += 1
            yield self.step
            self._drop_finished()
            if self.step < self.n_steps:
                self._feed(self.step - 1)

    def grid(self, item: int) -> np.ndarray:
        """The whole grid of an item that is done: int64 `[T, R]`."""
        return self.grid_BTR[item, : self.items[item].n_steps].numpy()

    def log_probabilities(self, item: int) -> np.ndarray:
        """Of the cells of an item that were drawn: float32 `[T, R]`, nan elsewhere."""
        return self.log_probability_BTR[item, : self.items[item].n_steps].numpy()

    # --- one step ---------------------------------------------------------------------------------------------------

    def _feed(self, first: int) -> None:
        """Reads the steps from `first` up to the one that is to be made."""
        ids_BTR = self.grid_BTR[self._alive, first : self.step]
        if self._guidance:
            dropped = [self._dropped(self.items[b], first) for b in self._alive]
            ids_BTR = double(ids_BTR, torch.stack(dropped), self.model.vocabulary.id("<null>"))
        self._stepper.feed(ids_BTR)

    def _dropped(self, item: Item, first: int) -> Tensor:
        """The cells of conditions, of the steps from `first` up to the one that is to be made: bool `[T, R]`."""
        dropped_TR = torch.zeros(self.step - first, self.model.layout.n_rows, dtype=torch.bool)
        if item.plan not in self._conditional:
            self._conditional[item.plan] = torch.from_numpy(dropped_cells(item.plan, self._conditions))
        found_TR = self._conditional[item.plan][first : self.step]
        dropped_TR[: len(found_TR)] = found_TR
        return dropped_TR

    def _make(self, step: int) -> None:
        """Draws the open cells of a step; with a depth head, once more those that saw what an end takes away."""
        self._show_copies(step)
        self._draw(step, self._alive)
        changed = [b for b in self._alive if step in self.items[b].cells.ends]
        while changed := [b for b in changed if self.items[b].follow(step, self.grid_BTR[b, step].tolist())]:
            for b in changed:
                self._lay_out_beside_end(b, step)
            if self.model.depth is not None:
                self._draw(step, changed)
        self._show_copies(step)

    def _lay_out_beside_end(self, b: int, step: int) -> None:
        """Writes what is known by a document's new plan; in this step, what was drawn stays where it is still open."""
        before_R = self.grid_BTR[b, step].clone()
        self._lay_out(b, self.items[b], step)
        keep_R = self.items[b].cells.open_TR[step]
        self.grid_BTR[b, step, keep_R] = before_R[keep_R]
        self.log_probability_BTR[b, step, self.grid_BTR[b, step] != before_R] = torch.nan

    def _draw(self, step: int, items: Sequence[int]) -> None:
        """Draws the open cells of some items; with a depth head row after row, each seeing those before."""
        for members, legal_R in self._groups(step, items):
            shape = (len(self._alive), self.model.layout.n_rows)
            open_BR = torch.zeros(shape, dtype=torch.bool)
            uniform_BRU = torch.zeros(*shape, DRAWS)
            for place, b in enumerate(self._alive):
                if b in members:
                    open_BR[place] = self.items[b].cells.open_TR[step]
                    uniform_BRU[place] = self.items[b].numbers.at(step)
            ids_BR, recent_BRW = self.grid_BTR[self._alive, step], self._recent(step)
            self._choose.banned = [self.items[b].banned(step) for b in self._alive]
            if self._guidance:
                done = [step / max(self.items[b].n_steps, 1) for b in self._alive]
                self._choose.scale_B = torch.tensor([self._guidance.at(share) for share in done])
                ids_BR, open_BR = ids_BR.repeat(2, 1), open_BR.repeat(2, 1)
            ids_BR, log_probability_BR = self._stepper.step(
                ids_BR, open_BR, legal_R, uniform_BRU, self._choose, recent_BRW
            )
            places = [self._alive.index(b) for b in members]
            open_MR = open_BR[places]
            self.grid_BTR[members, step] = ids_BR.cpu()[places]
            before_MR = self.log_probability_BTR[members, step]
            self.log_probability_BTR[members, step] = torch.where(open_MR, log_probability_BR.cpu()[places], before_MR)

    def _groups(self, step: int, items: Sequence[int]) -> Iterator[tuple[list[int], tuple[int, ...]]]:
        """Items that can be drawn together, as no row of theirs has two legal sets; the legal set of each row."""
        groups: list[tuple[list[int], list[int]]] = []
        for b in items:
            item = self.items[b]
            legal_R = item.cells.legal_TR[step] if step < item.n_steps else ()
            if not any(legal_R):
                continue
            for members, union_R in groups:
                if all(not x or not y or x == y for x, y in zip(union_R, legal_R, strict=True)):
                    members.append(b)
                    union_R[:] = [x or y for x, y in zip(union_R, legal_R, strict=True)]
                    break
            else:
                groups.append(([b], list(legal_R)))
        for members, union_R in groups:
            yield members, tuple(union_R)

    def _recent(self, step: int) -> Tensor | None:
        """The last tokens of each row's stream and level: int64 `[B, R, W]`, where the settings look at them."""
        window = self._choose.sampler.window
        if not window:
            return None
        rows, recent = range(self.model.layout.n_rows), []
        for b in self._alive:
            item = self.items[b]
            cells_RW = torch.full((len(rows), window), -1)
            if step < item.n_steps:
                cells_RW = torch.from_numpy(last_cells(item.plan, step, rows, window))
            tokens_RW = self.grid_BTR[b].flatten()[cells_RW.clamp_min(0)]
            recent.append(torch.where(cells_RW < 0, -1, tokens_RW))
        return torch.stack(recent)

    def _show_copies(self, step: int) -> None:
        """Fills the cells of a step that show again what was drawn."""
        for b in self._alive:
            for row, from_step, from_row in self.items[b].cells.copies.get(step, ()):
                self.grid_BTR[b, step, row] = self.grid_BTR[b, from_step, from_row]

    def _lay_out(self, b: int, item: Item, step: int) -> None:
        """Writes what is known from a step on."""
        self.grid_BTR[b, step:] = self.model.vocabulary.id("<none>")
        self.grid_BTR[b, step : item.n_steps] = item.cells.ids_TR[step:]

    def _drop_finished(self) -> None:
        going = [place for place, b in enumerate(self._alive) if self.items[b].n_steps > self.step]
        if going and 2 * len(going) <= len(self._alive):
            chosen = torch.tensor(going)
            self._stepper.select(torch.cat([chosen, chosen + len(self._alive)]) if self._guidance else chosen)
            self._alive = [self._alive[place] for place in going]
