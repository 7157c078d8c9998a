"""Properties of the codec of IndexTTS, which runs in its own Python environment (`worker/codec_worker.py`)."""

from __future__ import annotations

from wand.codecs.facts import CodecFacts

CODEC = CodecFacts(24_000, 24_000 / 1024, 1, 8192, needs_reference=True, needs_latents=True, weights="dvae.pth")
