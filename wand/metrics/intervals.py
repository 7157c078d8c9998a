"""Confidence intervals by resampling sentences (percentile bootstrap)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

RESAMPLES = 2000

Interval = tuple[float, float]


def resampled_sums(values: Tensor, resamples: int = RESAMPLES, seed: int = 0) -> Tensor:
    """Sums over sentences that are drawn with replacement.

    The M counts of a sentence are drawn together, so figures computed from one call's sums are paired. Counts of
    several systems on the same sentences can stand side by side.

    Counts may be crossed by several factors, such as voice and seed: each factor is drawn by itself, and a seed that is
    drawn twice counts twice in every voice (the pigeonhole bootstrap; Owen 2007).

    A single sentence says nothing about others, so its sums are NaN, and so is every interval of them.

    Args:
        values: M counts of each of N sentences, ``[N, M]``; with factors, ``[V, S, ..., M]``.
        resamples: R, the number of resamples.
        seed: Seed of the draws.

    Returns:
        The sums, float64 ``[R, M]``.
    """
    if math.prod(values.shape[:-1]) == 1:
        return torch.full((resamples, values.shape[-1]), math.nan, dtype=torch.float64)
    first, *others = _draws(values.shape[:-1], resamples, seed)
    sums = torch.tensordot(first, values.double(), 1)
    for weights in others:
        sums = torch.einsum("rn,rn...->r...", weights, sums)
    return sums


def resampled_medians(values: Tensor, resamples: int = RESAMPLES, seed: int = 0) -> Tensor:
    """Medians of all values of the sentences that are drawn, as in `resampled_sums`: the same seed draws the same ones.

    Args:
        values: Up to M values of each of N sentences; NaN counts as no value. ``[N, M]``; with factors,
            ``[V, S, ..., M]``.
        resamples: R, the number of resamples.
        seed: Seed of the draws.

    Returns:
        The lower medians, float64 ``[R]``; NaN for draws without values, and of a single sentence.
    """
    if math.prod(values.shape[:-1]) == 1:
        return torch.full((resamples,), math.nan, dtype=torch.float64)
    weights, *others = _draws(values.shape[:-1], resamples, seed)
    for own in others:
        weights = (weights[:, :, None] * own[:, None, :]).flatten(1)
    order = values.flatten().double().argsort()  # NaN comes last
    order = order[: int((~values.isnan()).sum())]
    reached = weights.repeat_interleave(values.shape[-1], dim=1)[:, order].cumsum(1)
    if not len(order):
        return torch.full((resamples,), math.nan, dtype=torch.float64)
    total = reached[:, -1:]
    places = torch.searchsorted(reached, total / 2).clamp(max=len(order) - 1)[:, 0]
    return values.flatten().double()[order[places]].masked_fill(total[:, 0] == 0, math.nan)


def _draws(factors: Sequence[int], resamples: int, seed: int) -> list[Tensor]:
    """How often each of the N levels of each factor is drawn, each ``[R, N]``."""
    generator = torch.Generator().manual_seed(seed)
    return [_weights(count, resamples, generator) for count in factors]


def _weights(count: int, resamples: int, generator: torch.Generator) -> Tensor:
    """How often each of N things is drawn, ``[R, N]``."""
    drawn = torch.randint(count, (resamples, count), generator=generator)
    weights = torch.zeros(resamples, count, dtype=torch.float64)
    return weights.scatter_add_(1, drawn, torch.ones_like(drawn, dtype=torch.float64))


def interval(samples: Tensor, level: float = 0.95) -> Interval:
    """The interval that contains the middle share `level` of resampled figures ``[R]``; NaN if any of them is NaN."""
    tail = (1 - level) / 2
    low, high = torch.quantile(samples.double(), torch.tensor([tail, 1 - tail], dtype=torch.float64)).tolist()
    return low, high


def upper_bound(samples: Tensor, level: float = 0.95) -> float:
    """The one-sided bound below which a share `level` of resampled figures ``[R]`` lies; NaN if any of them is NaN."""
    return float(torch.quantile(samples.double(), level))
