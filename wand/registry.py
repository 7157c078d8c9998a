"""Where the model families and other classes that configs name live, by name. Imports none of them.

A new family is a folder in ``backbones/`` and its lines here. Adapters, sources and codecs of other packages need no
line: they are found as entry points of the groups `ENTRY_POINT_GROUPS`. A run or an export from somebody else may name
the classes listed here and those entry points; see docs/security.md.
"""

from __future__ import annotations

import os
import sys
from importlib.metadata import EntryPoint, distributions

# Adapters: class name and module.
BACKBONES = {
    "CausalSpeechLM": "wand.backbones.causal_lm",
    "CosyVoice2": "wand.backbones.cosyvoice",
    "EncodecLM": "wand.backbones.encodec_lm",
    "IndexTTS": "wand.backbones.index_tts",
    "SparkTTS": "wand.backbones.spark_tts",
}
ENTRY_POINT_GROUP = "wand.backbones"
ENTRY_POINT_GROUPS = (ENTRY_POINT_GROUP, "wand.sources", "wand.codecs")

# Sources of data: class name and module.
SOURCES = {
    "CodedCorpus": "wand.demo.coded",
    "EspeakCorpus": "wand.demo.corpus",
    "LJSpeech": "wand.data.sources.corpora",
    "LhotseCorpus": "wand.data.sources.lhotse",
    "LibriTTS": "wand.data.sources.corpora",
    "ManifestCorpus": "wand.data.sources.manifest",
    "ParquetCorpus": "wand.data.sources.parquet",
    "TeacherSamples": "wand.data.sources.teacher_samples",
}

# Codecs that configs name: class name and module.
CODEC_CLASSES = {
    "EncodecCodec": "wand.codecs.encodec",
    "EncodecPackageCodec": "wand.codecs.encodec_package",
    "WorkerCodec": "wand.codecs.worker",
}

# Classes that hold a group of settings, and callbacks: class name and module.
PARTS = {
    "AttentionPictures": "wand.callbacks.attention_pictures",
    "EncodecLMArchitecture": "wand.backbones.encodec_lm",
    "LossTerms": "wand.distillation.terms",
    "MemoryEstimate": "wand.callbacks.memory_estimate",
    "OptimizerSettings": "wand.runs.settings",
    "PlainProgress": "wand.callbacks.plain_progress",
    "ShardedStrategy": "wand.training.sharding",
    "ThroughputLogger": "wand.callbacks.throughput",
    "WindowSchedule": "wand.training.curriculum",
}

# Metrics of spoken sentences: class name and module. `wand.evaluation.metrics.KNOWN` has their short names.
METRICS = {
    "DnsmosOverall": "wand.evaluation.metrics.naturalness",
    "Duration": "wand.evaluation.metrics.endings",
    "Early": "wand.evaluation.metrics.endings",
    "F0": "wand.evaluation.metrics.recorded",
    "LevelDrift": "wand.evaluation.metrics.drift",
    "Loop": "wand.evaluation.metrics.endings",
    "Mcd": "wand.evaluation.metrics.recorded",
    "NoStop": "wand.evaluation.metrics.endings",
    "PitchDrift": "wand.evaluation.metrics.drift",
    "RateDrift": "wand.evaluation.metrics.drift",
    "Silence": "wand.evaluation.metrics.endings",
    "Similarity": "wand.evaluation.metrics.similarity",
    "Voicing": "wand.evaluation.metrics.recorded",
}

# Codecs that run in the released model's own environment: modules with ``CODEC``, a `wand.codecs.facts.CodecFacts`,
# and beside each a script ``worker/codec_worker.py``.
CODECS = {
    "cosyvoice2": "wand.backbones.cosyvoice.codec",
    "index_tts": "wand.backbones.index_tts.codec",
    "spark_tts": "wand.backbones.spark_tts.codec",
}

# Dimensions of released models: modules with ``SHAPE``, a `wand.benchmark.shapes.Shape`.
SHAPES = {
    "cosyvoice2": "wand.backbones.cosyvoice.shapes",
    "indextts": "wand.backbones.index_tts.shapes",
    "sparktts": "wand.backbones.spark_tts.shapes",
}


def entry_points_of(group: str) -> list[EntryPoint]:
    """Entry points of installed packages, also those whose module is missing; the first of each name.

    Packages that lie in the current folder only because Python or wand searches it are not installed.
    """
    here = {"", os.getcwd()} if sys.path[:1] in ([""], [os.getcwd()]) else {""}
    found: dict[str, EntryPoint] = {}
    for package in distributions(path=[path for path in sys.path if path not in here]):
        for point in package.entry_points.select(group=group):
            found.setdefault(point.name, point)
    return list(found.values())


def known_backbones() -> dict[str, str]:
    """Names and modules of all adapters. Does not import them."""
    others = {point.name: point.module for point in entry_points_of(ENTRY_POINT_GROUP)}
    return {**BACKBONES, **others}
