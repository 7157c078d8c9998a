"""The dimensions of released models, for building models with random weights."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import Any

import torch

from wand.model.adapters import build_backbone
from wand.model.backbone import Backbone
from wand.registry import SHAPES as MODULES


@dataclass(frozen=True)
class PublishedFigures:
    """The paper's figures of one model (full attention, window), and the lengths that reproduce them.

    Args:
        kv_mib: Size of the key/value cache in MiB ("MB" in the paper).
        gflops: GFLOPs as printed.
        itemsize: Bytes per number in the cache.
        spoken: G that reproduces the cache sizes, in columns.
        flops_prefix: P that reproduces the GFLOPs.
        flops_spoken: G that reproduces the GFLOPs: 10 seconds; for IndexTTS the same as `spoken`.
        factor: The printed GFLOPs are this many times the attention at these lengths.
    """

    kv_mib: tuple[float, float]
    gflops: tuple[float, float]
    itemsize: int
    spoken: int
    flops_prefix: int
    flops_spoken: int
    factor: int


@dataclass(frozen=True)
class Shape:
    """A released model without its weights, and the sizes at which the paper measured it.

    Args:
        title: Name of the model.
        spec: Spec of the model, as from `wand.model.backbone.Backbone.spec`.
        prefix: P of the paper's cache sizes.
        window: W that the paper uses for this model.
        published: The efficiency figures of the paper.
    """

    title: str
    spec: dict[str, Any]
    prefix: int
    window: int
    published: PublishedFigures

    def build(self, device: torch.device | str, dtype: torch.dtype = torch.float32) -> Backbone:
        """Build the model with random weights, in eval mode. On the meta device it takes no memory."""
        with torch.device(device):
            return build_backbone(self.spec).to(dtype).eval().requires_grad_(False)


SHAPES: dict[str, Shape] = {name: import_module(module).SHAPE for name, module in MODULES.items()}
