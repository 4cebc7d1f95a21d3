"""Going through a layout step by step while the codes are being made.

A stream that is *open* has a limit instead of a length: its leader may choose `<end>` at any frame up to there. The
cursor follows the plan for the limits; when a stream ends at frame T, it goes on along the plan for T. That is sound
because every layout is stable up to the decision: the two plans agree on all steps up to the end marker's, which the
cursor asserts and the tests run through for every layout. By spans, a leader may also choose `<to.STREAM>`: the turn
ends there, and one of that stream begins, open up to its limit.
"""

from collections.abc import Iterable, Mapping

import numpy as np

from hocket.interleave.layout import Layout
from hocket.interleave.plan import Plan
from hocket.interleave.spans import Spans, find_turns, freeze_spans


class Cursor:
    """One document in the making.

    Args:
        layout: the layout to go through.
        lengths: frames of the streams that are given whole.
        limits: most frames of each stream that is open.
        start: `<bos>` or `<cont>`.
        given: streams that are never predicted.
        ended: whether the document truly ends, so that streams carry their end markers; otherwise those alone do whose
            end was chosen.
        spans, seed: for layouts by spans: the turns so far, the last of them open.
    """

    def __init__(
        self,
        layout: Layout,
        lengths: Mapping[str, int],
        limits: Mapping[str, int],
        start: str = "<bos>",
        *,
        given: Iterable[str] = (),
        ended: bool = True,
        spans: Spans | None = None,
        seed: int = 0,
    ):
        self._layout, self._start, self._given = layout, start, tuple(given)
        self._ended = set(layout.streams) if ended else set()
        self._lengths, self._open = {**lengths, **limits}, set(limits)
        self._turns = None
        if spans is not None:
            self._turns = find_turns(layout.span_nodes()[0], freeze_spans(spans), self._lengths, seed)
        self.plan = self._compile()

    def close(self, stream: str, n_frames: int, step: int) -> Plan:
        """The stream's leader chose `<end>` at `step`, after `n_frames` frames. Returns the plan to follow now."""
        return self.close_all({stream: n_frames}, step)

    def close_all(self, n_frames: Mapping[str, int], step: int) -> Plan:
        """Several streams ended at one step."""
        before = self.plan
        for stream, n in n_frames.items():
            assert stream in self._open, f"{stream} is not open"
            self._open.discard(stream)
            self._ended.add(stream)
            self._lengths[stream] = n
            if self._turns is not None:
                self._turns = [
                    (name, min(a, n), min(b, n)) if name == stream else (name, a, b) for name, a, b in self._turns
                ]
        return self._follow(before, step)

    def switch(self, to: str, n_frames: int, step: int, first: int | None = None) -> Plan:
        """The leader of the stream whose turn it is chose `<to.TO>` at `step`, after `n_frames` of its frames in all.

        The turn is over; one of `to` begins at its frame `first` (where its last turn ended, unless given), open up to
        its limit. Returns the plan to follow now.
        """
        assert self._turns, f"{self._layout} does not go by spans"
        before, (stream, begin, _) = self.plan, self._turns[-1]
        kept = [*self._turns[:-1], (stream, begin, n_frames)]
        reached = max((stop for name, _, stop in kept if name == to), default=0)
        self._turns = [*kept, (to, reached if first is None else first, self._lengths[to])]
        return self._follow(before, step)

    def _follow(self, before: Plan, step: int) -> Plan:
        self.plan = self._compile()
        self._check(before, step)
        return self.plan

    def _compile(self) -> Plan:
        return self._layout.plan(
            self._lengths, start=self._start, ended=self._ended, given=self._given, spans=self._turns
        )

    def _check(self, before: Plan, step: int) -> None:
        """The cells up to the decision stay where they were."""
        agree = before.frame_TR[:step] == self.plan.frame_TR[:step]
        agree &= before.stream_TR[:step] == self.plan.stream_TR[:step]
        agree &= before.legal_TR[:step] == self.plan.legal_TR[:step]
        assert np.all(agree), f"{self._layout.expression} moved cells that were already chosen"
