"""The dimensions of released models, from which models with random weights are built."""

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
    """What the paper prints of one model, full attention and window, and the lengths that lead there.

    Args:
        kv_mib: Key/value cache ("MB" in the paper).
        gflops: As printed.
        itemsize: Bytes of a number in its cache.
        spoken: G of its key/value figures, in columns.
        flops_prefix: P from which its GFLOPs follow.
        flops_spoken: G from which its GFLOPs follow: 10 seconds, of IndexTTS as in its cache.
        factor: How often its GFLOPs hold the attention of these.
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
        title: Its name.
        spec: As `wand.model.backbone.Backbone.spec` gives it.
        prefix: P of the paper's key/value figures.
        window: W that the paper gave it.
        published: The efficiency figures of the paper.
    """

    title: str
    spec: dict[str, Any]
    prefix: int
    window: int
    published: PublishedFigures

    def build(self, device: torch.device | str, dtype: torch.dtype = torch.float32) -> Backbone:
        """The model with random weights, in eval mode; on the meta device it takes no memory."""
        with torch.device(device):
            return build_backbone(self.spec).to(dtype).eval().requires_grad_(False)


SHAPES: dict[str, Shape] = {name: import_module(module).SHAPE for name, module in MODULES.items()}
