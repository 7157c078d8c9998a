"""Captures a decoding step as CUDA graphs, which removes the launch cost of its kernels."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor


def capture(
    first: Callable[[], None], second: Callable[[], None], state: Callable[[], Sequence[Tensor]]
) -> tuple[Callable[[], None], Callable[[], None]]:
    """Capture the two halves of a step on a GPU.

    Args:
        first: First half of a step, without arguments or result. It must change tensors in place and must not wait for
            the host.
        second: Second half, with the same rules.
        state: Returns all tensors that the halves change. The warm-up restores their values.

    Returns:
        Functions that replay the graphs of the two halves.
    """
    # The device of the tensors may not be the current device.
    with torch.cuda.device(state()[0].device):
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            kept = [tensor.clone() for tensor in state()]
            # Warm up: libraries choose their kernels and allocate their workspaces.
            for _ in range(3):
                first()
                second()
            for tensor, value in zip(state(), kept, strict=True):
                tensor.copy_(value)
        torch.cuda.current_stream().wait_stream(side)
        graphs = []
        pool = torch.cuda.graph_pool_handle()
        for half in (first, second):
            graph = torch.cuda.CUDAGraph()
            # Other threads may keep using CUDA, such as the thread of a loader that pins memory.
            with torch.cuda.graph(graph, pool=pool, stream=side, capture_error_mode="thread_local"):
                half()
            graphs.append(graph)
    return graphs[0].replay, graphs[1].replay
