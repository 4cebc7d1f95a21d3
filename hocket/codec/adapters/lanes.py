"""Items of different lengths side by side, piece by piece, and several such groups on several threads.

The longest items come first, so that those still going on are always the first rows of the next piece:

    lane 0   [------][------][---]
    lane 1   [------][--]              the third piece has one row
    lane 2   [------][-]

Shapes: B batch, N steps (samples or frames), M steps of the output; the last axis is time.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import torch
from torch.nn.functional import pad

from hocket.codec.adapters.seanet import Ends, SeanetState

Run = Callable[[SeanetState, torch.Tensor, Ends], torch.Tensor]


def in_lanes(items: list[torch.Tensor], state: SeanetState, run: Run, piece: int, unit: int) -> list[torch.Tensor]:
    """`run` on pieces [B, ..., up to `piece` steps]; each item's outputs [..., M], joined.

    The items [..., N] are sorted from the longest to the shortest, N >= 1; pieces are filled up to whole `unit`s.
    """
    outputs: list[list[torch.Tensor]] = [[] for _ in items]
    for start in range(0, items[0].shape[-1], piece):
        ends = [min(item.shape[-1] - start, piece) for item in items if item.shape[-1] > start]
        width = -(-ends[0] // unit) * unit
        rows = [pad(item[..., start : start + n], (0, width - n)) for item, n in zip(items, ends, strict=False)]
        state.keep(len(rows))
        for output, row in zip(outputs, run(state, torch.stack(rows), ends), strict=False):
            output.append(row)
    return [torch.cat(output, dim=-1) for output in outputs]


def on_threads(
    items: list[torch.Tensor], run: Callable[[list[torch.Tensor]], list[torch.Tensor]], lanes: int
) -> dict[int, torch.Tensor]:
    """`run` on groups of at most `lanes` items sorted by length, longest first; its results by the item's index.

    Empty items are left out. The groups are shared out to as many threads as torch uses, each computing alone: small
    matrices gain little from several threads inside one operation.
    """
    order = sorted((i for i, item in enumerate(items) if item.shape[-1]), key=lambda i: -items[i].shape[-1])
    n_threads = torch.get_num_threads() if items and items[0].device.type == "cpu" else 1
    size = max(1, min(lanes, -(-len(order) // n_threads)))
    groups = [order[start : start + size] for start in range(0, len(order), size)]

    @torch.no_grad()
    def run_group(group: list[int]) -> dict[int, torch.Tensor]:
        return dict(zip(group, run([items[i] for i in group]), strict=True))

    if n_threads == 1 or len(groups) < 2:
        done = [run_group(group) for group in groups]
    else:
        with ThreadPoolExecutor(n_threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            done = list(pool.map(run_group, groups))
        torch.set_num_threads(n_threads)
    return {index: result for group in done for index, result in group.items()}
