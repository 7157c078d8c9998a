"""Attention with an explicit mask: exact, on any device. The memory of the mask is quadratic in the length."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention


def dense_attention(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scaling: float | None = None
) -> Tensor:
    """Scaled-dot-product attention with grouped keys.

    Args:
        query: ``[B, H, Q, D]``.
        key: ``[B, G, S, D]``, G a divisor of H.
        value: ``[B, G, S, D]``.
        mask: ``[1 or B, 1, Q, S]`` bool (True = seen) or additive bias; None is plain causal (then Q = S).
        scaling: Factor of the logits; ``D ** -0.5`` by default.

    Returns:
        ``[B, Q, H, D]``, contiguous.
    """
    grouped = query.shape[1] != key.shape[1]
    output = scaled_dot_product_attention(
        query, key, value, attn_mask=mask, is_causal=mask is None, scale=scaling, enable_gqa=grouped
    )
    return output.transpose(1, 2).contiguous()
