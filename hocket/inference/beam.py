"""Beam search: the most probable documents instead of drawn ones, for recognition and other layouts of one cell a step.

    step 4        the      (-0.3)          step 5        the cat  (-0.7)       ranks 1 to `beams` go on;
                  a        (-1.2)                        a cat    (-1.9)       those that end are set aside
                                                         the end  (-2.4)  ──▶  finished

A document keeps its `beams` most probable unfinished hypotheses. A hypothesis that ends while it is among the `beams`
most probable is finished, and keeps its score: its log-probability over ((5 + n) / 6) ** `length_penalty` for n drawn
cells, the end included (GNMT: Wu et al., 2016, arXiv:1609.08144). A document is done once `beams` hypotheses are
finished, or once no unfinished one can overtake the `n_best` finished ones, however long it grows and however certain
it becomes. Width 1 is greedy search.

All hypotheses of all documents go through the model as one batch, which shrinks as documents are done; what a document
finds does not depend on the others.

Shapes: N hypotheses that go on, T steps, R rows, J legal ids, C candidates of a hypothesis.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from hocket.errors import InputError
from hocket.inference.item import Item
from hocket.inference.request import Progress, Request
from hocket.interleave.checks import is_whole
from hocket.model import Model
from hocket.model.stepping import NOTHING, Pass, Stepper
from hocket.vocab import TEXT


@dataclass(frozen=True, kw_only=True)
class Hypothesis:
    """A document that was found."""

    streams: dict[str, np.ndarray]  # int64 [T, K], every stream of the document, prompt included
    log_probabilities: dict[str, np.ndarray]  # float32 [T, K], of each code that was chosen; nan of those that were not
    text: str | None  # what was recognised
    log_probability: float  # of all cells that were chosen together, ends included
    score: float  # the same over the length penalty: what hypotheses are ranked by
    steps: int  # of the document
    ended: bool  # the model ended every stream itself; otherwise a limit did


def beam_search(
    model: Model,
    requests: Sequence[Request],
    *,
    beams: int = 4,
    length_penalty: float = 0.6,
    n_best: int = 1,
    on_step: Progress | None = None,
) -> list[list[Hypothesis]]:
    """The best `n_best` hypotheses for each request, best first; fewer where there are no more.

    Args:
        model: a causal one, whose layout predicts one cell a step (recognition, flattened codes).
        requests: their seeds have no effect.
        beams: hypotheses that a document keeps; costs as much as a batch of so many.
        length_penalty: 0 ranks by log-probability, which prefers short documents; 1 about by its mean.
        on_step: called with the steps done, and those of the longest document.

    Raises:
        InputError: as `Item`; the settings are impossible, or two rows of a step are to be chosen.
    """
    for name, value in (("beams", beams), ("n_best", n_best)):
        if not is_whole(value, 1):
            raise InputError(f"{name} must be a whole number of hypotheses from 1 on, not {value!r}")
    if n_best > beams:
        raise InputError(f"beam search keeps {beams} hypotheses, so it cannot return the best {n_best}: raise beams")
    if isinstance(length_penalty, bool) or not isinstance(length_penalty, int | float) or not 0 <= length_penalty < 100:
        raise InputError(f"length_penalty must be 0 (none) or more, not {length_penalty!r}")
    if model.stage.in_place:
        raise InputError(f'beam search goes step by step, which objective "{model.stage.objective}" does not')
    with torch.inference_mode():
        search = _Search(model, requests, beams, length_penalty, n_best)
        for step in search.run():
            if on_step:
                on_step(step, search.most_steps)
    return [search.best(document) for document in range(len(requests))]


class _Path:
    """What hypotheses with the same ends have in common: the item, and the paths that branch off it."""

    def __init__(self, model: Model, request: Request, marks: tuple[tuple[int, int, int], ...] = ()):
        self._model, self._request, self._marks = model, request, marks
        self.item = Item(model, request)
        for step, row, token in marks:
            ids_R = [token if r == row else -1 for r in range(model.layout.n_rows)]
            assert self.item.follow(step, ids_R), "an end or a turn that changes nothing"
        open_T = self.item.cells.open_TR.sum(dim=1)
        if int(open_T.max()) > 1:
            raise InputError(
                f"beam search chooses one cell a step, but {model.layout} has {int(open_T.max())} of them: "
                "sample it instead, or flatten the layout"
            )
        open_steps = open_T.nonzero()[:, 0].tolist()
        self.last_open_step = open_steps[-1] if open_steps else -1
        self._branches: dict[tuple[int, int, int], _Path] = {}

    def branch(self, step: int, row: int, token: int) -> "_Path":
        """The path of those that chose an end, or a turn, in a step."""
        mark = (step, row, token)
        if mark not in self._branches:
            self._branches[mark] = _Path(self._model, self._request, (*self._marks, mark))
        return self._branches[mark]


@dataclass(frozen=True)
class _Beam:
    """An unfinished hypothesis."""

    document: int
    path: _Path
    log_probability: float = 0.0
    n_chosen: int = 0


@dataclass(frozen=True)
class _Candidate:
    """One more cell for a hypothesis, or none where it has nothing to choose in a step."""

    parent: int  # the hypothesis' place in the batch
    row: int | None
    token: int
    added: float  # log-probability of the token
    total: float  # with all before


class _Search:
    """All hypotheses of all documents."""

    def __init__(self, model: Model, requests: Sequence[Request], beams: int, length_penalty: float, n_best: int):
        self._model, self._beams, self._penalty, self._n_best = model, beams, length_penalty, n_best
        self._none = model.vocabulary.id("<none>")
        self._marks = {i for name, i in model.vocabulary.specials.items() if name.startswith(("<end.", "<to."))}
        self._found: list[list[Hypothesis]] = [[] for _ in requests]
        paths = [_Path(model, request) for request in requests]
        self.most_steps = max((path.item.most_steps for path in paths), default=0)
        grid_NTR = torch.full((len(paths), self.most_steps, model.layout.n_rows), self._none)
        for grid_TR, path in zip(grid_NTR, paths, strict=True):
            grid_TR[: path.item.n_steps] = path.item.cells.ids_TR
        beams_N = [_Beam(document, path) for document, path in enumerate(paths)]
        for n, beam in enumerate(beams_N):
            if beam.path.last_open_step < 0:
                self._finish(beam, grid_NTR[n], torch.full(grid_NTR[n].shape, torch.nan))
        going = [n for n, beam in enumerate(beams_N) if beam.path.last_open_step >= 0]
        self._live = [beams_N[n] for n in going]
        self._grid_NTR, self._logged_NTR = grid_NTR[going], torch.full(grid_NTR[going].shape, torch.nan)

    def best(self, document: int) -> list[Hypothesis]:
        """The best finished hypotheses of a document."""
        return sorted(self._found[document], key=lambda found: -found.score)[: self._n_best]

    def run(self) -> Iterator[int]:
        """Goes through the steps; after each, yields how many are complete."""
        if not self._live:
            return
        step = min(beam.path.item.first_open_step for beam in self._live)
        stepper = self._model.stepper(len(self._live), self.most_steps)
        stepper.feed(self._grid_NTR[:, :step])
        while True:
            before = len(self._live)
            parents = self._extend(self._candidates(stepper, step), step)
            yield step + 1
            if not parents:
                return
            if parents != list(range(before)):
                stepper.select(torch.tensor(parents))
            stepper.feed(self._grid_NTR[:, step : step + 1])
            step += 1

    # --- one step ---------------------------------------------------------------------------------------------------

    def _candidates(self, stepper: Stepper, step: int) -> list[list[_Candidate]]:
        """What each hypothesis may go on with."""
        groups: dict[tuple[int, ...], list[int]] = {}
        for place, beam in enumerate(self._live):
            item = beam.path.item
            if step < item.n_steps and any(item.cells.legal_TR[step]):
                groups.setdefault(item.cells.legal_TR[step], []).append(place)
        found = [[_Candidate(place, None, self._none, 0.0, b.log_probability)] for place, b in enumerate(self._live)]
        for legal_R, places in groups.items():
            for pass_ in stepper.passes(legal_R, self._grid_NTR[:, step]):
                for place, candidates in zip(places, self._rank(pass_, places, step), strict=True):
                    found[place] = candidates
        return found

    def _rank(self, pass_: Pass, places: list[int], step: int) -> Iterator[list[_Candidate]]:
        """The most probable cells for each of some hypotheses: twice the width, as half of them may end."""
        logits_NJ, ids_J = pass_.logits_BPJ[places, 0], pass_.ids_PJ[0]
        for logits_J, place in zip(logits_NJ, places, strict=True):
            for token in self._live[place].path.item.banned(step):
                logits_J.masked_fill_(ids_J == token, NOTHING)
        best = logits_NJ.log_softmax(dim=-1).topk(min(2 * self._beams, len(ids_J)), dim=-1)
        tokens, values = ids_J[best.indices].tolist(), best.values.tolist()
        for place, tokens_C, values_C in zip(places, tokens, values, strict=True):
            so_far = self._live[place].log_probability
            legal = [(token, value) for token, value in zip(tokens_C, values_C, strict=True) if value != NOTHING]
            yield [_Candidate(place, pass_.rows[0], token, value, so_far + value) for token, value in legal]

    def _extend(self, candidates: Sequence[list[_Candidate]], step: int) -> list[int]:
        """Takes the best candidates of each document; the places of the hypotheses that they come from."""
        chosen: list[tuple[_Beam, _Candidate]] = []
        for document in dict.fromkeys(beam.document for beam in self._live):
            pool = [
                c
                for beam, found in zip(self._live, candidates, strict=True)
                if beam.document == document
                for c in found
            ]
            going = self._take(sorted(pool, key=lambda c: -c.total), step)
            if not self._is_done(document, [beam for beam, _ in going], step):
                chosen += going
        parents = [candidate.parent for _, candidate in chosen]
        grid_NTR, logged_NTR = self._grid_NTR[parents], self._logged_NTR[parents]
        for n, (beam, candidate) in enumerate(chosen):
            self._write(beam, candidate, step, grid_NTR[n], logged_NTR[n])
        self._live, self._grid_NTR, self._logged_NTR = [beam for beam, _ in chosen], grid_NTR, logged_NTR
        return parents

    def _take(self, ranked: Sequence[_Candidate], step: int) -> list[tuple[_Beam, _Candidate]]:
        """Of one document's candidates, best first: those that end are set aside, the others go on."""
        going: list[tuple[_Beam, _Candidate]] = []
        for rank, candidate in enumerate(ranked):
            if len(going) == self._beams:
                break
            beam = self._follow(candidate, step, is_near=rank < self._beams)
            if beam is not None and beam.path.last_open_step > step:
                going.append((beam, candidate))
            elif beam is not None and rank < self._beams:
                grid_TR, logged_TR = (
                    self._grid_NTR[candidate.parent].clone(),
                    self._logged_NTR[candidate.parent].clone(),
                )
                self._write(beam, candidate, step, grid_TR, logged_TR)
                self._finish(beam, grid_TR, logged_TR)
        return going

    def _follow(self, candidate: _Candidate, step: int, *, is_near: bool) -> _Beam | None:
        """The hypothesis with one more cell; None where it would end, or turn, and is not among the best."""
        parent = self._live[candidate.parent]
        if candidate.row is None:
            return parent
        if candidate.token not in self._marks:
            return _Beam(parent.document, parent.path, candidate.total, parent.n_chosen + 1)
        if not is_near:
            return None
        path = parent.path.branch(step, candidate.row, candidate.token)
        return _Beam(parent.document, path, candidate.total, parent.n_chosen + 1)

    def _is_done(self, document: int, going: Sequence[_Beam], step: int) -> bool:
        """Whether a document has what it needs: enough, or what no other hypothesis can overtake."""
        scores = sorted((found.score for found in self._found[document]), reverse=True)
        if len(scores) >= self._beams:
            return True
        if len(scores) < self._n_best:
            return False
        longest = [beam.n_chosen + beam.path.item.most_steps - step - 1 for beam in going]
        return all(
            scores[self._n_best - 1] >= self._score(beam.log_probability, n)
            for beam, n in zip(going, longest, strict=True)
        )

    def _write(self, beam: _Beam, candidate: _Candidate, step: int, grid_TR: Tensor, logged_TR: Tensor) -> None:
        """Completes a step of a grid; after an end or a turn, what is known follows."""
        item = beam.path.item
        if candidate.row is not None:
            grid_TR[step, candidate.row], logged_TR[step, candidate.row] = candidate.token, candidate.added
        if candidate.token in self._marks:
            grid_TR[step + 1 :] = self._none
            grid_TR[step + 1 : item.n_steps] = item.cells.ids_TR[step + 1 :]
        for row, from_step, from_row in item.cells.copies.get(step, ()):
            grid_TR[step, row] = grid_TR[from_step, from_row]

    def _finish(self, beam: _Beam, grid_TR: Tensor, logged_TR: Tensor) -> None:
        item, vocabulary = beam.path.item, self._model.vocabulary
        streams = item.plan.deinterleave(grid_TR[: item.n_steps].numpy(), vocabulary)
        request, n = item.request, max(beam.n_chosen, 1)
        self._found[beam.document].append(
            Hypothesis(
                streams=streams,
                log_probabilities=item.plan.deinterleave(logged_TR[: item.n_steps].numpy()),
                text=vocabulary.decode_text(streams[TEXT][:, 0].tolist()) if TEXT in streams else None,
                log_probability=beam.log_probability,
                score=self._score(beam.log_probability, n),
                steps=item.n_steps,
                ended=item.ended >= set(request.limits) - set(request.given),
            )
        )

    def _score(self, log_probability: float, n_chosen: int) -> float:
        return log_probability / ((5 + n_chosen) / 6) ** self._penalty
