"""Dimensions of IndexTTS 1.5, the defaults of its adapter."""

from __future__ import annotations

from wand.benchmark.shapes import PublishedFigures, Shape

SHAPE = Shape(
    "IndexTTS 1.5",
    {"class_path": "IndexTTS", "architecture": {"mel_positions": "training"}},
    prefix=79,
    window=32,
    published=PublishedFigures((38.44, 13.01), (6.18, 3.28), 2, 249, 77, 249, 1),
)
