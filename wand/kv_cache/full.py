"""The cache of full attention, which keeps every column."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

from wand.kv_cache.step_context import StepContext


class _GrowingLayer(DynamicLayer):
    """Keys and values of one layer. Storage has spare room, so a step writes its column without copying the rest."""

    _storage: tuple[Tensor, Tensor] | None = None
    _given: Tensor | None = None  # the keys that this layer returned last; a beam or crop operation replaces `keys`

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Append ``[B, G, n, D]``. Storage doubles when it is full."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        before = self.get_seq_length()
        total = before + key_states.shape[2]
        if self._storage is None or total > self._storage[0].shape[2] or (before and self.keys is not self._given):
            rows, groups, _, width = key_states.shape
            larger = key_states.new_empty(2, rows, groups, 2 * total, width)
            if self.keys is not None and self.values is not None and before:
                larger[0, :, :, :before], larger[1, :, :, :before] = self.keys, self.values
            self._storage = larger[0], larger[1]
        keys, values = self._storage
        keys[:, :, before:total] = key_states
        values[:, :, before:total] = value_states
        self.keys, self.values = keys[:, :, :total], values[:, :, :total]
        self._given = self.keys
        return self.keys, self.values


class FullCache(DynamicCache):
    """Keeps every column, so its size and the time per step grow. All rows have the same position.

    Args:
        prefix_length: P, the number of prefix columns, including left padding.
        starts: ``[B]`` first real column of every row; None when no row is padded.
    """

    def __init__(self, prefix_length: int, starts: Tensor | None = None) -> None:
        super().__init__()
        self.layer_class_to_replicate = _GrowingLayer
        self.prefix_length = prefix_length
        self.starts = starts

    @property
    def nbytes(self) -> int:
        """Size of all keys and values in bytes, without spare room."""
        return sum(tensor.nbytes for tensor in self._tensors())

    @property
    def positions(self) -> Tensor:
        """``[1]`` next column, the same for all rows, on the device of the keys."""
        tensors = self._tensors()
        return torch.tensor([self.get_seq_length()], device=tensors[0].device if tensors else None)

    def keep(self, rows: Tensor) -> None:
        """Keep only the given rows ``[n]``."""
        self.batch_select_indices(rows)
        self.starts = None if self.starts is None else self.starts[rows]

    def _tensors(self) -> list[Tensor]:
        pairs = [(layer.keys, layer.values) for layer in self.layers if isinstance(layer, DynamicLayer)]
        return [tensor for pair in pairs for tensor in pair if tensor is not None]

    def step_context(self) -> StepContext:
        """The attention context of the next step."""
        mask = None
        if self.starts is not None:
            columns = torch.arange(self.get_seq_length() + 1, device=self.starts.device)
            mask = (columns >= self.starts[:, None])[:, None, None]
        return StepContext([mask] * len(self.layers))
