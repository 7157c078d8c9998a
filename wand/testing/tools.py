"""Batches, masks and a mesh of one process for the tests of an adapter."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import torch
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh

from wand.attention import AttentionWindow
from wand.model.backbone import Backbone
from wand.model.batch import ConditionedBatch, Conditioning, make_batch

Examples = list[tuple[Conditioning, Tensor]]


def batch_of(backbone: Backbone, examples: Examples) -> ConditionedBatch:
    """Utterances as a batch."""
    conditionings, codes = zip(*examples, strict=True)
    return make_batch(backbone.conditioner, backbone.layout, conditionings, codes)


@contextmanager
def one_process() -> Iterator[DeviceMesh]:
    """A mesh of this process alone."""
    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    try:
        yield init_device_mesh("cpu", (1,))
    finally:
        torch.distributed.destroy_process_group()


def shapes(backbone: Backbone) -> dict[str, torch.Size]:
    """Shapes of all tensors by name."""
    return {name: tensor.shape for name, tensor in backbone.state_dict().items()}


def explicit_mask(batch: ConditionedBatch, window: AttentionWindow) -> Tensor:
    """The window as an additive float mask ``[B, 1, S, S]``, written entry by entry from the definition."""
    assert window.size is not None
    boundary = batch.prefix_length
    columns = boundary + batch.columns.shape[1]
    mask = torch.full((len(batch), 1, columns, columns), torch.finfo(torch.float32).min)
    for row, start in enumerate(batch.starts.tolist()):
        for query in range(columns):
            for key in range(query + 1):
                in_view = key < boundary or query - key < window.size
                if key == query or (key >= start and in_view):
                    mask[row, 0, query, key] = 0
    return mask


def later(batch: ConditionedBatch, offset: int) -> ConditionedBatch:
    """A batch whose columns are spoken later; learned positions allow fewer of them."""
    columns, labels = batch.columns[:, : -offset or None], batch.labels[:, : -offset or None]
    return replace(batch, columns=columns, labels=labels, offsets=torch.full_like(batch.lengths, offset))
