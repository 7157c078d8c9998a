"""Reads in every step which text token the alignment heads look at.

Shapes: B rows, P prefix columns, H query heads, G key/value heads, d width of a head.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from wand.attention.interface import Attends
from wand.model.alignment import AlignmentHead


class AlignmentWatch:
    """The prefix column that each row looks at. A step changes it in place.

    With several heads, their attention over the text is averaged.

    Args:
        heads: The alignment heads of the model.
        rows: B.
        prefix_length: P.
        device: Device of the model.

    Attributes:
        seen: ``[B]`` prefix column that each row looked at in the newest step.
        first: First text column of each row, on the host.
    """

    def __init__(self, heads: Sequence[AlignmentHead], rows: int, prefix_length: int, device: torch.device) -> None:
        self._heads: dict[int, list[int]] = {}
        for layer, head in sorted(heads):
            self._heads.setdefault(layer, []).append(head)
        self._layers = min(self._heads), max(self._heads)
        self.first = [0] * rows
        self.seen = torch.zeros(rows, dtype=torch.long, device=device)
        self._text = torch.zeros(rows, prefix_length, dtype=torch.bool, device=device)
        self._shares = torch.zeros(rows, prefix_length, device=device)

    def set_text(self, row: int, begin: int, end: int) -> None:
        """Set the prefix columns of a row that hold its text: from `begin` to `end`."""
        self.first[row] = begin
        self._text[row] = False
        self._text[row, begin:end] = True

    def keep(self, rows: Tensor) -> None:
        """Keep only the given rows ``[n]``."""
        self.first = [self.first[row] for row in rows.tolist()]
        self.seen, self._text, self._shares = self.seen[rows], self._text[rows], self._shares[rows]

    def context(self, context: Attends) -> Attends:
        """The attention context of a step, which also notes where the heads look."""
        return _WatchingContext(self, context)

    def note(self, layer: int, query: Tensor, key: Tensor, scaling: float | None) -> None:
        """Add the attention of a layer's heads: ``[B, H, 1, d]`` over ``[B, G, slots, d]``."""
        heads = self._heads.get(layer)
        if heads is None:
            return
        columns, shared = self._text.shape[1], query.shape[1] // key.shape[1]
        shares = torch.zeros_like(self._shares)
        for head in heads:
            # In single precision: in half precision, neighbouring tokens would often have the same logit.
            seeking, text = query[:, head, -1].float(), key[:, head // shared, :columns].float()
            logits = torch.einsum("bd,bpd->bp", seeking, text)
            logits = logits * (query.shape[-1] ** -0.5 if scaling is None else scaling)
            # A row without text sees nothing; its look is column 0.
            shares += logits.masked_fill(~self._text, torch.finfo(torch.float32).min).softmax(-1)
        if layer == self._layers[0]:
            self._shares.copy_(shares)
        else:
            self._shares += shares
        if layer == self._layers[1]:
            self.seen.copy_(self._shares.argmax(-1))


class _WatchingContext:
    """Attends as another context does, and shows a watch the queries and keys."""

    def __init__(self, watch: AlignmentWatch, context: Attends) -> None:
        self.watch = watch
        self.context_of_step = context

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scaling: float | None = None) -> Tensor:
        self.watch.note(layer, query, key, scaling)
        return self.context_of_step.attend(layer, query, key, value, scaling)
