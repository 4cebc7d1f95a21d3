"""Interleaving: which code sits in which cell of the grid that the model reads.

Owns the layout algebra. A layout is a small expression over named streams; its plan for given lengths is one gather
with an exact inverse, and everything else (readiness, legality, forced cells, rates, drawings) is derived from it.
"""

from hocket.interleave.cursor import Cursor
from hocket.interleave.draw import draw_svg, draw_text
from hocket.interleave.layout import Concat, Delay, Flatten, Layout, Parallel, Text
from hocket.interleave.parse import layout_names, load_layout
from hocket.interleave.plan import Plan
from hocket.interleave.stream import StreamRef
from hocket.interleave.transforms import align_text, deduplicate, reduplicate, unalign_text, words_within

__all__ = [
    "Concat",
    "Cursor",
    "Delay",
    "Flatten",
    "Layout",
    "Parallel",
    "Plan",
    "StreamRef",
    "Text",
    "align_text",
    "deduplicate",
    "draw_svg",
    "draw_text",
    "layout_names",
    "load_layout",
    "reduplicate",
    "unalign_text",
    "words_within",
]
