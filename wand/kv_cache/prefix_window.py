"""The key/value cache of a decoding run under a window. It holds all state of the run.

In every layer, `PrefixWindowCache` has P prefix slots and a ring of W slots. The column with absolute index p is
written to slot p if p < P, else to slot ``P + (p - P) % W``. Keys are stored after RoPE, so the order of slots does not
matter: the window is the set of filled slots, which is all slots once the ring is full. W may differ by layer.

Shapes: B rows, G key/value heads, D the width of a head.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import PretrainedConfig
from transformers.cache_utils import Cache

from wand.attention.body import KeyValueShape
from wand.kv_cache.ring import Clock, Places, RingLayer
from wand.kv_cache.sizes import device_memory, key_value_shape
from wand.kv_cache.step_context import StepContext


class PrefixWindowCache(Cache):
    """A cache of constant size: in every layer, P slots for the prefix and a ring of W slots for speech.

    Each row has its own position, and rows can be restarted one by one (`restart`). If all rows have the same position
    and all layers the same window, the cache also works as ``past_key_values`` of transformers' stock ``generate()``,
    with stock masks and stock attention. The first forward pass must contain the whole prefix (and, after `reread`,
    speech columns); each later one must contain exactly one column.

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
        needed = batch_size * groups * sum(widths) * columns * dtype.itemsize
        there = device_memory(torch.device(device))
        if needed > there:
            raise ValueError(
                f"window {max(windows)} needs a cache of {needed / 2**30:.0f} GiB for {batch_size} rows, the device "
                f"has {there / 2**30:.0f} GiB: give a smaller window, null for full attention, or fewer rows"
            )
        self.prefix_length = prefix_length
        self._clock = clock = Clock(prefix_length, torch.zeros(batch_size, dtype=torch.long, device=device))
        # A copy, because `restart` writes to it.
        self.starts = torch.zeros_like(self.positions) if starts is None else starts.to(self.positions, copy=True)
        self._places = {size: Places(clock, size) for size in windows}
        self.rings = [
            RingLayer(
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
        """Whether the first pass is done."""
        return self._clock.prefilled

    @prefilled.setter
    def prefilled(self, prefilled: bool) -> None:
        self._clock.prefilled = prefilled

    @property
    def loaded(self) -> int:
        """Prefix slots before this column were filled from memory; see `wand.kv_cache.prefixes`."""
        return self._clock.loaded

    def load(self, column: int) -> None:
        """Note that the prefix slots before a column are filled. If no column is left, the first pass is done."""
        self._clock.loaded = column
        if column == self.prefix_length and not self._clock.reread:
            self.positions.fill_(column)
            self.prefilled = True

    def reread(self, columns: int, offsets: Tensor) -> None:
        """Prepare an empty cache for a first pass that contains the prefix and columns of a speech that goes on.

        Args:
            columns: Number of speech columns of every row, the newest of its speech.
            offsets: ``[B]`` index of the first of these columns in the speech of each row. If it is above 0, the
                columns must fill the window.
        """
        largest = max(self._places)
        assert columns >= largest or not bool(offsets.any()), f"{columns} columns do not fill the window {largest}"
        self._clock.reread = columns
        self._clock.offsets = offsets.to(self.positions.device)

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
        # Prefixes end at the ring, so a cache with room for longer ones begins with slots that no row sees. On a GPU,
        # the shapes of a step are fixed, and it must not wait for the host.
        first = int(self.starts.min()) if self.starts.device.type == "cpu" else 0
        masks = {window: self._visible(window)[:, None, None, first:] for window in self._places}
        return StepContext([masks[ring.places.window] for ring in self.rings], first)

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
        """Start new speeches in some rows, or go on with their speeches under new prefixes. Other rows do not change.

        Args:
            rows: ``[n]`` indices of the rows.
            prefilled: A cache of n rows with the same windows after its first pass: new prefixes of at most P columns,
                and the columns of speeches that go on.
        """
        columns, padding = prefilled.prefix_length, self.prefix_length - prefilled.prefix_length
        if padding < 0:
            raise ValueError(
                f"a prefix of {columns} columns does not fit a cache with {self.prefix_length} prefix slots"
            )
        # Keys already contain their positions, so a shorter prefix can be moved to the boundary unchanged.
        for own, new in zip(self.rings, prefilled.rings, strict=True):
            own.keys[rows, :, padding:] = new.keys
            own.values[rows, :, padding:] = new.values
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
