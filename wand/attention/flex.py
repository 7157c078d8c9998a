"""Prefix + window attention with FlexAttention, for CUDA: hard, soft and full masks, with padding.

Window, boundary, starts and tau are tensors, so that one compiled kernel works for a whole curriculum. Tiles in which
no query sees a key are skipped. These tiles follow from the layout, without a mask of columns by columns.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask, flex_attention

from wand.attention.window import AttentionWindow

# Columns of a tile, as in FlexAttention.
TILE = 128
# Most variants of the compiled kernel: soft and hard masks, with and without gradients, one row and several, dtypes and
# models. After torch's own limit, which is 8, attention would run uncompiled and keep logits of columns by columns.
MOST_VARIANTS = 64
# Below 128 columns torch would choose its decoding kernel. That has no configuration for a tile of more than 128
# queries of one key head, and lowering then fails.
KERNEL_OPTIONS = {"FORCE_USE_FLEX_ATTENTION": True}


@dataclass(frozen=True)
class FlexProgram:
    """Inputs of FlexAttention that all layers of a forward pass share."""

    block_mask: BlockMask
    """Which tiles to skip, to compute without a mask, and to compute with the mask."""
    score_mod: Callable[..., Tensor] | None
    """Penalty of the soft mask; None if the mask is hard."""


def make_program(
    window: AttentionWindow, boundary: int, starts: Tensor | None, rows: int, columns: int, device: torch.device
) -> FlexProgram:
    """Make the mask of a batch.

    Args:
        window: Window of the layer.
        boundary: P, the column where speech starts.
        starts: ``[B]`` first real column of every row; None when no row is padded.
        rows: B.
        columns: S.
        device: Device of the mask.
    """
    first = torch.zeros(rows, dtype=torch.int32, device=device) if starts is None else starts.to(device, torch.int32)
    # A soft window hides nothing. It only lowers logits.
    hidden_from = columns if window.size is None or window.tau is not None else window.size
    size, speech = _scalar(hidden_from, device), _scalar(boundary, device)

    def seen(row: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        near = (key < speech) | (query - key < size)
        # A padding column sees itself, so that no row of the softmax is empty.
        return (key <= query) & near & ((key >= first[row]) | (key == query))

    return FlexProgram(_block_mask(seen, first, speech, size, columns), _penalty(window, speech, device))


def flex_attention_under(
    program: FlexProgram, query: Tensor, key: Tensor, value: Tensor, scaling: float | None = None
) -> Tensor:
    """Attention of all columns: ``[B, H, S, D]`` over ``[B, G, S, D]`` to ``[B, S, H, D]``.

    On a GPU, the kernel is compiled on first use. On other devices it runs uncompiled, for comparison only; on a CPU it
    has no gradient.
    """
    attend: Any = _compiled() if query.is_cuda else flex_attention
    grouped = query.shape[1] != key.shape[1]
    output: Tensor = attend(
        query,
        key,
        value,
        score_mod=program.score_mod,
        block_mask=program.block_mask,
        scale=scaling,
        enable_gqa=grouped,
        kernel_options=KERNEL_OPTIONS,
    )
    return output.transpose(1, 2).contiguous()


@cache
def _compiled(backend: Any = "inductor") -> Callable[..., Any]:
    # Dynamic, because the numbers of rows and columns differ between batches.
    compiled = torch.compile(flex_attention, dynamic=True, fullgraph=True, backend=backend)
    limited: Callable[..., Any] = torch._dynamo.config.patch(recompile_limit=MOST_VARIANTS)(compiled)
    return limited


def _scalar(value: float, device: torch.device) -> Tensor:
    dtype = torch.int32 if isinstance(value, int) else torch.float32
    return torch.full((), value, dtype=dtype, device=device)


def _penalty(window: AttentionWindow, speech: Tensor, device: torch.device) -> Callable[..., Tensor] | None:
    if window.tau is None:
        return None
    assert window.size is not None
    size, tau = _scalar(window.size, device), _scalar(float(window.tau), device)

    def penalise(score: Tensor, row: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return torch.where((key >= speech) & (query - key >= size), score - tau, score)

    return penalise


def _block_mask(seen: Callable[..., Tensor], starts: Tensor, boundary: Tensor, size: Tensor, columns: int) -> BlockMask:
    """Classify the tiles ``[B, 1, queries, keys]`` as skipped, whole or masked."""
    low = torch.arange(0, columns, TILE, device=starts.device)
    high = low + TILE - 1
    query_low, query_high, key_low, key_high = low[:, None], high[:, None], low, high
    start = starts[:, None, None, None]
    causal = key_low <= query_high
    prefix = (key_low < boundary) & (torch.minimum(key_high, boundary - 1) >= start)
    near = (key_high >= boundary) & (query_low - key_high < size)
    some = causal & (prefix | near | (query_low == key_low))
    every = (key_high <= query_low) & (key_low >= start) & ((key_high < boundary) | (query_high - key_low < size))
    # The last tile may extend beyond the last column, so it is never whole.
    every = every & (query_high < columns)
    return BlockMask.from_kv_blocks(
        *_listed(some & ~every), *_listed(every), BLOCK_SIZE=TILE, mask_mod=seen, seq_lengths=(columns, columns)
    )


def _listed(tiles: Tensor) -> tuple[Tensor, Tensor]:
    """The number of key tiles of every query tile, and all tile indices with these first, in order."""
    counts = tiles.sum(-1, dtype=torch.int32)
    return counts, tiles.int().argsort(dim=-1, descending=True, stable=True).int()
