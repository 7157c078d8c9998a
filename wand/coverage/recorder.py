"""Measures the attention of a model over speech that it has spoken. Only sums are kept.

Under full attention, a pass over a finished speech computes the same attention as the steps that spoke it: a column
sees the same keys in both.

Shapes: B rows, P prefix columns, T speech columns, S = P + T, H query heads, G key/value heads, d width of a head.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from wand.attention import AttentionContext, AttentionWindow
from wand.coverage.mass import LARGEST, AttentionMass
from wand.model.backbone import Backbone
from wand.model.batch import ConditionedBatch, Conditioning, make_batch
from wand.model.text_tokens import PassageConditioner

# Queries whose attention is in memory at once.
QUERIES = 128


class MassRecorder:
    """Adds up the attention of a model with full attention, over the steps of speeches that are given.

    A step is a speech column, which looks at the prefix, the speech before it and itself. The prefix's own columns are
    not counted.

    Args:
        backbone: The model, in eval mode.

    Attributes:
        steps: Number of steps so far.
        prefix_columns: Sum of the prefix columns that the steps saw.
    """

    def __init__(self, backbone: Backbone) -> None:
        self.backbone = backbone
        self.steps = 0
        self.prefix_columns = 0
        self.knows_text = isinstance(backbone.conditioner, PassageConditioner)
        # By layer: sums over the steps for the prefix, its text, every distance and all larger ones, ``[H, 3 + D]``.
        self._sums: dict[int, Tensor] = {}

    @torch.inference_mode()
    def add(self, conditionings: Sequence[Conditioning], codes: Sequence[Tensor]) -> None:
        """Read speeches in one batch.

        Args:
            conditionings: Text and voice of each row.
            codes: What the model has said, ``[K, F]`` for each row.
        """
        conditioner = self.backbone.conditioner
        batch = make_batch(conditioner, self.backbone.layout, conditionings, codes)
        is_text = torch.zeros(len(batch), batch.prefix_length, dtype=torch.bool)
        if isinstance(conditioner, PassageConditioner):
            for row, (one, start) in enumerate(zip(conditionings, batch.starts.tolist(), strict=True)):
                begin, end = conditioner.text_span(one)
                is_text[row, start + begin : start + end] = True
        batch, is_text = batch.to(self.backbone.device), is_text.to(self.backbone.device)
        self.backbone.hidden_states(batch, _Recording(batch, is_text, self._sums))
        self.steps += int(batch.lengths.sum())
        self.prefix_columns += int((batch.lengths * batch.prefix_lengths).sum())

    def mass(self) -> AttentionMass:
        """The means over all steps so far."""
        means = torch.stack([self._sums[layer] for layer in sorted(self._sums)]) / self.steps
        text = means[..., 1] if self.knows_text else None
        return AttentionMass(means[..., 0], text, means[..., 2:-1], self.steps)


class _Recording:
    """Attends as full attention does, and adds up where the speech columns look."""

    def __init__(self, batch: ConditionedBatch, is_text: Tensor, sums: dict[int, Tensor]) -> None:
        self.batch = batch
        self.is_text = is_text
        self.sums = sums
        self.full = AttentionContext(AttentionWindow(), batch.prefix_length, batch.padded_starts)

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scaling: float | None = None) -> Tensor:
        """``[B, H, S, d]`` over ``[B, G, S, d]`` to ``[B, S, H, d]``."""
        first, total = self.batch.prefix_length, query.shape[2]
        own = torch.zeros(query.shape[1], 3 + LARGEST, dtype=torch.float64, device=query.device)
        for begin in range(first, total, QUERIES):
            own += self._sums_of(query, key, range(begin, min(begin + QUERIES, total)), scaling)
        self.sums[layer] = self.sums.get(layer, 0) + own.cpu()
        return self.full.attend(layer, query, key, value, scaling)

    def _sums_of(self, query: Tensor, key: Tensor, columns: range, scaling: float | None) -> Tensor:
        """Sums over the queries of some speech columns, ``[H, 3 + D]``."""
        prefix, device = self.batch.prefix_length, query.device
        at = torch.arange(columns.start, columns.stop, device=device)
        seen = torch.arange(columns.stop, device=device)
        asking = query[:, :, at].float().unflatten(1, (key.shape[1], -1))  # [B, G, H / G, q, d]
        logits = asking @ key[:, :, None, : columns.stop].float().mT
        logits = logits.flatten(1, 2) * (query.shape[-1] ** -0.5 if scaling is None else scaling)  # [B, H, q, s]
        padding = seen < self.batch.starts[:, None, None, None]
        shares = logits.masked_fill(padding | (seen > at[:, None]), float("-inf")).softmax(-1)
        shares *= (at - prefix < self.batch.lengths[:, None])[:, None, :, None]  # right padding says nothing
        on_prefix = shares[..., :prefix].sum(2)  # [B, H, P]
        on_text = on_prefix * self.is_text[:, None]
        sums = [on_prefix.sum((0, 2))[:, None], on_text.sum((0, 2))[:, None]]
        distances = (at[:, None] - seen[prefix:]).clamp(0, LARGEST).flatten()
        by_distance = torch.zeros(shares.shape[1], LARGEST + 1, device=device)
        by_distance.index_add_(1, distances, shares[..., prefix:].sum(0).flatten(1))
        return torch.cat([*sums, by_distance], dim=1).double()
