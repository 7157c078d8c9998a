"""wand: windowed attention and knowledge distillation for pretrained autoregressive text-to-speech models.

Importing it loads neither torch nor lightning nor transformers; names resolve on first use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from wand.version import __version__

if TYPE_CHECKING:
    from wand.attention import AttentionContext, AttentionWindow, LayerWindows, WindowPolicy
    from wand.callbacks.window_curriculum import WindowCurriculum
    from wand.codecs.reference import Reference
    from wand.codecs.worker import WorkerCodec
    from wand.data.datamodule import SpeechDataModule
    from wand.distillation.terms import LossTerms
    from wand.kv_cache.prefix_window import PrefixWindowCache
    from wand.model.backbone import Backbone
    from wand.model.batch import ConditionedBatch
    from wand.model.sampling import Sampling
    from wand.runs.settings import OptimizerSettings
    from wand.speech.speaking import SpeakOptions
    from wand.speech.synthesizer import Synthesizer, load
    from wand.training.curriculum import WindowSchedule
    from wand.training.module import WandModule
    from wand.windowed import apply_window

_LAZY = {
    "AttentionContext": "wand.attention",
    "AttentionWindow": "wand.attention",
    "Backbone": "wand.model.backbone",
    "ConditionedBatch": "wand.model.batch",
    "LayerWindows": "wand.attention",
    "LossTerms": "wand.distillation.terms",
    "OptimizerSettings": "wand.runs.settings",
    "PrefixWindowCache": "wand.kv_cache.prefix_window",
    "Reference": "wand.codecs.reference",
    "Sampling": "wand.model.sampling",
    "SpeakOptions": "wand.speech.speaking",
    "SpeechDataModule": "wand.data.datamodule",
    "Synthesizer": "wand.speech.synthesizer",
    "WandModule": "wand.training.module",
    "WindowCurriculum": "wand.callbacks.window_curriculum",
    "WindowPolicy": "wand.attention",
    "WindowSchedule": "wand.training.curriculum",
    "WorkerCodec": "wand.codecs.worker",
    "apply_window": "wand.windowed",
    "load": "wand.speech.synthesizer",
}

__all__ = [
    "AttentionContext",
    "AttentionWindow",
    "Backbone",
    "ConditionedBatch",
    "LayerWindows",
    "LossTerms",
    "OptimizerSettings",
    "PrefixWindowCache",
    "Reference",
    "Sampling",
    "SpeakOptions",
    "SpeechDataModule",
    "Synthesizer",
    "WandModule",
    "WindowCurriculum",
    "WindowPolicy",
    "WindowSchedule",
    "WorkerCodec",
    "__version__",
    "apply_window",
    "load",
]


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'wand' has no attribute {name!r}")
    return getattr(importlib.import_module(_LAZY[name]), name)
