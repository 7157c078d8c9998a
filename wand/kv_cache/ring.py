"""The layers of a `PrefixWindowCache`: P slots for the prefix and a ring of W slots.

Shapes: B rows, G key/value heads, D the width of a head.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import CacheLayerMixin


class Clock:
    """The position of every row, shared by all layers.

    The cache and its layers refer to this object, so the layers need no reference to the cache. Without a reference
    circle, memory is freed as soon as the cache is dropped.

    Args:
        prefix_length: P.
        positions: ``[B]`` column that each row writes next.
    """

    def __init__(self, prefix_length: int, positions: Tensor) -> None:
        self.prefix_length = prefix_length
        self.positions = positions
        self.prefilled = False
        self.loaded = 0


class Places:
    """The slots that layers with the same window write.

    Args:
        clock: The clock of the cache.
        window: W.
    """

    def __init__(self, clock: Clock, window: int) -> None:
        self.clock = clock
        self.window = window
        # The places of the current step. The first layer with this window computes them for all such layers.
        self.current = clock.positions

    def slots(self) -> Tensor:
        """``[B]`` slot that each row writes next."""
        speech = self.clock.positions - self.clock.prefix_length
        return torch.where(speech < 0, self.clock.positions, self.clock.prefix_length + speech % self.window)

    def find(self, storage: Tensor) -> None:
        """Set `current` to the rows ``[B * G]`` of the next column in storage viewed as ``[B * G * slots, D]``."""
        batch, groups, slots, _ = storage.shape
        heads = torch.arange(batch * groups, device=storage.device).view(batch, groups)
        self.current = (heads * slots + self.slots()[:, None]).flatten()


class RingLayer(CacheLayerMixin):
    """Keys and values of one layer.

    Args:
        places: The slots to write, shared by the layers with the same window.
        shape: ``(B, G, P + W)``.
        widths: D of the keys and of the values.
        dtype: The dtype of keys and values.
        device: The device of keys and values.
        first: Whether this is the first layer with its window.
        last: Whether this is the last layer of the model.
    """

    # Without this, transformers makes no mask for a single query, which would then see empty slots.
    is_compileable = True
    is_sliding = False

    def __init__(
        self,
        places: Places,
        shape: tuple[int, int, int],
        widths: Sequence[int],
        dtype: torch.dtype,
        device: torch.device | str,
        first: bool,
        last: bool,
    ) -> None:
        super().__init__()
        self.clock = places.clock
        self.places = places
        self.first = first
        self.last = last
        self.keys: Tensor = torch.zeros(*shape, widths[0], dtype=dtype, device=device)
        self.values: Tensor = torch.zeros(*shape, widths[1], dtype=dtype, device=device)
        self.is_initialized = True

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """Do nothing: storage is allocated when the cache is created."""

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Write keys and values ``[B, G, n, D]``: the whole prefix (n = P) if the cache is empty, else one column."""
        clock = self.clock
        columns = key_states.shape[2]
        if columns == 1 and clock.prefilled:
            if self.first:
                self.places.find(self.keys)
            self._write(self.keys, key_states)
            self._write(self.values, value_states)
            if self.last:
                clock.positions += 1
            return self.keys, self.values
        if columns != clock.prefix_length - clock.loaded or clock.prefilled:
            raise ValueError(
                f"{columns} columns do not fit this cache: the first call must take the whole prefix of "
                f"{clock.prefix_length} columns, every later one a single column"
            )
        prefix = slice(clock.loaded, clock.prefix_length)
        self.keys[:, :, prefix] = key_states.to(self.keys.dtype)
        self.values[:, :, prefix] = value_states.to(self.values.dtype)
        if self.last:
            clock.positions.fill_(clock.prefix_length)
            clock.prefilled = True
        if clock.loaded == 0:
            return key_states, value_states
        return self.keys[:, :, : clock.prefix_length], self.values[:, :, : clock.prefix_length]

    def _write(self, storage: Tensor, column: Tensor) -> None:
        """Write one column ``[B, G, 1, D]`` to the slots of the step."""
        width = storage.shape[-1]
        rows = column.to(storage.dtype).reshape(-1, width)
        storage.view(-1, width).index_copy_(0, self.places.current, rows)

    def get_seq_length(self) -> int:
        """Number of columns that the first row has written."""
        return int(self.clock.positions[0])

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Keys and offset of the mask that transformers builds: the prefix in the first forward, then all slots."""
        if not self.clock.prefilled:
            return query_length, 0
        return self.clock.prefix_length + self.places.window, 0

    def get_max_length(self) -> int:
        """No limit: the ring wraps."""
        return -1

    def reset(self) -> None:
        """Empty all rows of the cache."""
        super().reset()
        self.clock.positions.zero_()
        self.clock.prefilled = False
        self.clock.loaded = 0

    def reorder_cache(self, beam_idx: Tensor) -> None:
        """Raise ValueError: beam search would have to copy the rings at every step."""
        raise ValueError("beam search is not supported by PrefixWindowCache: use sampling or greedy decoding")
