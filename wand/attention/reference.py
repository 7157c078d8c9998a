"""A slow, literal implementation of prefix + window attention. Every kernel is tested against it."""

from __future__ import annotations

import torch
from torch import Tensor

from wand.attention.window import AttentionWindow


def attention_logit_offset(
    query_column: int, key_column: int, *, start: int, boundary: int, window: AttentionWindow
) -> float | None:
    """The value that the mask adds to one attention logit; None if the key is not seen."""
    if key_column > query_column:
        return None
    if key_column < start:
        # A padding column sees only itself. Its output is not used.
        return 0.0 if key_column == query_column else None
    both_speech = key_column >= boundary and query_column >= boundary
    if window.size is None or not both_speech or query_column - key_column < window.size:
        return 0.0
    return None if window.tau is None else -window.tau


def reference_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    window: AttentionWindow,
    boundary: int,
    starts: Tensor | None = None,
    scaling: float | None = None,
) -> Tensor:
    """Attention of every column over the columns that it sees, one softmax at a time.

    Args:
        query: ``[B, H, S, D]``.
        key: ``[B, G, S, D]``; head h reads key/value head ``h // (H / G)``.
        value: ``[B, G, S, D]``.
        window: Window of the layer.
        boundary: P, the column where speech starts.
        starts: ``[B]`` first real column of every row.
        scaling: Factor of the logits; ``D ** -0.5`` by default.

    Returns:
        ``[B, S, H, D]``.
    """
    batch, heads, columns, width = query.shape
    scale = width**-0.5 if scaling is None else scaling
    rows = []
    for b in range(batch):
        start = 0 if starts is None else int(starts[b])
        for h in range(heads):
            group = h // (heads // key.shape[1])
            for i in range(columns):
                offsets = [
                    attention_logit_offset(i, j, start=start, boundary=boundary, window=window) for j in range(columns)
                ]
                seen = [j for j, offset in enumerate(offsets) if offset is not None]
                bias = query.new_tensor([offset for offset in offsets if offset is not None])
                logits = key[b, group, seen] @ query[b, h, i] * scale + bias
                rows.append(torch.softmax(logits, dim=0) @ value[b, group, seen])
    return torch.stack(rows).view(batch, heads, columns, width).transpose(1, 2)
