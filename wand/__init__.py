"""wand: windowed attention and knowledge distillation for pretrained autoregressive text-to-speech models.

Importing it loads neither torch nor lightning nor transformers; names resolve on first use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from wand.version import __version__

if TYPE_CHECKING:
    from wand.attention import AttentionContext, AttentionWindow
    from wand.codecs.reference import Reference
    from wand.decoding.cache import PrefixWindowCache
    from wand.model.backbone import Backbone
    from wand.model.batch import ConditionedBatch
    from wand.model.sampling import Sampling
    from wand.speech.speaking import SpeakOptions
    from wand.speech.synthesizer import load
    from wand.training.curriculum import WindowSchedule
    from wand.training.module import WandModule
    from wand.windowed import adapt

_LAZY = {
    "AttentionContext": "wand.attention",
    "AttentionWindow": "wand.attention",
    "Backbone": "wand.model.backbone",
    "ConditionedBatch": "wand.model.batch",
    "PrefixWindowCache": "wand.decoding.cache",
    "Reference": "wand.codecs.reference",
    "Sampling": "wand.model.sampling",
    "SpeakOptions": "wand.speech.speaking",
    "WandModule": "wand.training.module",
    "WindowSchedule": "wand.training.curriculum",
    "adapt": "wand.windowed",
    "load": "wand.speech.synthesizer",
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
