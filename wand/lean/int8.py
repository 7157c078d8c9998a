"""Int8 weights with one scale per row. Most of a step is reading weights; int8 halves their size against bfloat16."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

# With more rows than this, it is faster to convert the weight to bfloat16 first.
FEW_ROWS = 20
# The kernel for few rows reads whole vectors, so a width that is no multiple of one would make it read other memory.
VECTOR = 32


@dataclass(frozen=True, slots=True, eq=False)
class Int8Weight:
    """A weight ``[N, D]``, stored as ``scales[:, None] * values``.

    Args:
        values: int8 ``[N, D]``, with zeros up to a multiple of `VECTOR` columns.
        scales: bfloat16 ``[N]``. Inputs are rounded to bfloat16 too, because its kernels are fast.
        width: D.
    """

    values: Tensor
    scales: Tensor
    width: int

    def multiply(self, given: Tensor) -> Tensor:
        """Multiply ``[..., D]`` by the transposed weight. Returns ``[..., N]`` in the dtype of the input."""
        rows = given.reshape(-1, self.width).to(torch.bfloat16)
        if missing := self.values.shape[1] - self.width:
            rows = functional.pad(rows, (0, missing))
        if len(rows) <= FEW_ROWS:
            product = torch._weight_int8pack_mm(rows, self.values, self.scales)
        else:
            product = functional.linear(rows, self.values.to(torch.bfloat16)) * self.scales
        return product.to(given.dtype).view(*given.shape[:-1], -1)

    def unpacked(self) -> Tensor:
        """The weight ``[N, D]`` in float32."""
        return self.values[:, : self.width].float() * self.scales.float()[:, None]


def quantize(weight: Tensor) -> Int8Weight:
    """Quantize a weight symmetrically, with 255 levels per row. The error is at most half a scale.

    Args:
        weight: ``[N, D]``.
    """
    full = weight.detach().float()
    scales = (full.abs().amax(dim=1).clamp(min=1e-12) / 127).to(torch.bfloat16)
    # Divide by the rounded scale, because it is the one that is stored. The largest values may then be out of range.
    values = (full / scales.float()[:, None]).round().clamp(-127, 127).to(torch.int8)
    width = values.shape[1]
    return Int8Weight(functional.pad(values, (0, -width % VECTOR)).contiguous(), scales, width)
