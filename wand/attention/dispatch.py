"""Chooses the kernel that computes an attention."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from wand.attention.band import BLOCK
from wand.attention.window import AttentionWindow

Kernel = Literal["dense", "band", "flex"]

# Costs on a CPU (`benchmarks/attention.py`): a logit of the band kernel costs at most this many dense logits,
BAND_LOGIT = 1.2
# plus a fixed cost per row, equal to about this many dense logits.
BAND_OVERHEAD = 350_000
BAND_DTYPES = (torch.float32, torch.bfloat16, torch.float64)
FLEX_DTYPES = (torch.float32, torch.bfloat16, torch.float16)
# Minimum width of a head in FlexAttention's kernel.
FLEX_WIDTH = 16


def choose_kernel(query: Tensor, window: AttentionWindow, boundary: int, padded: bool) -> Kernel:
    """Choose the fastest kernel for an attention.

    On CUDA this is FlexAttention. On a CPU it is the band kernel for a hard window if the speech is long enough, else
    the dense kernel. A prefix without speech, and full attention without padding (which needs no mask), use the dense
    kernel on all devices.

    Args:
        query: ``[B, H, S, D]``. Its device and dtype also matter.
        window: Window of the layer.
        boundary: P, the column where speech starts.
        padded: Whether any row is padded.
    """
    heads, columns, width = query.shape[1:]
    if columns <= boundary or (window.is_full and not padded):
        return "dense"
    if query.is_cuda:
        return "flex" if query.dtype in FLEX_DTYPES and width >= FLEX_WIDTH else "dense"
    if window.size is None or window.tau is not None or query.device.type != "cpu" or query.dtype not in BAND_DTYPES:
        return "dense"
    speech = columns - boundary
    logits = boundary**2 + speech * (boundary + BLOCK + min(window.size, speech))
    return "band" if heads * (columns**2 - BAND_LOGIT * logits) > BAND_OVERHEAD else "dense"
