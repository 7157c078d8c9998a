"""Weights as int8, one scale a row: half the bytes of bfloat16, and a step's time is that of reading weights."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

# Beyond so many rows it is faster to make bfloat16 of the weight first.
FEW_ROWS = 20


@dataclass(frozen=True, slots=True, eq=False)
class Int8Weight:
    """A weight ``[N, D]`` as ``scales[:, None] * values``.

    Args:
        values: int8 ``[N, D]``.
        scales: bfloat16 ``[N]``: what is multiplied is rounded to bfloat16, for which kernels are fast.
    """

    values: Tensor
    scales: Tensor

    def multiply(self, given: Tensor) -> Tensor:
        """``[..., D]`` times the transposed weight: ``[..., N]``, in the dtype of what is given."""
        rows = given.reshape(-1, given.shape[-1]).to(torch.bfloat16)
        if len(rows) <= FEW_ROWS:
            product = torch._weight_int8pack_mm(rows, self.values, self.scales)
        else:
            product = functional.linear(rows, self.values.to(torch.bfloat16)) * self.scales
        return product.to(given.dtype).view(*given.shape[:-1], -1)

    def unpacked(self) -> Tensor:
        """The weight ``[N, D]`` that the values stand for, in float32."""
        return self.values.float() * self.scales.float()[:, None]


def quantize(weight: Tensor) -> Int8Weight:
    """Symmetric, to the nearest of 255 values of every row; a value is off by at most half a scale.

    Args:
        weight: ``[N, D]``.
    """
    full = weight.detach().float()
    scales = (full.abs().amax(dim=1).clamp(min=1e-12) / 127).to(torch.bfloat16)
    # Divided by the scale as it is kept; the largest values may then lie a little outside.
    values = (full / scales.float()[:, None]).round().clamp(-127, 127).to(torch.int8)
    return Int8Weight(values.contiguous(), scales)
