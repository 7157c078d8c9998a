"""Dimensions of CosyVoice 2-0.5B, the defaults of its adapter."""

from __future__ import annotations

from wand.benchmark.shapes import PublishedFigures, Shape

SHAPE = Shape(
    "CosyVoice 2-0.5B",
    {"class_path": "CosyVoice2", "architecture": {}},
    prefix=192,
    window=32,
    published=PublishedFigures((10.48, 5.25), (11.55, 7.44), 4, 255, 143, 250, 2),
)
