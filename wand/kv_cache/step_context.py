"""The attention context of one decoding step."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention


class StepContext:
    """The attention context of one decoding step. Each row has one query over the slots of a cache.

    Args:
        masks: The mask of each layer, ``[B, 1, 1, slots - first]``, True where the slot is seen; None if all slots are.
        first: No row sees the slots before this one. They are not read.
    """

    def __init__(self, masks: Sequence[Tensor | None], first: int = 0) -> None:
        self.masks = masks
        self.first = first

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scaling: float | None = None) -> Tensor:
        """``[B, H, 1, D]`` over ``[B, G, slots, D]`` to ``[B, 1, H, D]``."""
        key, value = key[:, :, self.first :], value[:, :, self.first :]
        # Fold the heads that share a key/value head into queries of one attention: keys are read once and not copied.
        folded = query.reshape(query.shape[0], key.shape[1], -1, query.shape[3])
        output = scaled_dot_product_attention(folded, key, value, attn_mask=self.masks[layer], scale=scaling)
        return output.reshape(query.shape[0], 1, -1, value.shape[3])
