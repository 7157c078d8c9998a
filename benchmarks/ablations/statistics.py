"""Paired t intervals over the seeds of trainings."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping
from dataclasses import dataclass

from scipy.special import stdtrit


@dataclass(frozen=True, slots=True)
class Difference:
    """The mean difference of two rows over the seeds that both have.

    Args:
        mean: The mean.
        interval: Its 95 % interval; None with fewer than two seeds.
        seeds: Number of seeds.
    """

    mean: float
    interval: tuple[float, float] | None
    seeds: int

    @property
    def resolved(self) -> bool:
        """Whether the interval excludes 0."""
        return self.interval is not None and not self.interval[0] <= 0 <= self.interval[1]


def paired(own: Mapping[int, float], other: Mapping[int, float], level: float = 0.95) -> Difference:
    """Own minus other, paired by seed, with the interval of Student's t.

    Args:
        own: A figure by seed.
        other: The figure that it is compared with, by seed.
        level: Level of the interval.

    Raises:
        ValueError: If the two have no seed in common.
    """
    differences = [own[seed] - other[seed] for seed in sorted(own.keys() & other.keys())]
    if not differences:
        raise ValueError(f"no seed in common: {sorted(own)} and {sorted(other)}")
    mean, count = statistics.fmean(differences), len(differences)
    if count < 2:
        return Difference(mean, None, count)
    half = float(stdtrit(count - 1, (1 + level) / 2)) * statistics.stdev(differences) / math.sqrt(count)
    return Difference(mean, (mean - half, mean + half), count)
