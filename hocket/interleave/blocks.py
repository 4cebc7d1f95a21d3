"""Whether a layout can be read under a vocabulary: rows of one step must not share a block.

The model sums the embeddings of a step's cells. Two rows whose ids mean the same block could not be told apart: codes
(3, 5) would look like (5, 3). Streams that are separated in time may share blocks (`Vocabulary.build(share=…)`).
"""

import numpy as np

from hocket.errors import InputError
from hocket.interleave.layout import Layout
from hocket.interleave.plan import NO_STREAM
from hocket.vocab import Vocabulary

FEWEST, MOST = 48, 1 << 16  # frames of each stream in the plan that is looked through


def check_blocks(layout: Layout, vocabulary: Vocabulary) -> None:
    """Refuses a layout in which two cells of a step hold codes of one block.

    Raises:
        InputError: it does, under this vocabulary; or the vocabulary lacks a stream, a level or a token of the layout.
    """
    for token in layout.symbols:
        vocabulary.id(token)
    n_frames = frames_to_see(layout)
    lengths = dict.fromkeys(layout.streams, n_frames)
    by_spans = [name for node in layout.span_nodes() for name in node.part_streams]
    spans = dict.fromkeys(by_spans, (0, n_frames // 2, n_frames)) or None
    plan = layout.plan(lengths, spans=spans)
    offsets = [vocabulary.offsets(name)[:n_levels] for name, n_levels in layout.streams.items()]
    for (name, n_levels), found in zip(layout.streams.items(), offsets, strict=True):
        if len(found) < n_levels:
            raise InputError(f'{layout} needs {n_levels} levels of "{name}"; the vocabulary has {len(found)}')
    table = np.full((len(offsets), max(map(len, offsets))), -1)
    for row, found in enumerate(offsets):
        table[row, : len(found)] = found
    is_code = (plan.stream_TR != NO_STREAM) & (plan.source_TR >= len(plan.symbols))
    free = -1 - np.arange(plan.n_rows)  # cells without a code differ from each other and from all blocks
    block_TR = np.sort(np.where(is_code, table[plan.stream_TR, plan.level_TR], free), axis=1)
    shared = (block_TR[:, 1:] == block_TR[:, :-1]).any(axis=1)
    if shared.any():
        step = int(shared.argmax())
        block = block_TR[step, 1:][block_TR[step, 1:] == block_TR[step, :-1]][0]
        named = [name for name, found in zip(layout.streams, offsets, strict=True) if block in found]
        raise InputError(
            f"{layout} has two rows of one block at a step ({', '.join(named)}), which their sum could not tell apart; "
            "give each stream blocks of its own in the vocabulary"
        )


def frames_to_see(layout: Layout) -> int:
    """Frames of each stream that bring all rows live at one step: more than the steps of a period and its delays."""
    n_period = min(layout.period, MOST)
    return min(FEWEST + int(layout.count_steps(dict.fromkeys(layout.streams, n_period))), MOST)
