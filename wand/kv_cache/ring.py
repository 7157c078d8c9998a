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

    Attributes:
        prefilled: Whether the first pass is done. Kept on the host, so that reading it does not wait for the device.
        loaded: Prefix slots before this column were filled from memory; see `wand.kv_cache.prefixes`.
        reread: Number of speech columns in the first pass.
        offsets: ``[B]`` index of the first of them in the speech.
    """

    def __init__(self, prefix_length: int, positions: Tensor) -> None:
        self.prefix_length = prefix_length
        self.positions = positions
        self.prefilled = False
        self.loaded = 0
        self.reread = 0
        self.offsets = torch.zeros_like(positions)


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
        """Write keys and values ``[B, G, n, D]``: one column, or the first pass if the cache is empty.

        The first pass is the whole prefix, and the speech columns that `Clock.reread` counts.
        """
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
        if columns != clock.prefix_length - clock.loaded + clock.reread or clock.prefilled:
            raise ValueError(
                f"{columns} columns do not fit this cache: the first call must take the whole prefix of "
                f"{clock.prefix_length} columns, every later one a single column"
            )
        self._write_first(self.keys, key_states)
        self._write_first(self.values, value_states)
        if self.last:
            clock.positions.copy_(clock.prefix_length + clock.offsets + clock.reread)
            clock.prefilled = True
        if clock.loaded == 0:
            return key_states, value_states
        known = slice(0, clock.loaded)
        keys, values = self.keys[:, :, known], self.values[:, :, known]
        return torch.cat([keys.to(key_states.dtype), key_states], 2), torch.cat(
            [values.to(value_states.dtype), value_states], 2
        )

    def _write_first(self, storage: Tensor, columns: Tensor) -> None:
        """Write the columns of the first pass ``[B, G, n, D]``: the prefix, then the newest W of the speech."""
        clock, window = self.clock, self.places.window
        columns = columns.to(storage.dtype)
        prefix, speech = columns.split([columns.shape[2] - clock.reread, clock.reread], dim=2)
        storage[:, :, clock.loaded : clock.prefix_length] = prefix
        kept = speech[:, :, -window:].transpose(1, 2)
        index = torch.arange(clock.reread - kept.shape[1], clock.reread, device=storage.device)
        slots = clock.prefix_length + (clock.offsets[:, None] + index) % window
        storage[torch.arange(len(storage), device=storage.device)[:, None], :, slots] = kept

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
        self.clock.loaded = self.clock.reread = 0
        self.clock.offsets.zero_()

    def reorder_cache(self, beam_idx: Tensor) -> None:
        """Raise ValueError: beam search would have to copy the rings at every step."""
        raise ValueError("beam search is not supported by PrefixWindowCache: use sampling or greedy decoding")
