"""Going through a layout step by step while the codes are being made.

A stream that is *open* has a limit instead of a length: its leader may choose `<end>` at any frame up to there. The
cursor follows the plan for the limits; when a stream ends at frame T, it goes on along the plan for T. That is sound
because every layout here is stable up to the decision: the two plans agree on all steps up to the end marker's, which
`check` asserts and the tests run through for every layout.
"""

from collections.abc import Mapping

import numpy as np

from hocket.interleave.layout import Layout
from hocket.interleave.plan import Plan


class Cursor:
    """One document in the making.

    Args:
        layout: the layout to go through.
        lengths: frames of the streams that are given whole.
        limits: most frames of each stream that is open.
        start: `<bos>` or `<cont>`.
    """

    def __init__(self, layout: Layout, lengths: Mapping[str, int], limits: Mapping[str, int], start: str = "<bos>"):
        self._layout, self._start = layout, start
        self._lengths, self._open = {**lengths, **limits}, set(limits)
        self._ended = set(lengths)
        self.plan = self._compile()

    def close(self, stream: str, n_frames: int, step: int) -> Plan:
        """The stream's leader chose `<end>` at `step`, after `n_frames` frames. Returns the plan to follow now."""
        assert stream in self._open, f"{stream} is not open"
        before = self.plan
        self._open.discard(stream)
        self._ended.add(stream)
        self._lengths[stream] = n_frames
        self.plan = self._compile()
        self._check(before, step)
        return self.plan

    def _compile(self) -> Plan:
        return self._layout.plan(self._lengths, start=self._start, ended=self._ended)

    def _check(self, before: Plan, step: int) -> None:
        """The cells up to the decision stay where they were."""
        agree = before.frame_TR[:step] == self.plan.frame_TR[:step]
        agree &= before.stream_TR[:step] == self.plan.stream_TR[:step]
        agree &= before.legal_TR[:step] == self.plan.legal_TR[:step]
        assert np.all(agree), f"{self._layout.expression} moved cells that were already chosen"
