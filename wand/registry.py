"""Where the model families that come with wand live, by name. Imports none of them.

A new family is a folder in ``backbones/`` and its lines here. Adapters of other packages need no line: they are found
as entry points of the group `ENTRY_POINT_GROUP`.
"""

from __future__ import annotations

# Adapters: class name and module.
BACKBONES = {
    "CausalSpeechLM": "wand.backbones.causal_lm",
    "CosyVoice2": "wand.backbones.cosyvoice",
    "EncodecLM": "wand.backbones.encodec_lm",
    "IndexTTS": "wand.backbones.index_tts",
    "SparkTTS": "wand.backbones.spark_tts",
}
ENTRY_POINT_GROUP = "wand.backbones"

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
