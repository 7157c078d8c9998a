"""Which kernel computes an attention."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from wand.attention.band import BLOCK
from wand.attention.window import AttentionWindow

Kernel = Literal["dense", "band", "flex"]

# On a processor, `benchmarks/attention.py`: a logit of the band kernel costs at most this much more than a dense one,
BAND_LOGIT = 1.2
# and what it does apart from them takes about as long, in every row, as so many dense logits.
BAND_OVERHEAD = 350_000
BAND_DTYPES = (torch.float32, torch.bfloat16, torch.float64)
FLEX_DTYPES = (torch.float32, torch.bfloat16, torch.float16)
# FlexAttention's kernel knows no narrower heads.
FLEX_WIDTH = 16


def choose_kernel(query: Tensor, window: AttentionWindow, boundary: int, padded: bool) -> Kernel:
    """The fastest kernel that computes this.

    On CUDA that is FlexAttention. On a processor it is the band kernel for a hard window, if the speech is long enough
    to repay its blocks; a soft mask is dense there. A prefix alone is short, full attention without padding needs no
    mask: both are dense everywhere.

    Args:
        query: ``[B, H, S, D]``; device and dtype count too.
        window: The policy for speech columns.
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
