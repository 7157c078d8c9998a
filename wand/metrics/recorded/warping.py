"""Dynamic time warping: which frames of two sounds belong together."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

# How a path came to a pair (i, j): from (i - 1, j - 1), (i - 1, j) or (i, j - 1). Of equal ways, the first is taken.
BACK = ((1, 1), (1, 0), (0, 1))


def warping_path(costs: Tensor) -> Tensor:
    """The path from the first pair to the last whose sum of costs is smallest. All steps have the same weight.

    Time and memory grow with N * M; the pairs of an anti-diagonal are computed together.

    Args:
        costs: Cost of each pair of frames, ``[N, M]``, with N, M >= 1.

    Returns:
        The pairs of the path in order, int64 ``[P, 2]``, with max(N, M) <= P < N + M.
    """
    rows, columns = costs.shape
    # Row i is shifted by i places, so that column k holds the pairs with i + j = k.
    shifted = functional.pad(costs.double(), (0, rows), value=math.inf).flatten()[: rows * (rows + columns - 1)]
    diagonals = shifted.view(rows, rows + columns - 1).T.contiguous()
    nowhere = torch.full((rows + 1,), math.inf, dtype=torch.float64)
    # Sums of costs to the pairs of the last two diagonals; place 0 stands before the first row.
    before, last = nowhere, nowhere.clone()
    before[0] = 0
    steps = []
    for diagonal in diagonals:
        least = torch.stack([before[:-1], last[:-1], last[1:]]).min(0)
        steps.append(least.indices.to(torch.uint8))
        before, last = last, functional.pad(least.values + diagonal, (1, 0), value=math.inf)
    ways = torch.stack(steps).numpy()
    i, j = rows - 1, columns - 1
    path = [(i, j)]
    while i or j:
        back = BACK[ways[i + j, i]]
        i, j = i - back[0], j - back[1]
        path.append((i, j))
    return torch.tensor(path[::-1])
