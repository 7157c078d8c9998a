"""Properties of the codec of Spark-TTS, which runs in its own Python environment (`worker/codec_worker.py`)."""

from __future__ import annotations

from wand.codecs.facts import CodecFacts

CODEC = CodecFacts(
    16_000, 50.0, 1, 8192, needs_reference=True, has_global_codes=True, weights="BiCodec/model.safetensors"
)
