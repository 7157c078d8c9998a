"""Rates of several systems on the same sentences: each with its interval, differences, and the share won back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from wand.metrics.intervals import Interval, interval, resampled_sums


@dataclass(frozen=True, slots=True)
class Figure:
    """A figure with its 95 % interval, from resampled sentences."""

    value: float
    interval: Interval


def resampled_rates(counts: Tensor) -> Tensor:
    """Rates over all sentences, and over R resamples of the sentences that all rates share.

    Args:
        counts: Numerator and denominator of M rates in each of N sentences, ``[N, M, 2]``.

    Returns:
        The rates, float64 ``[1 + R, M]``: of all sentences, then of the resamples. NaN where there is nothing to
        divide by, and in the resamples of a single sentence.
    """
    flat = counts.double().flatten(1)
    sums = torch.cat([flat.sum(0, keepdim=True), resampled_sums(flat)]).unflatten(1, (-1, 2))
    return sums[..., 0] / sums[..., 1]


def compare(rates: Sequence[Tensor]) -> Figure | None:
    """A figure from the rates ``[1 + R]`` of one, two or three systems.

    One system gives its rate. Two give the first minus the second. Three are a teacher, an untrained window and a
    student, and give the share of the untrained window's loss that the student has won back: 0 is as bad as the
    untrained window, 1 as good as the teacher. It is None if the untrained window lost nothing, or so little that the
    95 % interval of the loss includes nothing: the share could be any number.

    Args:
        rates: Rates of the systems, from one call of `resampled_rates`, in the same order.
    """
    if len(rates) < 3:
        values = rates[0] if len(rates) == 1 else rates[0] - rates[1]
    else:
        teacher, untrained, student = rates
        loss = untrained - teacher
        if not (loss[0] > 0 and interval(loss[1:])[0] > 0) or not loss.all():  # also without an interval
            return None
        values = (untrained - student) / loss
    return Figure(float(values[0]), interval(values[1:]))
