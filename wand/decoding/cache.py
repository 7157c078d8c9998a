"""The key/value cache of a decoding run under a window. It holds all state of the run.

In every layer, `PrefixWindowCache` has P prefix slots and a ring of W slots. The column with absolute index p is
written to slot p if p < P, else to slot ``P + (p - P) % W``. Keys are stored after RoPE, so the order of slots does not
matter: the window is the set of filled slots, which is all slots once the ring is full. W may differ by layer.

Shapes: B rows, G key/value heads, D the width of a head.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from transformers import PretrainedConfig
from transformers.cache_utils import Cache, CacheLayerMixin

from wand.attention.body import KeyValueShape


class StepContext:
    """The attention context of one decoding step. Each row has one query over the slots of a cache.

    Args:
        masks: The mask of each layer, ``[B, 1, 1, slots]``, True where the slot is seen; None if all slots are.
    """

    def __init__(self, masks: Sequence[Tensor | None]) -> None:
        self.masks = masks

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scaling: float | None = None) -> Tensor:
        """``[B, H, 1, D]`` over ``[B, G, slots, D]`` to ``[B, 1, H, D]``."""
        # Fold the heads that share a key/value head into queries of one attention: keys are read once and not copied.
        folded = query.reshape(query.shape[0], key.shape[1], -1, query.shape[3])
        output = scaled_dot_product_attention(folded, key, value, attn_mask=self.masks[layer], scale=scaling)
        return output.reshape(query.shape[0], 1, -1, value.shape[3])


def key_value_shape(config: PretrainedConfig) -> tuple[int, int, int]:
    """Number of layers, number of key/value heads and head width of a transformers decoder."""
    heads = config.num_attention_heads
    groups = getattr(config, "num_key_value_heads", None) or heads
    width = getattr(config, "head_dim", None) or config.hidden_size // heads
    return config.num_hidden_layers, groups, width


def kv_bytes(config: PretrainedConfig, columns: int | Sequence[int], itemsize: int = 4, rows: int = 1) -> int:
    """Size of the keys and values in bytes: ``2 * heads * width * itemsize`` per column, layer and row.

    Args:
        config: Configuration of the transformers decoder.
        columns: Number of columns that each layer keeps: one number for all layers, or one for each.
        itemsize: Size of one number, in bytes.
        rows: B.
    """
    layers, groups, width = key_value_shape(config)
    kept = columns * layers if isinstance(columns, int) else sum(columns)
    return 2 * groups * width * itemsize * kept * rows


class PrefixWindowCache(Cache):
    """A cache of constant size: in every layer, P slots for the prefix and a ring of W slots for speech.

    Each row has its own position, and rows can be restarted one by one (`restart`). If all rows have the same position
    and all layers the same window, the cache also works as ``past_key_values`` of transformers' stock ``generate()``,
    with stock masks and stock attention. The first forward pass must contain the whole prefix; each later one must
    contain exactly one column.

    Args:
        config: Configuration of the transformers decoder, or the shape of its keys and values.
        prefix_length: P, the number of prefix columns, including left padding.
        window: W, the number of speech columns in view, including the newest: one size for all layers, or one for each.
        batch_size: B.
        dtype: The dtype of keys and values.
        device: The device of keys and values.
        starts: ``[B]`` first real column of every row; None when no row is padded.

    Raises:
        ValueError: If a size is not positive, the number of sizes differs from the number of layers, or the cache is
            larger than the memory of the device.
    """

    def __init__(
        self,
        config: PretrainedConfig | KeyValueShape,
        *,
        prefix_length: int,
        window: int | Sequence[int],
        batch_size: int = 1,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
        starts: Tensor | None = None,
    ) -> None:
        if not isinstance(config, KeyValueShape):
            layers, groups, width = key_value_shape(config)
            config = KeyValueShape(layers, groups, width, width)
        self._shape = config
        layers, groups, *widths = config
        windows = [window] * layers if isinstance(window, int) else list(window)
        if len(windows) != layers:
            raise ValueError(f"window has {len(windows)} sizes, the model has {layers} layers: give one for each layer")
        sizes = [("prefix_length", prefix_length), ("batch_size", batch_size), *(("window", size) for size in windows)]
        for name, size in sizes:
            if size < 1:
                raise ValueError(f"{name} {size} of the cache is not positive")
        columns = sum(prefix_length + size for size in windows)
        needed, there = batch_size * groups * sum(widths) * columns * dtype.itemsize, _memory(torch.device(device))
        if needed > there:
            raise ValueError(
                f"window {max(windows)} needs a cache of {needed / 2**30:.0f} GiB for {batch_size} rows, the device "
                f"has {there / 2**30:.0f} GiB: give a smaller window, null for full attention, or fewer rows"
            )
        self.prefix_length = prefix_length
        self._clock = clock = _Clock(prefix_length, torch.zeros(batch_size, dtype=torch.long, device=device))
        # A copy, because `restart` writes to it.
        self.starts = torch.zeros_like(self.positions) if starts is None else starts.to(self.positions, copy=True)
        self._places = {size: _Places(clock, size) for size in windows}
        self.rings = [
            _RingLayer(
                self._places[size],
                (batch_size, groups, prefix_length + size),
                widths,
                dtype,
                device,
                first=windows.index(size) == i,
                last=i == layers - 1,
            )
            for i, size in enumerate(windows)
        ]
        super().__init__(layers=list(self.rings))

    @property
    def positions(self) -> Tensor:
        """``[B]`` column that each row writes next; 0 before the prefix is written."""
        return self._clock.positions

    @positions.setter
    def positions(self, positions: Tensor) -> None:
        self._clock.positions = positions

    @property
    def prefilled(self) -> bool:
        """Whether the prefix is written. Kept on the host, so that reading it does not wait for the device."""
        return self._clock.prefilled

    @prefilled.setter
    def prefilled(self, prefilled: bool) -> None:
        self._clock.prefilled = prefilled

    @property
    def loaded(self) -> int:
        """Prefix slots before this column were filled from memory; see `wand.decoding.prefixes`."""
        return self._clock.loaded

    @loaded.setter
    def loaded(self, column: int) -> None:
        self._clock.loaded = column

    @property
    def nbytes(self) -> int:
        """Size of all keys and values in bytes."""
        return sum(layer.keys.nbytes + layer.values.nbytes for layer in self.rings)

    def slots(self, layer: int = 0) -> Tensor:
        """``[B]`` slot of a layer that each row writes next."""
        return self.rings[layer].places.slots()

    def visible(self, layer: int = 0) -> Tensor:
        """Bool ``[B, P + W]``: the slots of a layer that the next column sees, including its own."""
        return self._visible(self.rings[layer].places.window)

    def _visible(self, window: int) -> Tensor:
        slot = torch.arange(self.prefix_length + window, device=self.positions.device)
        return (slot <= self.positions[:, None]) & (slot >= self.starts[:, None])

    def step_context(self) -> StepContext:
        """The attention context of the next step."""
        masks = {window: self._visible(window)[:, None, None] for window in self._places}
        return StepContext([masks[ring.places.window] for ring in self.rings])

    def empty(self, batch_size: int, prefix_length: int) -> PrefixWindowCache:
        """An empty cache with the same windows for the given number of rows and prefix columns."""
        return PrefixWindowCache(
            self._shape,
            prefix_length=prefix_length,
            window=[ring.places.window for ring in self.rings],
            batch_size=batch_size,
            dtype=self.rings[0].keys.dtype,
            device=self.positions.device,
        )

    @torch.inference_mode()
    def restart(self, rows: Tensor, prefilled: PrefixWindowCache) -> None:
        """Write new prefixes into some rows. Other rows do not change.

        Args:
            rows: ``[n]`` indices of the rows.
            prefilled: A cache of n rows that contains only the new prefixes, of at most P columns.
        """
        columns, padding = prefilled.prefix_length, self.prefix_length - prefilled.prefix_length
        if padding < 0:
            raise ValueError(
                f"a prefix of {columns} columns does not fit a cache with {self.prefix_length} prefix slots"
            )
        # Keys already contain their positions, so a shorter prefix can be moved to the boundary unchanged.
        for own, new in zip(self.rings, prefilled.rings, strict=True):
            own.keys[rows, :, padding : self.prefix_length] = new.keys[:, :, :columns]
            own.values[rows, :, padding : self.prefix_length] = new.values[:, :, :columns]
        self.positions[rows] = prefilled.positions + padding
        self.starts[rows] = prefilled.starts + padding
        self.prefilled = True

    def clear(self, row: int) -> None:
        """Set all keys and values of a row to 0."""
        for ring in self.rings:
            ring.keys[row] = 0
            ring.values[row] = 0

    def keep(self, rows: Tensor) -> None:
        """Keep only the given rows ``[n]``."""
        self.positions, self.starts = self.positions[rows], self.starts[rows]
        for ring in self.rings:
            ring.keys, ring.values = ring.keys[rows], ring.values[rows]


class _Clock:
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


class _Places:
    """The slots that layers with the same window write.

    Args:
        clock: The clock of the cache.
        window: W.
    """

    def __init__(self, clock: _Clock, window: int) -> None:
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


class _RingLayer(CacheLayerMixin):
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
        places: _Places,
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


def _memory(device: torch.device) -> int:
    """Bytes of memory of a device."""
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory
    if not hasattr(os, "sysconf"):  # Windows
        return sys.maxsize
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
