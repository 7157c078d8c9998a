"""Modules and configs of older versions, and where they are now. As text: nothing is imported."""

from __future__ import annotations

import re

MOVED_MODULES = {
    "wand.backbone": "wand.model.backbone",
    "wand.callbacks.memory": "wand.callbacks.memory_estimate",
    "wand.callbacks.pictures": "wand.callbacks.attention_pictures",
    "wand.checkpoints": "wand.runs.checkpoints",
    "wand.columns": "wand.model.columns",
    "wand.conditioning": "wand.model.batch",
    "wand.curriculum": "wand.training.curriculum",
    "wand.data.audio": "wand.files.audio",
    "wand.data.files": "wand.data.sources.corpora",
    "wand.data.lhotse": "wand.data.sources.lhotse",
    "wand.data.manifest": "wand.data.sources.manifest",
    "wand.data.sampled": "wand.data.sources.teacher_samples",
    "wand.data.source": "wand.data.sources.source",
    "wand.decoding.cache": "wand.kv_cache.prefix_window",
    "wand.decoding.full_cache": "wand.kv_cache.full",
    "wand.decoding.int8": "wand.lean.int8",
    "wand.decoding.lean": "wand.lean.body",
    "wand.decoding.prefixes": "wand.kv_cache.prefixes",
    "wand.decoding.quantize": "wand.lean.int8",
    "wand.decoding.sampling": "wand.decoding.sampler",
    "wand.divergences": "wand.distillation.divergences",
    "wand.evaluation.cost": "wand.benchmark.cost",
    "wand.evaluation.files": "wand.evaluation.result_files",
    "wand.evaluation.memory": "wand.training.memory",
    "wand.evaluation.speaking": "wand.evaluation.takes",
    "wand.evaluation.tables": "wand.console.tables",
    "wand.export": "wand.runs.export",
    "wand.fused_distillation": "wand.distillation.chunked",
    "wand.heads": "wand.model.heads",
    "wand.loggers": "wand.training.loggers",
    "wand.long_text": "wand.text.sentences",
    "wand.model.registry": "wand.model.adapters",
    "wand.module": "wand.training.module",
    "wand.optimizer": "wand.training.optimizer",
    "wand.progress": "wand.console.progress",
    "wand.prompts": "wand.model.prompts",
    "wand.settings": "wand.runs.settings",
    "wand.synthesizer": "wand.speech.synthesizer",
    "wand.teacher": "wand.training.teacher",
    "wand.text": "wand.text.front_end",
    "wand.tokenizers": "wand.model.tokenizers",
    "wand.voices": "wand.speech.voices",
    "wand.weights": "wand.files.weights",
}
MOVED_CONFIGS = {
    "no-ce": "ablations/kl-only",
    "no-curriculum": "ablations/no-curriculum",
    "no-kd": "ablations/ce-only",
}
_MISSING = re.compile(r"No module named '([\w.]+)'(?!; it)")


def say_where(message: str) -> str:
    """The message of an error, with the new place of a module that is imported under its old name."""

    def with_place(found: re.Match[str]) -> str:
        place = MOVED_MODULES.get(found[1])
        return found[0] if place is None else f"{found[0]}; it is now {place}: change the import"

    return _MISSING.sub(with_place, message)
