"""Functions of tensors of fixed shapes, captured as CUDA graphs: a step's kernels are launched by one call.

A small model's step has hundreds of kernels of a few microseconds each; launched one by one they wait for Python. A
graph is captured the first time that a function runs for a key (a bucket of the cache's length, the legal sets of a
step's rows) and replayed from then on. What changes from step to step goes through buffers that stay where they are:
the function must take positions, masks and numbers from tensors only, and give the same result when it runs twice.

On other devices the function runs as it is, on the same buffers.
"""

from collections.abc import Callable, Hashable, Sequence

import torch
from torch import Tensor

WARM_UPS = 2  # runs before a capture: kernels are chosen, tables made


class StaticFunction:
    """Runs a function of tensors on buffers of its own, once captured by a graph.

    Args:
        function: takes a key and tensors; returns tensors.
    """

    def __init__(self, function: "Callable[..., Sequence[Tensor]]"):
        self._function = function
        self._inputs: dict[Hashable, list[Tensor]] = {}
        self._graphs: dict[Hashable, tuple[torch.cuda.CUDAGraph, Sequence[Tensor]]] = {}
        self._pool = None

    def __call__(self, key: Hashable, *tensors: Tensor) -> Sequence[Tensor]:
        """The function's results for a key; on a GPU they are overwritten by the next call with this key.

        Args:
            tensors: of the same shapes, dtypes and device whenever the key is the same.
        """
        if key not in self._inputs:
            self._inputs[key] = [tensor.clone() for tensor in tensors]
        inputs = self._inputs[key]
        for buffer, tensor in zip(inputs, tensors, strict=True):
            buffer.copy_(tensor, non_blocking=True)
        if inputs[0].device.type != "cuda":
            return self._function(key, *inputs)
        if key not in self._graphs:
            self._graphs[key] = self._capture(key, inputs)
        graph, results = self._graphs[key]
        graph.replay()
        return results

    def _capture(self, key: Hashable, inputs: Sequence[Tensor]) -> tuple[torch.cuda.CUDAGraph, Sequence[Tensor]]:
        """Runs the function on a stream of its own, as a capture demands, then records it."""
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(WARM_UPS):
                self._function(key, *inputs)
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool):
            results = self._function(key, *inputs)
        self._pool = self._pool or graph.pool()
        return graph, results


def bucket(length: int, most: int, least: int = 64) -> int:
    """The size of cache that a step at this length reads: a power of two, so that there are few."""
    return min(most, max(least, 1 << (length - 1).bit_length()))
