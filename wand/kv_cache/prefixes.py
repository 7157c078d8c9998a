"""A memory of computed prefixes, so that a voice that is used often is computed once.

Under causal attention, the keys and values of a column depend only on that column and those before it. So columns that
two prefixes share at their beginning, such as the reference of a voice, need not be computed twice. They are found by
comparing the inputs, which works for any model.

Shapes: B rows, P prefix columns, D width, G key/value heads, d width of a head.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass

from torch import Tensor

from wand.attention import AttentionContext
from wand.attention.dense import dense_attention
from wand.kv_cache.prefix_window import PrefixWindowCache

# Minimum number of shared columns. With fewer, recomputing is faster than a lookup.
FEWEST = 8
# A prefix is kept only if a smaller share of it was known. A small share is no hint of the same voice: prefixes of
# different voices may begin with the same mark or with silence.
ENOUGH = 0.25


@dataclass(frozen=True, slots=True, eq=False)
class KnownPrefix:
    """A prefix that was computed.

    Args:
        embeds: Inputs ``[n, D]``.
        keys: Keys ``[G, n, d]`` of every layer, in the order of columns.
        values: Values ``[G, n, d]`` of every layer.
        hidden: The hidden state ``[D]`` that predicts the first speech column.
    """

    embeds: Tensor
    keys: list[Tensor]
    values: list[Tensor]
    hidden: Tensor

    def common(self, embeds: Tensor) -> int:
        """Number of leading columns that other inputs ``[m, D]`` share with this prefix."""
        n = min(len(embeds), len(self.embeds))
        differs = (embeds[:n] != self.embeds[:n]).any(dim=1)
        return int(differs.int().argmax()) if bool(differs.any()) else n


class PrefixMemory:
    """Keeps the most recently used prefixes. Several threads may share one memory.

    Args:
        size: Maximum number of prefixes.
    """

    def __init__(self, size: int = 8) -> None:
        self.size = size
        self._known: OrderedDict[int, KnownPrefix] = OrderedDict()
        self._count = 0
        self._lock = threading.Lock()

    def find(self, embeds: Tensor, starts: Tensor) -> tuple[KnownPrefix, int] | None:
        """The known prefix that all rows share most columns with, and the first column that must be computed.

        This is P if the whole prefix of every row is the known one. Then nothing is computed, so the same request gives
        the same speech in every dtype, although kernels round otherwise when they compute only a part.

        Args:
            embeds: Inputs ``[B, P, D]``, left-padded.
            starts: ``[B]`` first real column of each row.
        """
        firsts, columns = starts.tolist(), embeds.shape[1]
        best: tuple[int, KnownPrefix, int] | None = None
        with self._lock:
            candidates = list(self._known.items())
        for name, known in candidates:
            column = min(first + known.common(embeds[row, first:]) for row, first in enumerate(firsts))
            if any(columns - first != len(known.embeds) for first in firsts):
                column = min(column, columns - 1)  # another prefix: its last column must be computed to predict speech
            if column - min(firsts) >= FEWEST and (best is None or column > best[2]):
                best = name, known, column
        if best is None:
            return None
        name, known, column = best
        with self._lock:
            if name in self._known:
                self._known.move_to_end(name)
        return known, column

    def remember(self, embeds: Tensor, starts: Tensor, hidden: Tensor, cache: PrefixWindowCache) -> None:
        """Keep the prefix of the first row, from a cache that contains only prefixes, if little of it was known.

        Args:
            embeds: Inputs ``[B, P, D]``, left-padded.
            starts: ``[B]`` first real column of each row.
            hidden: Hidden states ``[B, D]`` that predict the first speech column.
            cache: The cache after its first pass.
        """
        first, columns = int(starts[0]), cache.prefix_length
        if cache.loaded - first >= ENOUGH * (columns - first):
            return
        made = KnownPrefix(
            embeds[0, first:].clone(),
            [ring.keys[0, :, first:columns].clone() for ring in cache.rings],
            [ring.values[0, :, first:columns].clone() for ring in cache.rings],
            hidden[0].clone(),
        )
        with self._lock:
            self._known[self._count] = made
            self._count += 1
            if len(self._known) > self.size:
                self._known.popitem(last=False)


def load_known(cache: PrefixWindowCache, known: KnownPrefix, column: int) -> None:
    """Fill the prefix slots before a column. The first pass must contain the rest; without a rest, it is done."""
    for row, first in enumerate(cache.starts.tolist()):
        length = max(0, column - first)
        for ring, keys, values in zip(cache.rings, known.keys, known.values, strict=True):
            ring.keys[row, :, first : first + length] = keys[:, :length]
            ring.values[row, :, first : first + length] = values[:, :length]
    cache.load(column)


class RestContext:
    """The attention context of a first pass without the columns that the cache already has.

    Args:
        column: First column to compute.
        columns: Number of all columns, with those of the cache.
        whole: The attention context of all columns.
    """

    def __init__(self, column: int, columns: int, whole: AttentionContext) -> None:
        self.column = column
        self.columns = columns
        self.whole = whole

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scaling: float | None = None) -> Tensor:
        """``[B, H, Q, d]`` over ``[B, G, S, d]`` to ``[B, Q, H, d]``."""
        mask = self.whole.mask(self.columns, query.device, layer=layer)[:, :, self.column :]
        return dense_attention(query, key, value, mask, scaling)
