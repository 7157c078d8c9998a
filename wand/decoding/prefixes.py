"""Prefixes that were taken in before: a voice that is used again and again is computed once.

Under causal attention the keys and values of a column depend on the columns before it alone. So whatever two prefixes
have in common at their beginning, such as the reference of a voice, need not be computed twice. What that is is seen
from their inputs, without knowing the model.

Shapes: B rows, P prefix columns, D width, G key/value heads, d width of a head.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass

import torch
from torch import Tensor

from wand.attention.dense import dense_attention
from wand.decoding.cache import PrefixWindowCache

# Fewer columns are computed sooner than found.
FEWEST = 8
# A prefix is kept unless this share of it was known: other voices begin alike, with a mark or with silence.
ENOUGH = 0.25


@dataclass(frozen=True, slots=True, eq=False)
class KnownPrefix:
    """One prefix that was taken in.

    Args:
        embeds: Its inputs ``[n, D]``.
        keys: ``[G, n, d]`` of every layer, in the order of columns.
        values: As `keys`.
    """

    embeds: Tensor
    keys: list[Tensor]
    values: list[Tensor]

    def common(self, embeds: Tensor) -> int:
        """How many columns at the beginning of other inputs ``[m, D]`` are this prefix's."""
        n = min(len(embeds), len(self.embeds))
        differs = (embeds[:n] != self.embeds[:n]).any(dim=1)
        return int(differs.int().argmax()) if bool(differs.any()) else n


class PrefixMemory:
    """The prefixes that were used last.

    Args:
        size: How many are kept.
    """

    def __init__(self, size: int = 8) -> None:
        self.size = size
        self._known: OrderedDict[int, KnownPrefix] = OrderedDict()
        self._count = 0
        self._lock = threading.Lock()  # runs of several threads share a memory

    def find(self, embeds: Tensor, starts: Tensor) -> tuple[KnownPrefix, int] | None:
        """A known prefix with which all rows begin, and the column up to which it serves.

        Args:
            embeds: Inputs ``[B, P, D]``, left-padded.
            starts: ``[B]`` first real column of each row.
        """
        firsts, last = starts.tolist(), embeds.shape[1] - 1  # the last column is always computed: it begins the speech
        best: tuple[int, KnownPrefix, int] | None = None
        with self._lock:
            candidates = list(self._known.items())
        for name, known in candidates:
            column = min(last, *(first + known.common(embeds[row, first:]) for row, first in enumerate(firsts)))
            if column - min(firsts) >= FEWEST and (best is None or column > best[2]):
                best = name, known, column
        if best is None:
            return None
        name, known, column = best
        with self._lock:
            if name in self._known:
                self._known.move_to_end(name)
        return known, column

    def remember(self, embeds: Tensor, starts: Tensor, cache: PrefixWindowCache) -> None:
        """Keep the first row's prefix, of a cache that has just taken it in, if little of it was known."""
        first, columns = int(starts[0]), cache.prefix_length
        if cache.loaded - first >= ENOUGH * (columns - first):
            return
        made = KnownPrefix(
            embeds[0, first:].clone(),
            [ring.keys[0, :, first:columns].clone() for ring in cache.rings],
            [ring.values[0, :, first:columns].clone() for ring in cache.rings],
        )
        with self._lock:
            self._known[self._count] = made
            self._count += 1
            if len(self._known) > self.size:
                self._known.popitem(last=False)


def load_known(cache: PrefixWindowCache, known: KnownPrefix, column: int) -> None:
    """Fill the prefix slots before a column; the next forward takes in the rest of the prefix."""
    for row, first in enumerate(cache.starts.tolist()):
        length = max(0, column - first)
        for ring, keys, values in zip(cache.rings, known.keys, known.values, strict=True):
            ring.keys[row, :, first : first + length] = keys[:, :length]
            ring.values[row, :, first : first + length] = values[:, :length]
    cache.loaded = column


class RestContext:
    """The attention context of a prefix's last columns, when the first ones are in the cache.

    Args:
        column: Where the rest begins.
        prefix_length: P.
        starts: ``[B]`` first real column of each row.
    """

    def __init__(self, column: int, prefix_length: int, starts: Tensor) -> None:
        query = torch.arange(column, prefix_length, device=starts.device)[:, None]
        key = torch.arange(prefix_length, device=starts.device)
        # Padding sees itself, so that no row of the softmax is empty.
        self.mask = ((key <= query) & (key >= starts[:, None, None]) | (key == query))[:, None]

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scaling: float | None = None) -> Tensor:
        """``[B, H, Q, d]`` over ``[B, G, P, d]`` to ``[B, Q, H, d]``."""
        return dense_attention(query, key, value, self.mask, scaling)
