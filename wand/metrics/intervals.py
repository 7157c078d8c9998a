"""Confidence intervals by resampling sentences (percentile bootstrap)."""

from __future__ import annotations

import torch
from torch import Tensor

RESAMPLES = 2000


def resampled_sums(values: Tensor, resamples: int = RESAMPLES, seed: int = 0) -> Tensor:
    """Sums over sentences that are drawn with replacement.

    The M counts of a sentence are drawn together, so figures computed from one call's sums are paired.

    Args:
        values: M counts of each of N sentences, ``[N, M]``.
        resamples: R, the number of resamples.
        seed: Seed of the draws.

    Returns:
        The sums, float64 ``[R, M]``.
    """
    count = len(values)
    drawn = torch.randint(count, (resamples, count), generator=torch.Generator().manual_seed(seed))
    weights = torch.zeros(resamples, count, dtype=torch.float64)
    weights.scatter_add_(1, drawn, torch.ones_like(drawn, dtype=torch.float64))
    return weights @ values.double()


def interval(samples: Tensor, level: float = 0.95) -> tuple[float, float]:
    """The interval that contains the middle share `level` of resampled figures ``[R]``; NaN if any of them is NaN."""
    tail = (1 - level) / 2
    low, high = torch.quantile(samples.double(), torch.tensor([tail, 1 - tail], dtype=torch.float64)).tolist()
    return low, high
