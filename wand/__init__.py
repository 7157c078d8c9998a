"""wand: windowed attention and knowledge distillation for pretrained autoregressive text-to-speech models.

Importing it loads neither torch nor lightning nor transformers; names resolve on first use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from wand.version import __version__

if TYPE_CHECKING:
    from wand.attention import AttentionContext, AttentionWindow
    from wand.backbone import Backbone
    from wand.conditioning import ConditionedBatch, Reference
    from wand.curriculum import WindowSchedule
    from wand.decoding.cache import PrefixWindowCache
    from wand.decoding.sampling import Sampling
    from wand.module import WandModule
    from wand.synthesis import SpeakOptions
    from wand.synthesizer import load
    from wand.windowed import adapt

_LAZY = {
    "AttentionContext": "wand.attention",
    "AttentionWindow": "wand.attention",
    "Backbone": "wand.backbone",
    "ConditionedBatch": "wand.conditioning",
    "PrefixWindowCache": "wand.decoding.cache",
    "Reference": "wand.conditioning",
    "Sampling": "wand.decoding.sampling",
    "SpeakOptions": "wand.synthesis",
    "WandModule": "wand.module",
    "WindowSchedule": "wand.curriculum",
    "adapt": "wand.windowed",
    "load": "wand.synthesizer",
}

__all__ = [
    "AttentionContext",
    "AttentionWindow",
    "Backbone",
    "ConditionedBatch",
    "PrefixWindowCache",
    "Reference",
    "Sampling",
    "SpeakOptions",
    "WandModule",
    "WindowSchedule",
    "__version__",
    "adapt",
    "load",
]


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'wand' has no attribute {name!r}")
    return getattr(importlib.import_module(_LAZY[name]), name)
