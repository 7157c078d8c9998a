"""Weights as int8, one scale a row: half the bytes of bfloat16, and a step's time is that of reading weights."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

# Beyond so many rows it is faster to unpack the weight once and multiply in the dtype of the activations.
FEW_ROWS = 8


@dataclass(frozen=True, slots=True, eq=False)
class Int8Weight:
    """A weight ``[N, D]`` as ``scales[:, None] * values``.

    Args:
        values: int8 ``[N, D]``.
        scales: ``[N]``, in the dtype of the activations.
    """

    values: Tensor
    scales: Tensor

    def multiply(self, given: Tensor) -> Tensor:
        """``[..., D]`` times the transposed weight: ``[..., N]``."""
        rows = given.reshape(-1, given.shape[-1])
        if len(rows) <= FEW_ROWS:
            product = torch._weight_int8pack_mm(rows, self.values, self.scales)
        else:
            product = functional.linear(rows, self.unpacked())
        return product.view(*given.shape[:-1], -1)

    def unpacked(self) -> Tensor:
        """The weight ``[N, D]`` that the values stand for."""
        return self.values.to(self.scales.dtype) * self.scales[:, None]


def quantize(weight: Tensor) -> Int8Weight:
    """Symmetric, to the nearest of 255 values of every row; a value is off by at most half a scale.

    Args:
        weight: ``[N, D]``.
    """
    scales = weight.detach().float().abs().amax(dim=1).clamp(min=1e-12) / 127
    # Rounded first, so that values fit the scale that is kept.
    kept = scales.to(weight.dtype)
    values = (weight.detach().float() / kept.float()[:, None]).round().clamp(-127, 127).to(torch.int8)
    return Int8Weight(values.contiguous(), kept)
