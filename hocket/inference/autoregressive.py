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

from hocket.inference.item import Item
from hocket.inference.request import Request
from hocket.inference.sampling import Sampling, last_cells
from hocket.model import Model
from hocket.model.stepping import NOTHING, Pass


class Autoregressive:
    """Samples documents of one causal model together.

    Args:
        requests: one for each document.
        sampling: how cells are drawn.

    Raises:
        InputError: as `Item`.
    """

    def __init__(self, model: Model, requests: Sequence[Request], sampling: Sampling):
        self.model, self._sampler = model, sampling.bind(model)
        self.items = [Item(model, request) for request in requests]
        most = max(item.most_steps for item in self.items)
        none = model.vocabulary.id("<none>")
        self.grid_BTR = torch.full((len(self.items), most, model.layout.n_rows), none)
        """What every document holds so far."""
        self.log_probability_BTR = torch.full(self.grid_BTR.shape, torch.nan)
        for b, item in enumerate(self.items):
            self._lay_out(b, item, 0)
        self._alive = list(range(len(self.items)))  # items in the stepper's batch, in its order
        self._stepper = model.stepper(len(self.items), most)
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
            self._stepper.feed(self.grid_BTR[:, : self.step])
        while self.step < self.n_steps:
            self._make(self.step)
            self.step += 1
            yield self.step
            self._drop_finished()
            if self.step < self.n_steps:
                self._stepper.feed(self.grid_BTR[self._alive, self.step - 1 : self.step])

    def grid(self, item: int) -> np.ndarray:
        """The whole grid of an item that is done: int64 `[T, R]`."""
        return self.grid_BTR[item, : self.items[item].n_steps].numpy()

    def log_probabilities(self, item: int) -> np.ndarray:
        """Of the cells of an item that were drawn: float32 `[T, R]`, nan elsewhere."""
        return self.log_probability_BTR[item, : self.items[item].n_steps].numpy()

    # --- one step ---------------------------------------------------------------------------------------------------

    def _make(self, step: int) -> None:
        """Draws the open cells of a step; once more those that stay open beside an end."""
        self._show_copies(step)
        for group, legal_R in self._groups(step):
            self._draw(step, group, legal_R)
        changed = [b for b in self._alive if self.items[b].follow(step, self.grid_BTR[b, step].tolist())]
        for b in changed:
            before_R = self.grid_BTR[b, step].clone()
            self._lay_out(b, self.items[b], step)
            keep_R = self.items[b].cells.open_TR[step]
            self.grid_BTR[b, step, keep_R] = before_R[keep_R]
            self.log_probability_BTR[b, step, self.grid_BTR[b, step] != before_R] = torch.nan
        if changed and self.model.depth is not None:
            again = [b for b in changed if any(self.items[b].cells.legal_TR[step])]
            for group, legal_R in self._groups(step, again):
                self._draw(step, group, legal_R)
        self._show_copies(step)

    def _groups(self, step: int, items: Sequence[int] | None = None) -> Iterator[tuple[list[int], tuple[int, ...]]]:
        """Items that can be drawn together, as no row of theirs has two legal sets; the legal set of each row."""
        groups: list[tuple[list[int], list[int]]] = []
        for b in self._alive if items is None else items:
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

    def _draw(self, step: int, group: Sequence[int], legal_R: tuple[int, ...]) -> None:
        """Draws the open cells of some items; with a depth head row after row, each seeing those before."""
        places = [self._alive.index(b) for b in group]
        ids_BR = self.grid_BTR[self._alive, step]
        uniform_MRU = torch.stack([self.items[b].uniform(step) for b in group])
        open_MR = torch.stack([self.items[b].cells.open_TR[step] for b in group])
        for drawn in self._stepper.passes(legal_R, ids_BR):
            rows = list(drawn.rows)
            logits_MPJ = self._without_banned(drawn, places, group, step)
            uniform_MPU = uniform_MRU[:, rows].to(logits_MPJ.device)
            position_MP, log_probability_MP = self._sampler.choose(
                drawn._replace(logits_BPJ=logits_MPJ), legal_R, uniform_MPU, self._recent(step, group, rows)
            )
            log_probability_MP = log_probability_MP.cpu()
            chosen_MP = drawn.ids_PJ.expand(len(group), -1, -1).gather(-1, position_MP[..., None])[..., 0].cpu()
            for p, row in enumerate(rows):
                ids_BR[places, row] = torch.where(open_MR[:, row], chosen_MP[:, p], ids_BR[places, row])
                logged_M = self.log_probability_BTR[group, step, row]
                self.log_probability_BTR[group, step, row] = torch.where(
                    open_MR[:, row], log_probability_MP[:, p], logged_M
                )
        self.grid_BTR[group, step] = ids_BR[places]

    def _recent(self, step: int, group: Sequence[int], rows: Sequence[int]) -> Tensor | None:
        """The last tokens of each row's stream and level: int64 `[M, P, W]`, where the settings look at them."""
        if not self._sampler.window:
            return None
        recent = []
        for b in group:
            cells_PW = torch.from_numpy(last_cells(self.items[b].plan, step, rows, self._sampler.window))
            tokens_PW = self.grid_BTR[b].flatten()[cells_PW.clamp_min(0)]
            recent.append(torch.where(cells_PW < 0, -1, tokens_PW))
        return torch.stack(recent).to(self.model.device)

    def _without_banned(self, drawn: Pass, places: list[int], group: Sequence[int], step: int) -> Tensor:
        logits_MPJ = drawn.logits_BPJ if places == list(range(len(drawn.logits_BPJ))) else drawn.logits_BPJ[places]
        for m, b in enumerate(group):
            for token in self.items[b].banned(step):
                logits_MPJ[m] = logits_MPJ[m].masked_fill(drawn.ids_PJ == token, NOTHING)
        return logits_MPJ

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
            self._stepper.select(torch.tensor(going))
            self._alive = [self._alive[place] for place in going]
