"""Interleaving: which code sits in which cell of the grid that the model reads.

Owns the layout algebra. A layout is a small expression over named streams; its plan for given lengths is one gather
with an exact inverse, and everything else (readiness, legality, forced cells, rates, drawings) is derived from it.
"""

from hocket.interleave.batch import PlanBatch
from hocket.interleave.blocks import check_blocks
from hocket.interleave.composites import Alternate, Concat, Lead, Multispeaker, Stack
from hocket.interleave.cursor import Cursor
from hocket.interleave.draw import draw_text
from hocket.interleave.layout import Layout
from hocket.interleave.leaf import Leaf
from hocket.interleave.nodes import CoarseFirst, Delay, Flatten, Marker, Parallel, Repeat, Text
from hocket.interleave.parse import (
    Scheme,
    Stage,
    build_scheme,
    layout_names,
    load_layout,
    load_scheme,
    load_stage,
    written,
)
from hocket.interleave.plan import Plan
from hocket.interleave.registry import register, source_of
from hocket.interleave.rows import PredictedRows, find_rows
from hocket.interleave.stream import StreamRef
from hocket.interleave.svg import draw_stages_svg, draw_svg
from hocket.interleave.transforms import align_text, deduplicate, reduplicate, unalign_text
from hocket.interleave.weights import LossWeights

__all__ = [
    "Alternate",
    "CoarseFirst",
    "Concat",
    "Cursor",
    "Delay",
    "Flatten",
    "Layout",
    "Lead",
    "Leaf",
    "LossWeights",
    "Marker",
    "Multispeaker",
    "Parallel",
    "Plan",
    "PlanBatch",
    "PredictedRows",
    "Repeat",
    "Scheme",
    "Stack",
    "Stage",
    "StreamRef",
    "Text",
    "align_text",
    "build_scheme",
    "check_blocks",
    "deduplicate",
    "draw_stages_svg",
    "draw_svg",
    "draw_text",
    "find_rows",
    "layout_names",
    "load_layout",
    "load_scheme",
    "load_stage",
    "reduplicate",
    "register",
    "source_of",
    "unalign_text",
    "written",
]
