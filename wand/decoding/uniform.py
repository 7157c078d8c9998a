"""Random numbers from a seed and a count: the same on every device, in any batch, and inside a CUDA graph."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

# Constants of splitmix64 (Steele, Lea and Flood, 2014), as signed numbers.
_STEP = 0x9E3779B97F4A7C15 - 2**64
_FIRST = 0xBF58476D1CE4E5B9 - 2**64
_SECOND = 0x94D049BB133111EB - 2**64


def uniform(seeds: Tensor, counts: Tensor, draws: int) -> Tensor:
    """Uniform numbers in [0, 1): float64 ``[B, draws]``.

    Args:
        seeds: int64 ``[B]``.
        counts: int64 ``[B]``: number of earlier calls for each row.
        draws: Numbers per call.
    """
    place = counts[:, None] * draws + torch.arange(draws, device=seeds.device)
    # Mix the seed before adding the place. Otherwise neighbouring seeds would give the same numbers, shifted.
    bits = _mix(_mix(seeds)[:, None] + place * _STEP)
    return _shifted(bits, 11).double() * 2.0**-53


def as_int64(seeds: Sequence[int]) -> Tensor:
    """Seeds as int64 ``[B]``. A larger number wraps around, so that the largest seed has one after it."""
    return torch.tensor([(seed + 2**63) % 2**64 - 2**63 for seed in seeds], dtype=torch.long)


def _mix(values: Tensor) -> Tensor:
    values = values + _STEP
    values = (values ^ _shifted(values, 30)) * _FIRST
    values = (values ^ _shifted(values, 27)) * _SECOND
    return values ^ _shifted(values, 31)


def _shifted(values: Tensor, bits: int) -> Tensor:
    """Unsigned shift to the right."""
    return (values >> bits) & ((1 << (64 - bits)) - 1)
