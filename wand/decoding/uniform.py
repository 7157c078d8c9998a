"""Random numbers of a seed and a count alone: the same on every device, for any batch, inside a CUDA graph."""

from __future__ import annotations

import torch
from torch import Tensor

# Of splitmix64 (Steele, Lea and Flood, 2014), as signed numbers.
_STEP = 0x9E3779B97F4A7C15 - 2**64
_FIRST = 0xBF58476D1CE4E5B9 - 2**64
_SECOND = 0x94D049BB133111EB - 2**64


def uniform(seeds: Tensor, counts: Tensor, draws: int) -> Tensor:
    """Uniform numbers in [0, 1): float64 ``[B, draws]``.

    Args:
        seeds: int64 ``[B]``.
        counts: int64 ``[B]``: how many times the row has drawn before.
        draws: Numbers a time.
    """
    place = counts[:, None] * draws + torch.arange(draws, device=seeds.device)
    # A seed is mixed before the place is added, else neighbouring seeds would give the same numbers, shifted.
    bits = _mix(_mix(seeds)[:, None] + place * _STEP)
    return _shifted(bits, 11).double() * 2.0**-53


def _mix(values: Tensor) -> Tensor:
    values = values + _STEP
    values = (values ^ _shifted(values, 30)) * _FIRST
    values = (values ^ _shifted(values, 27)) * _SECOND
    return values ^ _shifted(values, 31)


def _shifted(values: Tensor, bits: int) -> Tensor:
    """To the right as unsigned numbers."""
    return (values >> bits) & ((1 << (64 - bits)) - 1)
