"""Confidence intervals by resampling sentences (percentile bootstrap)."""

from __future__ import annotations

import torch
from torch import Tensor

RESAMPLES = 2000


def resampled_sums(values: Tensor, resamples: int = RESAMPLES, seed: int = 0) -> Tensor:
    """Sums over sentences that are drawn with replacement.

    The M counts of a sentence are drawn together, so figures computed from one call's sums are paired. Counts of
    several systems on the same sentences can stand side by side.

    Counts may be crossed by several factors, such as voice and seed: each factor is drawn by itself, and a seed that is
    drawn twice counts twice in every voice (the pigeonhole bootstrap; Owen 2007).

    Args:
        values: M counts of each of N sentences, ``[N, M]``; with factors, ``[V, S, ..., M]``.
        resamples: R, the number of resamples.
        seed: Seed of the draws.

    Returns:
        The sums, float64 ``[R, M]``.
    """
    generator = torch.Generator().manual_seed(seed)
    first, *others = [_weights(count, resamples, generator) for count in values.shape[:-1]]
    sums = torch.tensordot(first, values.double(), 1)
    for weights in others:
        sums = torch.einsum("rn,rn...->r...", weights, sums)
    return sums


def _weights(count: int, resamples: int, generator: torch.Generator) -> Tensor:
    """How often each of N things is drawn, ``[R, N]``."""
    drawn = torch.randint(count, (resamples, count), generator=generator)
    weights = torch.zeros(resamples, count, dtype=torch.float64)
    return weights.scatter_add_(1, drawn, torch.ones_like(drawn, dtype=torch.float64))


def interval(samples: Tensor, level: float = 0.95) -> tuple[float, float]:
    """The interval that contains the middle share `level` of resampled figures ``[R]``; NaN if any of them is NaN."""
    tail = (1 - level) / 2
    low, high = torch.quantile(samples.double(), torch.tensor([tail, 1 - tail], dtype=torch.float64)).tolist()
    return low, high


def upper_bound(samples: Tensor, level: float = 0.95) -> float:
    """The one-sided bound below which a share `level` of resampled figures ``[R]`` lies; NaN if any of them is NaN."""
    return float(torch.quantile(samples.double(), level))
