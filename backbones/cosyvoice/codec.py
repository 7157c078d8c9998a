"""Properties of the codec of CosyVoice 2, which runs in its own Python environment (`worker/codec_worker.py`)."""

from __future__ import annotations

from wand.codecs.facts import CodecFacts

CODEC = CodecFacts(24_000, 25.0, 1, 6561, needs_reference=True, weights="speech_tokenizer_v2.onnx")
